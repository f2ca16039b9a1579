"""Which images are worth a look: the orders against slow loops, and pre-labels of a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from exports import save_checkpoint
from studio_client import Client, opened
from tiny import use_tiny_detector, write_tiny_data
from yolodet import YOLO
from yolodet.datasets.formats.record import Record
from yolodet.datasets.scan.scan import Scan
from yolodet.datasets.sets.dataset import Dataset
from yolodet.detector.examine.found import Found
from yolodet.detector.studio.order import disagreement, strangeness, uncertainty
from yolodet.detector.studio.table import make_table

SET = "own/data.yaml"


def found(*rows: tuple[float, ...]) -> Found:
    """x1, y1, x2, y2, class, score."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Found(table[:, :4], table[:, 4].astype(np.int64), table[:, 5])


def test_disagreement_and_uncertainty() -> None:
    box, far = (0, 0, 10, 10), (50, 50, 60, 60)
    records = [
        Record(Path(f"{n}.png"), (100, 100), np.array([box], np.float32), np.array([0]))
        for n in range(5)
    ]
    dataset = Dataset("d", ("a", "b"), {"train": []}, Path(), Path())
    table = make_table(dataset, [Scan("train", records, [], "", 5, [])])
    seen: list[Found | None] = [
        found((*box, 0, 0.9)),  # agrees
        found((*box, 0, 0.9), (*far, 1, 0.8), (*far, 0, 0.2)),  # one too many
        found((*box, 1, 0.7)),  # another class
        found(),  # missed
        None,  # cannot be read
    ]
    np.testing.assert_allclose(disagreement(table, seen), [0.1, 0.9, 1.7, 1, 0], atol=1e-6)
    mean = (0.36 + 0.64 + 0.64) / 3
    np.testing.assert_allclose(uncertainty(seen), [0.36, mean, 0.84, 0, 0], atol=1e-6)


def test_the_picture_that_is_unlike_the_rest_comes_first(tmp_path: Path) -> None:
    paths = []
    for n in range(12):
        picture = np.full((40, 40, 3), 250 if n == 7 else 20 + n, np.uint8)
        paths.append(tmp_path / f"{n}.png")
        cv2.imwrite(str(paths[-1]), picture)
    paths.append(tmp_path / "missing.png")
    amount = strangeness(paths)
    assert amount.argmax() == 7 and len(amount) == 13
    assert strangeness([]).shape == (0,) and strangeness(paths[:1]).tolist() == [0]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    use_tiny_detector(monkeypatch)
    write_tiny_data(tmp_path / "own", train=3, val=2)
    for file in (tmp_path / "own/labels/train").iterdir():
        file.unlink()
    with opened(tmp_path) as client:
        client.ready(SET)
        names = client.get("/api/labels/facts", set=SET)["classes"]
        save_checkpoint(tmp_path, class_names=("no class of these", names[1], "nor this"))
        yield client


def looked(client: Client, model: str = "best.safetensors") -> dict[str, Any]:
    assert client.post("/api/labels/look", set=SET, model=model).status == 200
    end = time.monotonic() + 60
    while not (told := client.get("/api/labels/looking", set=SET))["look"]["ended"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    return told


def test_a_checkpoint_gives_orders_and_pre_labels(client: Client, tmp_path: Path) -> None:
    assert client.get("/api/labels/facts", set=SET)["models"] == ["best.safetensors"]
    words = f"/api/labels/list?set={SET}&order=disagree"
    assert client.ask("GET", words, headers=client.page_headers).status == 400
    told = looked(client)
    assert not told["look"]["failed"] and told["look"]["done"] == 5, told
    assert set(told["orders"]) == {"disagree", "uncertain", "unlike"}
    for order in told["orders"]:
        listed = client.get("/api/labels/list", set=SET, order=order)["images"]
        amounts = [one["amount"] for one in listed]
        assert amounts == sorted(amounts, reverse=True) and len(listed) == 5
    shown = client.get("/api/labels/image", set=SET, n=0)
    detector = YOLO(tmp_path / "best.safetensors", verbose=False)
    truth = detector(str(tmp_path / "own" / shown["name"]), conf=0.01)[0].boxes
    keep = truth.cls == 1  # the other class is none of this data set
    assert [one["class"] for one in shown["found"]] == [1] * int(keep.sum())
    boxes = [one["box"] for one in shown["found"]]
    np.testing.assert_allclose(boxes, truth.xyxy[keep].numpy(), rtol=1e-5)
    scores = sorted((one["score"] for one in shown["found"]), reverse=True)
    gap = next(n for n in range(9, len(scores)) if scores[n] - scores[n + 1] > 2e-4)
    conf = (scores[gap] + scores[gap + 1]) / 2
    labeled = client.get("/api/labels/image", set=SET, n=4)["boxes"]
    reply = client.post("/api/labels/prelabel", set=SET, conf=conf, revision=0)
    assert reply.status == 200 and 1 <= reply.json["images"] <= 3
    boxes = client.get("/api/labels/image", set=SET, n=0)["boxes"]
    sure = [one["box"] for one in shown["found"] if one["score"] >= conf]
    large = [b for b in sure if b[2] - b[0] >= 1 and b[3] - b[1] >= 1]
    assert len(sure) == gap + 1 and [box[:4] for box in boxes] == large
    assert client.get("/api/labels/image", set=SET, n=4)["boxes"] == labeled
    assert len(reply.json["draft"]["steps"]) == 1  # one step, undone at once
    again = client.post("/api/labels/prelabel", set=SET, conf=2, revision=1)
    assert again.status == 400


def test_a_file_that_is_no_checkpoint_is_named(client: Client, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    assert "bad.safetensors" in looked(client, "bad.safetensors")["look"]["failed"]
    for model, status in (("own/data.yaml", 200), ("../x.safetensors", 403), ("x.pt", 404)):
        reply = client.post("/api/labels/look", set=SET, model=model)
        assert reply.status == status
    assert "no checkpoint" in looked(client, SET)["look"]["failed"]


def test_images_unlike_the_rest_need_no_checkpoint(client: Client) -> None:
    reply = client.post("/api/labels/look", set=SET, model="")
    assert reply.json["orders"] == ["unlike"]
    assert client.get("/api/labels/list", set=SET, order="unlike")["total"] == 5
