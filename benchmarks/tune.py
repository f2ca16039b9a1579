"""What a search gains: the best setting against the defaults, over new seeds, on real data.

    python benchmarks/tune.py [--data bccd.yaml "../shared/data/chess fraction=0.5"]
        [--words "model=yolox_nano.pth imgsz=160" --epochs 9 --trials 20 --seeds 3]
        [--work runs/tune-benchmark]

Each data set gets one `det tune` of its own.  Words of det may follow the path of a data set;
--words are for all of them.  The cost is told in full runs: trained epochs of all trials, divided
by --epochs.  The closing trainings come on top of it: the best setting and the defaults with each
of --seeds new seeds.

A stopped program can continue: the studies lie in --work, and `det tune resume=` goes on with them.
The page is written anew after each data set.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from children import DET, run
from pages import add_out, hardware, table, write_page

SHARED = Path(__file__).parents[2] / "shared"
DATA = [str(SHARED / "data" / "bccd" / "bccd.yaml"), f"{SHARED / 'data' / 'chess'} fraction=0.5"]
WORDS = f"model={SHARED / 'weights' / 'yolox_nano_coco.pth'} imgsz=160"


def main() -> None:
    options = read_options()
    found: dict[str, dict[str, Any]] = {}
    for data in options.data:
        found[data] = searched(options, data)
        facts = {name(data): without_places(result) for data, result in found.items()}
        write_page(options.out, "tune", "", hardware("cpu"), page(options, found), facts)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--words", default=WORDS, help="words of det tune, in quotes")
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("runs/tune-benchmark"))
    add_out(parser)
    return parser.parse_args()


def searched(options: argparse.Namespace, data: str) -> dict[str, Any]:
    """The result of the search on one data set: made, continued, or read where it is complete."""
    path, *words = data.split()
    words = [*options.words.split(), *words, f"epochs={options.epochs}"]
    digest = hashlib.sha256(" ".join(words).encode()).hexdigest()[:6]
    folder = options.work.absolute() / f"{Path(path).stem}-{digest}"
    kept = folder / "tune.json"
    limits = [f"trials={options.trials}", f"seeds={options.seeds}"]
    if not (kept.is_file() and complete(json.loads(kept.read_text()), options)):
        if (folder / "study.db").is_file():
            words = [f"resume={folder}"]
        else:
            place = Path(path).absolute() if Path(path).exists() else path
            words += [f"data={place}", f"project={folder.parent}", f"name={folder.name}"]
            words += ["exist_ok=True"]
        print(f"{data}: {' '.join([*words, *limits])}", file=sys.stderr)
        run([*DET, "tune", *words, *limits, "--json"])
    return dict(json.loads(kept.read_text()))


def complete(result: dict[str, Any], options: argparse.Namespace) -> bool:
    """Whether a search has all its trials and closing trainings."""
    ended = [row for row in result["trials"] if row["state"] != "running"]
    return len(ended) >= options.trials and len(result["closing"]["best"]) >= options.seeds


def page(options: argparse.Namespace, found: dict[str, dict[str, Any]]) -> list[str]:
    """A table of the searches, and a line for each."""
    heads = [
        "data", "trials", "complete, stopped, failed", "cost in full runs", "defaults, trial 0",
        "best trial", "defaults, new seeds", "best setting, new seeds", "gain",
    ]  # fmt: skip
    rows = [row(options, data, result) for data, result in found.items()]
    lines = [
        f"- **{name(data)}**: `{result['words'] or 'the defaults'}`; {result['verdict']}."
        for data, result in found.items()
    ]
    return [
        f"AP (COCO) on val after {options.epochs} epochs; the first trial is the defaults. New "
        f"seeds: mean ± standard deviation of {options.seeds} trainings. Words of all runs: "
        f"`{' '.join(shortened(options.words))}`.",
        table(heads, rows),
        "\n".join(lines),
    ]


def without_places(result: dict[str, Any]) -> dict[str, Any]:
    """A result without the folders of this machine."""
    return {key: value for key, value in result.items() if key not in ("folder", "best_yaml")}


def name(data: str) -> str:
    path, *words = data.split()
    return " ".join([Path(path).stem, *words])


def shortened(words: str) -> list[str]:
    """Words without the folders of their files."""
    pairs = [word.partition("=") for word in words.split()]
    return [f"{option}={Path(value).name}" for option, _, value in pairs]


def row(options: argparse.Namespace, data: str, result: dict[str, Any]) -> list[str]:
    trials, closing = result["trials"], result["closing"]
    states = Counter(trial["state"] for trial in trials)
    cost = sum(trial["epochs"] or 0 for trial in trials) / options.epochs
    defaults = next(trial["ap"] for trial in trials if trial["defaults"])
    gains = [b - d for b, d in zip(closing["best"], closing["defaults"], strict=True)]
    counts = ", ".join(str(states[state]) for state in ("complete", "stopped early", "failed"))
    return [
        name(data), str(len(trials)), counts, f"{cost:.1f}", f"{defaults:.3f}",
        f"{result['best']['ap']:.3f}", spread(closing["defaults"]), spread(closing["best"]),
        f"{statistics.mean(gains):+.3f}",
    ]  # fmt: skip


def spread(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


if __name__ == "__main__":
    main()
