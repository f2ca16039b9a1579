"""Data sets converted, divided and merged: nothing is lost, nothing of the user's is changed."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_data import add_image, describe
from yolodet.cli import main
from yolodet.datasets.edit import convert as convert_module
from yolodet.datasets.edit.convert import convert
from yolodet.datasets.edit.copies import group_images
from yolodet.datasets.edit.merge import merge
from yolodet.datasets.edit.split import assign, split_dataset
from yolodet.datasets.formats.record import Record
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.dataset import Dataset, DatasetError
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.examine.data_stats import box_sides

pytestmark = pytest.mark.usefixtures("place")
FORMATS = ("yolo", "coco", "voc")
NAMES = "names: [cat, 'big dog', zebra & co]\n"
ROWS = (
    "0 0.123456789 0.5 0.2 0.987654321\n1 0.5 0.5 1 1\n",
    "2 0.3333333 0.25 0.1111111 0.0123\n",
    "",
    "1 0.9 0.1 0.2 0.2\n1 0.2 0.8 0.1 0.1\n2 0.5 0.4 0.3 0.2\n",
)


@pytest.fixture
def tiny(place: Path) -> Dataset:
    """Four images per split, in sub-folders, one a background, two names that differ in the ending
    alone."""
    root = place / "set"
    for split, height in (("train", 37), ("val", 50)):
        for number, row in enumerate(ROWS):
            add_image(root / f"images/{split}/part{number % 2}/é {number}.jpg", (height, 61), row)
        add_image(root / f"images/{split}/part0/same.png", (height, 61), ROWS[0])
        add_image(root / f"images/{split}/part1/same.png", (height, 61), ROWS[1])
    add_image(root / "images/val/part1/same.jpg", (40, 61), None)  # the label file of same.png
    return load_dataset(describe(root, f"train: images/train\nval: images/val\n{NAMES}"))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def boxes_of(dataset: Dataset) -> dict[str, list[tuple[str, list[int], list[list[float]]]]]:
    """Per split a row per image, sorted: pixels' digest, labels, boxes."""
    return {
        split: sorted(
            (
                hashlib.sha256(record.path.read_bytes()).hexdigest(),
                record.labels.tolist(),
                record.boxes.tolist(),
            )
            for record in scan_split(dataset, split).records
        )
        for split in dataset.splits
    }


def assert_same(a: Dataset, b: Dataset) -> None:
    assert a.class_names == b.class_names
    ours, theirs = boxes_of(a), boxes_of(b)
    assert ours.keys() == theirs.keys()
    for split in ours:
        assert ours[split] == theirs[split]  # to the bit, so that training is the same


def round_trips(dataset: Dataset, folder: Path) -> None:
    """To every format, and from each of them to every format."""
    first = {
        name: load_dataset(convert(dataset, folder / name, name).data) for name in FORMATS
    }
    for (name, written), target in itertools.product(first.items(), FORMATS):
        assert_same(dataset, written)
        again = convert(written, folder / f"{name}-{target}", target)
        assert_same(dataset, load_dataset(again.data))
        assert again.not_held == {} and again.dropped == 0


def test_boxes_survive_every_round_trip(tiny: Dataset, place: Path) -> None:
    before = contents(tiny.root)
    round_trips(tiny, place / "new")
    assert contents(tiny.root) == before
    names = {path.name for path in (place / "new/yolo/images/val/part1").iterdir()}
    assert names == {"é 1.jpg", "é 3.jpg", "same.jpg", "same_2.png"}


def test_crowds_are_kept_by_coco_and_counted_elsewhere(place: Path) -> None:
    add_image(place / "set/a.jpg", (48, 64), None)
    rows = [
        {"id": n, "image_id": 5, "category_id": 1, "bbox": [n, 4, 20, 20], "iscrowd": n, "area": 99}
        for n in (0, 1)
    ]
    content = {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": rows, "categories": [{"id": 1, "name": "cat"}],
    }  # fmt: skip
    (place / "set/train.json").write_text(json.dumps(content))
    dataset = load_dataset(describe(place / "set", "format: coco\ntrain: train.json\n"))
    kept = load_dataset(convert(dataset, place / "coco", "coco").data)
    (record,) = scan_split(kept, "train").records
    assert record.crowd is not None and record.crowd.tolist() == [False, True]
    assert record.area is not None and record.area.tolist() == [99, 99]
    told = convert(dataset, place / "voc", "voc")
    assert told.not_held == {"boxes around a crowd": 1, "areas of masks": 2}
    (record,) = scan_split(load_dataset(told.data), "train").records
    assert record.boxes.tolist() == [[0, 4, 20, 24]]


def test_errors_stop_unless_they_are_allowed(tiny: Dataset, place: Path) -> None:
    add_image(tiny.root / "images/train/bad.jpg", row="9 0.5 0.5 0.1 0.1\n" + ROWS[1])
    words = ["data", "convert", f"data={tiny.yaml}", f"out={place / 'new'}", "format=coco"]
    assert main(words) == 2
    assert not (place / "new").exists()
    assert main([*words, "allow=errors"]) == 1
    findings = json.loads((place / "new/findings.json").read_text())
    assert [found["id"] for found in findings] == ["label-class-range"]
    again = load_dataset(place / "new/data.yaml")
    assert sum(len(record.boxes) for record in scan_split(again, "train").records) == 10


@pytest.mark.parametrize("images", ["link", "copy", "none"])
def test_images_are_linked_copied_or_left_out(tiny: Dataset, place: Path, images: str) -> None:
    told = convert(tiny, place / "new", "yolo", images=images)
    new = sorted((place / "new").rglob("*.jpg"))
    links = {path.stat().st_nlink for path in new}
    assert links == {"link": {2}, "copy": {1}, "none": set()}[images]
    assert told.linked == (13 if images == "link" else 0)
    assert len(list((place / "new/labels").rglob("*.txt"))) == 13


def test_nothing_is_overwritten_and_nothing_half_is_left(
    tiny: Dataset, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "full").mkdir()
    (place / "full/mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="exists; name a new or an empty folder"):
        convert(tiny, place / "full", "yolo")
    convert(tiny, place / "planned", "yolo", dry_run=True)

    def wrong(root: Path, splits: dict, names: object) -> dict[str, str]:
        lines = convert_module.WRITERS["voc"](root, splits, tiny.class_names)
        for xml in root.rglob("*2.xml"):
            xml.write_text(xml.read_text().replace("<xmin>", "<xmin>1"))
        return lines

    monkeypatch.setitem(convert_module.WRITERS, "coco", wrong)
    with pytest.raises(DatasetError, match="read back differently"):
        convert(tiny, place / "new", "coco")
    assert {path.name for path in place.iterdir()} <= {"set", "here", "cache", "full"}
    assert [path.name for path in (place / "full").iterdir()] == ["mine.txt"]


def picture(path: Path, seed: int, *, quality: int = 95, scale: float = 1.0) -> Path:
    """A smooth picture; the same seed gives the same one, at any size and quality."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    size = (round(240 * scale), round(180 * scale))
    image = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return path


def test_copies_and_versions_of_one_picture_are_one_group(tmp_path: Path) -> None:
    paths = [
        picture(tmp_path / "a.jpg", 1),
        picture(tmp_path / "b.jpg", 2),
        picture(tmp_path / "c.jpg", 1, quality=40, scale=0.6),
        picture(tmp_path / "d_jpg.rf.0a1b2c.jpg", 3),
        picture(tmp_path / "d_jpg.rf.ffff.jpg", 4),
        picture(tmp_path / "e.jpg", 5),
    ]
    moved = cv2.imread(str(paths[5]))
    moved[60:90, 60:90] = 255 - moved[60:90, 60:90]  # a thing put before a fixed camera
    cv2.imwrite(str(tmp_path / "f.jpg"), moved)
    broken = tmp_path / "g.jpg"
    broken.write_bytes(b"no image")
    assert group_images([*paths, tmp_path / "f.jpg", broken]) == [0, 1, 0, 3, 3, 5, 6, 7]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_dark_images_of_16_bits_are_told_apart(suffix: str, tmp_path: Path) -> None:
    """Their high 8 bits are all 0."""
    paths = [tmp_path / f"{name}{suffix}" for name in "abc"]
    for path, seed in zip(paths, (1, 2, 1), strict=True):
        image = cv2.imread(str(picture(tmp_path / "8" / f"{seed}.png", seed)))
        assert cv2.imwrite(str(path), image[..., 0].astype(np.uint16) // 2 + 20)
    assert group_images(paths) == [0, 1, 0]


def test_classes_are_divided_evenly_and_groups_stay_together() -> None:
    random = np.random.default_rng(0)
    records = []
    for number in range(400):
        labels = random.choice(4, random.integers(0, 6), p=[0.6, 0.3, 0.08, 0.02])
        boxes = np.zeros((len(labels), 4), np.float32)
        records.append(Record(Path(f"{number}.jpg"), (10, 10), boxes, labels.astype(np.int64)))
    groups = [number // 3 * 3 for number in range(400)]
    chosen = assign(records, groups, 4, [0.7, 0.2, 0.1], seed=0)
    assert chosen == assign(records, groups, 4, [0.7, 0.2, 0.1], seed=0)
    assert chosen != assign(records, groups, 4, [0.7, 0.2, 0.1], seed=1)
    assert all(chosen[number] == chosen[group] for number, group in enumerate(groups))
    counts = np.zeros((3, 4))
    for record, place in zip(records, chosen, strict=True):
        counts[place] += np.bincount(record.labels, minlength=4)
    shares = counts / counts.sum(axis=0)
    np.testing.assert_allclose(shares.T[:3], [[0.7, 0.2, 0.1]] * 3, atol=0.03)
    assert (counts > 0).all()
    images = np.bincount(chosen, minlength=3) / 400
    np.testing.assert_allclose(images, [0.7, 0.2, 0.1], atol=0.02)


def test_a_division_says_which_pictures_the_old_splits_shared(place: Path) -> None:
    root = place / "set"
    for number in range(10):
        split = "train" if number < 8 else "val"
        picture(root / f"images/{split}/{number}.jpg", number)
        add_label(root / f"labels/{split}/{number}.txt", number % 2)
    picture(root / "images/val/copy.jpg", 3, quality=60)
    add_label(root / "labels/val/copy.txt", 1)
    dataset = load_dataset(describe(root, "train: images/train\nval: images/val\nnames: [a, b]\n"))
    told, leaks = split_dataset(dataset, place / "new", val=0.3, test=0, seed=0, images="none")
    assert leaks == ["val: copy.jpg shows the picture of 3.jpg in train"]
    assert sum(told.images.values()) == 11
    new = load_dataset(told.data)
    lists = {split: (place / f"new/{split}.txt").read_text() for split in ("train", "val")}
    assert ("/3.jpg" in lists["train"]) == ("/copy.jpg" in lists["train"])
    assert {split: len(scan_split(new, split).records) for split in new.splits} == told.images
    assert not list((place / "new").rglob("*.jpg"))


def add_label(path: Path, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{label} 0.5 0.5 0.25 0.25\n")


def test_lists_are_refused_where_labels_do_not_lie_by_the_images(
    tiny: Dataset, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voc = convert(tiny, place / "voc", "voc").data
    assert main(["data", "split", f"data={voc}", f"out={place / 'new'}"]) == 2
    assert "use images=link or images=copy" in capsys.readouterr().err
    assert main(["data", "split", f"data={voc}", f"out={place / 'new'}", "images=link"]) == 0
    new = load_dataset(place / "new/data.yaml")
    assert new.format == "voc" and set(new.splits) == {"train", "val"}


def test_classes_of_merged_data_sets_are_matched_by_name(tiny: Dataset, place: Path) -> None:
    other = place / "other"
    rows = "0 0.5 0.5 0.5 0.5\n1 0.2 0.2 0.1 0.1\n"
    add_image(other / "images/train/part0/é 0.jpg", (33, 44), rows)
    add_image(other / "images/train/elsewhere.jpg", (33, 44), "")
    second = load_dataset(describe(other, "train: images/train\nnames: [zebra & co, emu]\n"))
    told, leaks = merge([tiny, second], place / "both", format="coco", images="link")
    assert told.class_names == ("cat", "big dog", "zebra & co", "emu") and leaks == []
    records = {r.path.name: r for r in scan_split(load_dataset(told.data), "train").records}
    assert records["é 0.jpg"].labels.tolist() == [0, 1]
    assert records["set_é 0.jpg"].labels.tolist() == [2, 3]
    clash = load_dataset(describe(other, "train: images/train\nnames: [Cat, emu]\n", "b.yaml"))
    with pytest.raises(DatasetError, match="differ only in upper and lower case"):
        merge([tiny, clash], place / "not", format="yolo", images="link")


def test_one_data_set_alone_cannot_be_merged(tiny: Dataset) -> None:
    assert main(["data", "merge", f"data={tiny.yaml}", "out=new"]) == 2


def test_numbers_and_a_picture_of_a_data_set(
    tiny: Dataset, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / "stats.png"
    words = ["data", "stats", f"data={tiny.yaml}", "imgsz=320", f"out={out}", "--json"]
    assert main(words) == 0
    numbers = json.loads(capsys.readouterr().out)["result"]["splits"]["train"]
    assert (numbers["images"], numbers["boxes"], numbers["backgrounds"]) == (6, 9, 1)
    assert numbers["per_class"]["big dog"] == {"boxes": 4, "images": 3}
    assert numbers["small"] + numbers["medium"] + numbers["large"] == 9
    (record,) = (r for r in scan_split(tiny, "train").records if r.path.name == "é 1.jpg")
    width, height = record.boxes[0, 2:] - record.boxes[0, :2]
    side = (width * height) ** 0.5 * 320 / 61
    assert np.isclose(box_sides([record], 320), side).all()
    picture = cv2.imread(str(out))
    assert picture is not None and picture.std() > 10


def test_pictures_are_chosen_by_class_finding_and_number(tiny: Dataset, place: Path) -> None:
    add_image(tiny.root / "images/train/over.jpg", row="0 0.9 0.5 0.4 0.5\n")

    def shown(out: str, *words: str) -> list[str]:
        assert main(["data", "show", f"data={tiny.yaml}", f"out={place / out}", *words]) == 0
        return sorted(path.name for path in (place / out).rglob("*.jpg"))

    assert len(shown("all")) == 14
    assert shown("a", "split=train", "cls=cat") == ["over.jpg", "same.jpg", "é 0.jpg"]
    assert shown("b", "finding=label-clipped") == ["over.jpg"]
    assert len(shown("c", "split=val", "index=2")) == 1
    words = ["data", "show", f"data={tiny.yaml}", f"out={place / 'd'}"]
    assert main([*words, "cls=horse"]) == main([*words, "finding=nothing"]) == 2
    assert not (place / "d").exists()
