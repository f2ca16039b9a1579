"""AP by number format of the Newton-Schulz products and by seed.

    python benchmarks/newton_schulz.py --data bccd.yaml [--epochs 30 --seeds 0 1 2 --imgsz 320]

Every run is `det train` with its defaults; only the format of Muon's products is set by hand, which
det chooses by the device (``product_dtype`` in detector/run/hardware.py).  The weights kept as best
are then measured on val and test with both heads.  Runs that are finished in --work are not
repeated, so a stopped program can continue.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from pages import add_out, hardware, table, write_page
from yolodet.detector.api import YOLO
from yolodet.detector.train import optim

FORMATS = {"bf16": torch.bfloat16, "fp32": torch.float32}
MEASURED = [("val", False), ("val", True), ("test", False), ("test", True)]
"""Split and whether NMS is used, in the order of the columns."""


def main() -> None:
    options = read_options()
    found = {
        name: [trained(options, name, seed) for seed in options.seeds] for name in FORMATS
    }
    write_page(
        options.out, "newton-schulz", options.model, hardware("cpu"), page(options, found), found
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/newton-schulz"))
    add_out(parser)
    return parser.parse_args()


def trained(options: argparse.Namespace, name: str, seed: int) -> list[float]:
    """AP in the order of MEASURED."""
    folder = options.work.absolute() / f"{name}-{seed}"
    result = folder / "ap.json"
    if not result.is_file():
        optim.product_dtype = lambda traits: FORMATS[name]  # type: ignore[assignment]
        words: dict[str, Any] = {"data": options.data, "imgsz": options.imgsz}
        YOLO(options.model).train(
            **words, epochs=options.epochs, seed=seed, project=folder, name="run"
        )
        best = YOLO(next(folder.glob("run*/weights/best.safetensors")))
        scores = [best.val(**words, split=s, nms=n).box.map for s, n in MEASURED]
        result.write_text(json.dumps(scores))
    scores = json.loads(result.read_text())
    return [float(score) for score in scores]


def page(options: argparse.Namespace, found: dict[str, list[list[float]]]) -> list[str]:
    """The page's text: a row per format, mean and seeds per column."""
    heads = [f"{split}, {'NMS' if nms else 'NMS-free'}" for split, nms in MEASURED]
    rows = [
        [name, *(_cell([run[column] for run in runs]) for column in range(len(MEASURED)))]
        for name, runs in found.items()
    ]
    about = f"{options.epochs} epochs of {Path(options.data).stem}, imgsz {options.imgsz}: AP."
    return [about, table(["products", *heads], rows)]


def _cell(scores: list[float]) -> str:
    seeds = ", ".join(f"{score:.4f}" for score in scores)
    return f"{statistics.mean(scores):.4f} ({seeds})"


if __name__ == "__main__":
    main()
