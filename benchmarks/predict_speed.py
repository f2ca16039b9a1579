"""What Python's ``predict`` costs beside the bare work, and memory over a long video.

    python benchmarks/predict_speed.py [--model yolo26n --imgsz 160 --frames 1000 --rounds 20]
        [--video-frames 18000 --video-imgsz 32]

Bare is what nobody can leave out: letterbox, model, postprocessing, boxes as NumPy arrays.  Beside
it stand ``YOLO.predict(stream=True)`` and the same with ``plot()`` of each result.  They take
turns on the same frames in this program, --frames each in all.  Then a drawn video of
--video-frames (18,000 are ten minutes at 30 frames/s) is predicted with stream=True, and the
resident memory is read as it goes.  The model has fresh weights, and reports its best 20 boxes of
each frame.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from pages import add_out, hardware, ratios, shown, spread, table, write_page
from yolodet import YOLO
from yolodet.datasets.images.image import letterbox
from yolodet.detector.evaluate.postprocess import branches_for, postprocess
from yolodet.detector.models.build import build
from yolodet.detector.options.detect import DetectOptions
from yolodet.weights.checkpoint import Meta, save_weights

CLASSES, BOXES = 80, 20
WORDS = {"conf": 0.0, "max_det": BOXES, "verbose": False, "device": "cpu", "amp": False}


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(options, Path(folder))
        times = compare(options, model)
        memory = watch(options, model, Path(folder))
    each = options.frames // options.rounds
    ms = {name: [1000 * seconds / each for seconds in values] for name, values in times.items()}
    rows = [
        [name, shown(spread(values), 2), shown(ratios(values, ms["bare"]), 3)]
        for name, values in ms.items()
    ]
    parts = [
        f"# Predicting {options.frames:,} frames of 640x480 with {options.model} at "
        f"{options.imgsz} px",
        f"{options.rounds} alternating rounds of {each} frames: median (least-most). Ratio: "
        f"beside bare, round by round. {BOXES} boxes per frame, {torch.get_num_threads()} threads.",
        table(("", "ms per frame", "ratio"), rows),
        f"`stream=True` over a video of {options.video_frames:,} frames: {memory[0]:.1f} MiB "
        f"resident after a tenth, {memory[-1]:.1f} at the end, {max(memory):.1f} at most between.",
    ]
    facts = {"ms": ms, "resident_mib": memory}
    write_page(options.out, "predict-speed", options.model, hardware(), parts, facts)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--video-frames", type=int, default=18_000)
    parser.add_argument("--video-imgsz", type=int, default=32)
    add_out(parser)
    return parser.parse_args()


def make_model(options: argparse.Namespace, folder: Path) -> YOLO:
    """Fresh weights, read back from a file as anyone's are."""
    torch.manual_seed(0)
    detector = build(options.model, CLASSES)
    names = tuple(f"class {number}" for number in range(CLASSES))
    meta = Meta(options.model, names, options.imgsz, tuple(detector.strides), "fp32")
    save_weights(folder / "best.safetensors", detector.state_dict(), meta)
    return YOLO(folder / "best.safetensors")


def compare(options: argparse.Namespace, model: YOLO) -> dict[str, list[float]]:
    """Seconds of every round of each contender, on the same BGR frames."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (8, 12, 16, 3), dtype=np.uint8)
    drawn = [cv2.resize(one, (640, 480), interpolation=cv2.INTER_CUBIC) for one in small]
    frames = [drawn[number % 8] for number in range(options.frames // options.rounds)]
    contenders: dict[str, Callable[[], int]] = {
        "bare": lambda: bare(model, frames, options.imgsz),
        "predict(stream=True)": lambda: face(model, frames, options.imgsz),
        "and plot()": lambda: face(model, frames, options.imgsz, plot=True),
    }
    found = {name: run() for name, run in contenders.items()}  # warms up, too
    assert len(set(found.values())) == 1 and found["bare"] > 0, found
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(options.rounds):
        for name in contenders if turn % 2 == 0 else reversed(contenders):
            start = time.perf_counter()
            contenders[name]()
            times[name].append(time.perf_counter() - start)
    return times


def bare(model: YOLO, frames: Sequence[np.ndarray], size: int) -> int:
    """The number of boxes in BGR frames, by the parts alone."""
    detector = model.model.eval().to(memory_format=torch.channels_last)
    detect, found = DetectOptions(conf=0.0, max_det=BOXES), 0
    branches = branches_for(detect.nms, detector.branches)
    for frame in frames:
        rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
        fitted, place = letterbox(rgb, size, align=detector.letterbox)
        image = torch.from_numpy(fitted)[None].permute(0, 3, 1, 2)  # channels_last memory
        with torch.inference_mode():
            (best,) = postprocess(detector(image, branches=branches), detect)
            best = best.to_original(place, (frame.shape[0], frame.shape[1]))
        found += len(best.boxes.numpy())
    return found


def face(model: YOLO, frames: Sequence[np.ndarray], size: int, plot: bool = False) -> int:
    """The number of boxes in BGR frames, as a script asks for them."""
    found = 0
    for result in model.predict(list(frames), stream=True, imgsz=size, **WORDS):
        found += len(result.boxes.xyxy.numpy())
        if plot:
            result.plot()
    return found


def watch(options: argparse.Namespace, model: YOLO, folder: Path) -> list[float]:
    """MiB resident after each tenth of a video of small frames."""
    path = folder / "long.mp4"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (64, 48))
    image = np.zeros((48, 64, 3), np.uint8)
    for number in range(options.video_frames):
        video.write(np.roll(cv2.circle(image.copy(), (20, 24), 9, (0, 200, 90), -1), number, 1))
    video.release()
    memory, seen = [], 0
    words = {**WORDS, "imgsz": options.video_imgsz, "batch": 16}
    for seen, result in enumerate(model.predict(path, stream=True, **words), 1):
        result.boxes.xyxy.numpy()
        if seen % (options.video_frames // 10) == 0:
            memory.append(resident())
    assert seen == options.video_frames, f"{seen} frames were read"
    return memory


def resident() -> float:
    """MiB of this process in memory now (Linux)."""
    status = Path("/proc/self/status").read_text().splitlines()
    (line,) = (each for each in status if each.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
