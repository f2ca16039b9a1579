"""One image through ONNX Runtime: our export of a model beside the peer's.

    python benchmarks/onnx_latency.py --peer PYTHON [--model yolo26n --imgsz 640 --rounds 8]

Both files are made from fresh weights (what they compute does not depend on their values) and take
turns in this program, on one thread and on every core.  The peer's file is made by its own python,
once with its NMS-free head, which has the same output as ours, and once as exported by default,
without NMS.  Prints and writes a page for docs/benchmarks/.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import onnxruntime
from pages import add_out, hardware, ratios, shown, spread, table, write_page
from yolodet.detector.export.formats.interface import Runner
from yolodet.detector.export.proof.speed import run_interleaved
from yolodet.files.limits import usable_cores

PEER = """
import shutil, sys
from ultralytics import YOLO
model, imgsz = sys.argv[1], int(sys.argv[2])
for name, words in (("free", {"nms": False}), ("suppress", {})):
    made = YOLO(model + ".yaml").export(format="onnx", imgsz=imgsz, device="cpu", **words)
    shutil.move(made, name + ".onnx")
"""
THEIRS = {"peer, NMS-free": "free.onnx", "peer, as it comes (NMS to be done)": "suppress.onnx"}


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        files = make(options, Path(folder))
        images = [np.random.default_rng(0).random((1, 3, options.imgsz, options.imgsz), np.float32)]
        rows, facts = [], {}
        for threads in sorted({1, usable_cores()}):
            runners = {name: open_file(path, threads) for name, path in files.items()}
            inputs = dict.fromkeys(runners, images)
            turns = run_interleaved(runners, inputs, options.rounds, options.each)
            ms = {name: [1000 * median(one) for one in each] for name, each in turns.items()}
            facts[f"{threads} threads"] = ms
            rows += [
                [name, threads, shown(spread(found), 1), shown(ratios(found, ms["ours"]))]
                for name, found in ms.items()
            ]
    title = f"# One image of {options.imgsz} px through {options.model} in ONNX Runtime, fp32"
    said = (
        f"{options.rounds} alternating rounds of {options.each} runs, medians of rounds: their "
        "median, least and most. Ratio: a file's time beside ours, round by round."
    )
    parts = [title, said, table(("file", "threads", "ms", "ratio to ours"), rows)]
    parts.append(f"ONNX Runtime {onnxruntime.__version__}.")
    write_page(options.out, "onnx-latency", options.model, hardware(), parts, facts)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", required=True, help="python of an environment that has the peer")
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--each", type=int, default=20)
    add_out(parser)
    return parser.parse_args()


def make(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """The ONNX files, ours first."""
    from yolodet.detector.models.build import build
    from yolodet.weights.checkpoint import Meta, save_weights

    model = build(options.model, 80)
    meta = Meta(
        options.model, tuple(f"class {i}" for i in range(80)), options.imgsz, model.strides,
        "fp32", preprocess=model.preprocessing,
    )  # fmt: skip
    save_weights(folder / "ours.safetensors", model.state_dict(), meta)
    det = [sys.executable, "-m", "yolodet.cli", "export"]
    made = [*det, f"model={folder / 'ours.safetensors'}", f"imgsz={options.imgsz}"]
    theirs = [options.peer, "-c", PEER, options.model, str(options.imgsz)]
    ours = folder / "ours.onnx.failed"  # fresh weights find nothing that could be compared
    for command, file in ((made, ours), (theirs, folder / "suppress.onnx")):
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "YOLO_OFFLINE": "1"},
        )  # fmt: skip
        if not file.exists():
            raise SystemExit(f"{' '.join(command[:3])} failed:\n{done.stderr[-2000:]}")
    return {"ours": ours, **{who: folder / name for who, name in THEIRS.items()}}


def open_file(path: Path, threads: int) -> Runner:
    """A file on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})


if __name__ == "__main__":
    main()
