"""Tensors of a detector under the names that they have in a detector with other levels.

The towers of a head are numbered level by level, so a further fine level moves all numbers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

TOWER = re.compile(r"(head\.\w+\.\w+)\.(\d+)\.(.+)")
"""Name of a tensor in a tower: branch and kind, level, the rest."""


def by_stride(
    tensors: Mapping[str, Tensor], ours: Sequence[int], wanted: Sequence[int]
) -> dict[str, Tensor]:
    """The tensors of a detector of strides ``ours``, named as in one of strides ``wanted``.

    A tower of a stride that the other does not have gets a name that no detector has, which says
    the stride.
    """

    def renamed(name: str) -> str:
        match = TOWER.fullmatch(name)
        if match is None:
            return name
        tower, level, rest = match.groups()
        stride = ours[int(level)]
        place = wanted.index(stride) if stride in wanted else f"stride{stride}"
        return f"{tower}.{place}.{rest}"

    return {renamed(name): tensor for name, tensor in tensors.items()}


def fresh_parts(names: Sequence[str], loaded: Mapping[str, Tensor]) -> list[str]:
    """The stages and towers of which no tensor was loaded.  names: all tensors of the model."""
    parts = dict.fromkeys(part_of(name) for name in names)
    here = {part_of(name) for name in loaded}
    return [part for part in parts if part not in here]


def part_of(name: str) -> str:
    """The stage or, in a head, the tower that a tensor belongs to."""
    match = TOWER.fullmatch(name)
    return f"{match[1]}.{match[2]}" if match else ".".join(name.split(".")[:2])
