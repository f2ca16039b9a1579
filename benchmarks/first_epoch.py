"""Seconds until a training says its first line, has learned a batch, and has finished an epoch.

    python benchmarks/first_epoch.py --data my.yaml [--peer /path/to/yolo --rounds 3] [--out FOLDER]

Each training is a process of its own in a terminal of 100 columns, timed from outside by what it
shows there, and stopped after its first epoch.  det and the peer take turns.  Both train yolo26n
from scratch with their defaults; the peer is run as the program `yolo`.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from pages import add_out, hardware, shown, spread, table, write_page

MARKS = ("first line", "first batch", "first epoch")
EPOCHS = 5
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")
COUNT = rb"[1-9]\d*/\d+"
SIGNS = {
    "det": (rb"\S", rb"epoch 1/%d .* %s" % (EPOCHS, COUNT), rb"1/%d( +[\d.]+){3}" % EPOCHS),
    "peer": (rb"\S", rb"1/%d +\S+ .* %s" % (EPOCHS, COUNT), rb" all +\d+ +\d+ +[\d.]"),
}
"""What a program shows at each of MARKS."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--peer", type=Path, help="the program yolo of another environment")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    add_out(parser)
    options = parser.parse_args()
    words = [f"data={options.data.resolve()}", f"imgsz={options.imgsz}", f"epochs={EPOCHS}",
             "batch=16", "device=cpu"]  # fmt: skip
    commands = {"det": [sys.executable, "-m", "yolodet", "train", "model=yolo26n", *words]}
    if options.peer:
        model = ["model=yolo26n.yaml", "pretrained=False"]
        commands["peer"] = [str(options.peer.absolute()), "detect", "train", *model, *words]
    times: dict[str, list[list[float]]] = {name: [] for name in commands}
    for turn in range(options.rounds + 1):  # the first round fills caches and does not count
        for name, command in commands.items():
            measured = watch(command, SIGNS[name])
            if turn:
                times[name].append(measured)
    rows = [
        [name, *(shown(spread([run[mark] for run in runs])) for mark in range(len(MARKS)))]
        for name, runs in times.items()
    ]
    if options.peer:
        rows.append(["peer / det", *(f"{ratio(times, mark):.2f}x" for mark in range(len(MARKS)))])
    title = "# Seconds until a training shows something"
    said = (
        f"Median, least and most of {options.rounds} rounds in turns; yolo26n from scratch at "
        f"{options.imgsz} pixels, batch 16, defaults. The ratio is the median of the rounds."
    )
    write_page(
        options.out, "first-epoch-yolo26n", "", hardware(),
        [title, said, table(("", *MARKS), rows)], {"data": options.data.name, "seconds": times},
    )  # fmt: skip


def ratio(times: dict[str, list[list[float]]], mark: int) -> float:
    """Of the peer to det: the median over rounds, whose two runs are neighbors in time."""
    pairs = zip(times["det"], times["peer"], strict=True)
    return statistics.median(peer[mark] / det[mark] for det, peer in pairs)


def watch(command: list[str], signs: tuple[bytes, ...]) -> list[float]:
    """Seconds from the start of a program to each of its ``signs``.  Raises SystemExit where it
    ends without one."""
    with tempfile.TemporaryDirectory() as folder:
        terminal, its_end = pty.openpty()
        fcntl.ioctl(its_end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        environment = {**os.environ, "YOLO_OFFLINE": "1", "TERM": "xterm"}
        started = time.perf_counter()
        child = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=its_end,
            stderr=its_end, start_new_session=True,
        )  # fmt: skip
        os.close(its_end)
        try:
            return _wait_for(signs, terminal, started)
        finally:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            os.close(terminal)


def _wait_for(signs: tuple[bytes, ...], terminal: int, started: float) -> list[float]:
    text, reached = b"", []
    while len(reached) < len(signs):
        select.select([terminal], [], [])
        try:
            text += os.read(terminal, 65536)
        except OSError:  # the program has ended
            raise SystemExit(f"ended early:\n{text[-2000:].decode(errors='replace')}") from None
        plain = ESCAPES.sub(b"", text)
        while len(reached) < len(signs) and re.search(signs[len(reached)], plain):
            reached.append(time.perf_counter() - started)
    return reached


if __name__ == "__main__":
    main()
