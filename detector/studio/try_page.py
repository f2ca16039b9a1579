"""What the Try page asks for: what one or two checkpoints find in a picture, and exports."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.images.image import ImageError, read_image
from ...files.text import one_line
from ...files.yaml_text import YamlError, read_yaml
from ..examine.found import Found
from ..options.formats import FORMATS, format_of
from ..run.folder import BEST
from .asked import Answer, Asked, BadRequest, NotThere, as_json, text_of
from .choose import boxes_of, wanted_of
from .place import OPTIONS, Place
from .seen import LOW, Seen, found_rows
from .server import Handler
from .sets import Sets
from .shown import COLORS, about_image
from .start import Started, launch, tail_of
from .thumbs import LARGE, encode

MOST_DROPPED = 4
"""Dropped pictures that are kept, in memory only."""
MOST_BOXES = 300
LAST_BYTES = 20_000
SIDES = ("a", "b")


@dataclass
class Dropped:
    """A picture from the browser.  image [H,W,3] RGB.  found: checkpoint -> what it finds."""

    image: np.ndarray
    picture: bytes
    found: dict[str, Found] = field(default_factory=dict)


class TryPage:
    """The answers of the Try page."""

    def __init__(self, sets: Sets, seen: Seen) -> None:
        self.sets = sets
        self.seen = seen
        self._dropped: OrderedDict[str, Dropped] = OrderedDict()
        self._exports: list[Started] = []
        self._lock = threading.Lock()

    def routes(self) -> dict[tuple[str, str], Handler]:
        """(method, path) -> what answers it."""
        return {
            ("GET", "/api/try/facts"): self.facts,
            ("GET", "/api/try/image"): self.image,
            ("GET", "/api/try/dropped"): self.dropped,
            ("GET", "/api/try/picture"): self.picture,
            ("GET", "/api/try/exports"): self.exports,
            ("POST", "/api/try/drop"): self.drop,
            ("POST", "/api/try/export"): self.export,
        }

    def facts(self, asked: Asked) -> Answer:
        """Checkpoints with the data sets that they were trained on, and formats of exports."""
        place = self.seen.place
        return as_json(
            {
                "models": [{"name": m, "set": _trained_on(place, m)} for m in place.checkpoints()],
                "sets": place.data_sets(),
                "formats": list(FORMATS),
                "colors": COLORS,
                "low": LOW,
            }
        )

    def image(self, asked: Asked) -> Answer:
        """The k-th image that the filters choose, its labels, and what the checkpoints find."""
        one, place = self.sets.get(asked.text("set")), asked.number("k", 0)
        table = one.table
        chosen = one.choose(wanted_of(asked))
        numbers = chosen.images[table.usable[chosen.images]]
        if not len(numbers):
            raise NotThere("the data set has no image here")
        number = int(numbers[min(place, len(numbers) - 1)])
        record = table.records[number]
        names = [one_line(name) for name in table.class_names]
        every = np.ones(len(table.boxes), bool)
        labels = [{**row, "name": names[row["class"]]} for row in boxes_of(table, number, every)]
        return as_json(
            {
                **about_image(one, number),
                "k": min(place, len(numbers) - 1),
                "total": len(numbers),
                "version": one.version,
                "labels": labels,
                **{
                    side: self._rows(name, self.seen.in_file(name, record.path))
                    for side, name in _models(asked)
                },
            }
        )

    def drop(self, asked: Asked) -> Answer:
        """Take a picture: the body is its file."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "picture"  # the same decoder as for files
            file.write_bytes(asked.body)
            try:
                image = read_image(file)
            except ImageError as error:
                reason = str(error).removeprefix(f"{file}: ")
                raise BadRequest(f"the picture cannot be read: {reason}") from None
        id = os.urandom(8).hex()
        with self._lock:
            self._dropped[id] = Dropped(image, encode(image, LARGE))
            while len(self._dropped) > MOST_DROPPED:
                self._dropped.popitem(last=False)
        return as_json({"id": id})

    def dropped(self, asked: Asked) -> Answer:
        """What the checkpoints find in a dropped picture."""
        one = self._of(asked)
        rows = {}
        for side, name in _models(asked):
            if name not in one.found:
                one.found[name] = self.seen.model(name).look(one.image)
            rows[side] = self._rows(name, one.found[name])
        height, width = one.image.shape[:2]
        return as_json({"height": height, "width": width, "name": "your picture", **rows})

    def picture(self, asked: Asked) -> Answer:
        """A dropped picture."""
        return Answer(self._of(asked).picture, "image/jpeg")

    def export(self, asked: Asked) -> Answer:
        """Start ``det export`` of a checkpoint; the file lies beside it."""
        sent = asked.sent()
        name, format = text_of(sent, "model"), text_of(sent, "format")
        path = self.seen.place.inside(name)
        if path.suffix != BEST.suffix or format_of(str(path)) is not None:
            raise BadRequest(f"{name}: is no checkpoint; expected a {BEST.suffix} file")
        if format not in FORMATS:
            raise BadRequest(f"format={format}: expected one of {', '.join(FORMATS)}")
        words = (f"model={path}", f"format={format}")
        self._exports.append(launch(self.seen.place, "export", words))
        return as_json({"command": words})

    def exports(self, asked: Asked) -> Answer:
        """The exports of this studio with what they have printed, the newest first."""
        return as_json(
            [
                {
                    "words": [one_line(word) for word in one.words],
                    "running": one.process.poll() is None,
                    "failed": one.failed,
                    "lines": tail_of(one.printed, LAST_BYTES),
                }
                for one in reversed(self._exports[-5:])
            ]
        )

    def _of(self, asked: Asked) -> Dropped:
        found = self._dropped.get(asked.text("id"))
        if found is None:
            raise NotThere("this picture is no longer kept: drop it again")
        return found

    def _rows(self, model: str, found: Found) -> list[dict[str, Any]]:
        names: Sequence[str] = [one_line(name) for name in self.seen.model(model).names]
        return [{**row, "name": names[row["class"]]} for row in found_rows(found)[:MOST_BOXES]]


def _models(asked: Asked) -> list[tuple[str, str]]:
    """Side -> checkpoint, of those that are chosen."""
    return [(side, asked.text(side)) for side in SIDES if asked.text(side, "")]


def _trained_on(place: Place, model: str) -> str | None:
    """The data set of the run that a checkpoint belongs to, where it lies in the opened folder."""
    run = place.root / model.removesuffix(f"/{BEST}")
    try:
        options = read_yaml(run / OPTIONS)
    except (OSError, YamlError):
        return None
    data = options.get("data") if isinstance(options, dict) else None
    real = Path(os.path.realpath(place.root / str(data)))
    inside = data and real.exists() and real.is_relative_to(place.root)
    return place.name_of(real) if inside else None
