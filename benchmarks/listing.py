"""Seconds and memory to list a very large data set, first and again: every file is a hard link.

    python benchmarks/listing.py [--images 1000000] [--work FOLDER] [--out FOLDER]

Each start is a new process, from the YAML to the list of images with their boxes.
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

from pages import add_out, hardware, table, write_page
from scan import make_files
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset

LINKS = 30_000
"""Names that one file gets; file systems allow some 65,000."""
IN_A_FOLDER = 10_000
START = "start"


def main() -> None:
    if sys.argv[1:2] == [START]:
        start(sys.argv[2])
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--work", type=Path, help="where the links are made, and removed again")
    add_out(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.work) as temporary:
        folder = Path(temporary)
        make_links(folder, options.images)
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
    rows = [[name, f"{f['seconds']:.1f}", f"{f['rss'] / 2**30:.2f}"] for name, f in facts.items()]
    title = f"# Listing {options.images:,} images"
    parts = [title, "One box per image.", table(("", "seconds", "peak GiB"), rows)]
    write_page(options.out, f"listing-{options.images}", "", hardware(), parts, facts)


def make_links(folder: Path, images: int) -> None:
    """A data set in YOLO layout below ``folder/many``; its files are links to those of ``few``."""
    few = -(-images // LINKS)
    make_files(folder / "few", few, 1)
    for number in range(images):
        part = f"train/{number // IN_A_FOLDER:04}"
        for kind, end in (("images", "jpg"), ("labels", "txt")):
            place = folder / "many" / kind / part
            if number % IN_A_FOLDER == 0:
                place.mkdir(parents=True)
            origin = folder / "few" / kind / "train" / f"{number % few:07}.{end}"
            os.link(origin, place / f"{number:07}.{end}")
    yaml = (folder / "few/data.yaml").read_text()
    (folder / "many/data.yaml").write_text(yaml)


def start(yaml: str) -> None:
    """Print what one start took."""
    began = time.perf_counter()
    images = len(scan_split(load_dataset(yaml), "train").records)
    seconds = time.perf_counter() - began
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"images": images, "seconds": seconds, "rss": rss}))


if __name__ == "__main__":
    main()
