"""The speed of training on a GPU: steps, loops and loader, within ten minutes.

    benchmarks/gpu.sh                  or: python benchmarks/gpu.py [--budget 540] [--out FOLDER]
    benchmarks/gpu.sh --dry-run        a few seconds on a CPU, to see that it runs

1. steps: model n, s and m, batch 16, 64 and 128, fp32, bf16 and fp16, at --imgsz on batches that
   lie on the device: images/s, memory, and the share of a step in which kernels run (the rest is
   the host, launching them).  As `det train` does it, deterministic; once also without.
2. loops: the same step fed by the loader, which draws on the CPU or on the device: images/s, share
   of the step's speed, share of the time in which the device waits for data, or draws it.
3. loader: images/s that each way of drawing gives by itself, on the device and by number of
   processes on the CPU.

The most important measurements come first; those beyond --budget seconds are listed as not
measured. Images are made up and lie in memory.  Needs torch, torchvision, NumPy, OpenCV and
safetensors.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_parts import Draws, Fed, Step, make_data
from pages import add_out, hardware, table, write_page
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.train.assemble import prepare_process
from yolodet.files.limits import usable_cores

Row = dict[str, Any]
Job = tuple[str, Callable[[], Row]]


def main() -> None:
    options = read_options()
    began = time.perf_counter()
    prepare_process(TrainConfig(), torch.device(options.device))
    rows: list[Row] = []
    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        data = make_data(Path(folder), options.images, options.imgsz)
        for name, job in jobs(options, data):
            if time.perf_counter() - began > options.budget:
                left_out.append(name)
                continue
            rows.append(attempt(name, job))
            print(f"{time.perf_counter() - began:6.1f} s  {name}: {said(rows[-1])}", flush=True)
    facts = {"imgsz": options.imgsz, "rows": rows, "not_measured": left_out}
    write_page(options.out, "gpu-speed", "yolo26", hardware(options.device),
               page(options, rows, left_out), facts)  # fmt: skip


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--budget", type=float, default=540.0, help="seconds in all")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--models", nargs="+", default=["yolo26n", "yolo26s", "yolo26m"])
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 16, 128])
    parser.add_argument("--precisions", nargs="+", default=["bf16", "fp32", "fp16"])
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU")
    add_out(parser)
    options = parser.parse_args()
    if options.dry_run:
        options.device, options.imgsz, options.images, options.seconds = "cpu", 64, 8, 0.05
        options.models, options.batches, options.precisions = ["yolo26n"], [2], ["fp32"]
    return options


def jobs(options: argparse.Namespace, data: Any) -> Iterator[Job]:
    """What to measure, the most important first: one model fed both ways, then the grid."""
    device, seconds = torch.device(options.device), options.seconds
    first, *others = options.models
    best = options.precisions[0]

    def step(model: str, batch: int, precision: str) -> Job:
        name = f"step {model} batch {batch} {precision}"
        return name, lambda: Step(model, batch, precision, data, device).alone(seconds)

    def fed(model: str, batch: int, on: str) -> Job:
        name = f"loop {model} batch {batch} {best}, drawn on {on}"
        return name, lambda: Fed(model, batch, best, data, device, on).loop(seconds)

    # where both are the CPU, "device" still means drawing with torch
    for batch in options.batches:
        yield from (fed(first, batch, on) for on in ("device", "cpu"))
        yield step(first, batch, best)
    for model, on in itertools.product(others, ("device", "cpu")):
        yield fed(model, options.batches[0], on)
    batch = options.batches[0]
    name, job = step(first, batch, best)
    yield f"{name}, deterministic=False", lambda: _freely(job, device)
    yield "drawing on the device", lambda: Draws(batch, data, device, None).alone(seconds)
    for workers in sorted({1, usable_cores() // 2, usable_cores() - 1} - {0}):
        name = f"drawing on the CPU, {workers} processes"
        yield name, partial(_drawn_by, workers, batch, data, device, seconds)
    for model in others:
        yield step(model, options.batches[0], best)
    grid = itertools.product(options.precisions, options.models, options.batches)
    for precision, model, batch in grid:
        early = batch == options.batches[0] or model == first
        if precision != best or not early:
            yield step(model, batch, precision)


def _freely(job: Callable[[], Row], device: torch.device) -> Row:
    """A measurement with the fastest kernels of cuDNN, also non-deterministic ones."""
    prepare_process(TrainConfig(deterministic=False), device)
    try:
        row = job()
    finally:
        prepare_process(TrainConfig(), device)
    return {**row, "precision": f"{row['precision']}, deterministic=False"}


def _drawn_by(workers: int, batch: int, data: Any, device: torch.device, seconds: float) -> Row:
    return Draws(batch, data, device, workers).alone(seconds)


def attempt(name: str, job: Callable[[], Row]) -> Row:
    """A row; it says if the measurement did not fit into memory."""
    try:
        row = {"name": name, **job()}
    except torch.OutOfMemoryError:
        row = {"name": name, "kind": name.split()[0], "failed": "out of memory"}
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return row


def said(row: Row) -> str:
    return row.get("failed") or f"{row['images_per_s']:.0f} images/s"


def page(options: argparse.Namespace, rows: list[Row], left_out: list[str]) -> list[str]:
    """Title, a table for each kind of row, and what was not reached."""
    alone = {
        (row["model"], row["batch"], row["precision"]): row["images_per_s"]
        for row in rows
        if row["kind"] == "step" and "failed" not in row
    }
    parts = [f"# Training YOLO26 at {options.imgsz} px on a GPU"]
    failed = [row for row in rows if "failed" in row]
    good = [row for row in rows if "failed" not in row]
    steps = [
        [row["model"], row["batch"], row["precision"], f"{row['images_per_s']:.0f}",
         f"{row['step_ms']:.1f}", f"{row['gib']:.1f}", percent(row["kernels"])]
        for row in sorted(good, key=lambda r: str(r.get("model")))
        if row["kind"] == "step"
    ]  # fmt: skip
    header = ("step", "batch", "precision", "images/s", "ms", "peak GiB", "kernels run")
    parts += ["Whole training steps on batches that lie on the device.", table(header, steps)]
    loops = []
    for row in good:
        if row["kind"] == "loop":
            reach = alone.get((row["model"], row["batch"], row["precision"]))
            loops.append(
                [row["model"], row["batch"], row["precision"], row["drawn"],
                 f"{row['images_per_s']:.0f}",
                 percent(row["images_per_s"] / reach if reach else None), percent(row["waits"]),
                 percent(row["draws"]), f"{row['gib']:.1f}"]
            )  # fmt: skip
    header = ("loop", "batch", "precision", "drawn on", "images/s", "of the step", "waits", "draws",
              "peak GiB")  # fmt: skip
    parts += [
        "The same steps fed by the loader. Waits: from the end of a step until data is there.",
        table(header, loops),
        table(("drawing alone", "images/s"),
              [[r["name"], f"{r['images_per_s']:.0f}"] for r in good if r["kind"] == "drawing"]),
    ]  # fmt: skip
    if failed:
        parts.append("Failed: " + "; ".join(f"{r['name']} ({r['failed']})" for r in failed) + ".")
    if left_out:
        parts.append("Not measured for lack of time: " + "; ".join(left_out) + ".")
    return parts


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


if __name__ == "__main__":
    main()
