"""HOTA, MOTA, IDF1 and ID switches of every tracker on drawn videos, det beside the library used
directly, and memory over a long stream.

    python benchmarks/tracking.py [--videos 3 --frames 150] [--model runs/train] [--stream 50000]
        [--picture docs/images/tracks.jpg]

The videos have known tracks that cross and hide each other.  Tracked are the true boxes, and the
detections of a model on the same frames.  Without --model a yolo26n is trained for it, on frames of
other drawn videos (a minute or two).  The program fails where det and the library with the same
values differ by more than 1e-6.  Needs the extra track.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import by_library
import cv2
import numpy as np
import torch
from children import memory
from pages import add_out, hardware, table, write_page
from yolodet import YOLO, cli
from yolodet.datasets.drawn.shapes import EASY_CLASSES
from yolodet.datasets.drawn.videos import SEEN, draw_video, write_videos
from yolodet.datasets.images.image import read_image
from yolodet.detector.evaluate.draw import tile_images
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.options.parse import parse
from yolodet.detector.options.track import TRACKERS, TrackConfig
from yolodet.detector.predict.results import Results
from yolodet.detector.predict.sources import Frame
from yolodet.detector.track.measure import measure
from yolodet.detector.track.mot import DETECTIONS, Sequence, find_sequences, read_rows, xyxy_of
from yolodet.detector.track.tracking import Tracking

SHOWN = ("HOTA", "MOTA", "IDF1", "IDSW")
SOURCES = {"gt": "the true boxes", "det": "the detections of the model"}
SIZE, OBJECTS, CONF = 320, 8, 0.1


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        videos = write_videos(
            work / "videos", count=options.videos, frames=options.frames, size=SIZE, objects=OBJECTS
        )
        model = options.model or train(work, options)
        detect(find_sequences(str(videos)), model, work)
        found = {boxes: compare(videos, boxes, work) for boxes in SOURCES}
        if options.picture:
            draw(model, options.picture)
        whole = det("track", data=videos, model=model, save=False, device="cpu", project=work)
    end_to_end = {name: whole["all"][name] for name in SHOWN}
    resident = watch(options.stream)
    facts = {"metrics": found, "command": end_to_end, "resident_mib": resident}
    write_page(options.out, "tracking", "", hardware(), page(options, facts), facts)
    wrong = [
        f"{name} on {boxes}"
        for boxes, every in found.items()
        for name, rows in every.items()
        if any(abs(rows["det"][m] - rows["library"][m]) > 1e-6 for m in SHOWN)
    ]
    if wrong or end_to_end != found["det"]["bytetrack"]["det"]:
        raise SystemExit(f"det and the library differ: {wrong or 'from the video to the tracks'}")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--frames", type=int, default=150)
    parser.add_argument("--model", help="a run folder or checkpoint with the classes of the videos")
    parser.add_argument("--train-frames", type=int, default=320)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--stream", type=int, default=50_000, help="frames of the long stream")
    parser.add_argument("--picture", type=Path, help="also draw two frames with tracks into it")
    add_out(parser)
    return parser.parse_args()


def det(*words: str, **options: Any) -> dict[str, Any]:
    """The result of a command, in this process."""
    typed = [*words, *(f"{name}={value}" for name, value in options.items())]
    said = io.StringIO()
    with redirect_stdout(said):
        code = cli.main([*typed, "--json", "--quiet"])
    if code:
        raise SystemExit(f"det {' '.join(typed)} ended with {code}")
    result: dict[str, Any] = json.loads(said.getvalue())["result"]
    return result


def train(work: Path, options: argparse.Namespace) -> str:
    """The weights of a yolo26n trained on a frame of each of many videos."""
    data = work / "frames"
    for split, count in (("train", options.train_frames), ("val", 32)):
        for number in range(count):
            write_frame(data, split, number)
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(EASY_CLASSES))
    (data / "data.yaml").write_text(f"train: images/train\nval: images/val\nnames:\n{names}")
    trained = det(
        "train", data=data / "data.yaml", model="yolo26n", epochs=options.epochs, device="cpu",
        imgsz=options.imgsz, amp=False, plots=False, project=work, name="training",
    )  # fmt: skip
    return str(trained["best"])


def write_frame(data: Path, split: str, number: int) -> None:
    """The 20th frame of a video of its own, and its visible boxes in YOLO rows."""
    *_, frame = draw_video(1 if split == "train" else 2, number, 20, SIZE, OBJECTS)
    height, width = frame.image.shape[:2]
    rows = []
    for box, seen, label in zip(frame.boxes, frame.seen, frame.labels, strict=True):
        x1, y1, x2, y2 = box / (width, height, width, height)
        if seen >= SEEN:
            rows.append(f"{label} {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}\n")
    for kind in ("images", "labels"):
        (data / kind / split).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(data / f"images/{split}/{number:04d}.jpg"), frame.image[:, :, ::-1])
    (data / f"labels/{split}/{number:04d}.txt").write_text("".join(rows))


def detect(sequences: list[Sequence], model: str, work: Path) -> None:
    """Write what the model finds in each frame of each sequence as det/det.txt."""
    for sequence in sequences:
        found = det(
            "predict", model=model, source=sequence.images, conf=CONF, save=False, save_json=True,
            device="cpu", project=work,
        )  # fmt: skip
        read = json.loads(Path(found["folder"], "predictions.json").read_text())
        (sequence.folder / "det").mkdir()
        rows = [
            ",".join(f"{value!r}" for value in row)
            for number, image in enumerate(sorted(read, key=lambda each: each["path"]), 1)
            for row in rows_of(number, image["detections"])
        ]
        (sequence.folder / DETECTIONS).write_text("\n".join(rows))


def rows_of(number: int, detections: list[dict[str, Any]]) -> Iterator[tuple[float, ...]]:
    for each in detections:
        x1, y1, x2, y2 = each["box"].values()
        yield (number, -1, x1, y1, x2 - x1, y2 - y1, each["confidence"], each["class"] + 1, -1)


def compare(videos: Path, boxes: str, work: Path) -> dict[str, dict[str, dict[str, float]]]:
    """tracker -> who drives it -> metrics."""
    found = {}
    for name in TRACKERS:
        ours = det("track", data=videos, boxes=boxes, tracker=name, project=work)["all"]
        same = directly(videos, boxes, name, work, by_library.VALUES[name])
        own = directly(videos, boxes, name, work, {})
        every = {"det": ours, "library": same, "library, its own values": own}
        found[name] = {who: {m: all_[m] for m in SHOWN} for who, all_ in every.items()}
    return found


def directly(videos: Path, boxes: str, name: str, work: Path, values: dict[str, float]) -> Any:
    """Metrics of the library's own tracks."""
    sequences, files = find_sequences(str(videos)), {}
    for sequence in sequences:
        tracks = by_library.tracker(name, sequence.fps or 0, **values)(frames_of(sequence, boxes))
        files[sequence.name] = work / f"{sequence.name}.txt"
        np.savetxt(files[sequence.name], tracks, "%.17g", ",")
    return measure(sequences, files)["all"]


def frames_of(
    sequence: Sequence, boxes: str
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Boxes, scores and image of each frame: the true ones that count, or those of the model."""
    rows = read_rows(sequence.truth if boxes == "gt" else sequence.folder / DETECTIONS)
    rows = rows[rows[:, 6] != 0] if boxes == "gt" else rows[np.argsort(-rows[:, 6], kind="stable")]
    for number, image in enumerate(sorted(sequence.images.iterdir()), 1):
        mine = rows[rows[:, 0] == number]
        yield xyxy_of(mine).astype(np.float32), mine[:, 6].astype(np.float32), read_image(image)


def draw(model: str, path: Path) -> None:
    """Two frames of a video as ``det track`` draws them."""
    frames = [frame.image for frame in draw_video(0, 0, 80, 2 * SIZE, OBJECTS)]
    results = YOLO(model).track(
        frames, stream=True, rgb=True, trail=30, device="cpu", conf=CONF, verbose=False
    )
    drawn = [result.draw() for result in results]
    cv2.imwrite(str(path), tile_images([drawn[40], drawn[79]], 2, 2 * SIZE)[:, :, ::-1])


def watch(frames: int) -> list[float]:
    """Resident MiB after each tenth of a stream of ``frames`` with ever new objects."""
    tracking = Tracking(parse(TrackConfig, {})[0])
    image = np.zeros((48, 64, 3), np.uint8)
    resident = []
    for number in range(frames):
        at = np.arange(4) * 200.0 + number % 100  # after 100 frames four new ones, elsewhere
        top = number // 100 % 2 * 500.0
        boxes = np.stack((at, 0 * at + top, at + 50, 0 * at + top + 50), 1).astype(np.float32)
        found = Detections(
            torch.from_numpy(boxes), torch.full((4,), 0.9), torch.zeros(4, dtype=torch.int64)
        )
        frame = Frame(image, Path("camera-0"), number, 25.0)
        tracking.update(Results(frame, found, {0: "thing"}, {}))
        if (number + 1) % (frames // 10) == 0:
            resident.append(memory(os.getpid()) / 2**20)
    return resident


def page(options: argparse.Namespace, facts: dict[str, Any]) -> list[str]:
    """Title, tables and what they mean."""
    trained = "the model of --model" if options.model else (
        f"a yolo26n that learned {options.epochs} epochs at {options.imgsz} px from "
        f"{options.train_frames} frames of other videos"
    )  # fmt: skip
    parts = [
        "# Trackers on drawn videos",
        f"{options.videos} videos of {options.frames} frames ({SIZE} pixels wide, {OBJECTS} "
        "objects that cross and go behind each other and two pillars), all together. "
        "det: `det track data=videos`. library: the package trackers called directly with the "
        "values that det gives it; its own values: with what it has where nothing is said.",
    ]
    for boxes, every in facts["metrics"].items():
        rows = [
            [f"{name}, {who}", *(f"{v:.4f}" if m != "IDSW" else v for m, v in found.items())]
            for name, kinds in every.items()
            for who, found in kinds.items()
        ]
        parts += [f"Tracked: {SOURCES[boxes]}.", table(("", *SHOWN), rows)]
    resident = facts["resident_mib"]
    parts += [
        f"The model is {trained}; detections from a score of {CONF} on. "
        "`det track data=videos model=best.safetensors`, from images to metrics, gives the "
        "numbers of bytetrack.",
        f"Memory: bytetrack with trails over {options.stream:,} frames, {options.stream // 25:,} "
        f"tracks: {resident[0]:.1f} MiB resident after a tenth, {resident[-1]:.1f} at the end, "
        f"{max(resident):.1f} at most.",
    ]
    return parts


if __name__ == "__main__":
    main()
