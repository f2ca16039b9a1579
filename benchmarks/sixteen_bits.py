"""Does a data set of 16 bits learn as well as the same one of 8?  What does dividing by 256 cost?

    python benchmarks/sixteen_bits.py [--data ../shared/data/bccd/bccd.yaml --model yolo26n]
        [--epochs 30 --seeds 0 1 2 --imgsz 320 --more "amp=False pretrained=False"]
        [--work runs/sixteen_bits]

Every image is written again as a 16-bit PNG whose 256 values lie in the window 1000..2275, 5 levels
of 65,536 apart: divided by 256, six values are left.  Three trainings for each seed: the plain
images, and the deep ones with ``pixels=auto`` and ``pixels=raw``.  Runs that are finished are kept.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
from children import trained
from pages import add_out, hardware, table, trained_on, write_page
from yolodet.datasets.images.image import read_image
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.datasets.sets.source import DataSource

LOW, STEP = 1000, 5
CASES = {
    "8 bits": ("plain", "auto"), "16 bits, auto": ("deep", "auto"), "16 bits, raw": ("deep", "raw"),
}  # fmt: skip
"""Name -> (which files, pixels=)."""


def main() -> None:
    options = read_options()
    sets = {kind: write(options.data, options.work / kind, kind) for kind in ("plain", "deep")}
    rows: dict[str, list[float]] = {}
    for seed in options.seeds:
        for name, (kind, pixels) in CASES.items():
            rows.setdefault(name, []).append(train(options, sets[kind], pixels, seed))
    model = Path(options.model).stem
    about = (
        f"{options.data.stem}, {model}, {options.epochs} epochs at {options.imgsz} pixels "
        f"({options.more}); AP on val.  The 16-bit images use the values {LOW} to "
        f"{LOW + 255 * STEP} of 65,536."
    )
    plain = mean(rows["8 bits"])
    cells = [(name, f"{mean(aps):.3f}", ", ".join(f"{ap:.3f}" for ap in aps),
              f"{mean(aps) - plain:+.3f}") for name, aps in rows.items()]  # fmt: skip
    parts = [about, table(("images", "AP", "of each seed", "difference"), cells)]
    write_page(options.out, "sixteen-bits", model, hardware(trained_on()), parts, rows)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/bccd/bccd.yaml"))
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--more", default="amp=False pretrained=False", help="words of det train")
    parser.add_argument("--work", type=Path, default=Path("runs/sixteen_bits"))
    add_out(parser)
    return parser.parse_args()


def write(data: Path, folder: Path, kind: str) -> Path:
    """The data set as PNG files of 8 or 16 bits; returns its YAML."""
    yaml = folder / "data.yaml"
    if yaml.exists():
        return yaml
    dataset = load_dataset(DataSource(str(data)))
    for split in ("train", "val"):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for record in scan_split(dataset, split).records:
            image = read_image(record.path)[..., ::-1]
            if kind == "deep":
                image = (image.astype(np.uint16) * STEP + LOW).astype(np.uint16)
            cv2.imwrite(str(images / f"{record.path.stem}.png"), image)
            height, width = record.size
            rows = []
            for label, (x0, y0, x1, y1) in zip(record.labels, record.boxes, strict=True):
                box = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height)
                sides = ((x1 - x0) / width, (y1 - y0) / height)
                rows.append(" ".join(map(str, (int(label), *box, *sides))))
            (labels / f"{record.path.stem}.txt").write_text("\n".join(rows))
    names = json.dumps(list(dataset.class_names))
    yaml.write_text(f"train: images/train\nval: images/val\nnames: {names}\n")
    return yaml


def train(options: argparse.Namespace, data: Path, pixels: str, seed: int) -> float:
    """AP of the best weights of one training."""
    results = trained(
        options.work / f"{data.parent.name}-{pixels}-{seed}", *options.more.split(), data=data,
        model=options.model, epochs=options.epochs, seed=seed, imgsz=options.imgsz, pixels=pixels,
    )  # fmt: skip
    return float(results["metrics"]["map"])


if __name__ == "__main__":
    main()
