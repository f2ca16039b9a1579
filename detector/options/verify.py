"""The options of ``det verify``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option
from .shared import RunsConfig


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(RunsConfig):
    """det verify: replay steps and the validation of a run, and say whether the bytes are equal."""

    run: str | None = option(
        None, "Run", "A run folder of det train. Default: the newest run in project=. Nothing is "
        "written into it.")
    epochs: int = option(
        0, "Run", "Also replay this many whole epochs from each start.", low=0)
    device: str | None = option(
        None, "Run", "Where to replay: cpu, cuda, 0, 1 or mps. Default: where the run was.")
    data: str | None = option(
        None, "Data", "Where the data of the run are now. Default: where they were.")
    workers: int | None = option(
        None, "Data", "Number of loader processes; it does not change the result. Default: as in "
        "the run.", low=0)
    cache: str | None = option(
        None, "Data", "Where decoded images are kept; it does not change the result. Default: as "
        "in the run.", choices=("auto", "ram", "disk", "none"))
