"""``det verify``: replay steps and the validation of a run, and say whether the bytes are equal."""

from __future__ import annotations

from ..options.catalog import Command
from ..options.verify import VerifyConfig
from ..run.check import check_device
from ..run.log import Log
from .outcome import Outcome
from .show import join

WORDS = {True: "equal", False: "NOT EQUAL", None: "not compared"}


def execute(command: Command, config: VerifyConfig, given: frozenset[str], log: Log) -> Outcome:
    """Exit code 0 where all is equal, 1 where something is not."""
    if config.device is not None:
        check_device(config.device, trains=False)
    log.loading_torch()
    from ..examine.verify import verify

    proof = verify(config, log)
    lines = [f"{check.name:<12} {WORDS[check.equal]:<13} {check.told}" for check in proof.checks]
    lines += [f"differs      {line}" for line in proof.differs]
    return Outcome(
        proof.to_dict(), join([str(proof.folder), *lines, proof.verdict()]), 0 if proof.equal else 1
    )
