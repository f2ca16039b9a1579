"""What a detector reaches from each start: AP on val and test, and the seconds of the training.

    python benchmarks/finetune.py [--data bccd.yaml "../shared/data/chess fraction=0.5"]
        [--start auto scratch --epochs 15 50 --seeds 0 1 2 --precision auto]
        [--recipe "" "lr_transferred=0.1" --imgsz 320 --work runs/finetune]

Every run is a `det train` of its own with the shipped defaults, then a `det val` of its best
weights on test.  Words of det may follow a data set's path, for its runs only; each --recipe is a
set of words that is tried on all of them.  Without --imgsz the size is that of the weights.

Starts: auto (no model=, with the weights in the weights folder), coco, foldscale and identity (the
files of that name in --weights, named with model=), scratch (the same model from random weights),
yolo26n (the default model from random weights), the path of a checkpoint, libreyolo (LibreYOLO from
the file coco, by the program --libreyolo, with its own defaults at the same batch and input size
and a thread per core; its best weights are measured by `det val` like the others).  LibreYOLO reads
no folder without a data YAML, so such data is converted to YOLO format first, for all starts.

Runs that are finished in --work are not repeated, so a stopped program can continue.  The page is
written anew after each run.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import children
from pages import add_out, hardware, table, write_page
from yolodet.files.limits import usable_cores

SHARED = Path(__file__).parents[2] / "shared"
DATA = [str(SHARED / "data" / "bccd" / "bccd.yaml"), f"{SHARED / 'data' / 'chess'} fraction=0.5"]
NAME = "yolox_nano"
FILES = ("coco", "foldscale", "identity")
LIBREYOLO = "libreyolo"
STARTS = ("auto", *FILES, "scratch", "yolo26n", LIBREYOLO)
BATCH = 16
PRECISIONS = {
    "auto": ["amp=auto"],
    "fp32": ["amp=fp32"],
    "bf16": ["amp=bf16", "amp_force=True"],
}


@dataclass(frozen=True)
class Case:
    """One training.  data: path, and words of det for it.  recipe: more words.  imgsz: None for
    the size that det chooses."""

    imgsz: int | None
    data: str
    epochs: int
    recipe: str
    start: str
    precision: str
    seed: int

    @property
    def name(self) -> str:
        """Of its folder in --work; other words give another name."""
        facts = f"{self.data} {self.recipe} {self.imgsz}"
        digest = hashlib.sha256(facts.encode()).hexdigest()[:6]
        data = Path(self.data.split()[0]).stem
        start = self.start
        if start not in STARTS:  # a path
            start = f"{Path(start).stem}-{hashlib.sha256(start.encode()).hexdigest()[:6]}"
        return f"{data}-{start}-e{self.epochs}-{self.precision}-s{self.seed}-{digest}"


def main() -> None:
    options = read_options()
    cases = [
        Case(options.imgsz, *facts)
        for facts in itertools.product(
            options.data, options.epochs, options.recipe, options.start, options.precision,
            options.seeds,
        )
    ]  # fmt: skip
    cases.sort(key=lambda case: (case.epochs, case.seed))  # short runs of one seed first
    place_weights(options)
    found: dict[Case, dict[str, Any]] = {}
    for case in cases:
        found[case] = trained(options, case)
        facts = [
            {**vars(case), "data": named(case.data), **result} for case, result in found.items()
        ]
        write_page(options.out, "finetune", NAME, hardware("cpu"), page(options, found), facts)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=DATA)
    parser.add_argument("--start", nargs="+", default=["auto", "scratch"])
    parser.add_argument("--epochs", type=int, nargs="+", default=[15])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["auto"])
    parser.add_argument("--recipe", nargs="+", default=[""], help="words of det train, in quotes")
    parser.add_argument("--imgsz", type=int, help="default: chosen by det")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights")
    parser.add_argument("--work", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--libreyolo", help="the program of an environment that has LibreYOLO")
    add_out(parser)
    options = parser.parse_args()
    for start in options.start:
        if start not in STARTS and not Path(start).is_file():
            parser.error(f"--start {start} is neither a file nor one of {', '.join(STARTS)}")
    if LIBREYOLO in options.start:
        if not (options.libreyolo and options.imgsz):
            parser.error("libreyolo needs --libreyolo and --imgsz")
        options.data = [as_yolo(options, data) for data in options.data]
    return options


def as_yolo(options: argparse.Namespace, data: str) -> str:
    """Data that everyone reads: a folder without a data YAML is converted to YOLO format."""
    path, *words = data.split()
    if not Path(path).is_dir():
        return data
    target = options.work.absolute() / "converted" / Path(path).name
    if not target.is_dir():
        ours(options, "data", "convert", f"data={Path(path).absolute()}", f"out={target}")
    (described,) = target.glob("*.yaml")
    return " ".join([str(described), *words])


def place_weights(options: argparse.Namespace) -> None:
    """Give auto a weights folder with the published file, as a user would have it."""
    target = folder_of_weights(options) / f"{NAME}.pth"
    if "auto" in options.start and not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(options.weights / f"{NAME}_coco.pth", target)


def folder_of_weights(options: argparse.Namespace) -> Path:
    """DET_WEIGHTS of every run; without auto nothing is in it."""
    return Path(options.work.absolute() / "weights")


def start_words(options: argparse.Namespace, start: str) -> list[str]:
    """What is typed for a start."""
    if start == "auto":
        return []
    if start in FILES:
        return [f"model={(options.weights / f'{NAME}_{start}.pth').absolute()}"]
    if start not in STARTS:
        return [f"model={Path(start).absolute()}"]
    return [f"model={NAME if start == 'scratch' else start}", "pretrained=False"]


def trained(options: argparse.Namespace, case: Case) -> dict[str, Any]:
    """AP of the best weights on val and test, the seconds, and how the run went."""
    folder = options.work.absolute() / case.name
    kept = folder / "result.json"
    if not kept.is_file():
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        folder.mkdir(parents=True)
        path, *words = case.data.split()
        data = str(Path(path).absolute() if Path(path).exists() else path)
        train = train_by_libreyolo if case.start == LIBREYOLO else train_by_det
        print(case.name, file=sys.stderr, flush=True)
        facts = train(options, case, folder, data, words)
        test = measured(options, data, facts.pop("best"), "test", folder)
        facts["ap"]["test"] = [test["map"], test["map_50"]]
        kept.write_text(json.dumps(facts, indent=1) + "\n")
    return dict(json.loads(kept.read_text()))


def measured(
    options: argparse.Namespace, data: str, weights: str, split: str, folder: Path
) -> dict[str, float]:
    """The metrics of `det val`."""
    words = [f"data={data}", f"model={weights}", f"split={split}", "plots=False"]
    words += [f"imgsz={options.imgsz}"] if options.imgsz else []
    return dict(ours(options, "val", *words, f"project={folder}", f"name={split}")["metrics"])


def train_by_det(
    options: argparse.Namespace, case: Case, folder: Path, data: str, words: list[str]
) -> dict[str, Any]:
    """What is kept of a run of ours, and ``best``: its weights."""
    size = [f"imgsz={case.imgsz}"] if case.imgsz else []
    words = [*words, *case.recipe.split(), *size, *PRECISIONS[case.precision]]
    words += [*start_words(options, case.start), f"epochs={case.epochs}", f"seed={case.seed}"]
    begun = time.monotonic()
    result = ours(options, "train", f"data={data}", *words, f"project={folder}", "name=run")
    return summary(result, time.monotonic() - begun)


def train_by_libreyolo(
    options: argparse.Namespace, case: Case, folder: Path, data: str, words: list[str]
) -> dict[str, Any]:
    """The same of LibreYOLO.  It writes its own form of the weights beside them, so it gets a copy.

    words, recipe and precision are det's and have to be empty here.
    """
    if words or case.recipe or case.precision != "fp32":
        raise SystemExit("libreyolo trains whole data sets in --precision fp32 with no --recipe")
    weights = folder / f"{NAME}_coco.pth"
    shutil.copyfile(options.weights / weights.name, weights)
    command = [options.libreyolo, "train", "--json", "--device", "cpu", "--batch", str(BATCH)]
    told = {"data": data, "model": weights, "epochs": case.epochs, "imgsz": case.imgsz}
    told |= {"seed": case.seed, "project": folder, "name": "run"}
    for name, value in told.items():
        command += [f"--{name}", str(value)]
    threads = {name: str(usable_cores()) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    begun = time.monotonic()
    result = children.run(command, threads)
    seconds = time.monotonic() - begun
    best = result["best_weights"]
    val = measured(options, data, best, "val", folder)
    facts: dict[str, Any] = {"ap": {"val": [val["map"], val["map_50"]]}, "best": best}
    facts |= {"trained_in": "fp32", "said": result["best_metrics"], "seconds": round(seconds, 1)}
    return facts


def summary(result: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What is kept of a run of ours.  seconds: of the command, with imports and set-up."""
    with (Path(result["folder"]) / "results.csv").open() as file:
        epoch_ap = [float(row["metrics/map"]) for row in csv.DictReader(file)]
    val = result["metrics"]
    return {
        "best": result["best"],
        "ap": {"val": [val["map"], val["map_50"]]},
        "seconds": round(seconds, 1),
        "train_seconds": round(result["train_seconds"], 1),
        "trained_in": result["precision"]["name"],
        "model": result["model"],
        "started_from": result["start"]["provenance"],
        "best_epoch": result["best_epoch"],
        "epoch_ap": epoch_ap,
    }


def ours(options: argparse.Namespace, *words: str) -> dict[str, Any]:
    """The result of a command of det that finds the weights of ``options``."""
    return children.det(*words, environment={"DET_WEIGHTS": str(folder_of_weights(options))})


def page(options: argparse.Namespace, found: dict[Case, dict[str, Any]]) -> list[str]:
    """A table per data set, length and recipe, and what its numbers are."""
    parts = ["AP and AP50 of the best weights: mean of the seeds (each seed's AP)."]

    def group(case: Case) -> tuple[str, int, str]:
        return case.data, case.epochs, case.recipe

    def row(case: Case) -> tuple[str, str]:
        return case.start, case.precision

    for (data, epochs, recipe), cases in itertools.groupby(sorted(found, key=group), group):
        path, *words = data.split()
        told = " ".join([*words, *recipe.split()]) or "defaults"
        size = f"imgsz {options.imgsz}" if options.imgsz else "imgsz of the weights"
        parts.append(f"**{named(path)}**, {epochs} epochs, {size}, {told}:")
        rows = [
            table_row(start, precision, [found[case] for case in members])
            for (start, precision), members in itertools.groupby(sorted(cases, key=row), row)
        ]
        heads = ["start, precision", "val AP", "AP50", "test AP", "AP50", "test - val", "seconds"]
        parts.append(table(heads, rows))
    parts.append("Seconds: of the whole `det train`; they mean little beside other programs.")
    return parts


def named(data: str) -> str:
    """The name of a data set in the page, which says nothing of where it lies; its words follow."""
    path, *words = data.split()
    place = Path(path)
    return " ".join([place.parent.name if place.stem == "data" else place.stem, *words])


def table_row(start: str, precision: str, runs: list[dict[str, Any]]) -> list[str]:
    """Means over the seeds."""
    cells = [f"{start}, {precision} ({', '.join(sorted({run['trained_in'] for run in runs}))})"]
    for split in ("val", "test"):
        aps, ap50s = zip(*(run["ap"][split] for run in runs), strict=True)
        seeds = ", ".join(f"{ap:.3f}" for ap in aps)
        cells += [f"{statistics.mean(aps):.3f} ({seeds})", f"{statistics.mean(ap50s):.3f}"]
    apart = statistics.mean(run["ap"]["test"][0] - run["ap"]["val"][0] for run in runs)
    seconds = statistics.mean(run["seconds"] for run in runs)
    return [*cells, f"{apart:+.3f}", f"{seconds:.0f}"]


if __name__ == "__main__":
    main()
