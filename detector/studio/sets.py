"""The data sets that are open in the studio: read in the background, kept while it runs."""

from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.edit.copies import group_images
from ...datasets.scan.doctor import examine
from ...datasets.scan.scan import EmptyDatasetError, Scan, scan_split
from ...datasets.sets.dataset import Dataset, DatasetError
from ...datasets.sets.finding import Finding
from ...datasets.sets.locate import load_dataset
from ...files.errors import DetError
from .apart import Progress, apart
from .asked import BadRequest
from .choose import Chooser, Chosen, Wanted
from .place import Place
from .table import Placed, Table, make_table, with_findings, with_split

KEPT = 8
"""Filters whose result is kept."""
OPEN_SETS = 4
"""Data sets that are kept in memory."""
IMAGE_SIZE = 640
"""Side of the network input for which the doctor calls boxes small."""
MOST_HERE = 2000
"""Images up to which the studio looks for flaws and copies itself: a process of its own would take
longer to start."""
SECONDS_TO_END = 5.0
"""How long the end of the studio waits for what is done in the background."""


class Closed(DetError):
    """Ends work in the background."""


@dataclass
class Reading:
    """What the background does for a data set: what, how far, and why it failed."""

    doing: str = "reading"
    done: int = 0
    total: int = 0
    failed: str = ""


class OpenSet:
    """One data set: its table, as soon as it is read, and what was chosen of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reading = Reading()
        self.version = 0
        """Grows when the table changes."""
        self.dataset: Dataset | None = None
        self._closed = False
        self._chooser: Chooser | None = None
        self._chosen: OrderedDict[tuple[int, Wanted], Chosen] = OrderedDict()
        self._lock = threading.Lock()
        self._start(self._read)

    @property
    def table(self) -> Table:
        """The table.  Raises BadRequest before it is read."""
        return self.chooser.table

    @property
    def chooser(self) -> Chooser:
        """What filters the table.  Raises BadRequest before it is read."""
        chooser = self._chooser
        if chooser is None:
            raise BadRequest(self.reading.failed or "the data set is still being read")
        return chooser

    @property
    def state(self) -> dict[str, Any]:
        """For the browser: whether it is ready, and what is being done."""
        return {"ready": self._chooser is not None, "version": self.version, **vars(self.reading)}

    def choose(self, wanted: Wanted) -> Chosen:
        """The chosen images; the last few choices are kept, so that a next page costs nothing."""
        chooser, key = self.chooser, (self.version, wanted)
        with self._lock:
            found = self._chosen.get(key)
        if found is None:
            found = chooser.choose(wanted)
            with self._lock:
                self._chosen[key] = found
                while len(self._chosen) > KEPT:
                    self._chosen.popitem(last=False)
        return found

    def find_copies(self) -> None:
        """Begin to look for images that show the same picture.  Raises BadRequest."""
        if self.table.groups is not None or self.reading.doing:
            raise BadRequest("near-duplicates are known, or something else is still being done")
        self.reading = Reading("comparing images")
        self._start(self._compare)

    def end(self) -> None:
        """Let the background end what it does, without waiting for it."""
        self._closed = True

    def close(self) -> None:
        """End what is done in the background."""
        self.end()
        self._thread.join(SECONDS_TO_END)

    def _start(self, work: Any) -> None:
        self._thread = threading.Thread(target=self._guarded, args=(work,), daemon=True)
        self._thread.start()

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except DetError as error:
            self.reading.failed = str(error)
        except OSError as error:
            self.reading.failed = f"{error.filename}: {error.strerror}"
        finally:
            self.reading.doing = ""

    def _read(self) -> None:
        dataset = load_dataset(self.path, download=False)
        scans, empty = _scans(dataset, self._progress)
        self.dataset = dataset
        table = make_table(dataset, scans, [*dataset.findings, *empty])
        self._show(table)
        self.reading = Reading("looking for flaws")
        if len(table) > MOST_HERE:
            found = apart(flaws_of, self.path, self._progress)
        else:
            found = _flaws(dataset, scans, empty)
        self._show(with_findings(table, found))

    def _compare(self) -> None:
        table = self.table
        paths = [str(record.path) for record in table.records]
        if len(table) > MOST_HERE:
            groups = apart(groups_of, paths, self._progress)
        else:
            groups = groups_of(paths, self._progress)
        self._show(replace(table, groups=groups))

    def _show(self, table: Table) -> None:
        chooser = Chooser(table)
        gc.freeze()  # a search for garbage through a million objects would stop a page for 0.2 s
        with self._lock:
            self._chooser = chooser
            self.version += 1
            self._chosen.clear()

    def _progress(self, done: int, total: int) -> None:
        if self._closed:
            raise Closed("the data set was closed")
        self.reading.done, self.reading.total = done, total


def flaws_of(path: Path, progress: Progress) -> list[Placed]:
    """The flaws of a data set that was read before, and is read again from the cache."""
    dataset = load_dataset(path, download=False)
    return _flaws(dataset, *_scans(dataset, progress))


def _flaws(dataset: Dataset, scans: Sequence[Scan], empty: Sequence[Finding]) -> list[Placed]:
    every = examine(dataset, {scan.split: scan for scan in scans}, IMAGE_SIZE)
    return with_split(scans, [*every, *empty])


def groups_of(paths: Sequence[str], progress: Progress) -> np.ndarray:
    """A number per image [n]; those with the same number show the same picture."""
    return np.array(group_images([Path(path) for path in paths], progress), np.int64)


def _scans(dataset: Dataset, progress: Progress) -> tuple[Sequence[Scan], list[Finding]]:
    """The splits that can be read, and a finding for each that cannot.  Raises DatasetError where
    none can."""
    scans, findings = [], []
    for split in dataset.splits:
        try:
            scans.append(scan_split(dataset, split, on_progress=progress, strict=False))
        except EmptyDatasetError as error:
            findings.append(Finding("split-empty", "error", dataset.yaml, 0, str(error)))
            if error.scan is not None:
                scans.append(error.scan)
    if not scans:
        raise DatasetError(findings[0].message if findings else f"{dataset.yaml}: has no split")
    return scans, findings


class Sets:
    """The open data sets by name."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._open: OrderedDict[Path, OpenSet] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, name: str, *, again: bool = False) -> OpenSet:
        """The data set of that name, opened where it is not.  again: read it anew.

        Raises Outside and NotThere.
        """
        path = self.place.inside(name)
        with self._lock:
            found = self._open.pop(path, None)
            if found is not None and (again or found.reading.failed):
                found.end()
                found = None
            self._open[path] = found = found or OpenSet(path)
            while len(self._open) > OPEN_SETS:
                self._open.popitem(last=False)[1].end()
        return found

    def close(self) -> None:
        """End what is done in the background."""
        for one in self._open.values():
            one.close()
