"""Seconds and memory to list a very large data set, first and again: every file is a hard link.

    python benchmarks/listing.py [--images 1000000] [--format yolo] [--work FOLDER] [--out FOLDER]
    python benchmarks/listing.py --images 118287 --boxes 860001 --format coco

Each start is a new process, from the YAML to the list of images with their boxes.  The second line
has the size of COCO train2017: one JSON of about 450 MB, with polygons as long as COCO's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset

LINKS = 30_000
"""Names that one file gets; file systems allow some 65,000."""
IN_A_FOLDER = 10_000
START = "start"
CLASSES = 80
POLYGON = 50
"""Numbers of the outline of an object: 450 MB in all, as in COCO."""


def main() -> None:
    if sys.argv[1:2] == [START]:
        start(sys.argv[2])
        return
    from pages import add_out, hardware, table, write_page  # torch, which a start does without

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--format", choices=("yolo", "coco"), default="yolo")
    parser.add_argument("--boxes", type=int, help="in all; only for coco. Default: one per image")
    parser.add_argument("--work", type=Path, help="where the links are made, and removed again")
    add_out(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as temporary:
        folder = Path(temporary)
        make_links(folder, options.images, labels=options.format == "yolo")
        boxes = options.boxes or options.images
        size = write_json(folder, options.images, boxes) if options.format == "coco" else 0
        environment = {**os.environ, "DET_CACHE": str(folder / "caches")}
        command = [sys.executable, __file__, START, str(folder / "many/data.yaml")]
        facts = {}
        for name in ("first start", "second start"):
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            facts[name] = json.loads(done.stdout)
            if facts[name]["images"] != options.images:
                raise SystemExit(f"found {facts[name]['images']} images")
    rows = [
        [name, f"{f['seconds']:.1f}", f"{f['cpu']:.1f}", f"{f['rss'] / 2**30:.2f}"]
        for name, f in facts.items()
    ]
    title = f"# Listing {options.images:,} images"
    coco = f"{boxes:,} boxes in a COCO JSON of {size / 1e6:.0f} MB."
    said = coco if size else "One box per image."
    parts = [title, said, table(("", "seconds", "of them on the CPU", "peak GiB"), rows)]
    name = f"listing-{options.format}-{options.images}"
    write_page(options.out, name, "", hardware(), parts, facts)


def make_links(folder: Path, images: int, *, labels: bool) -> None:
    """A data set in YOLO layout below ``folder/many``; its files are links to those of ``few``."""
    kinds = (("images", "jpg"), ("labels", "txt"))[: 1 + labels]
    from scan import make_files

    few = -(-images // LINKS)
    make_files(folder / "few", few, 1)
    for number in range(images):
        part = f"train/{number // IN_A_FOLDER:04}"
        for kind, end in kinds:
            place = folder / "many" / kind / part
            if number % IN_A_FOLDER == 0:
                place.mkdir(parents=True)
            origin = folder / "few" / kind / "train" / f"{number % few:07}.{end}"
            os.link(origin, place / f"{number:07}.{end}")
    yaml = (folder / "few/data.yaml").read_text()
    (folder / "many/data.yaml").write_text(yaml)


def write_json(folder: Path, images: int, boxes: int) -> int:
    """Describe the images in a COCO JSON, in place of label files.  Returns its bytes."""
    rng = np.random.default_rng(0)
    owners = np.sort(rng.integers(0, images, boxes)).tolist()
    corners = rng.uniform(0, (30, 20, 30, 20), (boxes, 4)).round(2).tolist()
    outline = rng.uniform(0, 60, POLYGON).round(2).tolist()
    pictures = [
        {"license": 3, "file_name": f"{n // IN_A_FOLDER:04}/{n:07}.jpg", "height": 48, "width": 64,
         "coco_url": f"http://images.cocodataset.org/train2017/{n:012}.jpg", "id": n}
        for n in range(images)
    ]  # fmt: skip
    rows = [
        {"segmentation": [outline], "area": box[2] * box[3], "iscrowd": 0, "image_id": owner,
         "bbox": [box[0], box[1], box[2] + 1, box[3] + 1], "category_id": n % CLASSES + 1, "id": n}
        for n, (owner, box) in enumerate(zip(owners, corners, strict=True))
    ]  # fmt: skip
    kinds = [{"supercategory": "all", "id": n + 1, "name": f"kind {n}"} for n in range(CLASSES)]
    file = folder / "many/train.json"
    with file.open("w") as sink:
        json.dump({"images": pictures, "annotations": rows, "categories": kinds}, sink)
    text = "format: coco\ntrain: train.json\nval: train.json\nimages: images/train\n"
    (folder / "many/data.yaml").write_text(text)
    return file.stat().st_size


def start(yaml: str) -> None:
    """Print what one start took."""
    began, before = time.perf_counter(), time.process_time()
    images = len(scan_split(load_dataset(yaml), "train").records)
    seconds, cpu = time.perf_counter() - began, time.process_time() - before
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"images": images, "seconds": seconds, "cpu": cpu, "rss": rss}))


if __name__ == "__main__":
    main()
