"""The Data page over HTTP: what is chosen, counted and shown."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import cv2
import numpy as np
import pytest
from studio_client import Client, opened
from yolodet.datasets.formats.record import Record
from yolodet.datasets.images.image import read_image
from yolodet.datasets.scan.scan import Scan, scan_split
from yolodet.datasets.sets.dataset import Dataset
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.studio import data_page, sets, thumbs
from yolodet.detector.studio.apart import apart
from yolodet.detector.studio.choose import ASPECTS, RATIOS, SIDES, SIZES, Chooser, Wanted
from yolodet.detector.studio.place import Place
from yolodet.detector.studio.table import make_table

NAMES = ("car", '<img src=x onerror="alert(1)">\x1b[31m"\'&\n<b>')
"""The second one would run in a page that shows it as HTML."""
FILE = "<b>\"'&\n\x1b[1m.png"


def write(folder: Path, split: str, name: str, boxes: list[tuple[int, ...]] | None) -> None:
    """A gray image of 400 x 200 unlike the others, and its labels (class x1 y1 x2 y2)."""
    path = folder / "images" / split / name
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(list(name.encode())).integers(0, 255, (20, 40, 3), np.uint8)
    path.write_bytes(cv2.imencode(".png", cv2.resize(noise, (400, 200)))[1].tobytes())
    if boxes is not None:
        rows = [
            f"{c} {(x1 + x2) / 800} {(y1 + y2) / 400} {(x2 - x1) / 400} {(y2 - y1) / 200}\n"
            for c, x1, y1, x2, y2 in boxes
        ]
        label = folder / "labels" / split / f"{name[:-4]}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("".join(rows))


def make_set(folder: Path) -> None:
    write(folder, "train", "a.png", [(0, 0, 0, 20, 20), (1, 100, 50, 300, 150)])
    write(folder, "train", "b.png", [(1, 0, 0, 20, 20)])
    write(folder, "train", "c.png", [])
    write(folder, "train", "d.png", None)
    write(folder, "train", FILE, [(0, 0, 0, 100, 190)])
    write(folder, "val", "e.png", [(0, 0, 0, 40, 10), (0, 200, 100, 300, 190)])
    write(folder, "val", "copy.png", [(0, 0, 0, 20, 20)])
    (folder / "images/val/copy.png").write_bytes((folder / "images/train/a.png").read_bytes())
    (folder / "images/train/broken.png").write_bytes(b"no image")
    (folder / "labels/train/c.txt").write_text("7 0.5 0.5 0.1 0.1\n0 0.5 0.5 0.1 0.1\n")
    import yaml

    text = {"train": "images/train", "val": "images/val", "names": list(NAMES)}
    (folder / "set.yaml").write_text(yaml.safe_dump(text))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("opened")
    make_set(folder / "own")
    (folder / "runs" / "train").mkdir(parents=True)
    (folder / "runs" / "train" / "args.yaml").write_text("data: own/set.yaml\nepochs: 3\n")
    with opened(folder) as client:
        client.ready("own/set.yaml")
        yield client


def view(client: Client, **query: Any) -> dict[str, Any]:
    return client.get("/api/data/view", set="own/set.yaml", facets=1, **query)


def names(content: dict[str, Any]) -> list[str]:
    return sorted(image["name"].split("/")[-1] for image in content["images"])


def test_sets_are_found_and_run_folders_are_none(client: Client) -> None:
    assert client.get("/api/sets")["sets"] == ["own/set.yaml"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, 8),
        ({"split": "val"}, ["copy.png", "e.png"]),
        ({"class": "1"}, ["a.png", "b.png"]),
        ({"size": "small"}, ["a.png", "b.png", "c.png", "copy.png", "e.png"]),
        ({"size": "small", "class": "1"}, ["b.png"]),  # one box must fit both
        ({"size": ["small", "large"], "class": "1"}, ["a.png", "b.png"]),
        ({"aspect": "flat"}, ["e.png"]),
        ({"labels": "no labels"}, ["d.png"]),
        ({"labels": "not used"}, ["broken.png"]),
        ({"finding": "label-class-range"}, ["c.png"]),
        ({"finding": "image-leak"}, ["copy.png"]),
        ({"name": "OPY"}, ["copy.png"]),
        ({"count": "2-4", "split": "train"}, ["a.png"]),
        ({"class": "1", "split": "val"}, []),
    ],
)
def test_filters_choose(client: Client, query: dict[str, Any], expected: list[str] | int) -> None:
    content = view(client, **query)
    if isinstance(expected, int):
        assert content["total"] == expected
    else:
        assert names(content) == expected


def test_every_count_is_what_a_click_chooses(client: Client) -> None:
    for query in ({}, {"split": "train"}, {"class": "0"}, {"class": "0", "size": "small"}):
        for facet, values in view(client, **query)["facets"].items():
            for value, count in values:
                assert view(client, **{**query, facet: value})["total"] == count, (facet, value)


def test_boxes_are_those_of_the_scan(client: Client, tmp_path: Path) -> None:
    folder = Path(client.get("/api/sets")["folder"])
    dataset = load_dataset(folder / "own/set.yaml")
    shown = {image["name"]: image for image in view(client)["images"]}
    for record in scan_split(dataset, "val", strict=False).records:
        boxes = shown[str(record.path.relative_to(dataset.root))]["boxes"]
        np.testing.assert_allclose([b["box"] for b in boxes], record.boxes, atol=0.01)
        assert [b["class"] for b in boxes] == record.labels.tolist()


def test_near_duplicates_are_found_when_asked(client: Client) -> None:
    assert not client.get("/api/data/facts", set="own/set.yaml")["copies_known"]
    assert client.post("/api/data/copies", set="own/set.yaml").status == 200
    client.ready("own/set.yaml")
    assert names(view(client, copies="near-duplicate")) == ["a.png", "copy.png"]
    assert names(view(client, copies="in two splits")) == ["a.png", "copy.png"]
    assert client.post("/api/data/copies", set="own/set.yaml").status == 400


def test_names_with_html_and_escape_codes_are_cleaned(client: Client) -> None:
    facts = client.get("/api/data/facts", set="own/set.yaml")
    assert facts["classes"][1] == '<img src=x onerror="alert(1)">\\x1b[31m"\'& <b>'
    assert "images/train/<b>\"'& \\x1b[1m.png" in [i["name"] for i in view(client)["images"]]


def test_pages_turn_no_text_into_html() -> None:
    pages = Path(thumbs.__file__).parent / "pages"
    text = "".join(file.read_text() for file in pages.glob("*.js"))
    assert "textContent" in text
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "DOMParser",
    ):
        assert way not in text


@pytest.mark.parametrize(
    "query", [{"split": "x"}, {"class": "9"}, {"class": "-1"}, {"page": "-1"}, {"page": "1e9"},
              {"page": "٣"}, {"size": "<b>"}],
)  # fmt: skip
def test_values_that_do_not_exist_are_refused(client: Client, query: dict[str, str]) -> None:
    words = urlencode({"set": "own/set.yaml", **query})
    reply = client.ask("GET", f"/api/data/view?{words}", headers=client.page_headers)
    assert reply.status == 400 and reply.json["error"]


def test_a_page_past_the_end_is_empty(client: Client) -> None:
    assert view(client, page=10**9)["images"] == []


def test_pictures(client: Client) -> None:
    numbers = {i["name"].split("/")[-1]: i["n"] for i in view(client)["images"]}
    small = client.get("/api/data/thumb", set="own/set.yaml", n=numbers["a.png"])
    large = client.get("/api/data/picture", set="own/set.yaml", n=numbers["a.png"])
    assert cv2.imdecode(np.frombuffer(small, np.uint8), 1).shape == (160, 320, 3)
    assert cv2.imdecode(np.frombuffer(large, np.uint8), 1).shape == (200, 400, 3)
    for n, status in ((numbers["broken.png"], 400), (8, 404), (10**9, 404)):
        for path in ("thumb", "picture"):
            words = f"/api/data/{path}?set=own/set.yaml&n={n}"
            assert client.ask("GET", words, headers=client.page_headers).status == status


def test_a_turned_photograph_is_shown_upright(tmp_path: Path) -> None:
    """Orientation 6, and a JPEG that is decoded at half its size."""
    stored = cv2.resize(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5, (800, 400))
    jpeg = cv2.imencode(".jpg", stored)[1].tobytes()
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    body = b"Exif\0\0" + tiff
    path = tmp_path / "turned.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:])
    small = cv2.imdecode(np.frombuffer(thumbs.small_picture(path), np.uint8), cv2.IMREAD_COLOR_RGB)
    expected = cv2.resize(read_image(path), (160, 320), interpolation=cv2.INTER_AREA)
    assert small.shape == (320, 160, 3)
    assert np.abs(small.astype(int) - expected).mean() < 3


def test_small_pictures_follow_the_image_and_are_trimmed(
    tmp_path: Path, cache_folder: Path
) -> None:
    path = tmp_path / "a.png"
    for level in (0, 200):
        path.write_bytes(cv2.imencode(".png", np.full((9, 9, 3), level, np.uint8))[1].tobytes())
        os.utime(path, ns=(level, level))
        shown = cv2.imdecode(np.frombuffer(thumbs.small_picture(path), np.uint8), 1)
        assert abs(int(shown[4, 4, 0]) - level) < 3
    kept = sorted((cache_folder / "studio").glob("*/*.jpg"))
    assert len(kept) == 2
    for age, file in enumerate(kept):
        os.utime(file, (age, age))
    thumbs.trim(cache_folder / "studio", most=kept[1].stat().st_size)
    assert sorted((cache_folder / "studio").glob("*/*.jpg")) == kept[1:]


def test_a_set_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("train: nowhere\nval: nowhere\nnames: [a]\n")
    with opened(tmp_path) as client:
        while (state := client.get("/api/data/state", set="bad.yaml"))["doing"]:
            pass
        assert "nowhere" in state["failed"]
        (tmp_path / "nowhere").mkdir()
        write(tmp_path, "train", "a.png", [(0, 0, 0, 20, 20)])
        (tmp_path / "bad.yaml").write_text("train: images/train\nval: images/train\nnames: [a]\n")
        client.ready("bad.yaml")  # it is tried again


def test_a_large_set_shows_the_flaws_and_copies_of_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large set is searched by another process, a small one by the studio itself."""
    make_set(tmp_path)

    def shown() -> list[Any]:
        with opened(tmp_path) as client:
            client.ready("set.yaml")
            client.post("/api/data/copies", set="set.yaml")
            client.ready("set.yaml")
            content = client.get("/api/data/view", set="set.yaml", facets=1)
            facts = client.get("/api/data/facts", set="set.yaml")
        return [content, facts]

    small = shown()
    called = []

    def told(work: Any, *rest: Any) -> Any:
        called.append(work)
        return apart(work, *rest)

    monkeypatch.setattr(sets, "MOST_HERE", 0)
    monkeypatch.setattr(sets, "apart", told)
    assert shown() == small
    assert called == [sets.flaws_of, sets.groups_of]
    assert {"image-leak", "image-unreadable"} <= {name for name, _ in small[0]["facets"]["finding"]}
    assert dict(small[0]["facets"]["copies"])["in two splits"] == 2


def test_pictures_of_the_next_pages_are_made_ahead(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the page itself are asked for, and made, by the browser."""
    made: list[str] = []
    following = [image["name"].split("/")[-1] for image in view(client)["images"][2:4]]
    monkeypatch.setattr(data_page, "PAGE", 2)
    monkeypatch.setattr(data_page, "PAGES_AHEAD", 1)
    monkeypatch.setattr(thumbs, "small_picture", lambda path: made.append(path.name))
    view(client, page=0)
    until = time.monotonic() + 60
    while len(made) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert made == following


def test_what_is_done_for_a_set_ends_when_it_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_set(tmp_path)
    begun = threading.Event()

    def endless(work: Any, given: Any, progress: Any) -> None:
        begun.set()
        while True:
            progress(0, 0)
            time.sleep(0.01)

    monkeypatch.setattr(sets, "MOST_HERE", 0)
    monkeypatch.setattr(sets, "apart", endless)
    every = sets.Sets(Place(tmp_path))
    first = every.get("set.yaml")
    assert begun.wait(60)
    second = every.get("set.yaml", again=True)
    first._thread.join(60)
    assert second is not first and not first._thread.is_alive()
    every.close()
    assert not second._thread.is_alive()


def test_the_only_data_set_is_read_before_it_is_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []

    class Told(sets.OpenSet):
        def __init__(self, path: Path) -> None:
            begun.append(path)
            super().__init__(path)

    monkeypatch.setattr(sets, "OpenSet", Told)
    for name in ("one", "two"):
        make_set(tmp_path / name)
        with opened(tmp_path) as client:
            client.get("/api/sets")
    assert begun == [tmp_path / "one/set.yaml"]


def test_chosen_as_one_box_at_a_time(tmp_path: Path) -> None:
    """Every pair of filters of boxes, against a loop over boxes."""
    generator = np.random.default_rng(0)
    records = []
    for number in range(50):
        corners = generator.uniform(0, 300, (generator.integers(0, 6), 2))
        boxes = np.concatenate([corners, corners + generator.uniform(2, 300, corners.shape)], 1)
        labels = generator.integers(0, 3, len(boxes))
        records.append(Record(Path(f"{number}.png"), (600, 600), boxes.astype(np.float32), labels))
    scan = Scan("train", records, [], "", 50, [])
    dataset = Dataset("d", ("x", "y", "z"), {"train": []}, tmp_path, tmp_path)
    chooser = Chooser(make_table(dataset, [scan]))
    for label, size, aspect in product(range(3), range(3), range(5)):
        values = (
            ("class", (str(label),)),
            ("size", (SIZES[size],)),
            ("aspect", (ASPECTS[aspect],)),
        )
        chosen = chooser.choose(Wanted(values)).images.tolist()
        assert chosen == [n for n, r in enumerate(records) if fits(r, label, size, aspect)]


def fits(record: Record, label: int, size: int, aspect: int) -> bool:
    for box, cls in zip(record.boxes.astype(float), record.labels, strict=True):
        width, height = box[2] - box[0], box[3] - box[1]
        place = sum((width * height) ** 0.5 >= side for side in SIDES)
        shape = sum(width / height >= ratio for ratio in RATIOS)
        if (cls, place, shape) == (label, size, aspect):
            return True
    return False
