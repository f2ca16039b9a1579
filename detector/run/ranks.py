"""The ranks of a run: processes that train one model together, each on its part of every batch.

A run in one process is a group of one, ``ALONE``: the same code, with the messages switched off.
What a rank must decide as all others do it decides from a number that they have added up or handed
round, never from its own.  Who starts the ranks and how they find each other stands in
train/distributed.py; nothing here reads the environment.
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
    """Another rank of the run does not answer any more, and has not said why."""


class Group:
    """Rank ``rank`` of ``size``.  Every method is a message that all ranks take part in, in the
    same order; all but ``sum`` make the host wait.  Each raises RankLost where one has ended."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this rank is the one that writes, prints and validates."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """``tensor``, now holding the sum over all ranks: on every rank the same to the bit.  On a
        GPU the host does not wait."""
        if self.size > 1:
            with _told():
                dist.all_reduce(tensor)
        return tensor

    def largest(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        if self.size == 1:
            return number
        tensor = torch.tensor(number)
        with _told():
            dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks, by rank; plain data, for they are pickled."""
        if self.size == 1:
            return [value]
        values: list[Value] = [value] * self.size
        with _told():
            dist.all_gather_object(values, value)
        return values

    def of_first(self, value: Value) -> Value:
        """The first rank's value; what the others hold does not matter."""
        if self.size == 1:
            return value
        values = [value if self.first else None]
        with _told():
            dist.broadcast_object_list(values, device=torch.device("cpu"))
        return values[0]  # type: ignore[return-value]

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Every rank's ``tensors`` (contiguous) become the first one's."""
        for tensor in tensors if self.size > 1 else ():
            with _told():
                dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Until all ranks are here."""
        self.largest(0)

    @contextlib.contextmanager
    def first_goes_first(self) -> Iterator[None]:
        """The first rank does what is in the context alone, then the others do: they find its
        files."""
        if not self.first:
            self.wait()
        yield
        if self.first:
            self.wait()


ALONE = Group()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What torch says where a rank has gone, in words of ours."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        line = str(error).strip().partition("\n")[0]
        reason = re.sub(r"^\[[^]]*\] *", "", line).partition(". ")[0]
        raise RankLost(
            f"another rank of this run does not answer ({reason}): see what it said last, or "
            "whether it was killed"
        ) from error
