"""Seconds to read a large data set's labels, cold (nothing known) and warm (nothing changed).

    python benchmarks/scan.py [--images 100000 --boxes 7 --rounds 3] [--work FOLDER]

Files are made up: JPEG images of a few hundred bytes, label files with --boxes rows each; making
them takes a minute, and --work keeps them.  Cold means no cache of ours; the files themselves may
be in the memory of the system.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from pages import add_out, hardware, shown, spread, table, write_page
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset

CLASSES = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--boxes", type=int, default=7, help="an image")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="keep the files here, and use them again")
    add_out(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.work or Path(temporary)) / f"scan-{options.images}-{options.boxes}"
        yaml = folder / "data.yaml"
        if not yaml.exists():
            make_files(folder, options.images, options.boxes)
        caches = Path(temporary) / "caches"
        os.environ["DET_CACHE"] = str(caches)
        times: dict[str, list[float]] = {"cold": [], "warm": []}
        for _ in range(options.rounds):
            shutil.rmtree(caches, ignore_errors=True)
            for name in times:
                times[name].append(seconds(yaml, options.images, options.boxes))
        size = sum(file.stat().st_size for file in caches.rglob("*") if file.is_file())
    title = f"# Reading {options.images:,} images with {options.boxes} boxes each"
    rows = [[name, shown(spread(values))] for name, values in times.items()]
    said = f"Median, least and most of {options.rounds} rounds. The cache is {size / 1e6:.1f} MB."
    parts = [title, said, table(("scan", "seconds"), rows)]
    facts = {"images": options.images, "boxes": options.boxes, "seconds": times, "bytes": size}
    write_page(options.out, "scan", "", hardware(), parts, facts)


def make_files(folder: Path, images: int, boxes: int) -> None:
    """A data set in YOLO layout; its data.yaml comes last."""
    done, picture = cv2.imencode(".jpg", np.full((48, 64, 3), 128, np.uint8))
    assert done
    for kind in ("images", "labels"):
        (folder / kind / "train").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(images):
        (folder / "images" / "train" / f"{number:07}.jpg").write_bytes(picture.tobytes())
        centers = rng.uniform(0.2, 0.8, (boxes, 2))
        sides = rng.uniform(0.05, 0.3, (boxes, 2))
        rows = [
            f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n"
            for label, (x, y), (w, h) in zip(
                rng.integers(0, CLASSES, boxes), centers, sides, strict=True
            )
        ]
        (folder / "labels" / "train" / f"{number:07}.txt").write_text("".join(rows))
    names = "\n".join(f"  {number}: kind {number}" for number in range(CLASSES))
    text = f"train: images/train\nval: images/train\nnames:\n{names}\n"
    (folder / "data.yaml").write_text(text)


def seconds(yaml: Path, images: int, boxes: int) -> float:
    """Of one scan, which must find everything."""
    started = time.perf_counter()
    scan = scan_split(load_dataset(str(yaml)), "train")
    spent = time.perf_counter() - started
    found = sum(len(record.labels) for record in scan.records)
    if (len(scan.records), found) != (images, images * boxes) or scan.findings:
        raise SystemExit(f"found {len(scan.records)} images and {found} boxes: {scan.findings[:1]}")
    return spent


if __name__ == "__main__":
    main()
