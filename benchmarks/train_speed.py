"""Whole training loops, ours and the peer's, in alternating rounds: images/s and memory.

    python benchmarks/train_speed.py --data ../shared/data/bccd/bccd.yaml [--peer PYTHON]
        [--model yolo26n --imgsz 320 --batch 16 --rounds 3 --epochs 3]

Every round runs ours with amp=True, ours with amp=False and, given its python, the peer as
installed and given every core, each as a program of its own for --epochs epochs, of which the first
is not counted; every second round runs backwards.  Images/s are given without validation (the
batches) and with it (the whole epoch, checkpoints too).  Memory is the most that a program and its
children hold.  On a CPU a last run of each of ours says how much of an epoch is outside forward and
backward.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from children import MASK, run
from pages import add_out, add_training, hardware, ratios, shown, spread, table, write_page
from yolodet.files.limits import usable_cores

HERE = Path(__file__).parent
OURS = {"ours, amp=True": "amp=true", "ours, amp=False": "amp=false"}
INSTALLED, GIVEN = "the peer as installed", "the peer given every core"
Runs = dict[str, list[dict[str, Any]]]


def main() -> None:
    options = read_options()
    contenders = commands(options)
    runs: Runs = {name: [] for name in contenders}
    for turn in range(options.rounds):
        names = list(contenders)
        for name in names if turn % 2 == 0 else reversed(names):
            runs[name].append(run(contenders[name], MASK if options.mask else None))
            speed = rate(runs[name][-1], "train_s")
            print(f"round {turn + 1}: {name} {speed:.1f} images/s", file=sys.stderr, flush=True)
    profiled = OURS if options.profile and options.device == "cpu" else {}
    outside = {name: outside_of(options, word) for name, word in profiled.items()}
    parts = page(options, runs, outside)
    told = {k: str(v) for k, v in vars(options).items() if k not in ("data", "peer", "out")}
    facts = {"data": Path(options.data).stem, "options": told, "runs": runs, "outside": outside}
    machine = hardware(options.device) + (", masked to AVX2" if options.mask else "")
    write_page(options.out, "train-speed", options.model, machine, parts, facts)


def read_options(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_training(parser)
    parser.add_argument("--peer", help="python of an environment that has the peer")
    parser.add_argument("--mask", action="store_true", help="as a processor with AVX2 only")
    parser.add_argument("--no-profile", dest="profile", action="store_false")
    add_out(parser)
    return parser.parse_args(words)


def shared_words(options: argparse.Namespace) -> list[str]:
    """What every run of ours is told."""
    names = ("data", "model", "imgsz", "batch", "device")
    return [*(f"{name}={getattr(options, name)}" for name in names), "pretrained=False"]


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """A program for every contender."""
    words = [sys.executable, str(HERE / "ours_train.py"), *shared_words(options)]
    found = {name: [*words, f"epochs={options.epochs}", word] for name, word in OURS.items()}
    if options.peer:
        peer = [options.peer, str(HERE / "peer_train.py")]
        for name in ("data", "model", "imgsz", "batch", "epochs", "device"):
            peer += [f"--{name}", str(getattr(options, name))]
        found[INSTALLED] = peer
        found[GIVEN] = [*peer, "--threads", str(usable_cores())]
    return found


def rate(result: dict[str, Any], key: str) -> float:
    """Images/s of a run: of its median epoch."""
    return float(result["images"] / statistics.median(result[key]))


def outside_of(options: argparse.Namespace, word: str) -> dict[str, Any]:
    """Seconds of the parts of an epoch, by profile_epoch.py."""
    words = [sys.executable, str(HERE / "profile_epoch.py"), *shared_words(options), word, "--json"]
    return run(words, MASK if options.mask else None)


def page(options: argparse.Namespace, runs: Runs, outside: dict[str, Any]) -> list[str]:
    """Title, tables and what they mean."""
    title = (
        f"# Training {options.model} at {options.imgsz} px, batch {options.batch}, on "
        f"{Path(options.data).stem}"
    )
    said = (
        f"{options.rounds} alternating rounds of {options.epochs} epochs, the first not counted: "
        "median, least and most over the rounds. Memory: the most held at a time by a program and "
        "its children (shared pages count once for each process)."
    )
    rates = {
        key: {name: [rate(result, key) for result in results] for name, results in runs.items()}
        for key in ("train_s", "epoch_s")
    }
    rows = [
        [
            name,
            results[0].get("precision", "fp32"),
            results[0]["threads"],
            *(shown(spread(rates[key][name]), 1) for key in rates),
            f"{max(result['rss'] for result in results) / 2**30:.2f}",
        ]
        for name, results in runs.items()
    ]
    header = ("who", "precision", "threads", "images/s", "with validation", "RSS GiB")
    parts = [title, said, table(header, rows)]
    if against := [name for name in runs if name not in OURS]:
        rows = [
            [ours, *(shown(ratios(rates[key][ours], rates[key][peer]))
                     for peer in against for key in rates)]
            for ours in OURS
        ]  # fmt: skip
        header = ("ratio of images/s", *(f"{p}{w}" for p in against for w in ("", ", with val")))
        parts += [f"The peer is {runs[against[0]][0]['peer']}.", table(header, rows)]
    if outside:
        parts += ["Where an epoch goes (seconds; the second epoch of a run).", shares(outside)]
    return parts


def shares(outside: dict[str, Any]) -> str:
    """A table of the parts of an epoch, and the share outside forward and backward."""
    names = sorted({part for result in outside.values() for part in result["seconds"]})
    rows = [
        [part, *(f"{result['seconds'].get(part, 0.0):.2f}" for result in outside.values())]
        for part in names
    ]
    rows.append(
        ["**outside forward and backward**",
         *(f"**{100 * result['outside']:.1f} %**" for result in outside.values())]
    )  # fmt: skip
    return table(("part", *outside), rows)


if __name__ == "__main__":
    main()
