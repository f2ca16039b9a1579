"""How many images a data set has, before anything of it is read."""

from __future__ import annotations

from ..formats.reader import open_split
from ..sets.by_content import open_by_content
from ..sets.dataset import Dataset
from ..sets.description import read_description
from ..sets.hold_out import part_of
from ..sets.locate import find_yaml, locate
from ..sets.source import DataSource, as_source


def count_images(data: str | DataSource, split: str) -> int | None:
    """Images in a split of a data set; None if they would have to be downloaded.

    For a fold (``val=2of5``) about as many: which ones it has depends on the labels.  Nothing is
    written or downloaded.  Raises DatasetError.
    """
    source = as_source(data)
    found = open_by_content(source, _ignore)
    if found is not None:
        return count_split(found, split)
    description = read_description(find_yaml(source.data), _ignore)
    if description.shapes is not None:
        return description.shapes.get(split, 0)
    found = locate(description, _ignore)
    return count_split(source.applied(found), split) if found else None


def count_split(dataset: Dataset, split: str) -> int:
    """Images in a split of a data set that was found."""
    images = open_split(dataset, split).list_images().images
    if dataset.hold_out is not None and dataset.hold_out.folds:
        held = round(dataset.hold_out.share * len(images))
        return {"train": len(images) - held, "val": held}.get(split, len(images))
    if dataset.hold_out is not None:
        images = part_of(dataset.hold_out, images, split, dataset.root)
    return len(images)


def _ignore(text: str) -> None:
    """Remarks are made when the data set is loaded."""
