"""The Label errors page over HTTP: a search, and suspicions accepted, undone or ignored."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import save_checkpoint
from studio_client import Client, Reply, opened
from tiny import use_tiny_detector, write_tiny_data
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.examine import label_errors
from yolodet.detector.examine.label_errors import LabelErrors
from yolodet.detector.examine.suspicions import Suspicion
from yolodet.detector.options.active import DataErrorsConfig
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import parse
from yolodet.detector.run.log import Log
from yolodet.detector.studio.label_errors import LEAST

SET = "own/data.yaml"
NEW = (1.0, 2.0, 30.0, 40.0)


def box_of(record: Any, number: int) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = record.boxes[number].tolist()
    return x1, y1, x2, y2


@pytest.fixture
def found(tmp_path: Path) -> list[Suspicion]:
    """One of each kind in the image of train with most boxes, and one in another image."""
    dataset = load_dataset(write_tiny_data(tmp_path / "own", train=4, val=2))
    first, second = sorted(scan_split(dataset, "train").records, key=lambda r: -len(r.boxes))[:2]
    boxes = [box_of(first, n) for n in range(3)]
    labels = [int(first.labels[n]) for n in range(3)]
    path = first.path
    return [
        Suspicion(path, "missing", 0.9, None, None, None, NEW, 1),
        Suspicion(path, "wrong class", 0.8, 0, boxes[0], labels[0], boxes[0], int(labels[0] == 0)),
        Suspicion(path, "loose", 0.7, 1, boxes[1], labels[1], NEW, labels[1]),
        Suspicion(path, "duplicated", 0.6, 2, boxes[2], labels[2], None, None),
        Suspicion(second.path, "duplicated", 0.5, 0, box_of(second, 0), int(second.labels[0]),
                  None, None),
    ]  # fmt: skip


@pytest.fixture
def client(
    tmp_path: Path, found: list[Suspicion], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    use_tiny_detector(monkeypatch)
    save_checkpoint(tmp_path)
    monkeypatch.setattr(
        label_errors, "label_errors", lambda config, log: LabelErrors(found, [], (), True)
    )
    with opened(tmp_path) as client:
        client.ready(SET)
        search(client)
        yield client


def search(client: Client, **words: Any) -> dict[str, Any]:
    sent = {"set": SET, "model": "best.safetensors", **words}
    reply = client.post("/api/errors/search", **sent)
    assert reply.status == 200, reply.body
    end = time.monotonic() + 60
    while (state := client.get("/api/errors/state", set=SET))["search"]["searching"]:
        assert time.monotonic() < end
        time.sleep(0.01)
    return dict(state["search"])


def items(client: Client, **query: Any) -> list[dict[str, Any]]:
    return client.get("/api/errors/list", set=SET, **query)["items"]


def post(client: Client, path: str, **words: Any) -> Reply:
    revision = client.get("/api/labels/facts", set=SET)["draft"]["revision"]
    return client.post(path, **{"set": SET, "revision": revision, **words})


def now(client: Client, n: int) -> list[list[float]]:
    return client.get("/api/labels/image", set=SET, n=n)["boxes"]


def test_accepted_ones_become_a_version(
    client: Client, tmp_path: Path, found: list[Suspicion]
) -> None:
    shown = items(client)
    assert [one["kind"] for one in shown] == [one.kind for one in found]
    n, other = shown[0]["n"], shown[4]["n"]
    before, before_other = now(client, n), now(client, other)
    reply = post(client, "/api/errors/accept", places=[0, 1, 2, 3])
    assert reply.json["accepted"] == 4
    expected = [
        [*before[0][:4], int(before[0][4] == 0)],
        [*NEW, before[1][4]],
        *before[3:],
        [*NEW, 1],
    ]
    assert now(client, n) == expected
    assert [one["place"] for one in items(client)] == [4]
    assert [one["state"] for one in items(client, show="accepted")] == ["accepted"] * 4
    assert post(client, "/api/errors/accept", places=[0]).status == 400
    assert post(client, "/api/labels/undo").status == 200  # one step
    assert now(client, n) == before and len(items(client)) == 5
    assert post(client, "/api/errors/accept", places=[3, 4]).json["accepted"] == 2
    assert post(client, "/api/labels/save").json["set"] == "own/labels@2/data.yaml"
    dataset = load_dataset(tmp_path / "own/labels@2/data.yaml")
    counts = {r.path: r.boxes.tolist() for r in scan_split(dataset, "train").records}
    assert counts[found[0].image] == [b[:4] for b in (*before[:2], *before[3:])]
    assert counts[found[4].image] == [b[:4] for b in before_other[1:]]


def test_ignored_ones_stay_ignored(client: Client) -> None:
    assert post(client, "/api/errors/ignore", places=[1, 4]).status == 200
    assert [one["place"] for one in items(client)] == [0, 2, 3]
    search(client)
    assert [one["place"] for one in items(client, show="ignored")] == [1, 4]
    assert post(client, "/api/errors/ignore", places=[1], on=False).status == 200
    assert [one["place"] for one in items(client)] == [0, 1, 2, 3]
    assert [one["place"] for one in items(client, kind="loose", show="all")] == [2]


def test_a_box_that_was_changed_by_hand_is_not_touched(client: Client) -> None:
    n = items(client)[1]["n"]
    moved = [[*NEW, 0], *now(client, n)[1:]]
    post(client, "/api/labels/edit", n=n, boxes=moved, what="by hand")
    reply = post(client, "/api/errors/accept", places=[1])
    assert reply.status in (400, 409) and now(client, n) == moved
    seen = client.get("/api/labels/facts", set=SET)["draft"]["revision"]
    reply = post(client, "/api/errors/accept", places=[2], revision=seen - 1)
    assert reply.status == 409 and now(client, n) == moved


@pytest.mark.parametrize("places", [None, [99], [-1], ["1"], [True], {}, []])
def test_places_that_are_none_are_refused(client: Client, places: Any) -> None:
    assert post(client, "/api/errors/accept", places=places).status in (400, 404)
    assert len(items(client)) == 5


def test_a_search_that_fails_says_why(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(config: Any, log: Any) -> LabelErrors:
        raise UsageError("the detector knows no class of the data")

    monkeypatch.setattr(label_errors, "label_errors", fails)
    assert search(client, split="val")["failed"] == "the detector knows no class of the data"
    words = f"/api/errors/list?set={SET}"
    assert client.ask("GET", words, headers=client.page_headers).status == 404
    for model, status in (("../x", 403), ("none.safetensors", 404)):
        assert client.post("/api/errors/search", set=SET, model=model).status == status


def test_the_real_search_is_that_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_detector(monkeypatch)
    data = write_tiny_data(tmp_path / "own", train=2, val=6)
    checkpoint = save_checkpoint(tmp_path, class_names=load_dataset(data).class_names[:3])
    words = {"data": str(data), "model": str(checkpoint), "split": "val", "least": str(LEAST)}
    config, _ = parse(DataErrorsConfig, words)
    expected = label_errors.label_errors(config, Log(verbose=False)).suspicions
    with opened(tmp_path) as client:
        client.ready(SET)
        told = search(client, split="val")
        assert not told["failed"] and told["total"] == len(expected), told
        listed = client.get("/api/errors/list", set=SET, show="all")["items"]
        assert [one["kind"] for one in listed] == [one.kind for one in expected[:24]]
        np.testing.assert_allclose(
            [one["score"] for one in listed], [one.score for one in expected[:24]], atol=1e-3
        )
