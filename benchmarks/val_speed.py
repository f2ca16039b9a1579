"""Validation beside training: what val and its metrics cost, as a share of an epoch.

    python benchmarks/val_speed.py --data ../shared/data/bccd/bccd.yaml
        [--model yolo26n --imgsz 320 --batch 16 --rounds 3 --epochs 3 --amp True False]

Each round trains a little with each --amp, as a program of its own.  The share is that of
validation and metrics in the training of three times as many images, which is about how data sets
are split: seconds per image of validation over three times those of training.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

from children import run
from pages import add_out, add_training, hardware, shown, spread, table, write_page

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add_training(parser)
    parser.add_argument("--amp", nargs="+", default=["True", "False"])
    add_out(parser)
    options = parser.parse_args()
    names = ("data", "model", "imgsz", "batch", "epochs", "device")
    words = [sys.executable, str(HERE / "ours_train.py"), "pretrained=False"]
    words += [f"{name}={getattr(options, name)}" for name in names]
    runs: dict[str, list[dict[str, Any]]] = {amp: [] for amp in options.amp}
    for turn in range(options.rounds):
        for amp in options.amp if turn % 2 == 0 else reversed(options.amp):
            runs[amp].append(run([*words, f"amp={amp}"]))
    parts = page(options, runs)
    write_page(options.out, "val-speed", options.model, hardware(options.device), parts, runs)


def an_image(result: dict[str, Any], key: str, count: str) -> float:
    """Milliseconds per image of a run's median epoch."""
    return float(1000 * statistics.median(result[key]) / result[count])


def page(options: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Title and tables."""
    rows, parts = [], []
    for amp, results in runs.items():
        train = [an_image(result, "train_s", "images") for result in results]
        val = [an_image(result, "val_s", "val_images") for result in results]
        share = [100 * v / (3 * t) for v, t in zip(val, train, strict=True)]
        rows.append([f"amp={amp}", results[0]["precision"], shown(spread(train), 2),
                     shown(spread(val), 2), shown(spread(share), 1)])  # fmt: skip
        speed = results[-1]["val_ms_an_image"]
        named = ", ".join(f"{name} {value:.2f}" for name, value in speed.items())
        parts.append(f"Validation with amp={amp}, ms per image: {named}.")
    title = (
        f"# Validating {options.model} at {options.imgsz} px, batch {options.batch}, on "
        f"{Path(options.data).stem}"
    )
    header = ("", "precision", "training, ms per image", "validation, ms per image",
              "% of training three times the images")  # fmt: skip
    return [title, table(header, rows), *parts]


if __name__ == "__main__":
    main()
