"""Training on a machine that is shared: two at once against one after the other, and one beside a
busy loop on every core.

    python benchmarks/neighbors.py --data bccd.yaml [--epochs 3 --rounds 3 --mask --spinning]

OpenMP's threads sleep soon at barriers, as det sets it (files/threads.py); with --spinning also as
long as libgomp lets them by itself, which takes many times longer.  Whole programs are timed,
start-up and validation included; images/s are those of the training steps.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from children import MASK, run
from pages import add_out, add_training, hardware, shown, spread, table, write_page
from yolodet.files.limits import usable_cores

HERE = Path(__file__).parent
WAITING = {"as det sets it": {}, "spinning, as libgomp does": {"GOMP_SPINCOUNT": "300000"}}
BUSY = "while True: pass"
Results = dict[str, list[Any]]


def main() -> None:
    options = read_options()
    found: dict[str, Results] = {
        name: {"alone": [], "two at once": [], "beside a busy loop": []}
        for name in list(WAITING)[: 2 if options.spinning else 1]
    }
    for turn in range(options.rounds):
        names = list(found)
        for name in names if turn % 2 == 0 else reversed(names):
            environment = WAITING[name] | (MASK if options.mask else {})
            measure(command(options), environment, found[name])
            last = {when: results[-1] for when, results in found[name].items()}
            print(f"round {turn + 1}: {name}: {last}", file=sys.stderr, flush=True)
    machine = hardware() + (", masked to AVX2" if options.mask else "")
    facts = {"data": Path(options.data).stem, "runs": found}
    write_page(options.out, "neighbors", options.model, machine, page(options, found), facts)


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_training(parser)
    parser.add_argument("--amp", default="false")
    parser.add_argument("--mask", action="store_true", help="as a processor with AVX2 only")
    parser.add_argument("--spinning", action="store_true", help="also without det's setting")
    add_out(parser)
    return parser.parse_args(words)


def command(options: argparse.Namespace) -> list[str]:
    """One training."""
    names = ("data", "model", "imgsz", "batch", "epochs", "amp", "device")
    words = [f"{name}={getattr(options, name)}" for name in names]
    return [sys.executable, str(HERE / "ours_train.py"), *words, "pretrained=False"]


def measure(words: Sequence[str], environment: dict[str, str], found: Results) -> None:
    """One round: [(seconds, images/s)] of each training is added to its list."""
    found["alone"].append([timed(words, environment)])
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(timed, words, environment) for _ in range(2)]
        found["two at once"].append([each.result() for each in both])
    with busy_loops():
        found["beside a busy loop"].append([timed(words, environment)])


def timed(words: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """(seconds of the program, images/s of its median epoch)."""
    started = time.perf_counter()
    result = run(words, environment)
    seconds = time.perf_counter() - started
    return seconds, result["images"] / statistics.median(result["train_s"])


@contextlib.contextmanager
def busy_loops() -> Iterator[None]:
    """Another program that keeps every core busy."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(usable_cores())]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def page(options: argparse.Namespace, found: dict[str, Results]) -> list[str]:
    """Title, tables and what they mean."""
    title = f"# {options.model} at {options.imgsz} px, batch {options.batch}, beside a neighbor"
    said = (
        f"{options.rounds} interleaved rounds of {options.epochs} epochs: median, least and most. "
        "Two at once: seconds until both have ended, over twice the seconds of one alone (1 is as "
        "good as one after the other). Busy loop: images/s beside one on every core, over those "
        "alone (0.5 is a fair share)."
    )
    rows = [[name, *(shown(spread(values)) for values in shares(found[name]))] for name in found]
    return [title, said, table(("waiting", "alone, s", "two at once", "busy loop"), rows)]


def shares(results: Results) -> tuple[list[float], list[float], list[float]]:
    """Round by round: seconds alone, the cost of two at once, the speed beside a busy loop."""
    alone = [each[0] for each in results["alone"]]
    together = [
        max(seconds for seconds, _ in both) / (2 * seconds_alone)
        for both, (seconds_alone, _) in zip(results["two at once"], alone, strict=True)
    ]
    busy = [
        each[0][1] / rate
        for each, (_, rate) in zip(results["beside a busy loop"], alone, strict=True)
    ]
    return [seconds for seconds, _ in alone], together, busy


if __name__ == "__main__":
    main()
