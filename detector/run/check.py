"""Checks of a command before torch is imported or a file is written.

A mistyped path, an unknown device, two options that contradict each other: each is a UsageError (or
a DatasetError, a CheckpointError) whose one line says how to fix it.  Options that would have no
effect are refused too: nothing that the user gave is ignored in silence.  What depends on the model
or the device is checked later, when it is known.
"""

from __future__ import annotations

import re
from pathlib import Path

from ...datasets.images.tiling import SMALLEST
from ...datasets.sets.by_content import open_by_content
from ...datasets.sets.dataset import no_split
from ...datasets.sets.description import read_description
from ...datasets.sets.locate import DatasetError, find_yaml, load_dataset
from ...datasets.sets.source import DataSource, as_source
from ...files.yaml_text import YamlError, read_yaml
from ..options.catalog import MODEL_COMMANDS
from ..options.errors import UsageError
from ..options.fields import options_of
from ..options.parse import is_data_description
from ..options.shared import CommonConfig, TileConfig
from ..options.train import TrainConfig
from .folder import check_writable
from .rank_info import gpus_of

DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?|\d+|-1")

Pairs = list[tuple[bool, str]]
"""(whether it is wrong, the message)."""


def refuse(pairs: Pairs) -> None:
    """Raise UsageError for the first pair that is wrong."""
    for wrong, message in pairs:
        if wrong:
            raise UsageError(message)


def check_common(config: CommonConfig, *, writes: bool = True) -> None:
    """Check device, project and name.  writes: whether a run folder will be made."""
    if config.device is not None:
        check_device(config.device, trains=isinstance(config, TrainConfig))
    if writes:
        check_writable(Path(config.project), "project")
    name = config.name
    if name is not None and (name in (".", "..") or "/" in name or "\\" in name or "\0" in name):
        fix = "use project= for the folder above it"
        raise UsageError(f"name={name}: expected a plain folder name; {fix}")


def check_tile(config: TileConfig) -> None:
    """Raise UsageError for tiles that are too small to show anything."""
    if config.tile and config.tile < SMALLEST:
        raise UsageError(
            f"tile={config.tile}: a tile has at least {SMALLEST} pixels; 0 takes whole images"
        )


def check_device(device: str, *, trains: bool) -> None:
    """Raise UsageError for an unknown device, and for several where a command runs on one."""
    if named := gpus_of(device):
        if trains:
            return
        fix = f"use device={named[0]} (det train uses several)"
        raise UsageError(f"device={device}: this command runs on one device; {fix}")
    if not DEVICE.fullmatch(device):
        raise UsageError(f"device={device}: expected cpu, mps, cuda, or the number of a GPU (0, 1)")


def check_data(data: str | DataSource, split: str = "val", *, online: bool = True) -> None:
    """Raise DatasetError where a data set cannot be found, its YAML is wrong or lacks ``split``, or
    where its files are not on disk and cannot be downloaded.  Nothing is downloaded or drawn here.
    online: whether the command may download."""
    source = as_source(data)
    if open_by_content(source, _silent) is None:
        path = find_yaml(source.data)
        refuse_options_file(path, source.data)
        description = read_description(path, _silent)
        entries = description.entries
        if entries and split not in entries and not (split == "val" and source.val is not None):
            raise DatasetError(f"{path}: {no_split(split, entries)}")
        drawn = description.shapes is not None or description.stand_in is not None
        if drawn or (online and description.download is not None):
            return  # can be made when the command runs
    load_dataset(source, download=False).sources(split)


def refuse_options_file(path: Path, data: str) -> None:
    """Raise UsageError where the YAML that ``data=`` names holds options, not a data set."""
    try:
        content = read_yaml(path)
    except YamlError:
        return  # the error is raised where the file is read as a data set
    if isinstance(content, dict) and not is_data_description(content):
        sections = {command.name for command in MODEL_COMMANDS} & content.keys()
        if sections or len(options_of(TrainConfig).keys() & content.keys()) > 1:
            raise UsageError(
                f"data={data} is a file of options, not a data set: write cfg={data}, and name the "
                "data set with data="
            )


def _silent(text: str) -> None:
    """Messages are printed when the data set is loaded."""
