"""Times of exported files."""

from __future__ import annotations

from pathlib import Path

import pytest
from exports import CLASS_NAMES, enliven, lively_detector, make_meta, run_export
from tiny import tiny_detector
from yolodet.detector.compress.latency import seconds_of_files
from yolodet.detector.models.blocks import Conv


@pytest.mark.parametrize("name", ["onnx", "torch_export"])
def test_files_get_images_of_their_own_type_and_channels(name: str, tmp_path: Path) -> None:
    if name == "onnx":
        pytest.importorskip("onnxruntime")
    gray = tiny_detector(len(CLASS_NAMES))
    gray.backbone.stem = Conv(1, 8, 3, 4)
    enliven(gray)
    assert gray.channels == 1
    files = {}
    for title, model, uint8 in (("gray", gray, False), ("bytes", lively_detector(), True)):
        (tmp_path / title).mkdir()
        meta = make_meta(preprocess=model.preprocessing)
        words = {"format": name, "uint8": uint8}
        files[title] = Path(
            run_export(tmp_path / title, model, meta, **words)["exports"][0]["file"]
        )
    seconds = seconds_of_files(files)
    assert seconds.keys() == files.keys() and min(seconds.values()) > 0
