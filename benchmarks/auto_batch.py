"""How near ``batch=auto`` comes to the largest batch that fits, under a limit of the address space.

    python benchmarks/auto_batch.py --limit 1.5 3 --data ../shared/data/bccd/bccd.yaml

A limit is in GiB above the address space of a process that has loaded torch, whose CUDA libraries
alone take some GiB of it.  For each limit one process trains with ``batch=auto``; then the
largest batch is found by bisection: processes that train an epoch with a fixed batch under the same
limit, and fit where they end well without splitting a batch.  Prints one line per limit.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

LOADED = int(
    subprocess.run(
        [sys.executable, "-c", "import torch; print(open('/proc/self/statm').read().split()[0])"],
        capture_output=True, text=True, check=True,
    ).stdout
) * resource.getpagesize()  # fmt: skip
"""Bytes of address space of a process that has loaded torch."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, nargs="+", default=[1.5, 3.0], help="GiB")
    parser.add_argument("--data", default="shapes.yaml")
    parser.add_argument("--words", default="model=yolo26n imgsz=320 amp=False", help="of det train")
    parser.add_argument("--most", type=int, default=128, help="upper end of the bisection")
    arguments = parser.parse_args()
    for limit in arguments.limit:
        row = measure(limit, arguments.data, arguments.words, arguments.most)
        print(json.dumps(row), flush=True)


def measure(limit: float, data: str, words: str, most: int) -> dict[str, float | int | str]:
    found, said = train(limit, data, words, "auto")
    fits, fails, tried = 1, most + 1, 0
    while fails - fits > max(1, fits // 50):  # 2 % are near enough for a reference
        middle = (fits + fails) // 2
        tried += 1
        if train(limit, data, words, str(middle))[0]:
            fits = middle
        else:
            fails = middle
    return {
        "limit_gib": limit,
        "auto": found,
        "largest_by_bisection": fits,
        "share": round(found / fits, 3),
        "runs": tried,
        "said": said,
    }


def train(limit: float, data: str, words: str, batch: str) -> tuple[int, str]:
    """The batch of a run of one epoch that ended well without a split batch, else 0; what it said
    about memory."""

    def under_limit() -> None:
        size = LOADED + int(limit * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))

    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "yolodet.cli", "train", f"data={data}", *words.split(),
            f"batch={batch}", "epochs=1", "device=cpu", "workers=0", "plots=False", "report=False",
            "val=False", "pretrained=False", "mosaic=0", f"project={folder}",
        ]  # fmt: skip
        ran = subprocess.run(command, capture_output=True, text=True, preexec_fn=under_limit)
        args = Path(folder) / "train" / "args.yaml"
        text = ran.stdout + ran.stderr
        said = next((line for line in text.splitlines() if "measured:" in line), "")
        if not said:
            lines = [line for line in text.splitlines() if "memory" in line.lower()]
            said = lines[0] if lines else text.strip().splitlines()[-1] if text.strip() else ""
        well = ran.returncode == 0 and "memory ran out" not in text
        number = re.search(r"^batch: (\d+)", args.read_text(), re.MULTILINE) if well else None
        return (int(number[1]) if number else 0), said


if __name__ == "__main__":
    main()
