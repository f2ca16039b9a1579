"""How long the Data page of the studio takes on many images, and the memory of its server.

python benchmarks/studio.py --images 100000 --folder /data/many

The images are small JPEGs, each with a comment of its own, so that no two files are the same.  They
are written once.  Every time is that of the whole answer over HTTP; the small pictures of a page
are asked for by six connections, as browsers do.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import cv2
import numpy as np
from yolodet.detector.studio.pages_of import AllPages
from yolodet.detector.studio.server import Studio

PER_FOLDER = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    os.environ.setdefault("DET_CACHE", str(options.folder.resolve() / "cache"))
    data = options.folder.resolve() / f"set-{options.images}"
    if not (data / "data.yaml").exists():
        draw(data, options.images)
    pages = AllPages(options.folder.resolve())
    studio = Studio(pages.routes(), 0, print)
    threading.Thread(target=studio.serve_forever, daemon=True).start()
    found = measure(studio, f"{data.name}/data.yaml")
    pages.close()
    found["images"] = options.images
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    json.dump(found, sys.stdout, indent=1)
    print()


def draw(folder: Path, count: int) -> None:
    """``count`` images with seven boxes each, nine tenths of them in train."""
    generator = np.random.default_rng(0)
    jpegs = []
    for _ in range(50):
        noise = generator.integers(0, 255, (12, 16, 3), np.uint8)
        jpegs.append(cv2.imencode(".jpg", cv2.resize(noise, (640, 480)))[1].tobytes())
    for number in range(count):
        split = "val" if number % 10 == 0 else "train"
        comment = f"{number:08d}".encode()
        jpeg = jpegs[number % 50]
        bytes = jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]
        sides = generator.uniform(0.02, 0.3, (7, 2))
        centers = generator.uniform(0.2, 0.8, (7, 2))
        labels = generator.integers(0, 80, 7)
        rows = [
            f"{label} {x:.5f} {y:.5f} {w:.5f} {h:.5f}\n"
            for label, (x, y), (w, h) in zip(labels, centers, sides, strict=True)
        ]
        part = f"{number // PER_FOLDER:03d}"
        for kind, name, content in (
            ("images", f"{number:08d}.jpg", bytes),
            ("labels", f"{number:08d}.txt", "".join(rows).encode()),
        ):
            place = folder / kind / split / part
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
    names = "".join(f"  {number}: class{number}\n" for number in range(80))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")


def measure(studio: Studio, name: str) -> dict[str, Any]:
    def get(path: str, **query: Any) -> bytes:
        words = urlencode({"set": name, **query}, doseq=True)
        address = f"http://127.0.0.1:{studio.door.port}{path}?{words}"
        headers = {"Authorization": f"Bearer {studio.door.token}"}
        with urlopen(Request(address, headers=headers)) as reply:
            return bytes(reply.read())

    def page(**query: Any) -> float:
        begin = time.perf_counter()
        content = json.loads(get("/api/data/view", **query))
        with ThreadPoolExecutor(6) as pool:
            for image in content["images"]:
                pool.submit(get, "/api/data/thumb", n=image["n"])
        return time.perf_counter() - begin

    begin = time.perf_counter()
    while not json.loads(get("/api/data/state"))["ready"]:
        time.sleep(0.02)
    found: dict[str, Any] = {"opened_seconds": time.perf_counter() - begin}
    found["first_page_while_flaws_are_looked_for_seconds"] = page(facts=1, facets=1)
    while json.loads(get("/api/data/state"))["doing"]:
        time.sleep(0.1)
    found["all_flaws_known_seconds"] = time.perf_counter() - begin
    found["first_page_seconds"] = page(facets=1, name="0")
    time.sleep(3)  # a reader looks at the page
    found["next_page_seconds"] = [round(page(page=n, name="0"), 3) for n in (1, 2, 3)]
    filters: list[dict[str, Any]] = [
        {"class": 3}, {"split": "val", "size": "small"}, {"class": [1, 2], "aspect": "wide"},
        {"count": "5-9"}, {"name": "99"},
    ]  # fmt: skip
    times = []
    for query in filters:
        begin = time.perf_counter()
        get("/api/data/view", facets=1, **query)
        times.append(time.perf_counter() - begin)
    found["filter_seconds"] = {"median": statistics.median(times), "most": max(times)}
    status = Path("/proc/self/status").read_text()
    found["memory_mb"] = int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024
    return found


if __name__ == "__main__":
    main()
