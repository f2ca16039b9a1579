"""How long the Data page of the studio takes on many images, and the memory of its server.

    python benchmarks/studio.py --images 100000 --folder /data/many [--out FOLDER]

The images are small JPEGs, each with a comment of its own, so that no two files are the same.  They
are written once.  ``det studio`` runs as a process of its own, twice: the first one reads the data
set for the first time, the second one remembers it.  Every time is that of the whole answer over
HTTP, with the small pictures of the page, which are asked for by six connections that stay open, as
browsers do.  No small picture is in the cache when a studio starts.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import cv2
import numpy as np

PER_FOLDER = 10_000
UNLABELED = 50
"""One image of so many has no label file."""
CONNECTIONS = 6
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
FILTERS: list[dict[str, Any]] = [
    {"class": 3}, {"size": "small"}, {"split": "val"}, {"split": "val", "size": "small"},
    {"class": [1, 2], "aspect": "wide"}, {"count": "5-9"}, {"finding": "image-unlabelled"},
    {"name": "99"}, {"name": "123"},
]  # fmt: skip
"""What is clicked, one after the other."""


def main() -> None:
    from pages import add_out, hardware, table, write_page  # torch, which the studio does without

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", choices=("first",), help="end after it; a later start goes on")
    add_out(parser)
    options = parser.parse_args()
    folder = options.folder.resolve()
    data = folder / f"set-{options.images}"
    if not (data / "data.yaml").exists():
        draw(data, options.images)
    cache, kept = folder / "cache", folder / f"measured-{options.images}.json"
    facts = json.loads(kept.read_text()) if kept.exists() else {}
    for name in ("first", "again")[len(facts) :]:
        shutil.rmtree(cache / "studio" if name == "again" else cache, ignore_errors=True)
        with studio(folder, cache) as (process, address, token):
            facts[name] = measure(Client(address, token, f"{data.name}/data.yaml"), process)
        kept.write_text(json.dumps(facts))
        if name == options.only:
            return
    kept.unlink()
    rows = [[what, *(f"{facts[name][key]:.3g}" for name in facts)] for key, what in SHOWN.items()]
    about = (
        f"{options.images:,} images. Seconds until the whole answer is there; a page has 60 images "
        "with their boxes and small pictures, which are made while they are asked for unless it "
        "says otherwise."
    )
    parts = ["# The Data page of the studio", about, table(("", *HEADS), rows)]
    write_page(options.out, f"studio-{options.images}", "", hardware(), parts, facts)


HEADS = ("read for the first time", "read before")
SHOWN = {
    "opened": "from the click on the data set until it is read",
    "first_page_early": "first page, while flaws are looked for",
    "next_page_early": "next page, while flaws are looked for (median of 3)",
    "flaws": "from the click until all flaws are known",
    "first_page": "first page, flaws known",
    "next_page": "next page, small pictures made ahead (median of 5)",
    "next_page_most": "the slowest of them",
    "filter": f"click on a filter: its images and all counts (median of {len(FILTERS)})",
    "filter_most": "the slowest of them",
    "filter_page": "the same with the small pictures of its page (median)",
    "memory": "most memory of the server in GiB",
    "memory_all": "the same with the processes that it starts",
}


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
            if kind == "labels" and number % UNLABELED == 0:
                continue
            place = folder / kind / split / part
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
    names = "".join(f"  {number}: class{number}\n" for number in range(80))
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")


@contextmanager
def studio(folder: Path, cache: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A studio of ``folder`` in a process of its own: the process, its host and its token."""
    process = subprocess.Popen(
        [sys.executable, "-m", "yolodet", "studio", str(folder)], stderr=subprocess.PIPE,
        text=True, env={**os.environ, "DET_CACHE": str(cache)},
    )  # fmt: skip
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"http://([\d.:]+)/\?token=(\S+)", line):
                yield process, found[1], found[2]
                break
        else:
            raise SystemExit("det studio has not started")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


class Client:
    """Asks for the pages of one data set."""

    def __init__(self, address: str, token: str, name: str) -> None:
        self._address, self._name = address, name
        self._headers = {"Authorization": f"Bearer {token}"}
        self._kept = threading.local()
        self._pool = ThreadPoolExecutor(CONNECTIONS)

    def get(self, path: str, **query: Any) -> bytes:
        """A whole answer, over the connection of this thread."""
        if not hasattr(self._kept, "connection"):
            self._kept.connection = HTTPConnection(self._address)
        words = urlencode({"set": self._name, **query}, doseq=True)
        self._kept.connection.request("GET", f"{path}?{words}", headers=self._headers)
        reply = self._kept.connection.getresponse()
        body = reply.read()
        if reply.status != 200:
            raise SystemExit(f"{path}?{words}: {body.decode()}")
        return bytes(body)

    def state(self) -> dict[str, Any]:
        """How far the data set is read."""
        return dict(json.loads(self.get("/api/data/state")))

    def page(self, **query: Any) -> tuple[float, float]:
        """Seconds until the images and counts of a page are there, and until its pictures are."""
        begin = time.perf_counter()
        content = json.loads(self.get("/api/data/view", facets=1, **query))
        listed = time.perf_counter() - begin
        for picture in [
            self._pool.submit(self.get, "/api/data/thumb", n=image["n"])
            for image in content["images"]
        ]:
            picture.result()
        return listed, time.perf_counter() - begin


def measure(client: Client, process: subprocess.Popen[str]) -> dict[str, float]:
    """Go through the pages of the data set."""
    with watched_memory(process.pid) as memory:
        begin = time.perf_counter()

        def until(ready: Callable[[dict[str, Any]], bool]) -> float:
            while not ready(client.state()):
                time.sleep(0.1)
            return time.perf_counter() - begin

        found = {"opened": until(lambda state: bool(state["ready"]))}
        start = time.perf_counter()
        client.get("/api/data/facts")
        client.page()
        found["first_page_early"] = time.perf_counter() - start
        early = [client.page(page=page)[1] for page in (20, 40, 60)]
        found["next_page_early"] = statistics.median(early)
        assert client.state()["doing"], "too few images: the flaws were found meanwhile"
        found["flaws"] = until(lambda state: not state["doing"])
        start = time.perf_counter()
        client.get("/api/data/facts")
        client.page(name="0")
        found["first_page"] = time.perf_counter() - start
        following = []
        for page in range(1, 6):
            time.sleep(1)  # a reader looks at the page
            following.append(client.page(name="0", page=page)[1])
        clicks = []
        for query in FILTERS:
            time.sleep(0.5)
            clicks.append(client.page(**query))
    listed, whole = zip(*clicks, strict=True)
    return {
        **found,
        "next_page": statistics.median(following), "next_page_most": max(following),
        "filter": statistics.median(listed), "filter_most": max(listed),
        "filter_page": statistics.median(whole), **memory,
    }  # fmt: skip


@contextmanager
def watched_memory(pid: int) -> Iterator[dict[str, float]]:
    """The most GiB that the server had in memory, alone and with its children, known at the end."""
    most, ended = {"memory": 0.0, "memory_all": 0.0}, threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            own = resident(pid)
            every = own + sum(map(resident, children_of(pid)))
            most["memory"] = max(most["memory"], own)
            most["memory_all"] = max(most["memory_all"], every)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        ended.set()
        thread.join()


def children_of(pid: int) -> list[int]:
    """The processes that any thread of a process has started."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += [int(child) for child in file.read_text().split()]
    return found


def resident(pid: int) -> float:
    """GiB of a process in memory; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 2**30
    except OSError:
        return 0.0


if __name__ == "__main__":
    main()
