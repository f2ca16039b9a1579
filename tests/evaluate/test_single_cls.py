"""``det val single_cls=True``: all classes are one, in the ground truth and in the detections."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from coco_reference import pycocotools_numbers
from exports import make_run, write_data
from yolodet.cli import main

SIDE = 96


def measure(run: Path, data: Path, name: str, *words: str) -> tuple[dict, list[dict]]:
    """Metrics and predictions.json of ``det val``."""
    common = (f"model={run / 'best.safetensors'}", f"data={data}", f"name={name}", "workers=0")
    assert main(["val", *common, "save_json=True", "plots=False", "device=cpu", *words]) == 0
    folder = Path("runs") / name
    results = json.loads((folder / "results.json").read_text())
    return results["metrics"], json.loads((folder / "predictions.json").read_text())


def one_category(labels: Path) -> dict:
    """COCO's ground truth of YOLO label files, every category id 1."""
    files = sorted(labels.glob("*.txt"))
    annotations = []
    for image, file in enumerate(files):
        for line in file.read_text().splitlines():
            x, y, width, height = (SIDE * float(word) for word in line.split()[1:])
            annotations.append({
                "id": len(annotations) + 1, "image_id": image, "category_id": 1, "iscrowd": 0,
                "bbox": [x - width / 2, y - height / 2, width, height], "area": width * height,
            })  # fmt: skip
    images = [{"id": i, "height": SIDE, "width": SIDE} for i in range(len(files))]
    categories = [{"id": 1, "name": "object"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize("nms", [False, True])
def test_single_cls_is_pycocotools_with_every_category_1(
    nms: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = make_run(tmp_path, monkeypatch), write_data(tmp_path)
    several, found = measure(run, data, "several", f"nms={nms}")
    merged, found_merged = measure(run, data, "merged", f"nms={nms}", "single_cls=True")
    assert len(several["per_class"]) == 3 and len({row["category_id"] for row in found}) == 3
    results = [{**row, "category_id": 1} for row in found]
    expected = pycocotools_numbers(one_category(tmp_path / "labels"), results)
    assert expected["map"] > 0.05
    measured = {name: math.nan if merged[name] is None else merged[name] for name in expected}
    assert measured == pytest.approx(expected, abs=1e-6, nan_ok=True)
    assert [row["name"] for row in merged["per_class"]] == ["object"]
    assert {row["category_id"] for row in found_merged} == {0}
