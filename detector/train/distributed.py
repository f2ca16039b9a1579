"""Where this process stands among the ranks of a run, how they find each other, and how they end.

The launcher (``torchrun``, or launch.py for ``device=0,1``) says in the environment who is who;
this is the only file that reads it.  ``join`` makes a Ranks of it; before that torch is not loaded.

A run ends everywhere or nowhere.  The first rank to fail leaves its exit code at the place where
the ranks have met (torch's key-value store); a thread of every rank looks there twice a second and
ends its process with that code, whatever it is doing, for a rank that waits inside a collective
call for one that has gone hears nothing else.  So only the first to fail prints its reason.

Left out: going on with fewer ranks, and restarting.  NCCL is what ranks on GPUs talk by; on the CPU
it is gloo, which also carries all that is not on the GPU.
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
"""Before a rank gives up on the others.  They wait as long for the first one to fetch and scan the
data and to validate; one that has failed or was killed is noticed at once."""
POLL_SECONDS, GRACE_SECONDS = 0.5, 5.0
FAILED, CODE, SEEN = "det/failed", "det/code", "det/seen"


class AbortedByPeer(DetError):
    """This rank ends because the run does; another rank says why."""

    silent = True

    def __init__(self, exit_code: int) -> None:
        super().__init__("another rank of this run has ended it")
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
            ranks.wait()  # nobody goes while the place where all have met is needed
        except Interrupted as stop:  # by all of them at once
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
    """Find the others; returns the store where all have met."""
    import torch
    import torch.distributed as dist

    with_cuda = device != "cpu" and torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if with_cuda else "gloo"
    store, rank, size = next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return store


def _failed_before(store: Any, here: RankInfo, error: BaseException) -> int | None:
    """The exit code of the rank that failed before this one; None where this is the first to fail,
    which all others have then seen, if they can."""
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
    except RuntimeError:  # the store went with the rank that held it: then nobody has said why
        return None
    return None


def exit_code_of(error: BaseException) -> int:
    """What a process ends with that lets ``error`` through."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return int(getattr(error, "exit_code", 1))


class _Watch(threading.Thread):
    """Ends this process once another rank has failed.  store: a connection of its own, for one that
    waits on it would make the thread wait too."""

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
        """Look, until told that the run is over."""
        while not self.done.wait(POLL_SECONDS):
            code = self._code()
            # time for a rank that knows by itself to end in order
            if code is not None and not self.done.wait(GRACE_SECONDS if code < 0 else POLL_SECONDS):
                for stream in (sys.stdout, sys.stderr):
                    stream.flush()
                os._exit(abs(code))

    def _code(self) -> int | None:
        """The exit code that a failed rank has left; -1 where the place to leave it is gone."""
        try:
            if not self.store.check([CODE]):
                return None
            self.store.add(SEEN, 1)
            return int(self.store.get(CODE))
        except RuntimeError:  # the rank that held the store has ended
            return -1
