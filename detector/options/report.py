"""The options of ``det report``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """det report: write report.html of a run anew."""

    run: str | None = option(
        None, "Run", "A run folder of det train or det val. Default: the newest run in project=.")
    project: str = option("runs", "Run", "Folder that holds the run folders.")
