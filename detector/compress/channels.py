"""Which channels of a detector go together: groups that are narrowed as one.

Channels are numbers.  What a convolution makes gets new ones; an addition says that two numbers are
the same channel (``same``); a map that is split into equal parts says that each part keeps equally
many (``even``).  Images and predictions are ``fixed``.  The blocks say this in rules.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from ...files.errors import InputError

Channels = np.ndarray
"""[C] int64: the number of each channel of a map."""


class CannotPrune(InputError):
    """A model with a block whose channels are not known."""


@dataclass(frozen=True)
class Group:
    """Channels that are narrowed together.

    name: of the convolution that makes the first of them.  parts: numbers of channels (roots), [n]
    each; all parts keep equally many.
    """

    name: str
    parts: tuple[Channels, ...]

    @property
    def width(self) -> int:
        """Channels of each part."""
        return len(self.parts[0])


@dataclass(frozen=True)
class Layer:
    """A convolution: the channels that it reads and makes."""

    inputs: Channels
    outputs: Channels
    groups: int

    @property
    def depthwise(self) -> bool:
        return self.groups > 1 and self.groups == len(self.inputs) == len(self.outputs)


class Trace:
    """The channels of one model."""

    def __init__(self) -> None:
        self.layers: dict[str, Layer] = {}
        """Path of a convolution -> its channels."""
        self.attentions: dict[str, tuple[int, Channels]] = {}
        """Path of an attention -> number of its heads, and the channels of all queries."""
        self._parent: list[int] = []
        self._even: list[list[Channels]] = []
        self._fixed: list[Channels] = []

    def new(self, count: int) -> Channels:
        """Channels that are tied to none."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return np.arange(first, first + count)

    def same(self, a: Channels, b: Channels) -> None:
        """Channel i of a and channel i of b are removed together."""
        if len(a) != len(b):
            raise CannotPrune(f"{len(a)} channels are added to {len(b)}")
        for one, other in zip(self.roots(a).tolist(), b.tolist(), strict=True):
            self._parent[self._root(other)] = self._root(one)

    def even(self, parts: Iterable[Channels]) -> None:
        """All parts keep equally many channels."""
        self._even.append(list(parts))

    def fixed(self, channels: Channels) -> None:
        """None of these is removed."""
        self._fixed.append(channels)

    def conv(self, path: str, conv: nn.Conv2d, x: Channels) -> Channels:
        """The output of a convolution that reads x."""
        if len(x) != conv.in_channels:
            raise CannotPrune(f"{path} reads {conv.in_channels} channels, not {len(x)}")
        depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels
        outputs = x if depthwise else self.new(conv.out_channels)
        self.layers[path] = Layer(x, outputs, conv.groups)
        if conv.groups > 1 and not depthwise:
            self.even(np.split(x, conv.groups))
            self.even(np.split(outputs, conv.groups))
        return outputs

    def _root(self, channel: int) -> int:
        while self._parent[channel] != channel:
            self._parent[channel] = self._parent[self._parent[channel]]
            channel = self._parent[channel]
        return channel

    def roots(self, channels: Channels) -> Channels:
        """The one number that stands for each channel and all that go with it."""
        return np.array([self._root(channel) for channel in channels.tolist()], np.int64)

    def groups(self) -> list[Group]:
        """Everything that can be narrowed, in the order of the data path.

        Channels that occur in the same outputs and the same parts form a segment; segments that
        must stay equally wide form a group.
        """
        made = {path: self.roots(layer.outputs) for path, layer in self.layers.items()}
        parts = [[self.roots(part) for part in parts] for parts in self._even]
        fixed = {root for each in self._fixed for root in self.roots(each).tolist()}
        seen: dict[int, list[Any]] = {}
        equals = enumerate(part for equal in parts for part in equal)
        for name, roots in [*made.items(), *equals]:
            for root in dict.fromkeys(roots.tolist()):
                seen.setdefault(root, []).append(name)
        segments: dict[tuple[Any, ...], list[int]] = {}
        for root, names in seen.items():
            segments.setdefault((root in fixed, *names), []).append(root)
        of = {root: key for key, roots in segments.items() for root in roots}
        tied = {key: key for key in segments}
        stuck = {key for key in segments if key[0]}
        for equal in parts:
            keys = [{of[root] for root in part.tolist()} for part in equal]
            whole = all(len(key) == 1 for key in keys)
            flat = [key for each in keys for key in each]
            if not whole or any(_end(tied, key) in stuck for key in flat):
                stuck |= {_end(tied, key) for key in flat}
            for key in flat[1:]:
                tied[_end(tied, key)] = _end(tied, flat[0])
            stuck |= {_end(tied, key) for key in flat if key in stuck}
        joined: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        for key in segments:
            joined.setdefault(_end(tied, key), []).append(key)
        return [
            Group(str(keys[0][1]).removesuffix(".conv"),
                  tuple(np.array(segments[key], np.int64) for key in keys))
            for end, keys in joined.items()
            if end not in stuck and not any(key in stuck for key in keys)
        ]  # fmt: skip


def _end(tied: dict[tuple[Any, ...], tuple[Any, ...]], key: tuple[Any, ...]) -> tuple[Any, ...]:
    while tied[key] != key:
        key = tied[key]
    return key
