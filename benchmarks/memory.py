"""Memory and time of a training step: fp32, bf16, and each with checkpointed activations.

    python benchmarks/memory.py --model yolo26n --batch 16 --imgsz 640

Each row is measured in a process of its own: peak of the process above its idle size (the model
built, no step taken), the estimate that a run shows, and milliseconds per step, the median of
``--steps`` after one to warm up.  Rounds go through all rows, so that other load hits all alike.

    python benchmarks/memory.py --runs --model yolo26n --batch 4 --imgsz 320 --keep memory-runs.json

trains instead (``det train``, two epochs of ``--data``) and compares what each run expected with
the peak that it measured, both above the idle process; ``--memory 2GiB 1.5GiB`` adds runs with
these budgets.  ``--keep`` holds the rows that are done: a
second call goes on after them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from children import det

ROWS = {
    "fp32": ("fp32", False),
    "fp32 + checkpointing": ("fp32", True),
    "bf16": ("bf16", False),
    "bf16 + checkpointing": ("bf16", True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--row", choices=tuple(ROWS), help="measure one row in this process")
    parser.add_argument("--runs", action="store_true", help="measure whole runs")
    parser.add_argument("--data", default="coco8.yaml", help="of the runs")
    parser.add_argument("--memory", nargs="*", default=[], help="budgets of more runs, e.g. 2GiB")
    parser.add_argument("--keep", type=Path, help="JSON file of the runs that are done")
    arguments = parser.parse_args()
    if arguments.runs:
        show_runs(arguments)
        return
    if arguments.row:
        print(json.dumps(measure(arguments)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ROWS}
    for _ in range(arguments.rounds):
        for name in ROWS:
            ran = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--row", name],
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            found[name].append(json.loads(ran.stdout.splitlines()[-1]))
            print(f"{name}: {found[name][-1]}", file=sys.stderr)
    base = found["fp32"]
    print("| precision | peak above idle, MiB | of fp32 | estimate / peak | ms/step | of fp32 |")
    print("|---|---|---|---|---|---|")
    for name, rows in found.items():
        peak, ms = (min(row[key] for row in rows) for key in ("peak", "ms"))
        first, fastest = (min(row[key] for row in base) for key in ("peak", "ms"))
        estimate = rows[0]["estimate"]
        print(
            f"| {name} | {peak / 2**20:.0f} | {peak / first:.2f} | {estimate / peak:.2f} | "
            f"{ms:.0f} | {ms / fastest:.2f} |"
        )


def show_runs(arguments: argparse.Namespace) -> None:
    """A row per precision: what the run expected, what it took."""
    kept = arguments.keep
    done = json.loads(kept.read_text()) if kept and kept.exists() else {}
    print("| run | idle, MiB | expected above idle, MiB | peak above idle, MiB | expected / peak |")
    print("|---|---|---|---|---|")
    rows: dict[str, dict[str, object]] = {
        name: {"amp": precision, "amp_check": False, "checkpointing": frugal}
        for name, (precision, frugal) in ROWS.items()
    }
    rows |= {f"memory={size}": {"memory": size} for size in arguments.memory}
    for name, options in rows.items():
        key = f"{arguments.model} {arguments.imgsz} {arguments.batch} {arguments.data} {name}"
        if key not in done:
            done[key] = trained(arguments, options)
            if kept:
                kept.write_text(json.dumps(done, indent=2) + "\n")
        memory = done[key]
        idle = memory["idle"]
        expected, peak = (memory[word] - idle for word in ("expected", "peak"))
        sizes = " | ".join(f"{size / 2**20:.0f}" for size in (idle, expected, peak))
        print(f"| {name} | {sizes} | {expected / peak:.2f} |", flush=True)


def trained(arguments: argparse.Namespace, options: dict[str, object]) -> dict[str, Any]:
    """``memory`` of results.json, of a short training."""
    with tempfile.TemporaryDirectory() as folder:
        result = det(
            "train", model=arguments.model, data=arguments.data, imgsz=arguments.imgsz,
            batch=arguments.batch, epochs=2, pretrained=False, workers=0, device="cpu",
            project=folder, **options,
        )  # fmt: skip
    return dict(result["memory"])


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """peak and estimate in bytes, ms: of the row."""
    import torch
    from noise import noise_batch
    from yolodet.detector.losses.detection import DetectionLoss, Gains
    from yolodet.detector.models.build import build
    from yolodet.detector.models.checkpointing import checkpoint_stages
    from yolodet.detector.options.train import TrainConfig
    from yolodet.detector.precision.precision import Precision
    from yolodet.detector.run.device import keep_freed_memory
    from yolodet.detector.run.memory import PeakMemory
    from yolodet.detector.train.ema import ModelEma
    from yolodet.detector.train.memory import needs_of
    from yolodet.detector.train.optim import build_optimizer, choose_optimizer
    from yolodet.detector.train.step import TrainStep

    name, frugal = ROWS[arguments.row]
    torch.manual_seed(0)
    keep_freed_memory()
    model = build(arguments.model, 80).train().to(memory_format=torch.channels_last)
    if frugal:
        checkpoint_stages(model, list(model.stages))
    precision = Precision(name, "cpu", "")
    optimizer = build_optimizer(model, choose_optimizer(TrainConfig()))
    ema = ModelEma(model, decay=0.99, tau=100.0)
    step = TrainStep(model, DetectionLoss(Gains()), optimizer, precision, ema=ema, clip=10.0)
    estimate = needs_of(model, arguments.imgsz, precision).of(arguments.batch)
    batch = noise_batch(arguments.batch, arguments.imgsz)
    peak = PeakMemory(torch.device("cpu"))
    peak.begin()
    seconds = []
    for _ in range(arguments.steps + 1):
        started = time.perf_counter()
        step(batch, update=True, eager=True)
        seconds.append(time.perf_counter() - started)
    ms = 1000 * statistics.median(seconds[1:])
    return {"peak": float(peak.bytes()), "estimate": float(estimate), "ms": ms}


if __name__ == "__main__":
    main()
