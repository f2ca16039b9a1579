"""A detector looks at images that somebody is to label: which images, and what it sees in them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ...datasets.formats.record import Record
from ...datasets.images.image import ImageError, image_size
from ...datasets.scan.scan import EmptyDatasetError, scan_split
from ...datasets.sets.dataset import Dataset
from ...datasets.sets.listing import list_images
from ...datasets.sets.locate import load_dataset
from ...datasets.sets.source import DataSource, given_path
from ...datasets.sets.survey import look as survey_of
from ..checkpoints.load import Loaded, load_for_use
from ..models.detector import Detector
from ..options.active import LooksConfig
from ..options.errors import UsageError
from ..options.fields import options_of
from ..options.predict import PredictConfig
from ..predict.pipeline import predict_stream
from ..predict.results import Results
from ..run.log import Log

LABELS = (".txt", ".xml", ".json", ".csv", ".yaml", ".yml")


@dataclass(frozen=True)
class Pool:
    """Images of a data set.  splits: their records by split.  unlabeled: paths of those without an
    annotation; an empty annotation says that nothing is there."""

    dataset: Dataset
    splits: dict[str, list[Record]]
    unlabeled: frozenset[Path]

    @property
    def records(self) -> list[Record]:
        """Of all splits; an image that is in two is here once."""
        every = {r.path: r for records in self.splits.values() for r in records}
        return list(every.values())


def open_pool(source: DataSource, log: Log, *, download: bool) -> Pool:
    """The images that ``data=`` names: a data set, also one without any label, or a folder of
    images.  Raises DatasetError."""
    folder = given_path(source.data)
    if folder.is_dir() and _is_bare(folder):
        return _bare_folder(folder, source.listed_names, log)
    dataset = load_dataset(source, download=download, on_message=log.message)
    splits, unlabeled = {}, set[Path]()
    for split in dataset.splits:
        try:
            scan = scan_split(dataset, split, strict=False)
        except EmptyDatasetError as error:
            if error.scan is None:
                raise
            scan = error.scan
        splits[split] = scan.records
        unlabeled |= set(scan.unlabeled)
    return Pool(dataset, splits, frozenset(unlabeled))


def _is_bare(folder: Path) -> bool:
    """Whether a folder holds images and nothing that could be labels."""
    if any(path.suffix in (".yaml", ".yml") for path in folder.iterdir()):
        return False
    survey = survey_of(folder)
    return bool(survey.images) and not survey.groups


def _bare_folder(folder: Path, names: tuple[str, ...], log: Log) -> Pool:
    dataset = Dataset(folder.name, names, {"train": [folder]}, folder, folder)
    records = []
    for path in map(Path, list_images(dataset, "train").images):
        try:
            size = image_size(path)
        except ImageError as error:
            log.warn(f"{error}; it is left out")
            continue
        boxes, labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        records.append(Record(path, size, boxes, labels))
    return Pool(dataset, {"train": records}, frozenset(record.path for record in records))


def predict_config(config: LooksConfig, **words: object) -> PredictConfig:
    """How the detector of a command looks at images.  words: other options."""
    known = options_of(PredictConfig).keys()
    shared = {name: value for name, value in asdict(config).items() if name in known}
    return PredictConfig(**{**shared, "save": False, **words})


def load(config: PredictConfig, log: Log) -> Loaded:
    """The detector that ``model=`` names."""
    return load_for_use(config, frozenset(), log)


def look(
    config: PredictConfig, used: Loaded, paths: Sequence[Path], log: Log
) -> Iterator[tuple[Path, Results]]:
    """What is seen in each image, in order; an image that cannot be read is left out, with a
    warning."""
    if not paths:
        return
    stream = predict_stream(config, frozenset(), [str(path) for path in paths], log, used)
    with log.progress("looking at images", len(paths)) as update:
        for done, result in enumerate(stream, 1):
            yield result.source.path, result
            update(done)


@contextlib.contextmanager
def features_of(model: object) -> Iterator[list[torch.Tensor]]:
    """The mean of each level of the neck over the picture, one row per forward pass: a list that
    grows while the context lasts.  Raises UsageError for an exported file, which has no features.
    """
    if not isinstance(model, Detector):
        raise UsageError(
            "by=both and by=diversity compare features, which an exported file does not give: "
            "name a checkpoint with model=, or use by=uncertainty"
        )
    rows: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, levels: Sequence[torch.Tensor]) -> None:
        means = [level.float().mean(dim=(2, 3)) for level in levels]
        rows.append(torch.cat(means, dim=1).mean(dim=0).cpu())

    handle = model.neck.register_forward_hook(keep)
    try:
        yield rows
    finally:
        handle.remove()
