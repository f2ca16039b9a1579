"""All pages of the studio of one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .data_page import DataPage
from .errors_page import ErrorsPage
from .labels_page import LabelsPage
from .place import Place
from .runs_page import RunsPage
from .seen import Seen
from .server import Handler, page_routes
from .sets import Sets
from .try_page import TryPage


class AllPages:
    """The answers of every page.  folder: with links resolved."""

    def __init__(self, folder: Path) -> None:
        self.sets = Sets(Place(folder))
        self.data = DataPage(self.sets)
        self.runs = RunsPage(self.sets.place)
        seen = Seen(self.sets.place)
        self.labels = LabelsPage(self.sets, seen)
        self.errors = ErrorsPage(self.labels)
        self.tries = TryPage(self.sets, seen)

    def routes(self) -> Mapping[tuple[str, str], Handler]:
        """(method, path) -> what answers it."""
        pages = (self.data, self.runs, self.labels, self.errors, self.tries)
        return {**page_routes(), **{at: do for page in pages for at, do in page.routes().items()}}

    def close(self) -> None:
        """End what is done in the background."""
        self.errors.close()
        self.labels.close()
        self.data.ahead.close()
        self.sets.close()
