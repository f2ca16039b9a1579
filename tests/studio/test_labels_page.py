"""The Labels page over HTTP: changes, undo and redo, versions, exports, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio_client import Client, Reply, opened
from tiny import write_tiny_data
from yolodet.datasets.edit import folder as edit_folder
from yolodet.datasets.edit import version
from yolodet.datasets.edit.convert import convert
from yolodet.datasets.formats.record import Record
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.studio.labeling import Labeling, relabeled
from yolodet.detector.studio.sets import OpenSet

SET = "own/data.yaml"
BOX = [10.0, 12.5, 60.0, 40.0, 1]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    write_tiny_data(tmp_path / "own", train=3, val=2)
    (tmp_path / "own" / "labels" / "train" / "000000.txt").unlink(missing_ok=True)
    with opened(tmp_path) as client:
        client.ready(SET)
        yield client


def images(client: Client, **query: Any) -> list[dict[str, Any]]:
    return client.get("/api/labels/list", set=query.pop("set", SET), **query)["images"]


def image(client: Client, n: int, set: str = SET) -> dict[str, Any]:
    return client.get("/api/labels/image", set=set, n=n)


def post(client: Client, path: str, set: str = SET, **words: Any) -> Reply:
    """Post with the newest revision."""
    if "revision" not in words:
        words["revision"] = client.get("/api/labels/facts", set=set)["draft"]["revision"]
    return client.post(f"/api/labels/{path}", set=set, **words)


def edit(client: Client, n: int, boxes: list[list[float]], **words: Any) -> Reply:
    return post(client, "edit", n=n, boxes=boxes, what=f"step on {n}", **words)


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "labels@" not in str(path)
    }


def read(data: Path) -> dict[str, tuple[str, Record]]:
    """Name of an image -> its split and its record."""
    dataset = load_dataset(data, download=False)
    return {
        record.path.name + split: (split, record)
        for split in dataset.splits
        for record in scan_split(dataset, split, strict=False).records
    }


def test_steps_are_undone_and_done_again_and_survive_the_studio(
    client: Client, tmp_path: Path
) -> None:
    first = image(client, 0)["boxes"]
    states = [first, [BOX], [BOX, BOX], []]
    for boxes in states[1:]:
        assert edit(client, 0, boxes).status == 200
    for expected in reversed(states[:-1]):
        assert post(client, "undo").json["n"] == 0
        assert image(client, 0)["boxes"] == expected
    assert post(client, "undo").status == 400
    for expected in states[1:3]:
        assert post(client, "redo").status == 200
        assert image(client, 0)["boxes"] == expected
    with opened(tmp_path) as other:  # the first one might have been killed here
        other.ready(SET)
        assert image(other, 0)["boxes"] == states[2]
        assert [s["what"] for s in image(other, 0)["draft"]["steps"]] == ["step on 0"] * 3
        assert post(other, "redo").status == 200
        assert edit(other, 1, [BOX]).status == 200
    assert image(client, 0)["boxes"] == []  # and it follows what the other has done
    assert image(client, 1)["boxes"] == [BOX]
    assert post(client, "undo").json["n"] == 1
    assert edit(client, 2, [BOX]).status == 200
    assert post(client, "redo").status == 400  # a new step replaces those that were undone


def test_a_version_is_the_labels_with_the_changes(client: Client, tmp_path: Path) -> None:
    before, old = files_of(tmp_path), read(tmp_path / SET)
    assert edit(client, 0, [BOX]).status == 200
    assert edit(client, 4, []).status == 200
    names = {n: Path(image(client, n)["name"]) for n in (0, 4)}
    assert post(client, "class", name="<b>new").json["classes"][-1] == "<b>new"
    reply = post(client, "save")
    assert reply.status == 200, reply.body
    assert reply.json["set"] == "own/labels@2/data.yaml"
    new = read(tmp_path / "own/labels@2/data.yaml")
    assert set(new) == set(old)
    for key, (split, record) in new.items():
        path = old[key][1].path
        assert record.path == path and split == old[key][0]
        if str(path).endswith(str(names[0])):
            assert record.boxes.tolist() == [BOX[:4]] and record.labels.tolist() == [1]
        elif str(path).endswith(str(names[4])):
            assert len(record.boxes) == 0
        else:
            np.testing.assert_array_equal(record.boxes, old[key][1].boxes)
            np.testing.assert_array_equal(record.labels, old[key][1].labels)
    dataset = load_dataset(tmp_path / "own/labels@2/data.yaml")
    assert dataset.class_names[-1] == "<b>new"
    assert files_of(tmp_path) == before  # nothing of the user's has changed
    assert "own/labels@2/data.yaml" in client.get("/api/sets")["sets"]
    assert not image(client, 0)["draft"]["steps"]
    about = json.loads((tmp_path / "own/labels@2/version.json").read_text())
    assert about["of"] == about["from"] == "data.yaml" and about["changed"] == 2


def test_a_version_of_a_version_and_the_folder_moved(client: Client, tmp_path: Path) -> None:
    second = "own/labels@2/data.yaml"
    edit(client, 0, [BOX])
    assert post(client, "save").status == 200
    client.ready(second)
    edit(client, 1, [BOX], set=second)
    assert post(client, "save", set=second).json["set"] == "own/labels@3/data.yaml"
    shown = client.get("/api/labels/facts", set=SET)["versions"]
    assert [one["name"] for one in shown] == ["data.yaml", "labels@2", "labels@3"]
    old = read(tmp_path / "own/labels@3/data.yaml")
    shutil.move(tmp_path / "own", tmp_path / "moved")
    moved = read(tmp_path / "moved/labels@3/data.yaml")
    assert [r.boxes.tolist() for _, r in moved.values()] == [
        r.boxes.tolist() for _, r in old.values()
    ]


def test_images_without_labels_stay_to_be_labeled(client: Client) -> None:
    (todo,) = [one["n"] for one in images(client, order="unlabeled") if one["unlabeled"]]
    assert images(client, order="unlabeled")[0]["n"] == todo
    other = next(one["n"] for one in images(client) if one["n"] != todo)
    edit(client, other, [BOX])
    assert images(client, order="changed")[0]["n"] == other
    assert post(client, "save").status == 200
    second = "own/labels@2/data.yaml"
    client.ready(second)
    left = [one["name"] for one in images(client, set=second) if one["unlabeled"]]
    assert [Path(name).name for name in left] == [Path(image(client, todo)["name"]).name]
    edit(client, images(client, set=second, order="unlabeled")[0]["n"], [BOX], set=second)
    assert not any(one["unlabeled"] for one in images(client, set=second))


def test_what_all_steps_say_together_is_computed_once(client: Client, tmp_path: Path) -> None:
    """A step may move every image: nothing that is asked for per image may go through all of it."""
    one = OpenSet(tmp_path / SET)
    one._thread.join()
    labels = Labeling(one)
    for move in (lambda: labels.move([0, 1], "val", labels.draft.revision),
                 lambda: labels.edit(2, [BOX], "box", labels.draft.revision),
                 lambda: labels.draft.move(-1, labels.draft.revision)):  # fmt: skip
        assert labels.draft.splits is labels.draft.splits
        assert labels.draft.changed is labels.draft.changed
        move()
        splits = {path: split for step in labels.draft.done for path, split in step.splits.items()}
        assert labels.draft.splits == splits
        assert labels.draft.changed == {n for step in labels.draft.done for n in step.boxes}
        mask = [labels.is_unlabeled(n) for n in range(5)]
        assert labels.unlabeled.tolist() == mask
    assert len(splits) == 2 and any(mask)


def test_stale_pages_and_versions_are_refused(client: Client, tmp_path: Path) -> None:
    seen = image(client, 0)["draft"]["revision"]
    assert edit(client, 0, [BOX], revision=seen).status == 200
    for path, words in (
        ("edit", {"n": 0, "boxes": [], "what": "late"}), ("undo", {}), ("save", {}),
        ("class", {"name": "late"}),
    ):  # fmt: skip
        reply = post(client, path, revision=seen, **words)
        assert reply.status == 409 and "another window" in reply.json["error"]
    assert image(client, 0)["boxes"] == [BOX]
    assert post(client, "save").status == 200
    assert edit(client, 1, [BOX]).status == 200  # on the old version, which is still open
    reply = post(client, "save")
    assert reply.status == 409 and "labels@2" in reply.json["error"]
    assert len(image(client, 0)["draft"]["steps"]) == 1
    assert post(client, "save", beside=True).json["set"] == "own/labels@3/data.yaml"
    assert {v.name for v in (tmp_path / "own").iterdir() if "@" in v.name} == {
        "labels@2", "labels@3",
    }  # fmt: skip


def test_two_saves_at_once_make_two_versions_or_one_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another process takes the number after this one has chosen it."""
    edit(client, 0, [BOX])

    def taken(source: Any, target: Any) -> None:
        if Path(target).name == "labels@2":
            (Path(target) / "theirs").mkdir(parents=True)
        os.rename(source, target)

    monkeypatch.setattr(edit_folder.os, "replace", taken)
    reply = post(client, "save")
    monkeypatch.undo()
    assert reply.status == 409 and "in the meantime" in reply.json["error"]
    assert [p.name for p in (tmp_path / "own/labels@2").iterdir()] == ["theirs"]
    assert post(client, "save").json["set"] == "own/labels@3/data.yaml"


def killed(when: str, count: int) -> Callable[[], None]:
    """Replaces a function by one that kills the process at its ``count``-th call."""
    module, name = {
        "write": (version, "_write_json"), "describe": (version, "describe"),
        "rename": (edit_folder.os, "replace"), "renamed": (version, "sync_folder"),
    }[when]  # fmt: skip
    own, calls = getattr(module, name), [0]

    def replacement(*words: Any, **more: Any) -> Any:
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return own(*words, **more)

    return lambda: setattr(module, name, replacement)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("when", "count", "whole"),
    [("write", 1, False), ("write", 2, False), ("write", 3, False), ("describe", 1, False),
     ("rename", 4, False), ("renamed", 1, False), ("renamed", 2, True)],
)  # fmt: skip
def test_a_killed_save_leaves_the_old_version_or_the_new_one(
    tmp_path: Path, when: str, count: int, whole: bool
) -> None:
    data = write_tiny_data(tmp_path / "own", train=2, val=2)
    dataset = load_dataset(data)
    old = {s: scan_split(dataset, s).records for s in dataset.splits}
    new = {s: [relabeled(r, [BOX]) for r in records] for s, records in old.items()}
    pid = os.fork()
    if pid == 0:
        killed(when, count)()
        version.write_version(dataset, data, new, 2, {})
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    found = [one.number for one in version.versions_of(data)]
    assert found == ([1, 2] if whole else [1])
    if whole:
        again = read(version.versions_of(data)[-1].data)
        assert [r.boxes.tolist() for _, r in again.values()] == [[BOX[:4]]] * 4
    version.write_version(dataset, data, new, 3, {})
    assert not list((tmp_path / "own").glob(".labels@3*"))
    assert set(read(data)) == set(read(tmp_path / "own/labels@3/data.yaml"))


def test_crowds_and_areas_of_boxes_that_stay_are_kept() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 9, 9]], np.float32)
    record = Record(
        Path("a.png"), (20, 20), boxes, np.array([0, 1]), np.array([True, False]),
        np.array([50.0, 12.0], np.float32),
    )  # fmt: skip
    new = relabeled(record, [[0, 0, 2, 3, 1], [5, 5, 9, 9, 0], [0, 0, 10, 10, 0]])
    assert new.crowd is not None and new.crowd.tolist() == [False, False, True]
    assert new.area is not None and new.area.tolist() == [6, 12, 50]
    assert new.labels.tolist() == [1, 0, 0]


@pytest.mark.parametrize("format", ["yolo", "coco", "voc"])
def test_a_version_is_exported(client: Client, tmp_path: Path, format: str) -> None:
    edit(client, 0, [BOX])
    post(client, "save")
    second = "own/labels@2/data.yaml"
    reply = client.post("/api/labels/export", set=second, format=format, out="out")
    assert reply.status == 200 and reply.json["data"] == "out/data.yaml"
    there, here = read(tmp_path / "out/data.yaml"), read(tmp_path / second)
    assert set(there) == set(here)
    for key, (_, record) in here.items():
        np.testing.assert_allclose(there[key][1].boxes, record.boxes, atol=0.01)
        assert there[key][1].labels.tolist() == record.labels.tolist()
    again = client.post("/api/labels/export", set=second, format=format, out="out")
    assert again.status == 400 and "exists" in again.json["error"]


@pytest.mark.parametrize(
    "out", ["../out", "/tmp/out", "own/../../out", ".hidden", "", "a\\b", "x/"]
)
def test_an_export_stays_in_the_folder(client: Client, tmp_path: Path, out: str) -> None:
    before = files_of(tmp_path)
    reply = client.post("/api/labels/export", set=SET, format="yolo", out=out)
    assert reply.status in (403, 404) and files_of(tmp_path) == before


def test_a_folder_that_is_known_by_its_content_stays_what_it_is(tmp_path: Path) -> None:
    dataset = load_dataset(write_tiny_data(tmp_path / "tiny", train=2, val=2))
    convert(dataset, tmp_path / "voc", "voc")
    (tmp_path / "voc/data.yaml").unlink()
    before = read(tmp_path / "voc")
    with opened(tmp_path / "voc") as client:  # the opened folder itself
        client.ready(".")
        edit(client, 0, [[1, 1, 9, 9, 0]], set=".")
        assert post(client, "save", set=".").json["set"] == "labels@2/data.yaml"
    assert {k: r.boxes.tolist() for k, (_, r) in read(tmp_path / "voc").items()} == {
        k: r.boxes.tolist() for k, (_, r) in before.items()
    }
    assert len(read(tmp_path / "voc/labels@2/data.yaml")) == len(before)


@pytest.mark.parametrize(
    "boxes",
    [None, {}, [1], [[1, 2, 3, 4]], [["1", 2, 3, 4, 0]], [[0, 0, 1e9, 5, 0]], [[0, 0, 9, 9, 99]],
     [[0, 0, 9, 9, -1]], [[0, 0, 9, 9, 0.5]], [[5, 5, 5, 9, 0]], [[9, 9, 1, 1, 0]],
     [[500, 500, 600, 600, 0]], [[0, 0, 9, 9, True]], [[0, 0, 9, 9, 0]] * 5001],
)  # fmt: skip
def test_boxes_that_are_none_are_refused(client: Client, boxes: Any) -> None:
    before = image(client, 0)
    assert edit(client, 0, boxes).status == 400
    assert image(client, 0) == before


def test_numbers_that_are_not_finite_are_refused(client: Client) -> None:
    body = b'{"set": "own/data.yaml", "n": 0, "what": "x", "revision": 0, "boxes": [[NaN,0,9,9,0]]}'
    reply = client.ask("POST", "/api/labels/edit", body, client.page_headers)
    assert reply.status == 400 and not image(client, 0)["draft"]["steps"]


def test_a_cut_off_line_of_the_draft_is_left_out(
    client: Client, tmp_path: Path, cache_folder: Path
) -> None:
    """The process was killed while it wrote."""
    edit(client, 0, [BOX])
    edit(client, 0, [BOX, BOX])
    (file,) = (cache_folder / "studio/drafts").glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-9])
    with opened(tmp_path) as other:
        other.ready(SET)
        assert image(other, 0)["boxes"] == [BOX]
        assert edit(other, 0, []).status == 200


def test_images_move_between_splits(client: Client, tmp_path: Path) -> None:
    reply = post(client, "move", words={"split": ["val"]}, to="test")
    assert reply.json["images"] == 2
    assert post(client, "move", words={"split": ["val"]}, to="test").status == 400
    assert post(client, "move", words={"split": ["val"]}, to="elsewhere").status == 400
    assert post(client, "save").status == 200
    dataset = load_dataset(tmp_path / "own/labels@2/data.yaml", download=False)
    assert [len(scan_split(dataset, s).records) for s in dataset.splits] == [3, 2]
    assert list(dataset.splits) == ["train", "test"]
    listed = (tmp_path / "own/labels@2/test.txt").read_text().splitlines()
    assert [Path(line).parent.name for line in listed] == ["val", "val"]
    lists = "train: own/labels@2/train.txt\nval: own/labels@2/test.txt\n"
    (tmp_path / "lists.yaml").write_text(f"{lists}names: {list(dataset.class_names)!r}\n")
    both = load_dataset(tmp_path / "lists.yaml", download=False)
    assert [len(scan_split(both, s, strict=False).records) for s in both.splits] == [3, 2]
