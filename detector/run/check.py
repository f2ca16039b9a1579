"""Everything about a command that can be found wrong before torch is imported or a file written.

A mistyped path, a device that can not be one, two options that contradict each other: each is a
UsageError (or an error of the room that was asked) with one line that names the mend.  Options
that would have no effect are refused too: what the user gave is never silently ignored.  What only
the model or the device can tell is checked later, where it is known.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...datasets.sets.description import read_description
from ...datasets.sets.locate import DatasetError, find_yaml, load_dataset
from ..options.errors import UsageError
from ..options.shared import CommonConfig
from ..options.train import TrainConfig
from .folder import check_writable
from .rank_info import gpus_of

DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?|\d+")

Pairs = list[tuple[bool, str]]
"""(is wrong, what to say)."""


def refuse(pairs: Pairs) -> None:
    """Raise UsageError for the first pair that is wrong."""
    for wrong, message in pairs:
        if wrong:
            raise UsageError(message)


def check_common(config: CommonConfig, *, writes: bool = True) -> None:
    """Device, project and name: what every run has.  writes: a run folder will be made."""
    if config.device is not None:
        check_device(config.device, trains=isinstance(config, TrainConfig))
    if writes:
        check_writable(Path(config.project), "project")
    name = config.name
    if name is not None and (name in (".", "..") or "/" in name or "\\" in name or "\0" in name):
        mend = "use project= for the folder above it"
        raise UsageError(f"name={name}: expected a plain folder name; {mend}")


def check_device(device: str, *, trains: bool) -> None:
    """Raise UsageError for what is no device, and for several where a command runs on one."""
    if named := gpus_of(device):
        if trains:
            return
        mend = f"use device={named[0]} (det train uses several)"
        raise UsageError(f"device={device}: this command runs on one device; {mend}")
    if not DEVICE.fullmatch(device):
        raise UsageError(f"device={device}: expected cpu, mps, cuda, or the number of a GPU (0, 1)")


def check_data(data: str, split: str = "val", *, download: bool = True) -> None:
    """Raise DatasetError where the data set's YAML is missing or wrong, lacks ``split``, or where
    its files are not on disk and could not be fetched either.  Nothing is downloaded or drawn.
    download: whether the command itself may."""
    path = find_yaml(data)
    description = read_description(path, _silent)
    if description.entries and split not in description.entries:
        there = ", ".join(description.entries)
        raise DatasetError(f"{path}: there is no split {split!r}; there is {there}")
    drawn = description.shapes is not None or description.stand_in is not None
    if drawn or (download and description.download is not None):
        return  # can be made when the command runs
    load_dataset(path, download=False).sources(split)


def _silent(text: str) -> None:
    """Remarks are made when the data set is loaded."""
