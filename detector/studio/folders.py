"""The folders below the opened one.  Several pages ask for them again and again, so a folder is
listed anew only where its time of change says that something was added, renamed or removed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DEPTH = 5
"""Folders below the opened one that are searched."""
MOST_FOLDERS = 2000
TELLING = (".yaml", ".yml", ".safetensors")
"""Files whose names are needed; of those with another suffix, one name is."""
SETTLED = 2_000_000_000
"""Nanoseconds that the last change must be past: some file systems round its time to 2 s, and a
second change in the same time would not be seen."""


@dataclass(frozen=True)
class Listing:
    """What a folder holds.  folders: names in order.  links: those that are links.  names: of the
    telling files, and of one file of each other suffix."""

    changed: int
    folders: tuple[str, ...]
    links: frozenset[str]
    names: tuple[str, ...]


class Folders:
    """The folders from ``root`` on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, Listing] = {}

    def walk(self) -> Iterator[tuple[Path, list[str], tuple[str, ...]]]:
        """Each folder with its folders and the names of its files, from the top; the caller may
        remove some of the folders that come next.  Links are named and not followed."""
        waiting = [(str(self.root), 0)]
        for _ in range(MOST_FOLDERS):
            if not waiting:
                return
            here, depth = waiting.pop()
            listing = self._listed(here)
            folders = list(listing.folders) if depth < DEPTH else []
            yield Path(here), folders, listing.names
            inner = [name for name in reversed(folders) if name not in listing.links]
            waiting += [(os.path.join(here, name), depth + 1) for name in inner]

    def _listed(self, here: str) -> Listing:
        try:
            changed = os.stat(here).st_mtime_ns
            known = self._known.get(here)
            if known is None or known.changed != changed:
                known = _listing(here, changed)
                if time.time_ns() - changed > SETTLED:
                    self._known[here] = known
            return known
        except OSError:  # it has gone, or may not be read
            return Listing(0, (), frozenset(), ())


def _listing(here: str, changed: int) -> Listing:
    folders, links, names = [], [], dict[str, str]()
    with os.scandir(here) as entries:
        for entry in entries:
            if not _is_folder(entry):
                suffix = os.path.splitext(entry.name)[1]
                names.setdefault(entry.name if suffix in TELLING else suffix, entry.name)
            elif entry.name[0] != ".":
                folders.append(entry.name)
                links += [entry.name] if entry.is_symlink() else []
    return Listing(changed, tuple(sorted(folders)), frozenset(links), tuple(names.values()))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
