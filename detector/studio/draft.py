"""Changes of labels that are not saved as a version yet: steps that can be undone and done again.

Every step is appended to a file in the cache folder before the browser is told that it is done, so
a killed studio or a closed browser loses nothing.  A step holds all boxes of the images that it
changes, as they are after it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from filelock import FileLock

from ...files.atomic import append_whole, write_atomically
from ...files.folders import cache_folder
from ...files.json_text import parse_json
from ...files.regular import read_regular
from .asked import BadRequest

T = TypeVar("T")

MOST_NAME = 200
"""Characters of what a step is called."""


class Changed(BadRequest):
    """The labels are not as the asking page has seen them."""

    status = 409


@dataclass(frozen=True)
class Step:
    """what: what was done, for people.  boxes: name of an image -> all its boxes after the step,
    [x1, y1, x2, y2, class] each.  names: classes that it adds.  splits: name of an image -> the
    split that it moves to."""

    what: str
    boxes: Mapping[str, Sequence[Sequence[float]]] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    splits: Mapping[str, str] = field(default_factory=dict)
    time: str = ""

    def line(self) -> dict[str, Any]:
        """The step as a line of the file."""
        return {"step": {**vars(self), "names": list(self.names)}}


class Draft:
    """The unsaved changes of one version of a data set.  data: its YAML or folder, resolved.

    ``revision`` counts the lines that were ever written: whoever changes something says which one
    they saw.
    """

    def __init__(self, data: Path) -> None:
        name = hashlib.sha256(os.fsencode(str(data))).hexdigest()[:32]
        self.file = cache_folder() / "studio" / "drafts" / f"{name}.jsonl"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.file.with_suffix(".lock"))
        self._size = -1
        self._known: dict[str, tuple[int, Any]] = {}
        self._read()

    def _read(self) -> None:
        """Read the file from the beginning; a last line that was cut off is removed."""
        self.steps: list[Step] = []
        self.at = 0
        self.revision = 0
        self._by_image: dict[str, list[int]] = defaultdict(list)
        whole = b""
        with contextlib.suppress(FileNotFoundError):
            whole = read_regular(self.file)
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            os.truncate(self.file, end)
        for line in whole[:end].splitlines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                self._take(parse_json(line))
        self._size = end

    def _take(self, line: Mapping[str, Any]) -> None:
        """Follow one line of the file."""
        if "step" in line:
            step = Step(**{**line["step"], "names": tuple(line["step"]["names"])})
            self._cut()
            for image in step.boxes:
                self._by_image[image].append(len(self.steps))
            self.steps.append(step)
            self.at = len(self.steps)
        elif "at" in line:
            self.at = min(max(int(line["at"]), 0), len(self.steps))
        self.revision = int(line.get("revision", self.revision + 1))

    def _cut(self) -> None:
        """Drop the steps that were undone."""
        for step in self.steps[self.at :]:
            for image in step.boxes:
                self._by_image[image].pop()
        del self.steps[self.at :]

    # -- what there is ---------------------------------------------------------------------------

    def boxes(self, image: str) -> Sequence[Sequence[float]] | None:
        """All boxes of an image, or None where no step has changed it."""
        done = [number for number in self._by_image.get(image, ()) if number < self.at]
        return self.steps[done[-1]].boxes[image] if done else None

    @property
    def changed(self) -> frozenset[str]:
        """Names of the images whose boxes were changed."""
        return self._once("changed", lambda: frozenset(n for s in self.done for n in s.boxes))

    @property
    def done(self) -> list[Step]:
        """The steps that are not undone."""
        return self.steps[: self.at]

    @property
    def names(self) -> tuple[str, ...]:
        """Classes that were added."""
        return tuple(name for step in self.done for name in step.names)

    @property
    def splits(self) -> dict[str, str]:
        """Image -> the split that it was moved to."""
        return self._once("splits", lambda: dict(m for s in self.done for m in s.splits.items()))

    def _once(self, what: str, compute: Callable[[], T]) -> T:
        """What all steps say together, computed once per revision: a step may be about every image.

        The revision is read first, and written last by ``_take``: what another thread changes
        meanwhile is never kept under the new one.
        """
        revision = self.revision
        known = self._known.get(what)
        if known is None or known[0] != revision:
            known = self._known[what] = (revision, compute())
        return cast(T, known[1])

    def state(self) -> dict[str, Any]:
        """For the browser."""
        return {
            "revision": self.revision,
            "at": self.at,
            "steps": [{"what": step.what, "time": step.time} for step in self.steps],
            "changed": len(self.changed),
        }

    # -- what changes it -------------------------------------------------------------------------

    def add(self, step: Step, seen: int) -> None:
        """Do a step.  seen: the revision that the page had.  Raises Changed, OSError."""
        step = Step(
            step.what[:MOST_NAME], step.boxes, step.names, step.splits,
            time.strftime("%Y-%m-%d %H:%M:%S"),
        )  # fmt: skip
        self._append(step.line(), seen)

    def move(self, by: int, seen: int) -> Step:
        """Undo (-1) or do again (+1) a step, and return it.

        Raises Changed, OSError, and BadRequest where there is none.
        """
        number = self.at - 1 if by < 0 else self.at
        if not 0 <= number < len(self.steps):
            raise BadRequest("there is nothing to undo" if by < 0 else "there is nothing to redo")
        self._append({"at": number + (by > 0)}, seen)
        return self.steps[number]

    def clear(self, seen: int) -> None:
        """Forget everything, after it was saved.  Raises Changed."""
        with self._lock:
            self.refresh(seen)
            start = json.dumps({"revision": self.revision + 1}).encode() + b"\n"
            write_atomically(self.file, lambda file: file.write(start))
            self._read()

    def refresh(self, seen: int | None = None) -> None:
        """Follow what another studio has done to the file.  Raises Changed where ``seen`` is no
        longer the newest revision."""
        size = self.file.stat().st_size if self.file.exists() else 0
        if size != self._size:
            self._read()
        if seen is not None and seen != self.revision:
            raise Changed(
                "the labels were changed in another window, so this change was not made: the page"
                " shows them as they are now"
            )

    def _append(self, line: Mapping[str, Any], seen: int) -> None:
        with self._lock:
            self.refresh(seen)
            data = json.dumps(line).encode() + b"\n"
            append_whole(self.file, data)
            self._size += len(data)
            self._take(line)
