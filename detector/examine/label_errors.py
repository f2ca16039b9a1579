"""``det data errors``: labels that look wrong to detectors that have not learned them.

With the folder of ``det train folds=K`` every image is looked at by the one detector that did not
train on it (cross-fitting): an error that a detector has learned it cannot see.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.edit.folder import new_folder
from ...datasets.formats.record import Record
from ...datasets.images.image import ImageError, read_image
from ...datasets.scan.scan import scan_split
from ...datasets.sets.locate import load_dataset
from ...datasets.sets.source import DataSource
from ..checkpoints.load import Loaded, trained_on
from ..evaluate.draw import (
    BACKGROUND,
    CAPTION,
    TEXT,
    Color,
    captioned,
    draw_boxes,
    fit,
    tile_images,
)
from ..evaluate.figure import save_picture
from ..options.active import DataErrorsConfig
from ..options.errors import UsageError
from ..run.files import write_json
from ..run.folder import BEST, folds_in
from ..run.log import Log
from .found import Found
from .look import load, look, predict_config
from .suspicions import KINDS, LOW, Suspicion, suspicions

COLUMNS, CELL, MOST = 5, 300, 60
"""Of the picture grid: pictures in a row, pixels of a side, pictures at most."""
LABELED, SUGGESTED = (230, 30, 45), (42, 157, 90)
"""RGB of the label as it is and of what is suggested."""


@dataclass(frozen=True)
class LabelErrors:
    """suspicions: the most suspicious first.  records: what was looked through.  cross_fitted:
    whether no detector has learned the images it looked at."""

    suspicions: list[Suspicion]
    records: list[Record]
    class_names: tuple[str, ...]
    cross_fitted: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for ``--json``."""
        counts = {kind: sum(one.kind == kind for one in self.suspicions) for kind in KINDS}
        rows = [{**asdict(one), "image": str(one.image)} for one in self.suspicions]
        told = {"images": len(self.records), "boxes": sum(len(r.boxes) for r in self.records)}
        return {**told, "cross_fitted": self.cross_fitted, "counts": counts, "suspicions": rows}


def label_errors(config: DataErrorsConfig, log: Log) -> LabelErrors:
    """Look at the images and rank what looks wrong.  Raises DatasetError, UsageError."""
    runs = folds_in(config.model)
    if runs and config.split in (None, "train"):
        parts = [_looked(replace(config, model=str(run / BEST)), "val", log) for run in runs]
    else:
        word = str(runs[0] / BEST) if runs else config.model
        split = config.split or "val"
        if split == "train":
            log.warn(
                "a detector has learned the errors in the images that it was trained on, and sees "
                "few of them: det train folds=5, then model= with the folder of its runs"
            )
        parts = [_looked(replace(config, model=word), split, log)]
    names = parts[0][2]
    records = [record for part, _, _ in parts for record in part]
    found = [each for _, part, _ in parts for each in part]
    fitted = bool(runs) or config.split != "train"
    return LabelErrors(suspicions(records, found, config.least), records, names, fitted)


def _looked(
    config: DataErrorsConfig, split: str, log: Log
) -> tuple[list[Record], list[Found], tuple[str, ...]]:
    """The labeled images of a split and what the detector sees in each; the classes of the data."""
    how = predict_config(config, conf=LOW)
    used = load(how, log)
    dataset = load_dataset(_source(config, used, split), download=config.online)
    names = dataset.class_names
    scan = scan_split(dataset, split, strict=False)
    unlabeled = set(scan.unlabeled)
    records = {r.path: r for r in scan.records if r.path not in unlabeled}
    if not set(names) & set(used.meta.class_names):
        raise UsageError(f"{used.path} knows no class of {dataset.yaml} by name")
    classes = {name: number for number, name in enumerate(names)}
    seen = {
        path: Found.of(result).named(used.meta.class_names, classes)
        for path, result in look(how, used, list(records), log)
    }
    return [records[path] for path in seen], list(seen.values()), names


def _source(config: DataErrorsConfig, used: Loaded, split: str) -> DataSource:
    """The data set: as typed, else what the detector was trained on; with the images that a fold
    held out as ``val``."""
    known, _ = trained_on(used.path, used.meta)
    if config.data is None:
        if known is None:
            raise UsageError(f"{used.path} does not say what it was trained on: add data=")
        return known if config.names is None else replace(known, names=config.names)
    typed = config.data_source
    held = known is not None and known.held_out is not None and split == "val"
    return replace(typed, val=known.val, seed=known.seed) if held and known else typed


def write(errors: LabelErrors, out: Path) -> None:
    """errors.csv, errors.json and a picture grid of the most suspicious."""
    with new_folder(out) as folder:
        write_json(folder / "errors.json", errors.to_dict())
        with (folder / "errors.csv").open("w", newline="", errors="surrogateescape") as file:
            rows = csv.writer(file)
            rows.writerow(("rank", "score", "kind", "image", "number", "label", "box",
                           "suggested_label", "suggested_box"))  # fmt: skip
            for rank, one in enumerate(errors.suspicions, 1):
                rows.writerow((rank, f"{one.score:.3f}", one.kind, one.image, one.number,
                               *_cells(one, errors.class_names)))  # fmt: skip
        sheet = list(_drawn(errors.suspicions[:MOST], errors.class_names))
        if sheet:
            save_picture(tile_images(sheet, COLUMNS, CELL), folder / "errors.jpg")


def _cells(one: Suspicion, names: Sequence[str]) -> Iterator[str]:
    for label, box in ((one.label, one.box), (one.suggested_label, one.suggested_box)):
        yield "" if label is None else names[label]
        yield "" if box is None else " ".join(f"{value:.1f}" for value in box)


def _drawn(shown: Sequence[Suspicion], names: Sequence[str]) -> Iterator[np.ndarray]:
    """The surroundings of each suspicion under its lines of text: [H,CELL,3], H at most CELL."""
    for one in shown:
        try:
            image = read_image(one.image)
        except ImageError:
            continue
        lines = list(_lines(one, names))
        side = CELL - CAPTION * len(lines)
        part = _surroundings(image, one, side)
        drawn = np.full((part.shape[0], CELL, 3), BACKGROUND, np.uint8)
        drawn[:, : part.shape[1]] = part
        for text, color in reversed(lines):
            drawn = captioned(drawn, text, color)
        yield drawn


def _lines(one: Suspicion, names: Sequence[str]) -> Iterator[tuple[str, Color]]:
    """Kind and score, and the class as it is and as it should be, where they differ."""
    yield f"{one.kind} {one.score:.2f}", TEXT
    if one.label is not None and one.label != one.suggested_label:
        yield names[one.label], LABELED
    if one.suggested_label is not None:
        yield names[one.suggested_label], SUGGESTED


def _surroundings(image: np.ndarray, one: Suspicion, side: int) -> np.ndarray:
    """The part of the image around the boxes, fitted into ``side``: the label in red, what is
    suggested in green."""
    boxes = [(box, color) for box, color in
             ((one.box, LABELED), (one.suggested_box, SUGGESTED)) if box]  # fmt: skip
    corners = np.array([box for box, _ in boxes])
    low, high = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    rim = float(np.maximum(high - low, 16).max())
    height, width = image.shape[:2]
    x1, y1 = np.clip(low - rim, 0, None).astype(int)
    x2, y2 = np.minimum(high + rim, (width, height)).astype(int)
    part = image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]
    small = fit(part, side)
    share = small.shape[1] / part.shape[1]
    moved = (corners - np.array([x1, y1, x1, y1])) * share
    return draw_boxes(small, moved, None, [color for _, color in boxes], 2)
