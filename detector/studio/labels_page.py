"""What the Labels page asks for: images in an order, their boxes, changes, versions and exports."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.edit.convert import convert
from ...datasets.edit.writers import WRITERS
from ...datasets.sets.locate import load_dataset
from ...files.text import one_line
from ..examine.found import Found
from .asked import Answer, Asked, BadRequest, as_json, text_of, whole_of
from .choose import wanted_of
from .data_page import PAGE
from .labeling import Labeling, class_numbers
from .seen import Look, Seen, found_rows
from .server import Handler
from .sets import OPEN_SETS, Sets
from .shown import about_image, about_set, shown_name

ORDERS = ("name", "unlabeled", "changed", "disagree", "uncertain", "unlike")


class LabelsPage:
    """The answers of the Labels page."""

    def __init__(self, sets: Sets, seen: Seen) -> None:
        self.sets = sets
        self.seen = seen
        self._open: OrderedDict[int, Labeling] = OrderedDict()
        self._lock = threading.Lock()

    def routes(self) -> dict[tuple[str, str], Handler]:
        """(method, path) -> what answers it."""
        return {
            ("GET", "/api/labels/facts"): self.facts,
            ("GET", "/api/labels/list"): self.list,
            ("GET", "/api/labels/image"): self.image,
            ("GET", "/api/labels/looking"): self.looking,
            ("POST", "/api/labels/look"): self.look,
            ("POST", "/api/labels/edit"): self.edit,
            ("POST", "/api/labels/class"): self.add_class,
            ("POST", "/api/labels/prelabel"): self.prelabel,
            ("POST", "/api/labels/move"): self.move,
            ("POST", "/api/labels/undo"): lambda asked: self._step(asked, -1),
            ("POST", "/api/labels/redo"): lambda asked: self._step(asked, 1),
            ("POST", "/api/labels/save"): self.save,
            ("POST", "/api/labels/export"): self.export,
        }

    def close(self) -> None:
        """End what is done in the background."""
        for one in self._open.values():
            if one.look is not None:
                one.look.close()

    def get(self, name: str) -> Labeling:
        """The labels of a data set with their draft.  Raises Outside, NotThere and BadRequest where
        it is not read yet."""
        one = self.sets.get(name)
        one.table  # noqa: B018  raises where it is not read yet
        with self._lock:
            found = self._open.pop(id(one), None)
            if found is None or found.one is not one:
                found = Labeling(one)
            self._open[id(one)] = found
            while len(self._open) > OPEN_SETS:
                _, old = self._open.popitem(last=False)
                if old.look is not None:
                    old.look.ended = True
        found.draft.refresh()
        return found

    # -- reading ---------------------------------------------------------------------------------

    def facts(self, asked: Asked) -> Answer:
        """What does not depend on the image: classes, the draft, versions, checkpoints."""
        one = self.get(asked.text("set"))
        return as_json(
            {
                **about_set(one.one, one.classes),
                "orders": ORDERS,
                "formats": list(WRITERS),
                "draft": one.draft.state(),
                "versions": [self._version(one, version) for version in one.versions],
                "models": self.seen.place.checkpoints(),
                "look": one.look.state() if one.look else None,
            }
        )

    def list(self, asked: Asked) -> Answer:
        """A page of the chosen images in an order, the ones to look at first."""
        one, page = self.get(asked.text("set")), asked.number("page", 0)
        numbers = self._ordered(one, asked)
        shown = numbers[page * PAGE : (page + 1) * PAGE].tolist()
        changed = one.draft.changed
        amounts = one.scores.get(asked.text("order", "name"))
        return as_json(
            {
                "total": len(numbers),
                "pages": -(-len(numbers) // PAGE),
                "images": [
                    {
                        "n": n,
                        "name": shown_name(one.one, one.table.records[n].path),
                        "boxes": len(one.boxes(n)),
                        "changed": one.names_of_images[n] in changed,
                        "unlabeled": one.is_unlabeled(n),
                        "split": one.split_of(n),
                        "amount": None if amounts is None else round(float(amounts[n]), 3),
                    }
                    for n in shown
                ],
            }
        )

    def image(self, asked: Asked) -> Answer:
        """An image with its boxes now, and what the checkpoint found in it."""
        one, number = self.get(asked.text("set")), asked.number("n")
        record = one.image(number)
        found: Found | None = one.found[number] if number < len(one.found) else None
        name = asked.text("model", "")
        if found is None and name:
            model = self.seen.model(name)
            found = self.seen.in_file(name, record.path)
            found = found.named(model.names, class_numbers(one.classes))
        return as_json(
            {
                **about_image(one.one, number),
                "split": one.split_of(number),
                "boxes": one.boxes(number),
                "found": found_rows(found) if found is not None else None,
                "unlabeled": one.is_unlabeled(number),
                "draft": one.draft.state(),
            }
        )

    def looking(self, asked: Asked) -> Answer:
        """How far the checkpoint is with the images."""
        one = self.get(asked.text("set"))
        return as_json({"look": one.look.state() if one.look else None, "orders": list(one.scores)})

    # -- changes ---------------------------------------------------------------------------------

    def edit(self, asked: Asked) -> Answer:
        """New boxes for an image."""
        one, sent = self._sent(asked)
        number = whole_of(sent, "n")
        with one.lock:
            one.edit(number, sent.get("boxes"), text_of(sent, "what"), whole_of(sent, "revision"))
            return self._after(one, number)

    def add_class(self, asked: Asked) -> Answer:
        """A class at the end of the list."""
        one, sent = self._sent(asked)
        with one.lock:
            one.add_class(sent.get("name"), whole_of(sent, "revision"))
            classes = [one_line(name) for name in one.classes]
            return as_json({"draft": one.draft.state(), "classes": classes})

    def prelabel(self, asked: Asked) -> Answer:
        """The boxes of the checkpoint for every image without labels, as one step."""
        one, sent = self._sent(asked)
        confidence = sent.get("conf")
        if not isinstance(confidence, int | float) or not 0 <= confidence <= 1:
            raise BadRequest("conf: expected a number from 0 to 1")
        with one.lock:
            count = one.prelabel(range(len(one.table)), confidence, whole_of(sent, "revision"))
            return as_json({"draft": one.draft.state(), "images": count})

    def move(self, asked: Asked) -> Answer:
        """Move the images that the filters choose to another split; words: those of the address of
        the Data page."""
        one, sent = self._sent(asked)
        words = sent.get("words")
        if not isinstance(words, dict) or not all(_texts(v) for v in words.values()):
            raise BadRequest("words: expected an object of lists of texts")
        numbers = one.one.choose(wanted_of(Asked(words))).images
        chosen = [n for n in numbers.tolist() if one.table.usable[n]]
        with one.lock:
            count = one.move(chosen, text_of(sent, "to"), whole_of(sent, "revision"))
            return as_json({"draft": one.draft.state(), "images": count})

    def save(self, asked: Asked) -> Answer:
        """Write a new version."""
        one, sent = self._sent(asked)
        version = one.save(whole_of(sent, "revision"), beside=sent.get("beside") is True)
        return as_json(self._version(one, version))

    def export(self, asked: Asked) -> Answer:
        """Write a data set in another label format to a new folder of the opened one."""
        sent = asked.sent()
        place, format = self.sets.place, text_of(sent, "format")
        if format not in WRITERS:
            raise BadRequest(f"format={format}: expected one of {', '.join(WRITERS)}")
        data = place.inside(text_of(sent, "set"))
        out = place.new(text_of(sent, "out"))
        dataset = load_dataset(data, download=False)
        told = convert(dataset, out, format, allow_errors=True)
        return as_json({**told.to_dict(), "data": place.name_of(Path(told.data))})

    def look(self, asked: Asked) -> Answer:
        """Let a checkpoint look at every image in the background; without one, find images that are
        unlike the rest only."""
        one, sent = self._sent(asked)
        name = sent.get("model")
        images = [record.path for record in one.table.records]
        if not name:
            from .order import strangeness

            one.scores["unlike"] = strangeness(images)
            return as_json({"look": None, "orders": list(one.scores)})
        if not isinstance(name, str):
            raise BadRequest("model: expected the name of a checkpoint")
        self.seen.place.inside(name)
        with one.lock:
            if one.look is not None and not one.look.ended:
                raise BadRequest(f"{one.look.model} still looks at the images")
            one.look = Look(self.seen, name, images)
            one.look.start(self._finished(one, name))
        return as_json({"look": one.look.state(), "orders": list(one.scores)})

    def _finished(self, one: Labeling, name: str) -> Callable[[Sequence[Found | None]], None]:
        def finished(found: Sequence[Found | None]) -> None:
            from .order import disagreement, strangeness, uncertainty

            names, classes = self.seen.model(name).names, class_numbers(one.classes)
            own = [None if each is None else each.named(names, classes) for each in found]
            scores = {"disagree": disagreement(one.table, own), "uncertain": uncertainty(own)}
            if "unlike" not in one.scores:
                scores["unlike"] = strangeness([record.path for record in one.table.records])
            one.found = own
            one.scores = {**one.scores, **scores}

        return finished

    def _ordered(self, one: Labeling, asked: Asked) -> np.ndarray:
        """The chosen images that can be labeled, the ones to look at first."""
        order = asked.text("order", "name")
        if order not in ORDERS:
            raise BadRequest(f"order={order}: expected one of {', '.join(ORDERS)}")
        numbers = one.one.choose(wanted_of(asked)).images
        numbers = numbers[one.table.usable[numbers]]
        if order == "name":
            return numbers
        if order == "unlabeled":
            first = one.unlabeled[numbers].astype(float)
        elif order == "changed":
            first = one.images_in(one.draft.changed)[numbers].astype(float)
        elif order in one.scores:
            first = one.scores[order][numbers]
        else:
            raise BadRequest(f"order={order}: let a checkpoint look at the images first")
        return numbers[np.argsort(-first, kind="stable")]

    def _step(self, asked: Asked, by: int) -> Answer:
        one, sent = self._sent(asked)
        with one.lock:
            step = one.draft.move(by, whole_of(sent, "revision"))
        images = [n for n, name in enumerate(one.names_of_images) if name in step.boxes]
        return as_json(
            {
                "draft": one.draft.state(),
                "what": step.what,
                "n": images[0] if images else None,
                "classes": [one_line(name) for name in one.classes],
            }
        )

    def _after(self, one: Labeling, number: int) -> Answer:
        return as_json({"draft": one.draft.state(), "n": number, "boxes": one.boxes(number)})

    def _sent(self, asked: Asked) -> tuple[Labeling, dict[str, Any]]:
        sent = asked.sent()
        return self.get(text_of(sent, "set")), sent

    def _version(self, one: Labeling, version: Any) -> dict[str, Any]:
        return {
            "number": version.number,
            "name": one_line(version.name),
            "set": self.sets.place.name_of(version.data),
            "saved": one_line(str(version.note.get("saved", ""))),
            "from": one_line(str(version.note.get("from", ""))),
            "changed": version.note.get("changed"),
            "current": version.data == one.one.path,
        }


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)
