"""A hostile ``last.pt``: nothing is called, and it gets no more memory than it is long."""

from __future__ import annotations

import collections
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from yolodet.weights.checkpoint import CheckpointError, load_state, save_state


class Calls:
    """Pickled as a call of ``function``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def nested(levels: int) -> list[Any]:
    """Two references to the level below in each: a value of 2 to the power of ``levels``."""
    value: list[Any] = [1]
    for _ in range(levels):
        value = [value, value]
    return value


def itself() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


HOSTILE = {
    "20 GB of zeros": Calls(bytearray, 20_000_000_000),
    "20 GB of bytes": Calls(bytes, 20_000_000_000),
    "a storage": Calls(torch.UntypedStorage, 20_000_000_000),
    "a counter": collections.Counter("aab"),
    "a set": {1, 2},
    "a program": Calls(os.system, "exit 1"),
    "references": nested(60),
    "a list in itself": itself(),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_state_holds_tensors_and_plain_data_only(tmp_path: Path, what: str) -> None:
    path = tmp_path / "last.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("last/data.pkl", pickle.dumps({"schema": 2, "x": HOSTILE[what]}, 2))
    with pytest.raises(CheckpointError, match=r"is refused|wants to call|is damaged") as caught:
        load_state(path)
    message = str(caught.value)
    assert message.count(str(path)) == 1 and len(message) < 400


def test_a_state_reads_back_bit_for_bit(tmp_path: Path) -> None:
    """Also what torch would give: dtypes, strides, views of one storage."""
    base = torch.arange(24, dtype=torch.float32)
    state = {
        "views": [base[:6].view(2, 3), base[6:18].view(3, 4).t()],
        "last": torch.zeros(1, 2, 3, 4).to(memory_format=torch.channels_last),
        **{str(kind): torch.ones(3).to(kind) for kind in (torch.bfloat16, torch.bool, torch.uint8)},
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "plain": {"a": [1, 2.5, None, True, "x"], 3: (1, 2)},
    }
    path = tmp_path / "last.pt"
    save_state(path, state)
    ours, theirs = load_state(path), torch.load(path, weights_only=True)
    assert list(ours) == list(theirs) and ours["plain"] == theirs["plain"]
    pairs = zip(ours["views"], theirs["views"], strict=True)
    names = ("last", "empty", "scalar", "torch.bfloat16", "torch.bool", "torch.uint8")
    for one, other in (*pairs, *((ours[name], theirs[name]) for name in names)):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.stride() == other.stride() or not one.numel()
        assert torch.equal(one, other)
