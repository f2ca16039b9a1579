"""The Try page over HTTP: what checkpoints find in images and dropped pictures, and exports."""

from __future__ import annotations

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
from yolodet.datasets.images.image import read_image
from yolodet.detector.studio import start
from yolodet.detector.studio.server import MOST_PICTURE

SET = "own/data.yaml"
RUN = "runs/a/weights/best.safetensors"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    use_tiny_detector(monkeypatch)
    write_tiny_data(tmp_path / "own", train=2, val=3)
    (tmp_path / "runs/a/weights").mkdir(parents=True)
    (tmp_path / "runs/a/args.yaml").write_text(f"epochs: 1\ndata: {tmp_path}/own/data.yaml\n")
    save_checkpoint(tmp_path / "runs/a/weights")
    save_checkpoint(tmp_path, class_names=("<b>", "other", "third"))
    with opened(tmp_path) as client:
        client.ready(SET)
        yield client


def expected(model: Path, image: Any) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores, as the Python interface finds them."""
    found = YOLO(model, verbose=False)(image, conf=0.01)[0].boxes
    return found.xyxy.numpy(), found.conf.numpy()


def check(rows: list[dict[str, Any]], model: Path, image: Any) -> None:
    boxes, scores = expected(model, image)
    assert len(rows) == min(len(boxes), 300) > 0
    np.testing.assert_allclose([row["box"] for row in rows], boxes[:300], rtol=1e-5)
    np.testing.assert_allclose([row["score"] for row in rows], scores[:300], atol=1e-4)


def test_two_checkpoints_on_the_images_of_a_split(client: Client, tmp_path: Path) -> None:
    facts = client.get("/api/try/facts")
    assert facts["models"] == [
        {"name": RUN, "set": SET},
        {"name": "best.safetensors", "set": None},
    ]
    for k in (0, 2, 9):
        told = client.get("/api/try/image", set=SET, split="val", k=k, a=RUN, b="best.safetensors")
        assert (told["k"], told["total"]) == (min(k, 2), 3)
        path = tmp_path / "own" / told["name"]
        check(told["a"], tmp_path / RUN, str(path))
        check(told["b"], tmp_path / "best.safetensors", str(path))
        assert {row["name"] for row in told["b"]} <= {"<b>", "other", "third"}
        assert len(told["labels"]) > 0


def test_a_dropped_picture(client: Client, tmp_path: Path) -> None:
    file = next((tmp_path / "own/images/val").iterdir())
    reply = client.ask("POST", "/api/try/drop", file.read_bytes(), client.page_headers)
    id = reply.json["id"]
    told = client.get("/api/try/dropped", id=id, a=RUN)
    image = read_image(file)
    assert (told["height"], told["width"]) == image.shape[:2]
    check(told["a"], tmp_path / RUN, str(file))
    shown = cv2.imdecode(np.frombuffer(client.get("/api/try/picture", id=id), np.uint8), 1)
    assert shown.shape == image.shape
    for _ in range(4):
        client.ask("POST", "/api/try/drop", file.read_bytes(), client.page_headers)
    words = f"/api/try/dropped?id={id}"
    assert client.ask("GET", words, headers=client.page_headers).status == 404


@pytest.mark.parametrize("body", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 99])
def test_what_is_no_picture_is_refused(client: Client, body: bytes) -> None:
    reply = client.ask("POST", "/api/try/drop", body, client.page_headers)
    assert reply.status == 400 and "cannot be read" in reply.json["error"]
    assert "/tmp" not in reply.json["error"]


def test_a_picture_may_be_larger_than_other_requests(client: Client) -> None:
    large = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
    body = cv2.imencode(".png", large)[1].tobytes()
    assert 1 << 20 < len(body) < MOST_PICTURE
    assert client.ask("POST", "/api/try/drop", body, client.page_headers).status == 200


def test_an_export_is_the_command_in_its_own_session(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    class Fake:
        returncode = 0

        def __init__(self, command: list[str], **words: Any) -> None:
            calls.append((command, words["start_new_session"]))
            words["stdout"].write(b"format  size\nonnx    <b>1 MB\n")

        def poll(self) -> int:
            return 0

    monkeypatch.setattr(start.subprocess, "Popen", Fake)
    assert client.post("/api/try/export", model=RUN, format="onnx").status == 200
    ((command, own),) = calls
    assert own and command[1:] == [
        "-m", "yolodet", "export", f"model={tmp_path.resolve()}/{RUN}", "format=onnx",
    ]  # fmt: skip
    (told,) = client.get("/api/try/exports")
    assert told["lines"] == ["format  size", "onnx    <b>1 MB"] and not told["running"]
    for words in (
        {"model": RUN, "format": "x"}, {"model": SET, "format": "onnx"},
        {"model": "/etc/passwd", "format": "onnx"}, {"model": RUN, "format": ["onnx"]},
    ):  # fmt: skip
        assert client.post("/api/try/export", **words).status in (400, 403)
    assert len(calls) == 1
