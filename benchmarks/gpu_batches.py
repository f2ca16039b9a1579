"""The largest batch that trains on a GPU, by size, precision and checkpointed activations.

    python benchmarks/gpu_batches.py [--model yolo26m] [--imgsz 640 1280] [--share 0.95]

Measured as `batch=auto` measures it: real steps of a run, with its optimizer, average and the copy
that the guard keeps.  Images/s: of one more step of that batch and its update.  --share: of the
free memory.  --device cpu with a small --model and --imgsz is a try-out.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
from typing import Any

from pages import add_out, hardware, table, write_page
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run.log import Log
from yolodet.detector.train.assemble import assemble
from yolodet.detector.train.auto_batch import largest_fitting
from yolodet.detector.train.trial_step import TrialStep

WAYS = [("fp32", False), ("bf16", False), ("fp16", False), ("fp16", True)]
MOST = 4096  # images


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yolo26m")
    parser.add_argument("--imgsz", type=int, nargs="+", default=[640, 1280])
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--share", type=float, default=0.95)
    add_out(parser)
    options = parser.parse_args()
    rows = []
    for size, (name, again) in itertools.product(options.imgsz, WAYS):
        rows.append({"imgsz": size, "precision": name, "checkpointing": again,
                     **measured(options, size, name, again)})  # fmt: skip
        print(rows[-1], flush=True)
    write_page(options.out, "gpu-batches", options.model, hardware(options.device),
               page(options, rows), rows)  # fmt: skip


def measured(options: argparse.Namespace, size: int, name: str, again: bool) -> dict[str, Any]:
    """The largest batch, its memory and its speed."""
    config, _ = parse(TrainConfig, {
        "data": options.data, "model": options.model, "device": options.device, "imgsz": size,
        "checkpointing": again, "workers": 0, "pretrained": False, "augment_device": "cpu",
        "verbose": False,
    })  # fmt: skip
    with contextlib.closing(assemble(config, Log(verbose=False))) as run:
        step = TrialStep(run, Precision(name, run.device.type, "as told"))
        room = int(step.room * options.share)
        images, taken = largest_fitting(step, room, MOST)
        cost = step.cost(images)
        step.end()
    return {
        "images": images,
        "gib": taken / 2**30,
        "room_gib": room / 2**30,
        "images_per_s": 1000 * images / cost.ms,
    }


def page(options: argparse.Namespace, rows: list[dict[str, Any]]) -> list[str]:
    """A table per size."""
    parts = [
        f"# The largest batch of {options.model} on a GPU",
        f"Measured by real training steps; {options.share:.0%} of the free memory is used.",
    ]
    for size in options.imgsz:
        mine = [row for row in rows if row["imgsz"] == size]
        cells = [
            [
                row["precision"] + ", checkpointed activations" * row["checkpointing"],
                row["images"],
                f"{row['images'] / mine[0]['images']:.2f}x",
                f"{row['gib']:.1f} of {row['room_gib']:.1f}",
                f"{row['images_per_s']:.0f}",
            ]
            for row in mine
        ]
        parts += [f"{size} px:", table(["", "largest batch", "of fp32", "GiB", "images/s"], cells)]
    return parts


if __name__ == "__main__":
    main()
