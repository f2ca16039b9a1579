"""``det verify``: replay steps and the validation of a run, and say whether the bytes are equal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..options.catalog import Command
from ..options.errors import UsageError
from ..options.verify import VerifyConfig
from ..run.check import check_device
from ..run.folder import BEST, RunNotFound
from ..run.log import Log
from .outcome import Outcome

if TYPE_CHECKING:
    from ..examine.verify import Verification


def execute(command: Command, config: VerifyConfig, given: frozenset[str], log: Log) -> Outcome:
    """Exit code 0 where all is equal, 1 where something is not."""
    proof = prove(config, log)
    return Outcome(proof.to_dict(), str(proof), 0 if proof else 1)


def prove(config: VerifyConfig, log: Log) -> Verification:
    """Compare and replay what the options name."""
    if config.device is not None:
        check_device(config.device, trains=False)
    log.loading_torch()
    from ..examine.verify import verify

    return verify(config, log)


def run_of(weights: str | None, name: str) -> Path:
    """The run folder of a file of weights.  Raises UsageError where a model has not been trained,
    and RunNotFound where its file is in no run folder."""
    if weights is None:
        raise UsageError(f"{name} was not trained: name a run, verify('runs/train')")
    folder = Path(weights).parent
    if folder.name != BEST.parent.name:
        raise RunNotFound(f"{weights} is in no run folder: name a run, verify('runs/train')")
    return folder.parent
