"""``det report``: write report.html of a run anew, or put runs side by side."""

from __future__ import annotations

from pathlib import Path

from ..options.catalog import Command
from ..options.compare import CompareConfig
from ..options.errors import UsageError
from ..options.report import ReportConfig
from ..report.page import write_report
from ..run.data_place import read_place
from ..run.folder import newest_run
from ..run.log import Log
from .compare import check_compare
from .outcome import Outcome
from .show import absolute, join


def execute(command: Command, config: ReportConfig, given: frozenset[str], log: Log) -> Outcome:
    """Write the page and say where it is."""
    if config.b is not None:
        return _side_by_side(config, log)
    if config.c is not None:
        raise UsageError("c= without b=: name the runs in turn, det report runs/a runs/b runs/c")
    wanted = Path("results.json")
    folder = Path(config.run) if config.run else newest_run(config.project, wanted)
    page = absolute(str(write_report(folder)))
    return Outcome({"report": page}, join([f"report: {page}"]))


def _side_by_side(config: ReportConfig, log: Log) -> Outcome:
    """Measure the runs on the same images and write the page."""
    folders = [Path(word) for word in (config.run, config.b, config.c) if word]
    if config.run is None:
        raise UsageError("name the runs in turn: det report runs/a runs/b")
    for folder in folders:
        if not (folder / "results.json").is_file():
            raise UsageError(f"{folder} is no folder of a finished run: it has no results.json")
    data = config.data
    if data is None:
        place = read_place(folders[0])
        if place is None:
            raise UsageError(f"{folders[0]} does not say where its data are: add data=my.yaml")
        data = place.word()
    pairs = [
        check_compare(
            CompareConfig(
                a=str(folders[0]), b=str(other), data=data, device=config.device,
                workers=config.workers,
            )
        )
        for other in folders[1:]
    ]  # fmt: skip
    log.loading_torch()
    from ..examine.side_by_side import write_side_by_side

    page, verdicts = write_side_by_side(config, folders, pairs, log)
    told = {"report": absolute(str(page)), "verdicts": verdicts}
    return Outcome(told, join([*verdicts, f"report: {told['report']}"]))
