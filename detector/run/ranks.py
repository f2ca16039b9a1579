"""The ranks of a run: processes that train one model together, each on its part of every batch.

A run in one process has ``ALONE``, a single rank: the same code, without messages.  A decision that
all ranks must share is made from a number that they have summed or broadcast, never from a rank's
own.  train/distributed.py starts the communication; nothing here reads the environment.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ...files.errors import DetError

Value = TypeVar("Value")


class RankLost(DetError):
    """Another rank of the run does not answer any more, and gave no reason."""


class Ranks:
    """Rank ``rank`` of ``size``, and its messages to the others.

    Every method is a collective call: all ranks make it, in the same order.  All but ``sum`` make
    the host wait.  Each raises RankLost when another rank has ended.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes and prints."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """``tensor``, overwritten with its sum over all ranks: the same bits on every rank.  On a
        GPU the host does not wait."""
        if self.size > 1:
            with raising_rank_lost():
                dist.all_reduce(tensor)
        return tensor

    def largest(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        if self.size == 1:
            return number
        tensor = torch.tensor(number)
        with raising_rank_lost():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, by rank.  They are pickled, so use plain data."""
        if self.size == 1:
            return [value]
        values: list[Value] = [value] * self.size
        with raising_rank_lost():
            dist.all_gather_object(values, value)
        return values

    def gather_at_first(self, value: Value) -> list[Value]:
        """The values of all ranks on rank 0, an empty list on the others; see ``gather``."""
        if self.size == 1:
            return [value]
        values: list[Value] | None = [value] * self.size if self.first else None
        with raising_rank_lost():
            dist.gather_object(value, values)
        return values or []

    def broadcast(self, value: Value) -> Value:
        """Rank 0's value, on every rank."""
        if self.size == 1:
            return value
        values = [value if self.first else None]
        with raising_rank_lost():
            dist.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]  # type: ignore[return-value]

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite every rank's ``tensors`` (contiguous) with rank 0's."""
        for tensor in tensors if self.size > 1 else ():
            with raising_rank_lost():
                dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Wait until all ranks have called this."""
        self.largest(0)

    @contextlib.contextmanager
    def rank0_first(self) -> Iterator[None]:
        """Rank 0 runs the body alone, then the others run it and find the files it wrote."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()


ALONE = Ranks()


@contextlib.contextmanager
def raising_rank_lost(only: str = "") -> Iterator[None]:
    """Turn torch's error about a rank that has ended into RankLost.  only: pattern of the errors to
    turn, where others may come too."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not re.search(only, str(error)):
            raise
        line = str(error).strip().partition("\n")[0]
        reason = re.sub(r"^\[[^]]*\] *", "", line).partition(". ")[0]
        raise RankLost(
            f"another rank of this run does not answer ({reason}): read its last output, or check "
            "whether it was killed"
        ) from error
