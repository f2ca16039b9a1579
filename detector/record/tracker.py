"""What all trackers share: which numbers they get, when, and what happens if a tool fails.

A tracker is an observer of the run (run/observer.py), so one that fails is reported once and the
training goes on.  What it could not pass on is kept and passed on later; a tool that failed slowly
is left alone for ten times as long as it took, so that a dead server cannot hold up a training.

results.csv and the tool get the same numbers under the same names; the AP per class and the memory
are added.  ``trackers.json`` in the run folder remembers the run of each tool, for ``resume=``.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...files.json_text import read_note
from ..run.data_place import read_place
from ..run.files import write_json
from ..run.folder import BEST
from ..run.observer import Epoch, Finished, Observer, Started
from .git import revision

IDENTITY = "trackers.json"
BEGINNING = ("labels.png", "train_batch.jpg")
END = (
    "results.png", "pr_curve.png", "confidence_curves.png", "confusion_matrix.png",
    "val_batch.jpg", "val_worst.jpg",
)  # fmt: skip
REST = 10.0
"""A tool that took a second to fail is asked again after this many."""


class Tracker(Observer, ABC):
    """Passes a run on to one tool.  A subclass says how: ``begin``, ``scalars``, ``picture``,
    ``end``; each may raise whatever the tool raises.

    say: prints one line, such as where the tool keeps the run.  offline: the tool may not use the
    network.
    """

    tool = ""

    def __init__(self, say: Callable[[str], None], *, offline: bool = False) -> None:
        self.say = say
        self._offline = offline
        self._run: Started | None = None
        self._begun = False
        self._known = 0  # epochs that the tool has had, or that wait for it
        self._waiting: list[tuple[int, dict[str, float]]] = []
        self._not_before = 0.0
        self._last = 0

    # -- what a subclass does --------------------------------------------------------------------

    @abstractmethod
    def begin(self, run: Started, facts: Mapping[str, Any], identity: str | None) -> str:
        """Open the run in the tool, or continue the one called ``identity``.  facts: git revision
        and data fingerprints.  Returns the identity for ``resume=``."""

    @abstractmethod
    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        """Numbers of a finished epoch, counted from 1."""

    @abstractmethod
    def picture(self, name: str, path: Path, epoch: int) -> None:
        """A picture of the run folder."""

    @abstractmethod
    def end(self, results: Mapping[str, Any] | None, best: Path | None) -> None:
        """Close the run.  results, best: results.json and the best weights of a finished run; None
        where it failed or was stopped."""

    # -- the moments of a run --------------------------------------------------------------------

    def started(self, run: Started) -> None:
        self._run, self._last = run, run.epoch
        self._known = run.epoch if self._identity(run.folder) else 0
        self._pass_on()

    def epoch(self, epoch: Epoch) -> None:
        self._last = epoch.epoch
        earlier = [row for row in epoch.rows[:-1] if row["epoch"] > self._known]
        self._waiting += [(row["epoch"], numbers(row)) for row in earlier]
        self._waiting.append((epoch.epoch, scalars_of(epoch)))
        self._known = epoch.epoch
        self._pass_on()

    def finished(self, end: Finished) -> None:
        self._not_before = 0.0
        self._pass_on()
        for name in END:
            self._show(end.folder / name)
        best = end.folder / BEST
        self.end(end.results, best if end.results.get("best") else None)

    def failed(self, reason: str) -> None:
        if self._begun:
            self.end(None, None)

    # -- parts -----------------------------------------------------------------------------------

    def _pass_on(self) -> None:
        """Give the tool everything that it has not had yet.  Raises what the tool raises."""
        now = time.monotonic()
        if now < self._not_before:
            return
        try:
            self._begin()
            while self._waiting:
                self.scalars(*self._waiting[0])
                self._waiting.pop(0)
        except BaseException:
            self._not_before = time.monotonic() + REST * (time.monotonic() - now)
            raise

    def _begin(self) -> None:
        if self._begun:
            return
        run = self._run
        assert run is not None
        known = self._identity(run.folder)
        identity = self.begin(run, facts_of(run.folder), known)
        self._begun = True
        self._remember(run.folder, identity)
        if known is None:
            for name in BEGINNING:
                self._show(run.folder / name)

    def _show(self, path: Path) -> None:
        if path.is_file():
            self.picture(path.stem, path, self._last)

    def _identity(self, folder: Path) -> str | None:
        """The tool's name for this run, where it has had it before."""
        found = _read(folder).get(self.tool)
        return found if isinstance(found, str) else None

    def _remember(self, folder: Path, identity: str) -> None:
        write_json(folder / IDENTITY, {**_read(folder), self.tool: identity})


def _read(folder: Path) -> dict[str, Any]:
    return read_note(folder / IDENTITY)


def scalars_of(epoch: Epoch) -> dict[str, float]:
    """The numbers of an epoch by name: its row, the memory, and the AP of each class."""
    values = numbers(epoch.row) | numbers({"memory_gib": epoch.memory_gib})
    for row in epoch.per_class:
        values |= numbers({f"ap/{row['name']}": row.get("ap")})
    return values


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """What of a row is a number: texts and what was not measured (nan, None) are left out."""
    return {
        name: float(value)
        for name, value in row.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
        if name != "epoch"
    }


def name_of(folder: Path) -> str:
    """The name of a run in a tool: that of its folder; of a trial, that of its search too."""
    search = folder.parent.name in ("trials", "closing")
    return f"{folder.parents[1].name}/{folder.name}" if search else folder.name


def facts_of(folder: Path) -> dict[str, Any]:
    """Where a run comes from: the git revision of the current folder, and what the data were."""
    facts: dict[str, Any] = {"git_revision": revision(Path.cwd())}
    place = read_place(folder)
    if place is not None:
        facts["data"] = place.data
        for name, split in place.splits.items():
            facts |= {f"data_{name}_sha256": split.content, f"data_{name}_images": split.images}
    return {name: value for name, value in facts.items() if value is not None}
