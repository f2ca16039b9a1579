"""What a scan keeps on disk: the same answer, only what changed is read again, no harm if lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made_data import ROW, add_image, data_set
from rows import each
from yolodet.datasets.scan import scan as scan_module
from yolodet.datasets.scan.scan import EmptyDatasetError, Scan, scan_split
from yolodet.datasets.sets.locate import Dataset


def ready(root: Path) -> Dataset:
    for name, row in (("a", ROW), ("b", ROW * 2), ("c", ""), ("d", None)):
        add_image(root / f"images/train/{name}.jpg", row=row)
    return data_set(root)


def same(one: Scan, two: Scan) -> bool:
    return (
        [(r.path, r.size, r.boxes.tolist(), r.labels.tolist()) for r in one.records]
        == [(r.path, r.size, r.boxes.tolist(), r.labels.tolist()) for r in two.records]
        and one.findings == two.findings
        and one.fingerprint == two.fingerprint
        and {r.labels.dtype for r in two.records} == {np.dtype(np.int64)}
        and {r.boxes.dtype for r in two.records} == {np.dtype(np.float32)}
    )


def later(path: Path) -> None:
    """The same content, changed one second later."""
    stamp = path.stat().st_mtime_ns + 1_000_000_000
    os.utime(path, ns=(stamp, stamp))


def test_warm_scan_equals_the_cold_one_and_reads_nothing(
    tmp_path: Path, cache_folder: Path, reads: list[str]
) -> None:
    dataset = ready(tmp_path / "set")
    cold = scan_split(dataset, "train")
    assert sorted(reads) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    warm = scan_split(dataset, "train")
    assert len(reads) == 4
    assert same(cold, warm)
    assert len(list((cache_folder / "scans").iterdir())) == 1
    assert not list((tmp_path / "set").rglob("*cache*"))
    assert same(cold, scan_split(dataset, "train", cache=False))
    assert len(reads) == 8


@each(
    ("change", "read_again"),
    [
        (lambda root: later(root / "images/train/a.jpg"), ["a.jpg"]),
        (lambda root: later(root / "labels/train/b.txt"), ["b.jpg"]),
        (lambda root: (root / "labels/train/b.txt").write_text(ROW), ["b.jpg"]),
        (lambda root: (root / "labels/train/b.txt").unlink(), ["b.jpg"]),
        (lambda root: (root / "labels/train/d.txt").write_text(ROW), ["d.jpg"]),
        (lambda root: add_image(root / "images/train/a.jpg", (30, 30)), ["a.jpg"]),
        (lambda root: add_image(root / "images/train/bb.jpg"), ["bb.jpg"]),
        (lambda root: (root / "images/train/a.jpg").unlink(), []),
    ],
)
def test_only_what_changed_is_read_again(
    tmp_path: Path, reads: list[str], change: object, read_again: list[str]
) -> None:
    dataset = ready(tmp_path / "set")
    before = scan_split(dataset, "train")
    assert callable(change)
    change(tmp_path / "set")
    reads.clear()
    after = scan_split(dataset, "train")
    assert reads == read_again
    assert after.fingerprint != before.fingerprint
    assert same(after, scan_split(dataset, "train", cache=False))
    reads.clear()
    assert same(after, scan_split(dataset, "train"))
    assert reads == []


def test_another_number_of_classes_is_another_scan(tmp_path: Path) -> None:
    dataset = ready(tmp_path / "set")
    scan_split(dataset, "train")
    fewer = Dataset("tiny", ("a",), dataset.splits, dataset.root, dataset.yaml)
    with pytest.raises(EmptyDatasetError, match="class 1 is unknown; the classes are 0 only"):
        scan_split(fewer, "train")


@each(
    "damage",
    [
        lambda file: file.write_bytes(b"rubbish"),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:300]),
        lambda file: np.savez(file, paths=np.zeros(3, np.uint8)),
        lambda file: np.savez(file, **{**dict(np.load(file)), "counts": np.array([9, 9, 9, 9])}),
        lambda file: np.savez(file, **{**dict(np.load(file)), "counts": np.array([9, -5, 0, 0])}),
        lambda file: np.savez(file, **{**dict(np.load(file)), "findings": np.zeros(4, np.uint8)}),
        lambda file: np.savez(file, **{**dict(np.load(file)), "boxes": np.array([None] * 3)}),
        lambda file: (file.unlink(), file.mkdir()),
    ],
)
def test_damaged_cache_is_passed_over(
    tmp_path: Path, cache_folder: Path, reads: list[str], damage: object
) -> None:
    dataset = ready(tmp_path / "set")
    cold = scan_split(dataset, "train")
    assert callable(damage)
    damage(next((cache_folder / "scans").iterdir()))
    reads.clear()
    assert same(cold, scan_split(dataset, "train"))
    assert len(reads) == 4


def test_cache_folder_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "file"))
    assert len(scan_split(ready(tmp_path / "set"), "train").records) == 4
    monkeypatch.setattr(scan_module, "cache_path", lambda *_: None)
    assert len(scan_split(ready(tmp_path / "set"), "train").records) == 4


def test_fingerprint_follows_content_and_names_but_not_the_place(tmp_path: Path) -> None:
    dataset = ready(tmp_path / "set")
    before = scan_split(dataset, "train").fingerprint
    (tmp_path / "set").rename(tmp_path / "moved")
    moved = data_set(tmp_path / "moved")
    assert scan_split(moved, "train").fingerprint == before
    renamed = Dataset("other", ("a", "c"), moved.splits, moved.root, moved.yaml)
    assert scan_split(renamed, "train").fingerprint != before


def test_odd_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "set/images/train"
    for name in ("with space.jpg", "two\nlines.jpg", "käse.jpg", "a.b.c.jpg"):
        add_image(folder / name)
    raw = os.fsdecode(b"raw\xff")
    (folder / f"{raw}.jpg").write_bytes((folder / "käse.jpg").read_bytes())
    cold, warm = (scan_split(data_set(tmp_path / "set"), "train") for _ in range(2))
    assert len(cold.records) == 5
    assert sum(len(record.labels) for record in cold.records) == 4
    assert same(cold, warm)
