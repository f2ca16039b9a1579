"""Micro-batches: a batch goes through in parts, and its gradients add up (step.py).

That is what a run does when memory runs out in a step: it goes back to its last good state and
continues with half as many images per forward pass.  The nominal batch, the learning rate and the
order of the images stay; batch norm normalizes over fewer images.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from pathlib import Path

from ...files.counted import counted
from ..run.folder import RunError
from ..run.memory import out_of_memory, too_large
from ..run.ranks import Ranks


class MemoryRanOut(Exception):
    """A step has too many images; the message is the first line of torch's.  what: happened."""

    def __init__(self, message: str, what: str = "memory ran out") -> None:
        super().__init__(message)
        self.what = what


@contextlib.contextmanager
def noticing_memory() -> Iterator[None]:
    """Raise MemoryRanOut in place of every error about memory, without its traceback: that refers
    to all tensors of the step, which must be freed before the run can continue."""
    ran_out = None
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        message = str(error).strip().partition("\n")[0]
        if out_of_memory(error):
            ran_out = MemoryRanOut(message)
        elif too_large(error):
            ran_out = MemoryRanOut(message, "a tensor was too large for torch")
        else:
            raise
    if ran_out is not None:
        raise ran_out


def fewer_images(
    now: int, what: str, ran_out: MemoryRanOut, ranks: Ranks, folder: Path | None
) -> int:
    """Images of this rank per forward pass after memory ran out with ``now`` of them.

    what: happened, and where.  folder: of a run that can be continued.  Raises RunError if there
    are no fewer, or if other ranks take part: they wait in the middle of the step."""
    smaller = (now + 1) // 2
    if now > 1 and ranks.size == 1:
        return smaller
    where = f" on rank {ranks.rank}" if ranks.size > 1 else ""
    advice = "use a smaller imgsz= or model"
    if now > 1 and folder is not None:
        resume = f"resume={shlex.quote(str(folder))}"
        advice = f"continue with: det train {resume} micro_batch={smaller * ranks.size}"
    raise RunError(f"{what}{where} with {counted(now, 'image')} ({ran_out}): {advice}")


def described(images: int) -> str:
    """Micro-batches in words, and what they change."""
    some = counted(images, "image")
    return (
        f"micro-batches of {some} (nominal batch and learning rate stay; batch norm normalizes "
        f"over {some})"
    )
