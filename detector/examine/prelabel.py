"""``det label``: a data set with the boxes of a detector where no person has labeled yet."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.edit.convert import NewDataset, write_dataset
from ...datasets.edit.layout import place_records
from ...datasets.formats.record import Record
from ...files.counted import counted
from ...files.version import __version__
from ..checkpoints.load import Loaded
from ..options.active import LabelConfig
from ..options.errors import UsageError
from ..run.log import Log
from .found import Found
from .look import Pool, load, look, open_pool, predict_config

NOTE = "prelabels.json"


def prelabel(config: LabelConfig, log: Log) -> tuple[NewDataset, dict[str, Any]]:
    """Look at the images without labels and write the new data set.

    Returns what was written and what is known of the labels.  Raises DatasetError, UsageError.
    """
    source = replace(config.data_source, images=config.images_dir)
    pool = open_pool(source, log, download=config.online)
    how = predict_config(config, conf=config.conf)
    used = load(how, log)
    pool = named(pool, used, log)
    classes = {name: number for number, name in enumerate(pool.dataset.class_names)}
    wanted = [r.path for r in pool.records if config.relabel or r.path in pool.unlabeled]
    if not wanted:
        raise UsageError(
            f"data={config.data}: every image has labels; relabel=True replaces them in the new set"
        )
    found = {
        path: Found.of(result).named(used.meta.class_names, classes)
        for path, result in look(how, used, wanted, log)
    }
    splits = {
        split: place_records(split, [_with(record, found) for record in records])
        for split, records in pool.splits.items()
    }
    if not any(len(one.record.boxes) for one in splits.get("train", [])):
        raise UsageError(
            f"conf={config.conf}: nothing is found in the images of train; use a lower conf=, or a "
            "detector that knows such images"
        )
    labeled = {
        f"{split}/{one.name}": [round(float(score), 4) for score in found[one.record.path].scores]
        for split, placed in splits.items()
        for one in placed
        if one.record.path in found
    }
    note = {**provenance(config, used), "images": labeled}
    told = write_dataset(
        splits, pool.dataset, Path(config.out), format=config.format, images=config.images,
        notes={NOTE: note},
    )  # fmt: skip
    boxes = sum(len(scores) for scores in labeled.values())
    log.info(
        f"{counted(len(found), 'image')} looked at: {counted(boxes, 'box')}; "
        f"{len(pool.records) - len(found)} kept their labels"
    )
    return told, {"looked_at": len(found), "boxes_of_model": boxes}


def named(pool: Pool, used: Loaded, log: Log) -> Pool:
    """The images with the classes of the new data set: those of the old one, or the detector's
    where it has none.  Raises UsageError where they have no class in common."""
    theirs, ours = pool.dataset.class_names, tuple(used.meta.class_names)
    if not theirs:
        return replace(pool, dataset=replace(pool.dataset, class_names=ours))
    common = [name for name in ours if name in theirs]
    if not common:
        raise UsageError(
            f"the detector knows {_some(ours)}, the data set has {_some(theirs)}: no class has the "
            "same name; names= renames those of the data set"
        )
    if left := [name for name in ours if name not in theirs]:
        log.warn(f"classes that the data set has not are left out: {_some(left)}")
    if unknown := [name for name in theirs if name not in ours]:
        log.warn(f"classes that the detector does not know are to be labeled by hand: "
                 f"{_some(unknown)}")  # fmt: skip
    return pool


def _some(names: tuple[str, ...] | list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _with(record: Record, found: Mapping[Path, Found]) -> Record:
    """The record with the boxes that were found in it; itself where nobody looked."""
    seen = found.get(record.path)
    if seen is None:
        return record
    height, width = record.size
    boxes = np.clip(seen.boxes, 0, np.array([width, height, width, height], np.float32))
    return Record(record.path, record.size, boxes.astype(np.float32), seen.labels)


def provenance(config: LabelConfig, used: Loaded) -> dict[str, Any]:
    """Who made the labels: the content of prelabels.json beside the scores of each image."""
    return {
        "made_by": f"det {__version__}",
        "made": time.strftime("%Y-%m-%d %H:%M:%S"),
        "model": used.path.name,
        "family": used.meta.model,
        "trained_on": used.meta.data.get("name"),
        "provenance": used.meta.provenance,
        "license": used.meta.license,
        "conf": config.conf,
        "nms": config.nms,
    }
