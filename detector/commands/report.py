"""``det report``: write report.html of a run anew."""

from __future__ import annotations

from pathlib import Path

from ..options.catalog import Command
from ..options.report import ReportConfig
from ..report.page import write_report
from ..run.folder import newest_run
from ..run.log import Log
from .outcome import Outcome
from .show import absolute, join


def execute(command: Command, config: ReportConfig, given: frozenset[str], log: Log) -> Outcome:
    """Write the page and say where it is."""
    wanted = Path("results.json")
    folder = Path(config.run) if config.run else newest_run(config.project, wanted)
    page = absolute(str(write_report(folder)))
    return Outcome({"report": page}, join([f"report: {page}"]))
