"""All pages of the studio of one folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .data_page import DataPage
from .place import Place
from .runs_page import RunsPage
from .server import Handler, page_routes
from .sets import Sets


class AllPages:
    """The answers of every page.  folder: with links resolved."""

    def __init__(self, folder: Path) -> None:
        self.sets = Sets(Place(folder))
        self.data = DataPage(self.sets)
        self.runs = RunsPage(self.sets.place)

    def routes(self) -> Mapping[tuple[str, str], Handler]:
        """(method, path) -> what answers it."""
        return {**page_routes(), **self.data.routes(), **self.runs.routes()}

    def close(self) -> None:
        """End what is done in the background."""
        self.data.ahead.close()
        self.sets.close()
