"""The device of a run: choosing it, describing it, measuring on it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import platform
from collections.abc import Iterator

import torch

from ...files.counted import counted
from ...files.errors import InputError
from ...files.limits import usable_cores
from ...files.threads import thread_limit

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Of mallopt(3): never return the top of the heap, never map a block by itself."""


class DeviceError(InputError):
    """A device that this machine does not have."""


def pick_device(text: str | None) -> torch.device:
    """``None``: the first GPU, else Apple's, else the CPU; ``-1``: the GPU with the most free
    memory; or what ``text`` names.  Raises DeviceError."""
    if text is None:
        if torch.cuda.is_available():
            return torch.device("cuda", 0)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if text == "-1":
        return _idlest_gpu()
    name = f"cuda:{text}" if text.isdigit() else text
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device={text}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "use device=cpu"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device=mps: this machine has no Apple GPU; use device=cpu")
    return device


def _idlest_gpu() -> torch.device:
    """The GPU with the most free memory.  Raises DeviceError where there is none."""
    free = [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())]
    if not free:
        raise DeviceError("device=-1: this machine has no CUDA device; use device=cpu")
    return torch.device("cuda", free.index(max(free)))


def describe_device(device: torch.device) -> str:
    """One line, such as ``cpu (AVX512, 2 threads)`` or ``cuda:0 (NVIDIA H200, 139.8 GiB)``."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{device} ({properties.name}, {properties.total_memory / 2**30:.1f} GiB)"
    if device.type == "cpu":
        threads = counted(torch.get_num_threads(), "thread")
        return f"cpu ({torch.backends.cpu.get_cpu_capability()}, {threads})"
    return f"{device} ({platform.machine()})"


_chosen: int | None = None
"""Threads that ``use_threads`` has set by itself; any other number is the caller's."""


def use_threads(wanted: int | None = None, neighbors: int = 1) -> None:
    """Let torch compute with ``wanted`` threads (the option ``threads=``).

    None: what OMP_NUM_THREADS or torch.set_num_threads says, else every core that this process may
    use (torch counts those of the machine).  neighbors: ranks of the run on this machine, which
    share the cores.
    """
    global _chosen
    count = wanted or thread_limit()
    if count is None:
        cores = usable_cores()
        count = max(cores // neighbors, 1)
        now = torch.get_num_threads()
        if neighbors == 1 and now != _chosen and now < min(cores, _physical_cores()):
            return  # fewer than torch takes by itself: the caller has said so
        _chosen = count
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)


def _physical_cores() -> int:
    """Cores of the machine, of which torch takes all by itself; hyper-threads do not count."""
    if not hasattr(torch.cpu, "get_capabilities"):  # before torch 2.11
        return 1
    return int(torch.cpu.get_capabilities().get("num_physical_cores", 1))


def keep_freed_memory() -> None:
    """Let the allocator keep what is freed for the next step (glibc, for the whole process).

    It would give large blocks back to the system, which clears them page by page when they are
    asked for again: a tenth of a training step on a CPU.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


def give_freed_memory() -> None:
    """Undo ``keep_freed_memory``: glibc's defaults again, and what is free goes back."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 65_536)
        libc.mallopt(M_TRIM_THRESHOLD, 128 * 1024)
    trim_freed_memory()


def trim_freed_memory() -> None:
    """Give what the allocator has kept until now back to the system."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@contextlib.contextmanager
def gc_frozen() -> Iterator[None]:
    """Keep what exists now out of the garbage collector's rounds while the context lasts: they come
    about once per epoch, and going through all that was imported takes as long as half a step.
    Where the caller's program has frozen its own objects, the collector stays as it is."""
    if gc.get_freeze_count():
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def synchronize(device: torch.device) -> None:
    """Wait for the device: nothing that is timed may still be queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def memory_in_use(device: torch.device) -> float:
    """Peak memory in GiB: of the CUDA device since the last reset, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource  # not on Windows, where memory is simply not shown

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
