"""What the Label errors page asks for: searching, and suspicions that are accepted or ignored."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...files.text import one_line
from ..examine.suspicions import KINDS
from ..run.folder import folds_in
from .asked import Answer, Asked, BadRequest, NotThere, as_json, text_of, whole_of
from .label_errors import ACCEPTED, IGNORED, OPEN, ErrorSearch, Item
from .labels_page import LabelsPage
from .server import Handler
from .shown import about_image, about_set

PAGE = 24
"""Suspicions of a page."""
SPLITS = ("train", "val", "test")
MOST_KEPT = 4
SECONDS_TO_END = 5.0


class ErrorsPage:
    """The answers of the Label errors page.  labels: whose drafts are changed."""

    def __init__(self, labels: LabelsPage) -> None:
        self.labels = labels
        self._searches: dict[str, ErrorSearch] = {}

    def routes(self) -> dict[tuple[str, str], Handler]:
        """(method, path) -> what answers it."""
        return {
            ("GET", "/api/errors/state"): self.state,
            ("GET", "/api/errors/list"): self.list,
            ("POST", "/api/errors/search"): self.search,
            ("POST", "/api/errors/accept"): self.accept,
            ("POST", "/api/errors/ignore"): self.ignore,
        }

    def close(self) -> None:
        """Wait a little for what is searched."""
        for one in self._searches.values():
            one.close(SECONDS_TO_END)

    def state(self, asked: Asked) -> Answer:
        """How far the search is, and what there is to search with."""
        name = asked.text("set")
        one = self.labels.get(name)
        place = self.labels.seen.place
        above = dict.fromkeys(run.rpartition("/")[0] for run in place.runs())
        folds = [run for run in above if run and folds_in(str(place.root / run))]
        found = self._searches.get(name)
        return as_json(
            {
                **about_set(one.one, one.classes),
                "models": [*folds, *place.checkpoints()],
                "folds": folds,
                "kinds": KINDS,
                "draft": one.draft.state(),
                "search": found and {
                    "model": one_line(found.model.name), "searching": found.searching,
                    "failed": found.failed, "total": len(found.items),
                    "cross_fitted": found.cross_fitted,
                },
            }
        )  # fmt: skip

    def list(self, asked: Asked) -> Answer:
        """A page of suspicions, the most suspicious first.  show=: open, accepted, ignored, all."""
        found, page = self._search(asked.text("set")), asked.number("page", 0)
        kind, show = asked.text("kind", ""), asked.text("show", OPEN)
        if kind not in ("", *KINDS) or show not in (OPEN, ACCEPTED, IGNORED, "all"):
            raise BadRequest(f"kind={kind} show={show}: expected one of {', '.join(KINDS)}")
        rows = [(place, item, found.state_of(item)) for place, item in enumerate(found.items)]
        chosen = [
            row for row in rows
            if kind in ("", row[1].suspicion.kind) and show in ("all", row[2])
        ]  # fmt: skip
        shown = chosen[page * PAGE : (page + 1) * PAGE]
        return as_json(
            {
                "total": len(chosen),
                "pages": -(-len(chosen) // PAGE),
                "states": Counter(state for _, _, state in rows),
                "items": [self._about(found, *row) for row in shown],
                "draft": found.one.draft.state(),
            }
        )

    def search(self, asked: Asked) -> Answer:
        """Begin to search."""
        sent = asked.sent()
        name, split = text_of(sent, "set"), sent.get("split")
        if split not in (None, "", *SPLITS):
            raise BadRequest(f"split: expected one of {', '.join(SPLITS)}")
        one = self.labels.get(name)
        model = self.labels.seen.place.inside(text_of(sent, "model"))
        old = self._searches.get(name)
        if old is not None and old.searching:
            raise BadRequest("a search is still going on")
        self._searches[name] = ErrorSearch(one, model, split or None)
        while len(self._searches) > MOST_KEPT:
            self._searches.pop(next(iter(self._searches)))
        return as_json({"searching": True})

    def accept(self, asked: Asked) -> Answer:
        """Change labels as suggested."""
        sent = asked.sent()
        found = self._search(text_of(sent, "set"))
        with found.one.lock:
            count = found.accept(_places(sent), whole_of(sent, "revision"))
        return as_json({"accepted": count, "draft": found.one.draft.state()})

    def ignore(self, asked: Asked) -> Answer:
        """Ignore suspicions; on: false shows them again."""
        sent = asked.sent()
        found = self._search(text_of(sent, "set"))
        found.ignore(_places(sent), sent.get("on") is not False)
        return as_json({"draft": found.one.draft.state()})

    def _search(self, name: str) -> ErrorSearch:
        self.labels.sets.place.inside(name)
        found = self._searches.get(name)
        if found is None or found.searching or found.failed:
            raise NotThere("nothing was searched yet, or the search still goes on")
        found.one = self.labels.get(name)
        return found

    def _about(self, found: ErrorSearch, place: int, item: Item, state: str) -> dict[str, Any]:
        one = item.suspicion
        return {
            "place": place,
            "state": state,
            **about_image(found.one.one, item.image),
            "kind": one.kind,
            "score": round(one.score, 3),
            "box": one.box,
            "label": one.label,
            "suggested_box": one.suggested_box,
            "suggested_label": one.suggested_label,
        }


def _places(sent: dict[str, Any]) -> list[int]:
    places = sent.get("places")
    if not isinstance(places, list) or not all(type(p) is int and p >= 0 for p in places):
        raise BadRequest("places: expected a list of whole numbers")
    return places
