"""Observer: report.html at the end of a run."""

from __future__ import annotations

from ..run.observer import Finished, Observer
from .page import write_report


class Page(Observer):
    """Writes the run on one page, of what is in its folder by then."""

    def finished(self, end: Finished) -> None:
        write_report(end.folder)
