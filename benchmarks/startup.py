"""Seconds from a command to its result: its help, a file's header, the first training step.

    python benchmarks/startup.py [--data coco8.yaml --rounds 5] [--out FOLDER]

Each is a new process, timed from outside, in interleaved rounds after a warm-up.  The first
training step is timed twice: with the check of mixed precision, as in a first run, and with its
cached result, as in later runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pages import add_out, hardware, shown, spread, table, write_page
from yolodet.detector.models.build import build
from yolodet.weights.checkpoint import Meta, save_weights

FIRST_STEP = "first-step"


def main() -> None:
    if sys.argv[1:2] == [FIRST_STEP]:
        train_one_step(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="coco8.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    add_out(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        commands = make_commands(folder, options.data)
        times: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(options.rounds + 1):
            for name, command in commands.items():
                caches = folder / (f"caches-{turn}" if name.endswith("checked") else "caches")
                spent = seconds(command, folder, caches)
                if turn:
                    times[name].append(spent)
    rows = [[name, shown(spread(values))] for name, values in times.items()]
    title = "# From the command to what it is there for"
    said = f"Median, least and most of {options.rounds} rounds; each command is a new process."
    write_page(
        options.out, "startup", "", hardware(), [title, said, table(("command", "seconds"), rows)],
        {"data": Path(options.data).name, "seconds": times},
    )  # fmt: skip


def make_commands(folder: Path, data: str) -> dict[str, list[str]]:
    """What is timed, by the name that the page gives it."""
    model = build("yolo26n", 80)
    meta = Meta("yolo26n", tuple(str(k) for k in range(80)), 640, model.strides, "fp32")
    save_weights(folder / "best.safetensors", model.state_dict(), meta)
    det = [sys.executable, "-m", "yolodet.cli"]
    step = [sys.executable, str(Path(__file__).resolve()), FIRST_STEP, f"data={data}"]
    train = f"`det train data={Path(data).name}`, first step"
    return {
        "`det --help`": [*det, "--help"],
        "`det train --help`": [*det, "train", "--help"],
        "`det weights info best.safetensors`": [*det, "weights", "info", "best.safetensors"],
        f"{train}, precision to be checked": step,
        train: step,
    }


def seconds(command: list[str], folder: Path, caches: Path) -> float:
    """Of one process.  Raises CalledProcessError where it fails."""
    environment = {**os.environ, "DET_CACHE": str(caches)}
    environment.setdefault("DET_DATASETS", str(caches))
    started = time.perf_counter()
    subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.perf_counter() - started


def train_one_step(words: list[str]) -> None:
    """``det train`` up to the end of its first step."""
    from yolodet.cli import main as det
    from yolodet.detector.train.trainer import Trainer

    train_batch = Trainer._train_batch

    def and_no_more(*arguments: Any) -> None:
        train_batch(*arguments)
        os._exit(0)

    Trainer._train_batch = and_no_more  # type: ignore[method-assign]
    sys.exit(det(["train", *words]) or "no step was made")


if __name__ == "__main__":
    main()
