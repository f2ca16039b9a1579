"""What may befall the second rank of a run; each is installed in its trainer before it begins."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from tiny import IN_BF16, NAN, Poison, hooked
from yolodet.datasets.images.image import ImageError
from yolodet.datasets.nouns import Batch
from yolodet.detector.train.trainer import Trainer


def poison(trainer: Trainer, bad: Callable[[Batch], bool]) -> None:
    """The loss of this rank is NaN where ``bad(batch)``."""
    criterion = Poison(bad)
    criterion.ranks = trainer.ranks
    trainer.run.criterion = trainer.step.criterion = criterion


def at_batch(trainer: Trainer, batch: int) -> Callable[[Any], bool]:
    """Whether the run is there, in its first epoch."""
    return lambda _: (trainer.at.epoch, trainer.at.batch) == (0, batch)


def nan_once(trainer: Trainer) -> None:
    """The loss of one batch is NaN, in every precision."""
    poison(trainer, at_batch(trainer, 1))


def nan_always(trainer: Trainer) -> None:
    """No batch has a loss."""
    poison(trainer, lambda _: True)


def nan_in_bf16(trainer: Trainer) -> None:
    """A layer fails in bf16 from the second batch on."""
    late = at_batch(trainer, 0)
    norm = trainer.run.model.backbone.stage5.norm
    hooked(norm, lambda x: x * NAN, lambda: IN_BF16() and not late(None))


def unreadable_image(trainer: Trainer) -> None:
    """The loader stops in the second epoch."""
    loader = trainer.run.train_loader
    whole = loader.epoch

    def epoch(number: int, start_step: int = 0) -> Any:
        if number == 1:
            raise ImageError("photo.jpg: cannot be read any more")
        return whole(number, start_step)

    loader.epoch = epoch  # type: ignore[method-assign]


def _before_step(trainer: Trainer, act: Callable[[], None]) -> None:
    class Acting(type(trainer.step.criterion)):  # type: ignore[misc]
        def __call__(self, outputs: Any, batch: Batch) -> Any:
            if at_batch(trainer, 1)(None):
                act()
            return super().__call__(outputs, batch)

    trainer.step.criterion.__class__ = Acting


def killed(trainer: Trainer) -> None:
    """Without a word, in the middle of a step."""
    _before_step(trainer, lambda: os.kill(os.getpid(), signal.SIGKILL))


def terminated(trainer: Trainer) -> None:
    """Asked to stop, in the middle of a step, and asked again at once by the launcher."""

    def twice() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    _before_step(trainer, twice)
