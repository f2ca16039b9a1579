"""Wrong layouts: the first line names the kind of the mistake and the fix, and nothing is trained
wrongly in silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from label_files import NAMES, coco, joined, shares
from layouts import LAYOUTS, YAML, Place
from yolodet.cli import main
from yolodet.datasets.formats.reader import open_split
from yolodet.datasets.scan.scan import WrongLayoutError, scan_split
from yolodet.datasets.sets.dataset import HoldOut
from yolodet.datasets.sets.hold_out import part_of
from yolodet.datasets.sets.locate import load_dataset
from yolodet.datasets.sets.source import DataSource
from yolodet.files.errors import DetError


def first_line(command: str, data: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """The first line that says what is wrong: of stdout, else the error."""
    assert main([*command.split(), f"data={data}", "quiet=True", *more]) != 0
    out, err = capsys.readouterr()
    told = [line for line in (out or err).splitlines() if line.strip()]
    return told[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_first_line_names_the_mistake_and_the_fix(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = LAYOUTS[name]
    data = layout.make(Place(tmp_path))
    line = first_line("data check", data, capsys)
    assert layout.kind in line and layout.fix in line, line

    def scans(config: object, given: object, log: object) -> None:
        dataset = load_dataset(config.data_source)  # type: ignore[attr-defined]
        for split in ("train", "val"):
            scan_split(dataset, split)
        raise AssertionError("would be trained on")

    monkeypatch.setattr("yolodet.detector.repeat.pipeline.train", scans)
    monkeypatch.chdir(tmp_path)
    assert "would be trained" not in first_line("train", data, capsys, "device=cpu")
    assert not (tmp_path / "runs").exists()


def test_a_wrong_layout_is_read_all_the_same_where_that_is_allowed(tmp_path: Path) -> None:
    layout = LAYOUTS["corners"].make(Place(tmp_path))
    dataset = load_dataset(layout)
    with pytest.raises(WrongLayoutError, match="allow=errors"):
        scan_split(dataset, "train")
    assert len(scan_split(dataset, "train", strict=False).records) == 5


@pytest.mark.parametrize("row", [None, lambda b: joined(b[0], shares(b), "\t")])
def test_sound_labels_are_left_in_peace(tmp_path: Path, row: object) -> None:
    """Also those with a few boxes over the border, ids without 0 and unlabeled backgrounds."""
    place = Place(tmp_path)
    place.draw()
    place.label(row)  # type: ignore[arg-type]
    label = tmp_path / "labels/train/cell0-t.txt"
    label.write_text(label.read_text() + "1 0.98 0.5 0.2 0.2\n1 0.02 0.5 0.2 0.2\n")
    (tmp_path / "labels/train/cell1-t.txt").unlink()
    (tmp_path / "labels/train/cell2-t.txt").unlink()
    scan = scan_split(load_dataset(place.yaml()), "train")
    assert [f.id for f in scan.findings] == ["label-clipped"] * 2


def test_large_objects_in_the_middle_are_no_corners(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    place = Place(tmp_path)
    place.draw()
    place.label(lambda b: joined(b[0], (0.5, 0.5, *rng.uniform(0.6, 1.0, 2))))
    assert not scan_split(load_dataset(place.yaml()), "train").findings


@pytest.mark.parametrize("kind", ["coco", "voc"])
def test_a_folder_is_read_by_its_content(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path)
    if kind == "coco":
        place.draw()
        for split in ("train", "val"):
            some = {p: b for p, b in place.boxes.items() if p.parent.name == split}
            (tmp_path / f"instances_{split}.json").write_text(coco(some))
    else:
        LAYOUTS["voc-annotations"].make(place).unlink()
    dataset = load_dataset(tmp_path)
    assert (dataset.format, dataset.class_names) == (kind, NAMES)
    scans = [scan_split(dataset, split) for split in ("train", "val")]
    assert [len(scan.records) for scan in scans] == [5, 2]
    for scan in scans:
        for record in scan.records:
            wanted = [list(map(float, box[1:])) for box in place.boxes[record.path]]
            assert record.boxes.tolist() == wanted
    assert main(["data", "check", f"data={tmp_path}", "quiet=True"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith(f"3 classes, {tmp_path}")


def test_a_json_with_its_images_and_another_to_validate_on(tmp_path: Path) -> None:
    place = Place(tmp_path / "set")
    place.draw("pictures", "others")
    for split, folder in (("train", "pictures"), ("val", "others")):
        some = {p: b for p, b in place.boxes.items() if p.parent.name == folder}
        (tmp_path / f"{split}.json").write_text(coco(some))
    train, val, images = tmp_path / "train.json", tmp_path / "val.json", tmp_path / "set"
    dataset = load_dataset(DataSource(str(train), str(images), str(val)))
    assert [len(scan_split(dataset, split).records) for split in ("train", "val")] == [5, 2]
    lone = load_dataset(DataSource(str(val), str(images), lone="val"))
    assert list(lone.splits) == ["val"]
    with pytest.raises(DetError, match="no images to validate on"):
        load_dataset(DataSource(str(train), str(images))).sources("val")
    with pytest.raises(DetError, match="there is no folder"):
        load_dataset(DataSource(str(train), str(tmp_path / "gone")))


def test_a_held_out_share_is_seeded_disjoint_and_keeps_copies_together(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.draw()
    for number in range(3):
        for copy in range(3):
            name = f"images/train/x{number}_jpg.rf.{copy}.jpg"
            (tmp_path / name).write_bytes(f"{number} {copy}".encode())
    place.label()
    data = str(place.yaml(YAML.replace("val: images/val\n", "")))
    parts: dict[tuple[int, str], list[str]] = {}
    for seed in (0, 1, 2):
        dataset = load_dataset(DataSource(data, val="0.3", seed=seed))
        for split in ("train", "val"):
            listing = open_split(dataset, "train").list_images().images
            part = part_of(dataset.hold_out, listing, split, dataset.root)
            parts[seed, split] = [Path(path).name for path in part]
    for seed in (0, 1, 2):
        train, val = parts[seed, "train"], parts[seed, "val"]
        assert not set(train) & set(val) and len(train) + len(val) == 14 and 1 <= len(val) <= 4
        assert not {n.partition(".rf.")[0] for n in train} & {n.partition(".rf.")[0] for n in val}
    assert len({tuple(parts[seed, "val"]) for seed in (0, 1, 2)}) > 1
    moved = part_of(HoldOut(0.3, 0), listing, "val", dataset.root)
    assert [Path(path).name for path in moved] == parts[0, "val"]
