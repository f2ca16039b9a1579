"""What the user typed to name a data set: ``data=``, and beside it ``images=`` and ``val=``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from ..formats.reader import find_reader
from .dataset import Dataset, DatasetError, HoldOut
from .listing import is_image_source
from .rename import ARROW

FOLD = re.compile(r"(\d{1,4})of(\d{1,4})")
"""``2of5``: the second of five folds."""


@dataclass(frozen=True)
class DataSource:
    """The words that name a data set.

    data: a YAML, a folder, an annotation file or a built-in name.  images: the folder of the images
    of COCO JSONs.  val: what to validate on: a folder, list or annotation file, or the part of
    train that is held out (0.2, 2of5).  seed: of that part.  lone: the split of a file that is all
    there is.  names: rules that rename classes (rename.py), or the classes of labels that only
    number them.
    """

    data: str
    images: str | None = None
    val: str | None = None
    seed: int = 0
    lone: str = "train"
    names: str | None = None

    @property
    def held_out(self) -> HoldOut | None:
        """The part of train in ``val``, None if it is a path.  Raises DatasetError."""
        if match := FOLD.fullmatch(self.val or ""):
            fold, folds = int(match[1]), int(match[2])
            if not 1 <= fold <= folds or folds < 2:
                raise DatasetError(f"val={self.val}: expected a fold of at least two, e.g. 2of5")
            return HoldOut(1 / folds, self.seed, fold, folds)
        try:
            share = float(self.val or "")
        except ValueError:
            return None
        if not 0 < share < 1:
            raise DatasetError(f"val={self.val}: expected a share of train between 0 and 1 (0.2)")
        return HoldOut(share, self.seed)

    @property
    def listed_names(self) -> tuple[str, ...]:
        """``names=cat,dog``: the classes in the order of their ids.  Empty where names= renames."""
        words = tuple(word.strip() for word in (self.names or "").split(","))
        return words if all(words) and ARROW not in (self.names or "") else ()

    def applied(self, found: Dataset) -> Dataset:
        """The data set with ``val=`` and ``images=`` applied.  Raises DatasetError."""
        if self.images is not None and "images" not in find_reader(found.format).keys:
            raise DatasetError(
                f"images={self.images}: {found.yaml} is read as {found.format}, which "
                f"does not need it: leave it out"
            )
        if self.images is not None:
            folder = given_path(self.images)
            if not folder.is_dir():
                raise DatasetError(f"images={self.images}: there is no folder {folder}")
            found = replace(found, options={**found.options, "images": str(folder)})
        if self.val is None:
            return found
        held_out = self.held_out
        if held_out is not None:
            if "train" not in found.splits:
                raise DatasetError(f"val={self.val}: {found.yaml} has no train to take it from")
            splits = {**found.splits, "val": found.splits["train"]}
            return replace(found, splits=splits, hold_out=held_out)
        path = given_path(self.val)
        if not path.exists():
            raise DatasetError(f"val={self.val}: there is no {path}; a share of train is val=0.2")
        if not is_image_source(path) and not find_reader(found.format).accepts(path):
            raise DatasetError(f"val={self.val}: cannot be read as a split in {found.format}")
        return replace(found, splits={**found.splits, "val": [path]})


def as_source(data: str | Path | DataSource) -> DataSource:
    """``data=`` alone is a source too."""
    return data if isinstance(data, DataSource) else DataSource(str(data))


def given_path(word: str) -> Path:
    """A path as typed, absolute."""
    return Path(os.path.abspath(os.path.expanduser(word)))
