"""Cores, memory (by affinity, control group and kernel) and open files that this process may use.

A container's limits live in control groups (v2, or v1 on older systems), which ``os.cpu_count`` and
``/proc/meminfo`` know nothing of.  A limit that cannot be read counts as none.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_NO_LIMIT = 1 << 20
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")
_MEMINFO = Path("/proc/meminfo")
_STATM = Path("/proc/self/statm")


def usable_cores(groups: Path = _GROUPS, own_group: Path = _OWN_GROUP) -> int:
    """Cores this process may use, at least 1: its affinity, or less where a group has a quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    for folder in _folders(groups, own_group, "cpu"):
        quota, period = _cpu_quota(folder)
        if quota > 0 and period > 0:
            cores = min(cores, math.ceil(quota / period))
    return max(1, cores)


def available_memory(
    groups: Path = _GROUPS, own_group: Path = _OWN_GROUP, meminfo: Path = _MEMINFO
) -> int:
    """Bytes that this process may still allocate under the limits; file caches count as free."""
    # If the system does not say what is free (macOS), half of the installed memory is assumed.
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    for line in _text(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    for folder in _folders(groups, own_group, "memory"):
        limit = _number(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is not None and used is not None:
            available = min(available, max(0, limit - used + _reclaimable(folder)))
    return min(available, _address_space())


def _address_space() -> int:
    """Bytes that the limit of this process's address space leaves (``ulimit -v``)."""
    try:
        import resource
    except ImportError:  # Windows
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    pages = _text(_STATM).split()
    if limit == resource.RLIM_INFINITY or not pages:
        return sys.maxsize
    return max(0, limit - int(pages[0]) * resource.getpagesize())


def spare_files() -> int:
    """How many files this process may still open (``ulimit -n``)."""
    try:
        import resource
    except ImportError:  # Windows
        return _NO_LIMIT
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return _NO_LIMIT
    try:
        return limit - len(os.listdir("/dev/fd"))
    except OSError:  # not one more
        return 0


def _folders(groups: Path, own_group: Path, controller: str) -> Iterator[Path]:
    """The process's control group and all above it: any of them may set a limit."""
    for line in _text(own_group).splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        top = groups / controller if controllers else groups
        folder = top / place.lstrip("/")
        yield from (f for f in (folder, *folder.parents) if f == top or top in f.parents)


def _cpu_quota(folder: Path) -> tuple[int, int]:
    """(quota, period) in microseconds, zeros for no limit."""
    words = _text(folder / "cpu.max").split()
    if len(words) == 2:
        return (0 if words[0] == "max" else int(words[0])), int(words[1])
    quota = _number(folder / "cpu.cfs_quota_us")
    return max(quota or 0, 0), _number(folder / "cpu.cfs_period_us") or 0


def _reclaimable(folder: Path) -> int:
    """Bytes of file cache charged to a group that the kernel drops on demand."""
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def _number(*files: Path) -> int | None:
    for file in files:
        text = _text(file).strip()
        if text.lstrip("-").isdigit():
            return int(text)
    return None


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
