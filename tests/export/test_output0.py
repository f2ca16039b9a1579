"""``raw=output0``: the one tensor that readers of YOLO files expect, read by det and by OpenCV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exports import IMAGE_SIZE, lively_detector, make_images, needs_onnx, run_export
from yolodet.detector.evaluate.postprocess import postprocess
from yolodet.detector.export.exported import open_exported
from yolodet.detector.options.detect import DetectOptions

OPENCV = int(cv2.__version__.split(".")[0])
IMAGES = make_images(1, (IMAGE_SIZE, IMAGE_SIZE), seed=3)


@needs_onnx
@pytest.mark.parametrize("nms", [False, True])
def test_one_tensor_has_the_boxes_and_scores_of_the_checkpoint(tmp_path: Path, nms: bool) -> None:
    (entry,) = run_export(tmp_path, raw="output0", nms=nms)["exports"]
    assert entry["passed"]
    exported = open_exported(Path(entry["file"]), torch.device("cpu"))
    assert exported.about.output == "output0" and not exported.about.finished
    options = DetectOptions(conf=0.2, nms=nms)
    with torch.inference_mode():
        (mine,) = postprocess(lively_detector()(IMAGES), options)
        (theirs,) = postprocess(exported(IMAGES), options)
    assert len(mine) > 3 and torch.equal(mine.labels, theirs.labels)
    torch.testing.assert_close(theirs.boxes, mine.boxes, atol=1e-3, rtol=0)


@needs_onnx
@pytest.mark.parametrize("raw", ["output0", False])
def test_opencv_finds_what_det_finds(tmp_path: Path, raw: str | bool) -> None:
    if OPENCV < 5 and not raw:
        pytest.skip("OpenCV 4 stops at IsInf")
    (entry,) = run_export(tmp_path, raw=raw)["exports"]
    net = cv2.dnn.readNetFromONNX(entry["file"])
    net.setInput(IMAGES.numpy().astype(np.float32) / 255)
    found = net.forward()[0]
    with torch.inference_mode():
        (mine,) = postprocess(lively_detector()(IMAGES), DetectOptions(conf=0.2))
    if raw:
        assert found.shape[0] == 4 + 3
        scores, boxes = found[4:], found[:4]
        anchor = [
            int(np.abs(scores[label] - score).argmin())
            for label, score in zip(mine.labels.tolist(), mine.scores.tolist(), strict=True)
        ]
        low = boxes[:2, anchor] - boxes[2:, anchor] / 2
        corners = np.concatenate((low, low + boxes[2:, anchor])).T
    else:
        corners = found[: len(mine), :4]
    assert len(mine) > 3
    np.testing.assert_allclose(corners, mine.boxes.numpy(), atol=1e-3)
