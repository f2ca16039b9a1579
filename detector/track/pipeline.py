"""A tracking run: predict, follow, write files; or measure tracks on sequences in MOT layout."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.images.image import read_image
from ...datasets.sets.listing import IMAGE_SUFFIXES
from ..checkpoints.load import load_for_use
from ..evaluate.postprocess import Detections
from ..options.track import TrackConfig
from ..predict.pipeline import displayed, predict_stream, writing, written
from ..predict.results import Results
from ..predict.sources import Frame
from ..run.files import write_json
from ..run.log import Log
from .measure import measure
from .mot import DETECTIONS, IMAGES, MotError, Sequence, find_sequences, read_rows, sequence_of
from .mot import xyxy_of as corners_of
from .tracking import Tracking, as_video


def track(config: TrackConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Follow the objects of a source and write files into a run folder."""
    tracking = Tracking(config)
    found = predict_stream(config, given, config.source, log)
    folder = Path(str(config.source)).resolve()
    if folder.is_dir():
        sequence = sequence_of(folder.parent if folder.name == IMAGES else folder)
        found = as_video(found, sequence.folder, sequence.fps)
    told = written(config, displayed(config, tracking.follow(found)), log)
    return {**told, "tracks": tracking.count}


def measure_tracks(config: TrackConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Track every sequence of ``data=``, write the tracks and measure them."""
    sequences = find_sequences(str(config.data))
    tracking = Tracking(config)
    parts = _of_model(sequences, config, given, log)
    if config.boxes != "model":
        parts = (_of_file(each, config.boxes) for each in sequences)
    followed = tracking.follow(itertools.chain.from_iterable(parts))
    results, folder, files = writing(config, displayed(config, followed), log)
    frames = sum(1 for _ in results)
    tracks = [file for file in files if file.parent.name == "mot"]
    if len(tracks) != len(sequences):
        raise MotError(f"{config.data}: the images of a sequence must all have the same size")
    named = {each.name: file for each, file in zip(sequences, tracks, strict=True)}
    measured = measure(sequences, named, config.rules)
    write_json(folder / "metrics.json", measured)
    return {"folder": str(folder), "images": frames, "tracks": tracking.count, **measured}


def _of_model(
    sequences: list[Sequence], config: TrackConfig, given: frozenset[str], log: Log
) -> Iterator[Iterator[Results]]:
    """The results of the model in each sequence; it is loaded once."""
    used = load_for_use(config, given, log)
    for each in sequences:
        log.info(f"{each.name}:")
        found = predict_stream(config, given, each.images, log, used)
        yield as_video(found, each.folder, each.fps)


def _of_file(sequence: Sequence, boxes: str) -> Iterator[Results]:
    """The boxes of gt/gt.txt that count (score 1) or those of det/det.txt, as results."""
    rows = read_rows(sequence.truth if boxes == "gt" else sequence.folder / DETECTIONS)
    if boxes == "gt":
        rows = rows[rows[:, 6] != 0]
        rows[:, 6] = 1.0
    rows = rows[np.argsort(-rows[:, 6], kind="stable")]
    labels = (rows[:, 7] - 1).clip(0).astype(np.int64)
    names = {i: f"class {i + 1}" for i in range(int(labels.max(initial=0)) + 1)}
    images = sorted(p for p in sequence.images.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    last = int(rows[:, 0].max(initial=0))
    if images and last > len(images):
        raise MotError(f"{sequence.images}: {len(images)} images, but boxes in frame {last}")
    frames = len(images) or sequence.length or last
    if not frames:
        raise MotError(f"{sequence.folder}: no images in {IMAGES}, no seqLength and no boxes")
    blank = np.zeros((*_size(sequence, rows), 3), np.uint8) if not images else None
    for number in range(frames):
        mine = rows[:, 0] == number + 1
        found = Detections(
            torch.from_numpy(corners_of(rows[mine]).astype(np.float32)),
            torch.from_numpy(rows[mine, 6].astype(np.float32)),
            torch.from_numpy(labels[mine]),
        )
        image = read_image(images[number]) if blank is None else blank
        frame = Frame(image, sequence.folder, number, sequence.fps, None)
        yield Results(frame, found, names, {})


def _size(sequence: Sequence, rows: np.ndarray) -> tuple[int, int]:
    """(height, width) of a sequence without images."""
    if sequence.size is not None:
        return sequence.size
    right, bottom = corners_of(rows)[:, 2:].max(0, initial=1).tolist()
    return int(bottom) + 1, int(right) + 1
