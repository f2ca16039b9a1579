"""``keep_classes=True``: a detector that keeps the classes of its weights and learns new ones.

The classes of the run are those of the weights, then those of ``data=`` that are none of them.
Labels get the new numbers.  Images of ``replay=``, which show the old classes, are trained on
beside the others.  The images of ``data=`` do not say where the old classes are, and those of
``replay=`` do not say where the new ones are: ``losses/labeled.py`` has the rule for that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...datasets.scan.scan import Scan, scan_split, summarize_findings
from ...datasets.sets.locate import load_dataset
from ...datasets.sets.source import DataSource
from ...files.counted import counted
from ...weights.transfer import equal_classes
from ..losses.labeled import LabeledClasses
from ..options.errors import UsageError
from ..options.train import TrainConfig
from ..run.log import Log

Scans = tuple[Scan, Scan]


@dataclass(frozen=True)
class Kept:
    """scans: of train and val, with the numbers of the run; train ends with the replayed images.
    border: index of the first of these.  labeled: which classes are labeled where.  Both are None
    without ``keep_classes``."""

    scans: Scans
    border: int | None = None
    labeled: LabeledClasses | None = None


def joined_names(old: Sequence[str], new: Sequence[str]) -> tuple[str, ...]:
    """The classes of the weights, then those of the data that are none of them."""
    known = {number for _, number in equal_classes(list(old), list(new))}
    return (*old, *(name for number, name in enumerate(new) if number not in known))


def keep(
    config: TrainConfig, scans: Scans, own: Sequence[str], names: Sequence[str], log: Log
) -> Kept:
    """The splits of the run with the classes ``names``; unchanged without ``keep_classes``.  own:
    classes of ``data=``.

    Raises UsageError where ``replay=`` has a class that is not in ``names``, and what reading it
    raises.
    """
    if not config.keep_classes:
        return Kept(scans)
    numbers = _numbers(f"data={config.data}", own, names)
    train, val = (_renumbered(scan, numbers) for scan in scans)
    first = len(train.records)
    known = torch.zeros(2, len(names), dtype=torch.bool)
    known[0, numbers] = True
    if config.replay is not None:
        source = DataSource(config.replay, None, None, config.seed, "train", None)
        dataset = load_dataset(source, download=config.online, on_message=log.message)
        found = scan_split(dataset, "train", strict=config.allow is None)
        for line in summarize_findings(found):
            log.warn(f"replay: {line}")
        others = _numbers(f"replay={config.replay}", dataset.class_names, names)
        known[1, others] = True
        records = [*train.records, *_renumbered(found, others).records]
        both = hashlib.sha256((train.fingerprint + found.fingerprint).encode()).hexdigest()
        train = replace(train, records=records, fingerprint=both)
    if config.replay is None:
        log.warn(
            "keep_classes=True without replay= forgets the old classes, because no image shows "
            "them: name a data set that does, e.g. replay=some-coco.yaml; a small one is enough"
        )
    log.info(
        f"keep_classes: {counted(len(train.records) - first, 'image')} replayed; a class that a "
        "data set does not label is no background in its images"
    )
    return Kept((train, val), first, LabeledClasses(known, first))


def _numbers(owner: str, own: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """The number in ``names`` of each class of a data set.  Raises UsageError for one without."""
    found = {new: old for old, new in equal_classes(list(names), list(own))}
    if missing := [name for number, name in enumerate(own) if number not in found]:
        raise UsageError(
            f"{owner} has a class {missing[0]!r} that is neither one of the weights nor of data=: "
            "rename it with names=, or leave it out"
        )
    return np.array([found[number] for number in range(len(own))], np.int64)


def _renumbered(scan: Scan, numbers: np.ndarray) -> Scan:
    return replace(scan, records=[record.renumbered(numbers) for record in scan.records])
