"""A part of train that is held out to validate on, where a data set has no val.

Each group of images gets a number from the seed and its name; the smallest numbers are held out.
So the same images are held out in every run and, mostly, when images are added.  Pictures of one
source stay together: copies, and what Roboflow made of one (``name.rf.HASH.jpg``).
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from .copies import picture_of, same_content
from .dataset import HoldOut
from .listing import Stamp


def part_of(
    hold_out: HoldOut, images: Mapping[str, Stamp], split: str, root: Path
) -> dict[str, Stamp]:
    """The images of ``split`` (train or val) among all of train: path -> stamp.

    root: the folder that names are relative to, so that a moved data set is divided alike.
    """
    wanted = min(max(1, round(hold_out.share * len(images))), max(len(images) - 1, 0))
    held: set[str] = set()
    for group in sorted(_groups(images), key=lambda group: _number(hold_out, group[0], root)):
        if len(held) + len(group) <= wanted or (not held and len(group) < len(images)):
            held.update(group)
    return {path: stamp for path, stamp in images.items() if (path in held) == (split == "val")}


def _number(hold_out: HoldOut, path: str, root: Path) -> bytes:
    name = os.path.relpath(path, root)
    return hashlib.sha256(f"{hold_out.seed} {name}".encode("utf-8", "surrogateescape")).digest()


def _groups(images: Mapping[str, Stamp]) -> list[list[str]]:
    """Images that must stay together, as sorted lists."""
    owner: dict[str, str] = {}
    by_picture: dict[str, str] = {}
    for path in sorted(images):
        picture = picture_of(path)
        owner[path] = path if picture is None else by_picture.setdefault(picture, path)
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path, (size, _) in images.items():
        by_size[size].append(Path(path))
    for some in by_size.values():
        for copies in same_content(some) if len(some) > 1 else ():
            first, *rest = sorted(str(path) for path in copies)
            for other in rest:
                old, new = owner[other], owner[first]
                owner.update({path: new for path, whose in owner.items() if whose == old})
    groups: dict[str, list[str]] = defaultdict(list)
    for path, whose in owner.items():
        groups[whose].append(path)
    return [sorted(group) for group in groups.values()]
