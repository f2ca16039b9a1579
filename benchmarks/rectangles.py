"""Inputs that are not square, on photographs: AP of one detector in training, `det val` and ONNX.

    python benchmarks/rectangles.py [--data ../shared/data/bccd/bccd.yaml --model yolo26n]
        [--epochs 30 --seeds 0 --imgsz 320 --wide 320,640 --more "amp=False"]
        [--work runs/rectangles]

Three trainings for each seed: squares of --imgsz, the same with ``rect=True``, and --wide (height,
width) with ``rect=True``.  AP on val is that of the best weights at the end of training, of
``det val`` on the checkpoint, and of ``det val`` on its ONNX file of any size (``dynamic=True``).
Runs that are finished are kept.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from children import det, trained
from pages import add_out, hardware, table, trained_on, write_page


def main() -> None:
    options = read_options()
    found = []
    for seed in options.seeds:
        for imgsz, rect in ((options.imgsz, False), (options.imgsz, True), (options.wide, True)):
            found.append(one(options, imgsz, rect, seed))
            page(options, found)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bccd/bccd.yaml"))
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--imgsz", default="320")
    parser.add_argument("--wide", default="320,640", help="height,width of the input")
    parser.add_argument("--more", default="amp=False", help="words of det train for every run")
    parser.add_argument("--work", type=Path, default=Path("runs/rectangles"))
    add_out(parser)
    return parser.parse_args()


def one(options: argparse.Namespace, imgsz: str, rect: bool, seed: int) -> dict[str, Any]:
    """Train, validate, export, and validate the file."""
    folder = options.work / f"{imgsz}-{'rect' if rect else 'whole'}-s{seed}"
    results = trained(
        folder, *options.more.split(), data=options.data, model=options.model,
        epochs=options.epochs, seed=seed, imgsz=imgsz, rect=rect,
    )  # fmt: skip
    best = folder / "weights" / "best.safetensors"
    file = best.with_suffix(".onnx")
    if not file.is_file():
        det("export", model=best, format="onnx", dynamic=True)
    return {"imgsz": imgsz, "rect": rect, "seed": seed, "training": results["metrics"]["map"],
            "val": measured(options, best), "onnx": measured(options, file),
            "seconds": results["train_seconds"]}  # fmt: skip


def measured(options: argparse.Namespace, model: Path) -> float:
    """AP of `det val`, in fp32; an exported file is as it is."""
    how = {} if model.suffix == ".onnx" else {"amp": False}
    told = det("val", data=options.data, model=model, plots=False, report=False,
               project=options.work / "val", **how)  # fmt: skip
    return float(told["metrics"]["map"])


def page(options: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    """What was measured, in words and a table."""
    model = Path(options.model).stem
    about = (
        f"{options.data.stem}, {model}, {options.epochs} epochs ({options.more}); AP on val of the "
        "best weights, in fp32.  Minutes are those of the whole training."
    )
    rows = []
    for each in found:
        aps = [each[where] for where in ("training", "val", "onnx")]
        rows.append((f"{each['imgsz']}{' rect=True' if each['rect'] else ''}", each["seed"],
                     *(f"{ap:.4f}" for ap in aps), f"{max(aps) - min(aps):.0e}",
                     f"{each['seconds'] / 60:.1f}"))  # fmt: skip
    head = ("imgsz", "seed", "training", "det val", "ONNX", "most apart", "minutes")
    write_page(options.out, "rectangles", model, hardware(trained_on()),
               [about, table(head, rows)], found)  # fmt: skip


if __name__ == "__main__":
    main()
