"""Scanning a split: which images, which boxes, what is reported, and what the cache may keep."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_data import ROW, add_image, data_set
from yolodet.datasets.scan import scan as scan_module
from yolodet.datasets.scan.scan import EmptyDatasetError, Scan, scan_split, spread
from yolodet.datasets.sets.locate import DatasetError


def names(scan: Scan) -> list[str]:
    return [record.path.name for record in scan.records]


def told(scan: Scan) -> list[tuple[str, str, str, int]]:
    return [(f.id, f.severity, f.path.name, f.line) for f in scan.findings]


def test_records_of_a_folder_with_subfolders(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("b.jpg", "a.PNG", "sub/deep/c.bmp", "d.webp", "e.tiff", "f.jpeg"):
        add_image(root / "images/train" / name)
    add_image(root / "images/train/g.tif", row=None)
    add_image(root / "images/train/h.jpg", row="")
    done: list[tuple[int, int]] = []
    scan = scan_split(data_set(root), "train", on_progress=lambda *step: done.append(step))
    assert [str(r.path.relative_to(root / "images/train")) for r in scan.records] == [
        "a.PNG", "b.jpg", "d.webp", "e.tiff", "f.jpeg", "g.tif", "h.jpg", "sub/deep/c.bmp",
    ]  # fmt: skip
    first = scan.records[0]
    assert (first.size, first.boxes.tolist(), first.labels.tolist()) == (
        (20, 40), [[10, 5, 30, 15]], [1],
    )  # fmt: skip
    assert [len(record.labels) for record in scan.records] == [1, 1, 1, 1, 1, 0, 0, 1]
    assert scan.findings == []
    assert scan.num_images == 8
    assert [path.name for path in scan.unlabeled] == ["g.tif"]
    assert done[-1] == (8, 8)


def test_other_files_are_reported_once_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "set/images/train"
    add_image(folder / "a.jpg")
    for name in ("b.gif", "c.heic", "d.gif", "e", "notes.txt", ".DS_Store", "._a.jpg"):
        (folder / name).write_text("x")
    add_image(folder / ".thumbs/t.jpg"), add_image(folder / "__MACOSX/m.jpg")
    scan = scan_split(data_set(tmp_path / "set"), "train")
    assert names(scan) == ["a.jpg"]
    assert told(scan) == [("file-suffix", "warning", "train", 0)]
    assert "not used because of their suffix: 4 files (.gif 2, " in scan.findings[0].message


def test_list_files_and_their_wrong_lines(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("a", "b", "c", "d"):
        add_image(root / f"images/{name}.jpg")
    add_image(root / "lists/images/near.jpg")
    lines = [
        "images/a.jpg",  # under the root
        "./images/near.jpg",  # beside the list
        "",
        str(root / "images/b.jpg"),
        "images/a.jpg",
        "images/gone.jpg",
        "movie.mp4",
        "../images/c.jpg",
    ]
    (root / "lists/train.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    scan = scan_split(data_set(root, "lists/train.txt"), "train")
    assert names(scan) == ["a.jpg", "b.jpg", "c.jpg", "near.jpg"]
    assert told(scan) == [
        ("image-listed-twice", "warning", "train.txt", 5),
        ("image-missing", "error", "train.txt", 6),
        ("file-suffix", "warning", "train.txt", 0),
    ]
    assert f"looked under {root}/lists and {root}" in scan.findings[1].message


def test_sources_that_overlap_give_each_image_once(tmp_path: Path) -> None:
    root = tmp_path / "set"
    add_image(root / "images/train/sub/a.jpg"), add_image(root / "images/more/b.jpg")
    sources = ("images/train", "images/train/sub", "images/more")
    scan = scan_split(data_set(root, *sources), "train")
    assert names(scan) == ["b.jpg", "a.jpg"]  # sorted by whole path
    assert told(scan) == [("image-listed-twice", "warning", "a.jpg", 0)]


def test_linked_folders_end(tmp_path: Path) -> None:
    root = tmp_path / "set"
    add_image(root / "images/train/a.jpg")
    (root / "images/train/loop").symlink_to(root / "images/train")
    (root / "images/train/dead.jpg").symlink_to(root / "nowhere.jpg")
    scan = scan_split(data_set(root), "train")
    assert names(scan) == ["a.jpg"]
    assert told(scan) == [("image-missing", "error", "dead.jpg", 0)]


def test_unusable_images_are_findings_and_left_out(tmp_path: Path) -> None:
    root = tmp_path / "set"
    folder = root / "images/train"
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    for name in ("cut.jpg", "cut.png", "ok.jpg", "ok.png", "cut.bmp", "cut.webp"):
        add_image(folder / name)
        assert cv2.imwrite(str(folder / name), noise)
        if name.startswith("cut"):
            whole = (folder / name).read_bytes()
            (folder / name).write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "html.jpg").write_text("<html>not found</html>")
    (folder / "wrong.jpg").write_bytes((folder / "ok.png").read_bytes())  # content decides
    (folder / "more.jpg").write_bytes((folder / "ok.jpg").read_bytes() + b"\0 appended \0")
    for _ in range(2):  # what cannot be used is not remembered, and reported again
        scan = scan_split(data_set(root), "train")
        assert names(scan) == ["more.jpg", "ok.jpg", "ok.png", "wrong.jpg"]
        assert sorted(told(scan)) == [
            ("image-unreadable", "error", name, 0)
            for name in ("cut.bmp", "cut.jpg", "cut.png", "cut.webp", "empty.jpg", "html.jpg")
        ]
    by_name = {f.path.name: f.message for f in scan.findings}
    assert by_name["cut.jpg"].startswith("cut short")


def test_label_findings_reach_the_scan_with_their_line(tmp_path: Path) -> None:
    add_image(tmp_path / "set/images/train/a.jpg", row=ROW + "7 .5 .5 .1 .1\n")
    for _ in range(2):  # read, then from the cache
        scan = scan_split(data_set(tmp_path / "set"), "train")
        assert told(scan) == [("label-class-range", "error", "a.txt", 2)]
        assert scan.findings[0].path == tmp_path / "set/labels/train/a.txt"
        assert len(scan.records[0].labels) == 1


def test_empty_splits_are_errors_that_say_what_was_looked_for(tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "images/train").mkdir(parents=True)
    with pytest.raises(EmptyDatasetError) as caught:
        scan_split(data_set(root), "train")
    assert str(caught.value).startswith("tiny, train: no image found; looked for .bmp .jpeg .jpg")
    assert str(root / "images/train") in str(caught.value)
    assert caught.value.exit_code == 1

    (root / "list.txt").write_text("images/train/gone.jpg\n")
    with pytest.raises(EmptyDatasetError, match=r"list\.txt:1: 'images/train/gone\.jpg' does not "):
        scan_split(data_set(root, "list.txt"), "train")

    add_image(root / "images/train/a.jpg", row=None)
    with pytest.raises(EmptyDatasetError) as caught:
        scan_split(data_set(root), "train")
    assert "no usable box in 1 image; label files found: 0, the first " in str(caught.value)
    assert f"the first is expected at {root}/labels/train/a.txt" in str(caught.value)

    scan = scan_split(data_set(root, split="val"), "val")
    assert told(scan) == [("split-without-box", "warning", "train", 0)]

    add_image(root / "images/train/a.jpg", row="320 240 64 48\n")
    with pytest.raises(EmptyDatasetError, match=r"a\.txt:1: 4 columns"):
        scan_split(data_set(root), "train")

    (root / "images/train/a.jpg").write_bytes(b"")
    with pytest.raises(EmptyDatasetError, match=r"no usable image \(1 image looked at\); first "):
        scan_split(data_set(root), "train")


def test_wrong_split_and_fraction(tmp_path: Path) -> None:
    add_image(tmp_path / "images/train/a.jpg")
    with pytest.raises(DatasetError, match="no images to validate on: there is train"):
        scan_split(data_set(tmp_path), "val")
    for fraction in (0.0, -0.5, 1.01, float("nan")):
        with pytest.raises(DatasetError, match="expected more than 0 and at most 1"):
            scan_split(data_set(tmp_path), "train", fraction=fraction)


def test_fraction_is_evenly_spread() -> None:
    items = [f"{number:03d}" for number in range(100)]
    assert spread(items, 1.0) == items
    assert spread(items, 0.1) == items[::10]
    assert spread(items, 0.001) == ["000"]
    two_thirds = spread(items, 2 / 3)
    assert len(two_thirds) == len(set(two_thirds)) == 67
    places = np.array([int(item) for item in two_thirds])
    assert set(np.diff(places)) == {1, 2}


def test_fraction_reads_only_its_images(tmp_path: Path, reads: list[str]) -> None:
    for number in range(10):
        add_image(tmp_path / f"images/train/{number}.jpg")
    half = scan_split(data_set(tmp_path), "train", fraction=0.5)
    assert names(half) == sorted(reads) == ["0.jpg", "2.jpg", "4.jpg", "6.jpg", "8.jpg"]
    assert half.fingerprint != scan_split(data_set(tmp_path), "train").fingerprint


def test_interruption_does_not_read_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(60):
        add_image(tmp_path / f"images/train/{number}.jpg")
    reads: list[Path] = []
    canceled = threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            canceled.set()
            super().shutdown(wait=wait)

    def slow(path: Path) -> tuple[int, int]:
        reads.append(path)
        assert path.name == "0.jpg" or canceled.wait(60)
        return 20, 40

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scan_module, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(scan_module, "image_size", slow)
    monkeypatch.setattr(scan_module, "CHUNK", 1)
    with pytest.raises(KeyboardInterrupt):
        scan_split(data_set(tmp_path), "train", on_progress=interrupt)
    assert len(reads) <= scan_module.THREADS + 1  # those that had begun


def test_garbage_collection_is_off_while_a_split_is_read(tmp_path: Path) -> None:
    root = tmp_path / "set"
    add_image(root / "images/train/a.jpg")
    seen: list[bool] = []
    scan_split(data_set(root), "train", on_progress=lambda *_: seen.append(gc.isenabled()))
    assert seen and not any(seen) and gc.isenabled()
    with pytest.raises(DatasetError):
        scan_split(data_set(root), "train", fraction=2.0)
    assert gc.isenabled()
    gc.disable()
    try:
        scan_split(data_set(root), "train")
        assert not gc.isenabled()
    finally:
        gc.enable()
