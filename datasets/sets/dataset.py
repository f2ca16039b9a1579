"""A Dataset: a data set that is on disk, and the error of one that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...files.errors import InputError
from .finding import Finding


class DatasetError(InputError):
    """A data set that cannot be used; the message says where and how to fix it."""


@dataclass(frozen=True)
class HoldOut:
    """A part of train that is val.  share: of the images.  seed: another one holds out others.
    fold, folds: the part is this fold (from 1) of so many; 0 where it is only a share."""

    share: float
    seed: int
    fold: int = 0
    folds: int = 0


@dataclass(frozen=True)
class Dataset:
    """A data set that is on disk.

    splits: split name -> its sources (folders of images, .txt files that list images, images, or
    what the format's reader accepts).  root: the folder that relative paths in list files fall
    back to.  yaml: where the data set is described.  stand_in: the name of the data set that this
    one stands in for, None for the real one.  license: what the description says about it.
    format: the label format.  options: values of the YAML keys that only this format reads.
    missing: split -> why it was not found, though the description names it.
    findings: what had to be assumed to find the files.  hold_out: which part of train is val; train
    and val then have the same sources.  names_in_files, renumbering: where classes are renamed, the
    names in the files, and the new number of each of them; both empty where none is.
    """

    name: str
    class_names: tuple[str, ...]
    splits: dict[str, list[Path]]
    root: Path
    yaml: Path
    stand_in: str | None = None
    license: str | None = None
    format: str = "yolo"
    options: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    hold_out: HoldOut | None = None
    names_in_files: tuple[str, ...] = ()
    renumbering: tuple[int, ...] = ()
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def as_in_files(self) -> Dataset:
        """The data set with the class names that its files have, which readers go by."""
        if not self.renumbering:
            return self
        return replace(self, class_names=self.names_in_files, names_in_files=(), renumbering=())

    def sources(self, split: str) -> list[Path]:
        """The sources of a split; raises DatasetError that names the splits there are."""
        if split not in self.splits:
            told = f"{self.yaml}: {no_split(split, self.splits)}"
            raise DatasetError(self.missing.get(split, told))
        return self.splits[split]


def no_split(split: str, there: Iterable[str]) -> str:
    """The message where a split is missing: how to get one."""
    known = ", ".join(there)
    if split != "val":
        return f"there is no split {split!r}; there is {known}"
    return (
        f"no images to validate on: there is {known}, but no val; give val=0.2 to hold out "
        "a fifth of train, or val=FOLDER"
    )
