"""Quantization-aware training beside fp32 and calibration: AP, step time and images per second.

    python benchmarks/qat.py [--data bccd.yaml --model yolo26n --epochs 100 --imgsz 320]
        [--float best.safetensors --seeds 0 1 2 --qat-words "epochs=10" --formats onnx openvino]
        [--rounds 12 --steps 12 --work runs/qat]

The float model is trained once, or taken from --float.  Each seed is a `det train qat=int8` of its
own.  Files of 8 bits are written from the float checkpoint (calibrated, the sensitive stages in
float where det leaves them) and from each seed (no calibration).  AP of checkpoints, simulations
and files is measured by `det val` on val and test.  A plain step and a step of quantization-aware
training, and files in fp32 and 8 bits on one and two threads, alternate within one program.

What is finished in --work is not repeated.  The page is written anew after each part.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from children import DET, kept, run
from pages import add_out, hardware, ratios, shown, spread, table, write_page
from yolodet.detector.options.formats import FORMATS

SHARED = Path(__file__).parents[2] / "shared"
BEST = Path("weights") / "best.safetensors"
SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite", "torch_export": ".pt2"}


def main() -> None:
    options = read_options()
    if options.measure:
        print(json.dumps(measure_here(options)))
        return
    options.work.mkdir(parents=True, exist_ok=True)
    base = options.float or train(options, "float", f"model={options.model}", epochs=options.epochs)
    runs = {"float": base}
    for seed in options.seeds:
        words = (f"model={base}", "qat=int8", f"seed={seed}", *options.qat_words.split())
        runs[f"qat {seed}"] = train(options, f"qat-{seed}", *words)
    rows: list[dict[str, Any]] = []
    for name, checkpoint in runs.items():
        rows.append({"name": name, "file": str(checkpoint), **measure_ap(options, checkpoint)})
        write(options, rows, {})
        for kind in options.formats:
            if name == "float":
                rows.append(exported(options, checkpoint, f"float, {kind} fp32", kind))
                rows.append(exported(options, checkpoint, f"calibrated, {kind} int8", kind, True))
            else:
                rows.append(exported(options, checkpoint, f"{name}, {kind} int8", kind, True))
            write(options, rows, {})
    speeds = child(options, runs, rows)
    write(options, rows, speeds)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=str(SHARED / "data" / "bccd" / "bccd.yaml"))
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--float", type=Path, help="a trained checkpoint, not to train one")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu", help="of the trainings")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--qat-words", default="", help="more words of det for the seeds")
    parser.add_argument("--splits", nargs="+", default=["val", "test"])
    parser.add_argument("--formats", nargs="+", default=["onnx"], choices=list(SUFFIX))
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--steps", type=int, default=12, help="of each kind, alternating")
    parser.add_argument("--work", type=Path, default=Path("runs") / "qat")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    add_out(parser)
    return parser.parse_args()


def train(options: argparse.Namespace, name: str, *words: str, epochs: int | None = None) -> Path:
    """The best checkpoint of a run in --work."""
    folder = options.work / name

    def make() -> dict[str, Any]:
        shutil.rmtree(folder, ignore_errors=True)
        started = time.perf_counter()
        more = [f"epochs={epochs}"] if epochs else []
        run([*DET, "train", f"data={options.data}", f"imgsz={options.imgsz}",
             f"batch={options.batch}", f"project={options.work}", f"name={name}", "plots=False",
             f"device={options.device}", "--json", *more, *words])  # fmt: skip
        return {"seconds": time.perf_counter() - started}

    kept(options.work / f"{name}.done.json", make)
    return folder / BEST


def measure_ap(options: argparse.Namespace, path: Path) -> dict[str, Any]:
    """AP of a checkpoint or a file on each split."""

    def make() -> dict[str, Any]:
        found = {}
        for split in options.splits:
            said = run([*DET, "val", f"model={path}", f"data={options.data}", f"split={split}",
                        f"project={options.work / 'val'}", "plots=False", "device=cpu",
                        "--json"])  # fmt: skip
            found[split] = said["result"]["metrics"]["map"]
        return found

    place = options.work / f"{path.parents[1].name}-{path.stem}{path.suffix}.ap.json"
    return {"ap": kept(place, make)}


def exported(
    options: argparse.Namespace, checkpoint: Path, name: str, kind: str, int8: bool = False
) -> dict[str, Any]:
    """The row of an exported file."""
    folder = options.work / "files" / name.replace(", ", "-").replace(" ", "-") / "file"
    path = folder / f"file{SUFFIX[kind]}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = ["int8=True"] * int8
        words += [f"data={options.data}"] * (name.startswith("calibrated"))
        run([*DET, "export", f"model={checkpoint}", f"format={kind}", f"output={path}",
             f"imgsz={options.imgsz}", "--json", *words])  # fmt: skip
    size = sum(file.stat().st_size for file in FORMATS[kind].files(path))
    place = {"name": name, "file": str(path), "format": kind, "mb": size / 1e6}
    return place | measure_ap(options, path)


def child(
    options: argparse.Namespace, runs: dict[str, Path], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """``measure_here`` in a process of its own."""
    job = options.work / "job.json"
    first = next(path for name, path in runs.items() if name != "float")
    job.write_text(json.dumps({"float": str(runs["float"]), "qat": str(first), "rows": rows}))
    words = ["--measure", job, "--rounds", options.rounds, "--steps", options.steps]
    words += ["--batch", options.batch, "--imgsz", options.imgsz]
    return kept(
        options.work / "speed.json", lambda: run([sys.executable, __file__, *map(str, words)])
    )


def measure_here(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of steps and files, all alternating."""
    job = json.loads(options.measure.read_text())
    return {
        "step": step_times(options, Path(job["float"]), Path(job["qat"])),
        "files": file_times(
            [row for row in job["rows"] if "format" in row], options.imgsz, options.rounds
        ),
    }


def step_times(options: argparse.Namespace, base: Path, qat: Path) -> dict[str, list[float]]:
    """Seconds of plain and quantized steps, forward and backward, in fp32 and bf16, alternating."""
    import torch
    from noise import noise_batch
    from yolodet.detector.checkpoints.restore import restore
    from yolodet.detector.losses.detection import DetectionLoss, Gains
    from yolodet.detector.quantization.simulate import ranges_of

    models = {"plain": restore(base)[0].train(), "qat": restore(qat)[0].train()}
    batch = noise_batch(options.batch, options.imgsz)
    criterion = DetectionLoss(Gains())
    for model in models.values():
        model.to(memory_format=torch.channels_last)
    ranges = ranges_of(models["qat"])
    assert ranges is not None
    ranges.until = 10 * (options.steps + 2)  # they follow the values, as in most of a run
    names = list(itertools.product(("bf16", "fp32"), models))
    seconds: dict[str, list[float]] = {f"{precision} {name}": [] for precision, name in names}
    for turn in range(options.steps + 2):
        for precision, name in names:
            started = time.perf_counter()
            if name == "qat":
                ranges.begin()
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                outputs = models[name](batch.images)
            if name == "qat":
                ranges.end()
            criterion(outputs, batch).total.backward()
            models[name].zero_grad(set_to_none=True)
            if turn > 1:  # the first ones allocate
                seconds[f"{precision} {name}"].append(time.perf_counter() - started)
    return seconds


def file_times(
    rows: list[dict[str, Any]], imgsz: int, rounds: int, each: int = 5
) -> dict[str, Any]:
    """Threads -> name of a file -> seconds per image of each round, all files alternating.

    rows: name, format and file of each, loaded in this order."""
    import torch
    from yolodet.detector.export.formats.writers import WRITERS
    from yolodet.detector.export.proof.speed import run_interleaved

    cpu = torch.device("cpu")
    images = [np.random.default_rng(0).random((1, 3, imgsz, imgsz), np.float32)]
    found = {}
    for threads in (1, 2):
        runners = {
            row["name"]: WRITERS[row["format"]].open_file(Path(row["file"]), cpu, threads)
            for row in rows
        }
        turns = run_interleaved(runners, dict.fromkeys(runners, images), rounds, each)
        found[str(threads)] = {
            name: [statistics.median(each) for each in mine] for name, mine in turns.items()
        }
    return found


def write(options: argparse.Namespace, rows: list[dict[str, Any]], speeds: dict[str, Any]) -> None:
    """The page of what is known."""
    base = rows[0]["ap"]
    cells = []
    for row in rows:
        drops = [f"{row['ap'][s]:.4f} ({row['ap'][s] - base[s]:+.4f})" for s in options.splits]
        size = f"{row['mb']:.2f}" if "mb" in row else "-"
        cells.append([row["name"], *drops, size])
    parts = [f"# Quantization-aware training, {options.model}, {options.imgsz} px",
             f"AP, and its difference to the float checkpoint. Data: {Path(options.data).name}.",
             table(["what", *options.splits, "MB"], cells), *said_of(speeds)]  # fmt: skip
    write_page(options.out, "qat", "", hardware(), parts, {"rows": rows, "speeds": speeds})


def said_of(speeds: dict[str, Any]) -> list[str]:
    """Ratios of steps and of files."""
    if not speeds:
        return []
    step = speeds["step"]
    lines = [
        f"A step of quantization-aware training takes {shown(ratios(step[f'{p} qat'], plain), 2)} "
        f"of a plain step in {p} (forward, loss and backward)."
        for p in ("bf16", "fp32")
        for plain in [step[f"{p} plain"]]
    ]
    cells = []
    for threads, files in speeds["files"].items():
        for name, mine in files.items():
            kind = name.split(", ")[1].split()[0]
            base = files[f"float, {kind} fp32"]
            rate = spread([1 / each for each in mine])
            cells.append([name, threads, shown(rate, 1), shown(ratios(base, mine), 2, "x")])
    return [*lines, table(["file", "threads", "images/s", "of fp32"], cells)]


if __name__ == "__main__":
    main()
