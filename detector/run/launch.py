"""Starting the ranks of ``device=0,1``: the same command once per GPU of this machine.

It does what torchrun does for one machine: each process gets its rank in environment variables,
signals are passed on, and when one ends badly the others get a little time to end by themselves.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from types import FrameType

from .folder import RunError
from .rank_info import RankInfo, environment_of
from .signals import ending_signals, handled

HERE = "127.0.0.1"
GRACE_SECONDS = 15.0
"""Between the end of the first rank and a SIGTERM to the others, and between that and SIGKILL."""


def launch(command: Sequence[str], ranks: int) -> int:
    """Run ``command`` once per rank on this machine; returns the first exit code that is not 0, or
    0.  Raises RunError if a rank was killed."""
    port = _free_port()
    processes: list[subprocess.Popen[bytes]] = []
    with _signals_passed_on(processes):
        for rank in range(ranks):
            info = RankInfo(rank, ranks, rank, ranks)
            environment = environment_of(info, HERE, port)
            processes.append(subprocess.Popen(list(command), env=environment))
        code = _first_bad(processes)
        ended = _end(processes) if code else set()
    for rank, process in enumerate(processes):
        if process.returncode < 0 and rank not in ended:
            raise RunError(
                f"rank {rank} was killed by signal {-process.returncode}: check whether the "
                "machine ran out of memory, then continue with det train resume=True and the same "
                "device="
            )
    return code


def _first_bad(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of the first process that fails, or 0 when all have ended well."""
    while True:
        codes = [process.poll() for process in processes]
        if bad := [code for code in codes if code]:
            return bad[0]
        if None not in codes:
            return 0
        time.sleep(0.1)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> set[int]:
    """Wait for the others; returns the ranks that had to be signaled."""
    signaled: set[int] = set()
    for sign in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and None in [p.poll() for p in processes]:
            time.sleep(0.1)
        for rank, process in enumerate(processes):
            if process.poll() is None:
                signaled.add(rank)
                process.send_signal(sign)
    for process in processes:
        process.wait()
    return signaled


@contextlib.contextmanager
def _signals_passed_on(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Pass SIGINT, SIGTERM and SIGHUP on to the ranks.  From a terminal they get a Ctrl-C twice;
    signals.py expects that."""

    def pass_on(signum: int, frame: FrameType | None) -> None:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signum)

    with handled((signal.SIGINT, *ending_signals()), pass_on):
        yield


def _free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as meeting:
        meeting.bind((HERE, 0))
        return int(meeting.getsockname()[1])
