"""What is forgotten and what is learned: a detector that keeps its classes and learns new ones.

    python benchmarks/keep_classes.py [--weights ../shared/weights/yolox_nano_coco.pth]
        [--data ../shared/data/bccd/bccd.yaml --old ../shared/data/coco256/coco256.yaml]
        [--epochs 15 --imgsz 320 --seeds 0 --more "batch=16" --work runs/keep_classes]

Trains from --weights on --data: for its classes alone, with `keep_classes=True`, and with
`keep_classes=True replay=` and the training images of --old, which shows the classes of the
weights.  AP of the best weights on val and test of --data and on val of --old, beside that of
--weights.  Runs that are finished in --work are not repeated.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from pathlib import Path

from children import det
from pages import add_out, hardware, table, write_page

SHARED = Path(__file__).parents[2] / "shared"
BEFORE, ALONE = "the weights", "new classes alone"


def main() -> None:
    options = read_options()
    replay = f"replay={options.old.absolute()}"
    ways = {
        ALONE: [],
        "keep_classes=True": ["keep_classes=True"],
        "keep_classes=True replay=": ["keep_classes=True", replay],
    }
    start = str(options.weights.absolute())
    before = {"old val": measured(options, options.old, start, "val", options.work / "before")}
    found: dict[str, list[dict[str, float]]] = {BEFORE: [before]}
    for seed in options.seeds:
        for number, (way, words) in enumerate(ways.items()):
            folder = options.work.absolute() / f"way{number}-s{seed}"
            runs = found.setdefault(way, [])
            runs.append(trained(options, folder, [*words, f"model={start}", f"seed={seed}"]))
            write_page(
                options.out, "keep-classes", options.data.stem, hardware("cpu"),
                page(options, found), found,
            )  # fmt: skip


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, default=SHARED / "weights" / "yolox_nano_coco.pth")
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "bccd" / "bccd.yaml")
    parser.add_argument("--old", type=Path, default=SHARED / "data" / "coco256" / "coco256.yaml")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--more", default="", help="words of det train for every run, in quotes")
    parser.add_argument("--work", type=Path, default=Path("runs/keep_classes"))
    add_out(parser)
    return parser.parse_args()


def trained(options: argparse.Namespace, folder: Path, words: list[str]) -> dict[str, float]:
    """AP on val and test of the new data and on val of the old, and the seconds."""
    kept = folder / "result.json"
    if not kept.is_file():
        print(f"{folder.name}: {' '.join(words)}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        said = det(
            "train", f"data={options.data.absolute()}", f"imgsz={options.imgsz}",
            f"epochs={options.epochs}", *words, *options.more.split(),
            f"project={folder.parent}", f"name={folder.name}",
        )  # fmt: skip
        facts = {"new val": float(said["metrics"]["map"]), "seconds": said["train_seconds"]}
        facts["new test"] = measured(options, options.data, said["best"], "test", folder)
        if "keep_classes=True" in words:
            facts["old val"] = measured(options, options.old, said["best"], "val", folder)
        kept.write_text(json.dumps(facts, indent=1) + "\n")
    return dict(json.loads(kept.read_text()))


def measured(
    options: argparse.Namespace, data: Path, weights: str, split: str, folder: Path
) -> float:
    """AP of `det val`."""
    words = [f"data={data.absolute()}", f"model={weights}", f"split={split}", "plots=False"]
    place = [f"project={folder.absolute()}", f"name=val-{data.stem}"]
    return float(det("val", *words, f"imgsz={options.imgsz}", *place)["metrics"]["map"])


def page(options: argparse.Namespace, found: dict[str, list[dict[str, float]]]) -> list[str]:
    """A row per way to train."""
    columns = ["new val", "new test", "old val", "seconds"]
    rows = []
    for way, runs in found.items():
        cells = [way]
        for column in columns:
            values = [run[column] for run in runs if column in run]
            digits = 0 if column == "seconds" else 3
            cells.append(f"{statistics.mean(values):.{digits}f}" if values else "-")
        rows.append(cells)
    about = (
        f"From {options.weights.stem} on {options.data.stem}, {options.epochs} epochs, imgsz "
        f"{options.imgsz}, seeds {', '.join(map(str, options.seeds))}. Old: {options.old.stem}."
    )
    return [about, table(["training", *columns], rows)]


if __name__ == "__main__":
    main()
