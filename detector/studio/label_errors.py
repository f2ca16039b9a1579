"""Suspicions about the labels of a data set in the studio: searched for in the background, then
accepted, which is a step of the draft, or ignored."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...files.atomic import write_atomically
from ...files.counted import counted
from ...files.errors import DetError
from ...files.json_text import read_json
from ..examine.suspicions import Suspicion
from .asked import BadRequest, NotThere
from .draft import Changed, Step
from .labeling import Labeling, checked_boxes

LEAST = 0.3
"""Suspicions below this score are not shown."""
SAME = 0.01
"""Pixels by which two boxes may differ and be one."""
OPEN, ACCEPTED, IGNORED = "open", "accepted", "ignored"


@dataclass
class Item:
    """A suspicion.  image: the number of its image.  key: tells it from others, in every search."""

    suspicion: Suspicion
    image: int
    key: str


class ErrorSearch:
    """What detectors find suspicious in one data set.

    one: its labels.  data: its YAML or folder.  model: a checkpoint, or a folder of runs of det
    train folds=.  split: None for the default of det data errors.
    """

    def __init__(self, one: Labeling, model: Path, split: str | None) -> None:
        self.one = one
        self.model = model
        self.items: list[Item] = []
        self.cross_fitted = False
        self.failed = ""
        self.searching = True
        self._ignored_file = one.draft.file.with_suffix(".ignored.json")
        self.ignored = _known(self._ignored_file)
        self._thread = threading.Thread(target=self._search, args=(split,), daemon=True)
        self._thread.start()

    def close(self, seconds: float) -> None:
        """Wait for the search for at most so long."""
        self._thread.join(seconds)

    def _search(self, split: str | None) -> None:
        from ..examine.label_errors import label_errors
        from ..options.active import DataErrorsConfig
        from ..options.parse import parse
        from ..run.log import Log

        words = {"data": str(self.one.one.path), "model": str(self.model), "least": str(LEAST)}
        if split is not None:
            words["split"] = split
        try:
            config, _ = parse(DataErrorsConfig, {**words, "offline": "True"})
            told = label_errors(config, Log(verbose=False))
            numbers = {record.path: n for n, record in enumerate(self.one.table.records)}
            self.items = [
                Item(one, numbers[one.image], _key(one))
                for one in told.suspicions if one.image in numbers
            ]  # fmt: skip
            self.cross_fitted = told.cross_fitted
        except DetError as error:
            self.failed = str(error)
        except OSError as error:
            self.failed = f"{error.filename}: {error.strerror}"
        finally:
            self.searching = False

    # -- what becomes of them --------------------------------------------------------------------

    def state_of(self, item: Item) -> str:
        """OPEN, ACCEPTED or IGNORED: by the labels as they are now, so undoing opens it again."""
        now = self.one.boxes(item.image)
        record = self.one.table.records[item.image]
        pairs = zip(record.boxes.tolist(), record.labels.tolist(), strict=True)
        base = [[*box, label] for box, label in pairs]
        old, new = _rows(item.suspicion)
        gone = old is not None and len(_same(now, old)) < len(_same(base, old))
        there = old is None and new is not None and len(_same(now, new)) > len(_same(base, new))
        if gone or there:
            return ACCEPTED
        return IGNORED if item.key in self.ignored else OPEN

    def accept(self, places: Sequence[int], seen: int) -> int:
        """Change the labels as suggested, in one step; how many were open.

        Raises NotThere, Changed where a box is no longer what the suspicion was about, BadRequest.
        """
        chosen = [item for item in map(self._item, places) if self.state_of(item) != ACCEPTED]
        if not chosen:
            raise BadRequest("these are accepted already")
        boxes: dict[int, list[list[float]]] = {}
        for item in chosen:
            rows = boxes.setdefault(item.image, self.one.boxes(item.image))
            boxes[item.image] = accepted(rows, item.suspicion)
        names, classes = self.one.names_of_images, len(self.one.classes)
        checked = {
            names[n]: checked_boxes(rows, self.one.image(n), classes) for n, rows in boxes.items()
        }
        kinds = ", ".join(dict.fromkeys(item.suspicion.kind for item in chosen))
        what = f"accepted {counted(len(chosen), 'suspicion')} ({kinds})"
        self.one.draft.add(Step(what, checked), seen)
        return len(chosen)

    def ignore(self, places: Sequence[int], on: bool) -> None:
        """Ignore suspicions, in later searches too; on=False shows them again.

        Raises NotThere, OSError.
        """
        keys = {self._item(place).key for place in places}
        self.ignored = self.ignored | keys if on else self.ignored - keys
        text = json.dumps(sorted(self.ignored)).encode()
        write_atomically(self._ignored_file, lambda file: file.write(text))

    def _item(self, place: int) -> Item:
        if not 0 <= place < len(self.items):
            raise NotThere(f"there are {len(self.items)} suspicions, none with number {place}")
        return self.items[place]


def accepted(rows: Sequence[Sequence[float]], one: Suspicion) -> list[list[float]]:
    """The boxes of an image with one suspicion accepted.  Raises Changed."""
    old, new = _rows(one)
    left = [list(row) for row in rows]
    if old is None:
        return [*left, *([new] if new is not None else [])]
    places = _same(left, old)
    if not places:
        raise Changed("the box was changed since it was found suspicious: look at it by hand")
    left[places[0] : places[0] + 1] = [] if new is None else [new]
    return left


def _rows(one: Suspicion) -> tuple[list[float] | None, list[float] | None]:
    """The box as it is and as it is suggested: [x1, y1, x2, y2, class]."""
    pairs = ((one.box, one.label), (one.suggested_box, one.suggested_label))
    old, new = (
        None if box is None or label is None else [*map(float, box), int(label)]
        for box, label in pairs
    )
    return old, new


def _same(rows: Iterable[Sequence[float]], wanted: Sequence[float]) -> list[int]:
    """Places of the boxes that are this one."""
    return [
        place for place, row in enumerate(rows)
        if row[4] == wanted[4] and np.allclose(row[:4], wanted[:4], rtol=0, atol=SAME)
    ]  # fmt: skip


def _key(one: Suspicion) -> str:
    old, new = _rows(one)
    box = [round(value, 1) for value in (old or new or [])]
    text = json.dumps([str(one.image), one.kind, box])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _known(file: Path) -> frozenset[str]:
    try:
        keys: Any = read_json(file)
    except (OSError, ValueError):
        return frozenset()
    return frozenset(key for key in keys if isinstance(key, str))
