"""``log=json``: what happens in a run as JSON, one object per line, for programs.

``event`` is started, step (at most one per second), epoch, saved, finished or failed; the other
keys are those of run/observer.py.  Numbers that are not finite are null.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..run.observer import Epoch, Finished, Observer, Started, Step

STEP_SECONDS = 1.0


class JsonLines(Observer):
    """write: prints one event."""

    def __init__(self, write: Callable[[Mapping[str, Any]], None]) -> None:
        self._write = write
        self._last_step = -STEP_SECONDS

    def _tell(self, event: str, **facts: Any) -> None:
        self._write({"event": event, **facts})

    def started(self, run: Started) -> None:
        self._tell(
            "started", folder=run.folder, config=run.config, model=run.model, data=run.data,
            epoch=run.epoch, epochs=run.epochs, batches=run.batches,
        )  # fmt: skip

    def step(self, step: Step) -> None:
        now = time.monotonic()
        if now - self._last_step < STEP_SECONDS:
            return
        self._last_step = now
        self._tell(
            "step", epoch=step.epoch, epochs=step.epochs, batch=step.batch, batches=step.batches,
            images_per_s=step.images_per_s,
        )  # fmt: skip

    def epoch(self, epoch: Epoch) -> None:
        self._tell(
            "epoch", epoch=epoch.epoch, epochs=epoch.epochs, row=epoch.row, best=epoch.best,
            memory_gib=epoch.memory_gib, per_class=epoch.per_class,
        )  # fmt: skip

    def saved(self, path: Path, epoch: int) -> None:
        self._tell("saved", path=path, epoch=epoch)

    def finished(self, end: Finished) -> None:
        self._tell("finished", results=end.results)

    def failed(self, reason: str) -> None:
        self._tell("failed", reason=reason)
