"""What checkpoints find in images: computed when it is asked for, at a low confidence, and kept."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...files.errors import DetError
from ..examine.found import Found
from ..options.formats import format_of
from .asked import BadRequest
from .place import Place

LOW = 0.01
"""Boxes below this confidence are not even computed; the pages filter the others."""
OPEN_MODELS = 3
"""Checkpoints that are kept in memory."""
MOST_KEPT = 200_000
"""Images whose boxes are kept, over all checkpoints."""


def found_rows(found: Found) -> list[dict[str, Any]]:
    """What was found in an image, for the browser."""
    columns = (found.boxes.tolist(), found.labels.tolist(), found.scores.tolist())
    return [
        {"box": box, "class": label, "score": round(score, 4)}
        for box, label, score in zip(*columns, strict=True)
    ]


class Model:
    """A checkpoint or exported file in use.  names: of its classes."""

    def __init__(self, path: Path) -> None:
        from ..checkpoints.load import load_for_use
        from ..options.parse import parse
        from ..options.predict import PredictConfig
        from ..run.log import Log

        self._log = Log(verbose=False)
        words = {"model": str(path), "conf": str(LOW), "offline": "True"}
        self._config, self._given = parse(PredictConfig, words)
        self._used = load_for_use(self._config, self._given, self._log)
        self.names = tuple(self._used.meta.class_names)
        self._lock = threading.Lock()

    def look(self, source: str | np.ndarray) -> Found:
        """What it finds in an image: its path, or [H,W,3] RGB.  Raises DetError."""
        from ..predict.pipeline import predict_stream

        with self._lock:
            found = next(iter(predict_stream(
                self._config, self._given, source, self._log, self._used, rgb=True
            )))  # fmt: skip
        return Found.of(found)


class Seen:
    """The checkpoints of a folder, and what they have found so far."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._models: OrderedDict[tuple[Path, int], Model] = OrderedDict()
        self._found: OrderedDict[tuple[tuple[Path, int], str, int], Found] = OrderedDict()
        self._lock = threading.RLock()

    def model(self, name: str) -> Model:
        """A checkpoint by its name below the opened folder.

        Raises Outside, NotThere and what the command line says of a file that is none.
        """
        key = self._key(name)
        with self._lock:
            found = self._models.pop(key, None) or Model(key[0])
            self._models[key] = found
            while len(self._models) > OPEN_MODELS:
                self._models.popitem(last=False)
        return found

    def in_file(self, name: str, image: Path) -> Found:
        """What a checkpoint finds in an image.  Raises DetError and OSError."""
        key = (self._key(name), str(image), os.stat(image).st_mtime_ns)
        with self._lock:
            found = self._found.get(key)
        if found is None:
            found = self.model(name).look(str(image))
            with self._lock:
                self._found[key] = found
                while len(self._found) > MOST_KEPT:
                    self._found.popitem(last=False)
        return found

    def _key(self, name: str) -> tuple[Path, int]:
        path = self.place.inside(name)
        if path.suffix not in (".safetensors", ".pt") and format_of(str(path)) is None:
            raise BadRequest(f"{name}: is no checkpoint; expected a .safetensors or exported file")
        return path, os.stat(path).st_mtime_ns


@dataclass
class Look:
    """A checkpoint that looks at all images of a data set in the background.

    done, total: images.  failed: why it ended.  skipped: images that cannot be read.
    """

    seen: Seen
    model: str
    images: Sequence[Path]
    done: int = 0
    failed: str = ""
    skipped: int = 0
    ended: bool = False

    def start(self, finished: Callable[[Sequence[Found | None]], None]) -> None:
        """Begin; ``finished`` gets what was found in each image, None where it cannot be read."""
        self._thread = threading.Thread(target=self._work, args=(finished,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after the image that is being looked at."""
        self.ended = True
        self._thread.join()

    def state(self) -> dict[str, Any]:
        """For the browser."""
        return {
            "model": self.model, "done": self.done, "total": len(self.images),
            "failed": self.failed, "skipped": self.skipped, "ended": self.ended,
        }  # fmt: skip

    def _work(self, finished: Callable[[Sequence[Found | None]], None]) -> None:
        found: list[Found | None] = []
        try:
            self.seen.model(self.model)  # a checkpoint that cannot be used is said once
            for image in self.images:
                if self.ended:
                    return
                found.append(self._one(image))
                self.done += 1
            finished(found)
        except (DetError, OSError) as error:
            self.failed = str(error)
        finally:
            self.ended = True

    def _one(self, image: Path) -> Found | None:
        try:
            return self.seen.in_file(self.model, image)
        except (DetError, OSError):
            self.skipped += 1
            return None
