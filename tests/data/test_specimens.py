"""Every export of ``shared/formats/specimens`` through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from said_specimens import differences
from specimens import SPECIMENS, needs_specimens

pytestmark = pytest.mark.usefixtures("place")
ARGUED = {
    "csv/03-openimages": "a box around a group is a finding label-crowd, as in coco/01",
    "widerface/01": "a face that is marked invalid is a finding label-crowd, as in coco/01",
    "voc/90-bad": "three XML without an image of their name are label-orphan, a warning: no image "
    "is lost with them",
    "yolo/20-fiftyone-v4": "obj.names has the names of the four classes; the boxes are those of "
    "yolo/19-fiftyone-v5",
}
"""Specimen -> why its expected.json is wrong."""


@needs_specimens
def test_specimens_through_the_command_line(tmp_path: Path) -> None:
    names = sorted(f"{path.parent.name}/{path.name}" for path in SPECIMENS.glob("*/*"))
    wrong = {name: found for name in names if (found := differences(name, tmp_path / name))}
    assert not (wrong.keys() - ARGUED.keys()), wrong
    assert wrong.keys() == ARGUED.keys()
    assert (len(names), len(names) - len(wrong)) == (60, 60 - len(ARGUED))
