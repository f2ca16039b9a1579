"""The options of ``det report``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """det report: write report.html of a run anew, or put two or three runs side by side."""

    run: str | None = option(
        None, "Run", "A run folder of det train or det val. Default: the newest run in project=.")
    b: str | None = option(
        None, "Run", "A second run folder: the runs are put side by side on one page.")
    c: str | None = option(None, "Run", "A third one.")
    data: str | None = option(
        None, "Data", "With several runs: the data to measure them on. Default: the data of the "
        "first run.")
    device: str | None = option(
        None, "Run", "With several runs: where to measure. Default: the first GPU, or the CPU "
        "where there is none.")
    workers: int | None = option(
        None, "Data", "With several runs: loader processes. Default: chosen from the CPU cores.",
        low=0)
    name: str | None = option(
        None, "Run", "With several runs: name of the folder of the page. Default: report.")
    exist_ok: bool = option(False, "Run", "Write into an existing folder.")
    project: str = option("runs", "Run", "Folder that holds the run folders.")
