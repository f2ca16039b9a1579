"""Observer: checksums.json, from which ``det verify`` can tell that a training was what it says.

A run writes down, as it goes, a sha256 of its weights: at its start, after the first updates, after
each epoch, and of each file of weights that it saves.  With ``save_state=True`` it also keeps the
training state of one epoch that is picked at random, and the first updates after it.  Whoever
replays those updates gets the same sums, or has not got the same training.
"""

from __future__ import annotations

import platform
import random
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...files.json_text import read_note
from ...files.regular import read_regular
from ...files.version import __version__
from ...weights.checkpoint import PRECISIONS, digest_of, read_header, save_state
from ..run.files import cell, plain, write_json
from ..run.hardware import traits_of
from ..run.observer import Epoch, Finished, Observer, Started, Step
from .assemble import Run
from .describe import versions

if TYPE_CHECKING:
    from .trainer import Trainer

CHECKSUMS = "checksums.json"
STATE = Path("weights") / "state.pt"
SCHEMA = 1
UPDATES = 3
"""Updates after a start that have their sums written down."""


class Checksums(Observer):
    """Writes checksums.json.  ``trainer``: set before the run starts; its state is kept.

    ``facts`` is the content of the file (docs/verify.md).  A *start* is a place that a replay can
    begin at: the first step of the run, or the kept state."""

    trainer: Trainer

    def __init__(self, run: Run) -> None:
        self.run = run
        self.folder = Path()
        self.facts: dict[str, Any] = {}

    def started(self, run: Started) -> None:
        self.folder, at = run.folder, self.trainer.at
        if at.epoch or at.batch:
            self.facts = _until(read_checksums(self.folder), at.epoch, at.batch)
        else:
            self.facts = {"schema": SCHEMA, "starts": [self._first(run.epochs)], "epochs": []}
        self.facts.setdefault("files", {})
        session = {"epoch": at.epoch, "batch": at.batch, "where": where(self.run)}
        self.facts.setdefault("sessions", []).append(session)
        self.facts["evaluator"] = type(self.trainer.evaluator).__name__
        self.write()

    def step(self, step: Step) -> None:
        start = next((s for s in self.facts["starts"] if s["epoch"] == step.epoch - 1), None)
        done = step.batch % self.run.accumulate == 0 or step.batch == step.batches
        if start is None or not done or step.batch > UPDATES * self.run.accumulate:
            return
        again = [known for known in start["steps"] if known["batch"] < step.batch]  # rolled back
        weights = digest_of(self.run.model.state_dict())
        entry = {"batch": step.batch, "weights": weights, "losses": plain(step.losses())}
        start["steps"] = [*again, entry]
        if len(start["steps"]) == UPDATES or step.batch == step.batches:
            self.write()

    def epoch(self, epoch: Epoch) -> str | None:
        done = [known for known in self.facts["epochs"] if known["epoch"] < epoch.epoch]
        entry = {
            "epoch": epoch.epoch,
            "weights": digest_of(self.run.model.state_dict()),
            "average": digest_of(self.run.deployed.state_dict()),
            "row": sum_of_row(epoch.row),
        }
        self.facts["epochs"] = [*done, entry]
        if self.run.config.save_state and self._picks(epoch):
            self._keep(epoch.epoch)
        self.write()
        return None

    def saved(self, path: Path, epoch: int) -> None:
        if path.suffix == ".safetensors":
            name = path.relative_to(self.folder).as_posix()
            self.facts["files"][name] = read_header(path)["sha256"]

    def finished(self, end: Finished) -> None:
        self.write()

    def failed(self, reason: str) -> None:
        if self.facts:
            self.write()

    def write(self) -> None:
        """Write the file."""
        write_json(self.folder / CHECKSUMS, self.facts)

    def _first(self, epochs: int) -> dict[str, Any]:
        trainer = self.trainer
        return {
            "file": None,
            "epoch": 0,
            "config": plain(asdict(self.run.config)),
            "epochs": epochs,
            "precision": trainer.precision.name,
            "rungs": list(trainer.rungs),
            "weights": digest_of(self.run.model.state_dict()),
            "steps": [],
        }

    def _picks(self, epoch: Epoch) -> bool:
        """Whether the state after this epoch replaces the kept one: the n-th with probability 1/n,
        so that each is kept equally often (reservoir sampling, Vitter 1985)."""
        if epoch.epoch >= self.trainer.length.epochs:  # no step follows
            return False
        draw = random.Random(f"{self.run.config.seed} {epoch.epoch}").random()
        return draw < 1 / epoch.epoch

    def _keep(self, epoch: int) -> None:
        save_state(self.folder / STATE, self.trainer.state_dict())
        first = [start for start in self.facts["starts"] if start["file"] is None]
        kept = {"file": STATE.as_posix(), "epoch": epoch, "steps": []}
        self.facts["starts"] = [*first, kept]


def read_checksums(folder: Path) -> dict[str, Any] | None:
    """The checksums.json of a run folder; None where there is none that can be used."""
    facts = read_note(folder / CHECKSUMS)
    try:
        usable = facts["schema"] == SCHEMA and bool(facts["sessions"])
        for session in facts["sessions"]:
            usable &= _numbers(session, "epoch", "batch") and _numbers(
                session["where"], "threads", "ranks"
            )
        for start in facts["starts"]:
            usable &= _numbers(start, "epoch") and isinstance(start["file"], str | None)
            for step in start["steps"]:
                usable &= _numbers(step, "batch") and _texts(step, "weights")
                usable &= isinstance(step["losses"], dict)
            if start["file"] is None:
                usable &= _numbers(start, "epochs") and _texts(start, "weights")
                usable &= {start["precision"], *start["rungs"]} <= set(PRECISIONS)
                usable &= isinstance(start["config"], dict)
        for entry in facts["epochs"]:
            usable &= _numbers(entry, "epoch") and _texts(entry, "weights", "average", "row")
        usable &= _texts(facts["files"], *facts["files"]) and _texts(facts, "evaluator")
    except (LookupError, TypeError):
        return None
    return facts if usable else None


def _numbers(facts: Mapping[str, Any], *names: str) -> bool:
    return all(type(facts[name]) is int and facts[name] >= 0 for name in names)


def _texts(facts: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(facts[name], str) and "\0" not in facts[name] for name in names)


def _until(facts: dict[str, Any] | None, epoch: int, batch: int) -> dict[str, Any]:
    """What was written down before the place from which a run goes on."""
    if facts is None:
        return {"schema": SCHEMA, "starts": [], "epochs": []}
    starts = [start for start in facts["starts"] if start["epoch"] <= epoch]
    for start in starts:
        if start["epoch"] == epoch:
            start["steps"] = [step for step in start["steps"] if step["batch"] <= batch]
    epochs = [known for known in facts["epochs"] if known["epoch"] <= epoch]
    return {**facts, "starts": starts, "epochs": epochs}


def sum_of_row(row: Mapping[str, Any]) -> str:
    """The CRC-32 of a line of results.csv, whatever the order of its columns."""
    cells = sorted(f"{name}={cell(value)}" for name, value in row.items() if cell(value))
    return f"{zlib.crc32(chr(10).join(cells).encode()):08x}"


def where(run: Run) -> dict[str, Any]:
    """What the bytes of a training may depend on beside its options and its data."""
    traits = traits_of(run.device)
    return {
        "det": __version__,
        **versions(),
        "numpy": version("numpy"),
        "opencv": _opencv(),
        "cuda": torch.version.cuda if run.device.type == "cuda" else None,
        "cudnn": torch.backends.cudnn.version() if run.device.type == "cuda" else None,
        "processor": processor(),
        "device": f"{traits.type} ({traits.name})",
        "threads": torch.get_num_threads(),
        "ranks": run.ranks.size,
    }


def processor() -> str:
    """The name of the CPU; on systems that do not tell it, its kind."""
    try:
        told = read_regular(Path("/proc/cpuinfo")).decode(errors="replace")
    except OSError:
        told = ""
    found = re.search(r"model name\s*: (.+)", told)
    return found[1] if found else platform.processor() or platform.machine()


def _opencv() -> str:
    import cv2

    return str(cv2.__version__)
