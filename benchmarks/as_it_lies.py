"""AP of training on data sets as they lie there, beside the same data converted to YOLO text.

    python benchmarks/as_it_lies.py FOLDER [FOLDER ...] [--epochs 10 --imgsz 320] [--out FOLDER]

Each FOLDER is what an annotation tool exported, with a val and a test split.  fp32 and one seed:
the two trainings see the same images and boxes, so their numbers must be equal.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from children import det
from pages import add_out, hardware, table, write_page

SPLITS = ("val", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    add_out(parser)
    options = parser.parse_args()
    facts: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for data in options.data:
            work = Path(temporary) / data.name
            det("data", "convert", data=data, out=work / "yolo", format="yolo", images="link")
            facts[data.name] = {
                "as it lies": measure(data, work / "first", options),
                "converted": measure(work / "yolo" / "data.yaml", work / "second", options),
            }
    rows = [
        [f"{name}, {kind}", *(f"{ap[split]:.6f}" for split in SPLITS)]
        for name, kinds in facts.items()
        for kind, ap in kinds.items()
    ]
    title = "# Training on data as they lie there, and converted to YOLO text"
    said = (
        f"AP of {options.model} after {options.epochs} epochs at {options.imgsz} px, fp32, seed 0."
    )
    parts = [title, said, table(("data", *SPLITS), rows)]
    write_page(options.out, "as-it-lies", options.model, hardware(), parts, facts)
    if any(kinds["as it lies"] != kinds["converted"] for kinds in facts.values()):
        raise SystemExit("the numbers differ")


def measure(data: Path, project: Path, options: argparse.Namespace) -> dict[str, float]:
    """AP of each split, of a detector that was trained on ``data``."""
    usual = {"project": project, "plots": False, "device": "cpu"}
    trained = det(
        "train", data=data, model=options.model, epochs=options.epochs, imgsz=options.imgsz,
        batch=options.batch, amp=False, seed=0, **usual,
    )  # fmt: skip
    found = {}
    for split in SPLITS:
        measured = det("val", model=trained["best"], data=data, split=split, **usual)
        found[split] = measured["metrics"]["map"]
    return found


if __name__ == "__main__":
    main()
