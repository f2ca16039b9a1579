"""Data sets that real annotation tools exported, beside what is expected of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_data import DATA
from yolodet.datasets.formats.record import Record
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.dataset import Dataset
from yolodet.datasets.sets.locate import load_dataset

FORMATS = DATA.parent / "formats"
SPECIMENS = FORMATS / "specimens"
needs_specimens = pytest.mark.skipif(
    not SPECIMENS.is_dir(), reason=f"needs the exports of annotation tools in {SPECIMENS}"
)


def read_specimen(
    folder: Path, description: Callable[[dict[str, Any]], Path], *, atol: float = 0.01
) -> tuple[Dataset, dict[str, Any]]:
    """The data set in ``folder`` and what is expected of it, after both were found to have the same
    classes, images, labels and boxes.

    description: gives the YAML or folder to load, from what is expected.  atol: in pixels.
    """
    expected = json.loads((folder / "expected.json").read_text())
    dataset = load_dataset(description(expected))
    assert list(dataset.class_names) == expected["class_names"]
    records = [r for split in dataset.splits for r in scan_split(dataset, split).records]
    assert len(records) == len(expected["images"])
    for wanted in expected["images"]:
        inside = wanted["file"].partition("/o/")[2] or wanted["file"]  # FiftyOne names its own root
        (record,) = [r for r in records if str(r.path).endswith(f"/{inside}")]
        found = record.without_crowd()
        assert named(found, dataset) == wanted["labels"], wanted["file"]
        boxes = np.array(wanted["boxes"]).reshape(-1, 4)
        np.testing.assert_allclose(found.boxes, boxes, atol=atol)
    return dataset, expected


def named(record: Record, dataset: Dataset) -> list[str]:
    return [dataset.class_names[label] for label in record.labels]
