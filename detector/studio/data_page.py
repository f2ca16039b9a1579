"""What the Data page asks for: data sets, chosen images with their boxes, pictures, counts."""

from __future__ import annotations

from typing import Any

from ...files.text import one_line
from .asked import Answer, Asked, NotThere, as_json, text_of
from .choose import Chosen, boxes_of, wanted_of
from .server import Handler
from .sets import OpenSet, Sets
from .shown import about_image, about_set
from .table import SHOWN_FINDINGS, Table
from .thumbs import Ahead, large_picture, small_picture

PAGE = 60
"""Images of a page."""
PAGES_AHEAD = 5
KEEP_SECONDS = 86_400


class DataPage:
    """The answers of the Data page."""

    def __init__(self, sets: Sets) -> None:
        self.sets = sets
        self.ahead = Ahead()

    def routes(self) -> dict[tuple[str, str], Handler]:
        """(method, path) -> what answers it."""
        return {
            ("GET", "/api/sets"): self.names,
            ("GET", "/api/data/state"): self.state,
            ("GET", "/api/data/facts"): self.facts,
            ("GET", "/api/data/view"): self.view,
            ("GET", "/api/data/thumb"): self.thumb,
            ("GET", "/api/data/picture"): self.picture,
            ("POST", "/api/data/again"): self.again,
            ("POST", "/api/data/copies"): self.copies,
        }

    def names(self, asked: Asked) -> Answer:
        """The data sets of the folder."""
        place = self.sets.place
        names = place.data_sets()
        if len(names) == 1:
            self.sets.get(names[0])  # it will be chosen: it is read while somebody looks for it
        return as_json({"folder": str(place.root), "sets": names})

    def state(self, asked: Asked) -> Answer:
        """How far a data set is read."""
        return as_json(self._set(asked).state)

    def facts(self, asked: Asked) -> Answer:
        """What does not depend on the filters: classes, splits, findings of the whole set."""
        one = self._set(asked)
        table = one.table
        return as_json(
            {
                **about_set(one, table.class_names),
                "format": one.dataset.format if one.dataset else "",
                "license": one.dataset.license if one.dataset else None,
                "severity": table.severity,
                "copies_known": table.groups is not None,
                "general": [_finding(found) for found in table.general[:SHOWN_FINDINGS]],
                "images": len(table),
                "boxes": len(table.boxes),
            }
        )

    def view(self, asked: Asked) -> Answer:
        """A page of the chosen images, and with ``facets=1`` the counts of every filter."""
        one = self._set(asked)
        table, page = one.table, asked.number("page", 0)
        chosen = one.choose(wanted_of(asked))
        shown = chosen.images[page * PAGE : (page + 1) * PAGE].tolist()
        content: dict[str, Any] = {
            "version": one.version,
            "total": len(chosen.images),
            "pages": -(-len(chosen.images) // PAGE),
            "images": [self._image(one, number, chosen) for number in shown],
        }
        if asked.text("facets", "") == "1":
            content["boxes"] = int(chosen.matching[_of_images(table, chosen)].sum())
            content["facets"] = chosen.facets
        following = chosen.images[(page + 1) * PAGE : (page + 1 + PAGES_AHEAD) * PAGE]
        self.ahead.pause()
        self.ahead.soon([table.records[number].path for number in following.tolist()])
        return as_json(content)

    def thumb(self, asked: Asked) -> Answer:
        """The small picture of an image."""
        self.ahead.pause()
        record = self._record(asked)
        return Answer(small_picture(record.path), "image/jpeg", seconds=KEEP_SECONDS)

    def picture(self, asked: Asked) -> Answer:
        """The picture of an image, large."""
        record = self._record(asked)
        return Answer(large_picture(record.path), "image/jpeg", seconds=KEEP_SECONDS)

    def again(self, asked: Asked) -> Answer:
        """Read a data set anew."""
        return as_json(self.sets.get(text_of(asked.sent(), "set"), again=True).state)

    def copies(self, asked: Asked) -> Answer:
        """Begin to look for near-duplicates."""
        one = self.sets.get(text_of(asked.sent(), "set"))
        one.find_copies()
        return as_json(one.state)

    def _set(self, asked: Asked) -> OpenSet:
        return self.sets.get(asked.text("set"))

    def _record(self, asked: Asked) -> Any:
        table, number = self._set(asked).table, asked.number("n")
        if number >= len(table):
            raise NotThere(f"n={number}: there are {len(table)} images")
        return table.records[number]

    def _image(self, one: OpenSet, number: int, chosen: Chosen) -> dict[str, Any]:
        table = one.table
        return {
            **about_image(one, number),
            "split": table.splits[int(table.split[number])],
            "usable": bool(table.usable[number]),
            "boxes": boxes_of(table, number, chosen.matching),
            "findings": [_finding(f) for f in table.findings.get(number, ())[:SHOWN_FINDINGS]],
        }


def _of_images(table: Table, chosen: Chosen) -> Any:
    """Whether each box belongs to a chosen image."""
    import numpy as np

    mask = np.zeros(len(table), bool)
    mask[chosen.images] = True
    return mask[table.image]


def _finding(found: Any) -> dict[str, Any]:
    return {"id": found.id, "severity": found.severity, "message": one_line(found.message)}
