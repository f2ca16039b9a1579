"""How the ranks of a run find each other, and how they end together.

``join`` gives this process its Ranks; a process without a launcher is alone, and torch is not
loaded for it.  Ranks on GPUs talk by NCCL, ranks on the CPU by gloo.

When one rank fails, all end, and only that one prints its reason.  The launchers (torchrun, and
launch.py) end the others too, but late and with another exit code.  So the first rank to fail
leaves its exit code in torch's key-value store.  A thread of every rank looks there twice per
second and ends its process with that code, even while the process waits in a collective call.

Not supported: continuing with fewer ranks, and restarting.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ...files.errors import DetError
from ..run.rank_info import RankInfo, rank_info
from ..run.signals import Interrupted

if TYPE_CHECKING:
    from ..run.ranks import Ranks

TIMEOUT = timedelta(hours=3)
"""How long a rank waits for the others: rank 0 may download and scan the data meanwhile.  A rank
that has failed or was killed is noticed at once."""
POLL_SECONDS, GRACE_SECONDS = 0.5, 5.0
FAILED, CODE, SEEN = "det/failed", "det/code", "det/seen"


class AbortedByPeer(DetError):
    """This rank ends because another one failed, which prints the reason."""

    silent = True

    def __init__(self, exit_code: int) -> None:
        super().__init__("another rank of this run has failed")
        self.exit_code = exit_code


@contextlib.contextmanager
def join(device: str | None) -> Iterator[Ranks]:
    """The Ranks of this process, for as long as the run lasts.

    With several ranks: waits for all of them.  When one raises, all end: that one with its
    exception, the others with AbortedByPeer or, if they hang, with its exit code.  device: as
    typed.  Raises UsageError.
    """
    here = rank_info()
    from ..run.ranks import ALONE, Ranks

    if here.size == 1:
        yield ALONE
        return
    import torch.distributed as dist

    store = _meet(device)
    ranks = Ranks(here.rank, here.size)
    with _Watch(store.clone()) as watch:
        try:
            yield ranks
            watch.done.set()
            ranks.wait()  # rank 0 holds the store: it must not leave before the others
        except Interrupted as stop:  # all ranks are interrupted at once
            watch.done.set()
            if here.rank:
                raise AbortedByPeer(stop.exit_code) from stop
            raise
        except BaseException as error:
            watch.done.set()
            if code := _failed_before(store, here, error):
                raise AbortedByPeer(code) from error
            raise
    dist.destroy_process_group()


def _meet(device: str | None) -> Any:
    """Connect to the other ranks; returns the key-value store that all share."""
    import torch
    import torch.distributed as dist

    with_cuda = device != "cpu" and torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if with_cuda else "gloo"
    store, rank, size = next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return store


def _failed_before(store: Any, here: RankInfo, error: BaseException) -> int | None:
    """The exit code of the rank that failed before this one.

    None if this one is the first: then its exit code is left in the store, and it waits a little
    until the others have seen it."""
    from ..run.ranks import RankLost

    try:
        if store.add(FAILED, 1) > 1:
            store.wait([CODE], timedelta(seconds=GRACE_SECONDS))
            code = int(store.get(CODE))
            store.add(SEEN, 1)
            return code
        store.set(CODE, str(exit_code_of(error)))
        others = here.size - 1 - isinstance(error, RankLost)
        deadline = time.monotonic() + GRACE_SECONDS
        while store.add(SEEN, 0) < others and time.monotonic() < deadline:
            time.sleep(0.05)
    except RuntimeError:  # rank 0 is gone and the store with it: no other rank gave a reason
        return None
    return None


def exit_code_of(error: BaseException) -> int:
    """The exit code of a process that ends by ``error``."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return int(getattr(error, "exit_code", 1))


class _Watch(threading.Thread):
    """Ends this process after another rank has failed.  store: a connection of its own, because a
    call that waits on it would block the thread too."""

    def __init__(self, store: Any) -> None:
        super().__init__(name="ranks", daemon=True)
        self.store = store
        self.done = threading.Event()

    def __enter__(self) -> _Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.join()

    def run(self) -> None:
        """Look until the run is over."""
        while not self.done.wait(POLL_SECONDS):
            code = self._code()
            # a rank that has noticed by itself gets time to end in order
            if code is not None and not self.done.wait(GRACE_SECONDS if code < 0 else POLL_SECONDS):
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                os._exit(abs(code))

    def _code(self) -> int | None:
        """The exit code that a failed rank has left; -1 if the store is gone."""
        try:
            if not self.store.check([CODE]):
                return None
            self.store.add(SEEN, 1)
            return int(self.store.get(CODE))
        except RuntimeError:  # the rank that held the store has ended
            return -1
