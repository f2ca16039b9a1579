"""The embedded data set: fixed by its seed, exact in its boxes, whole or absent on disk."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from rows import each
from yolodet.datasets.drawn.decoys import DECOYS
from yolodet.datasets.drawn.objects import KINDS
from yolodet.datasets.drawn.shapes import SHAPE_CLASSES, ShapesError, draw_scene, write_shapes
from yolodet.datasets.drawn.stage import MIN_INSIDE, MIN_VISIBLE, SOLID, Look, Stage, pose

PLAIN = Look(np.array([0.0, 1.0]), 0.0, 0.0, np.zeros(3, np.uint8), 0.0)


def same(first: tuple[np.ndarray, ...], second: tuple[np.ndarray, ...]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def bounds(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


# ---------------------------------------------------------------- scenes


def test_a_scene_is_the_same_to_the_byte_for_its_seed_and_index_and_no_other():
    scene = draw_scene(3, 7, 192)
    assert same(scene, draw_scene(3, 7, 192))
    assert not np.array_equal(scene[0], draw_scene(4, 7, 192)[0])
    assert not np.array_equal(scene[0], draw_scene(3, 8, 192)[0])


def test_a_scene_does_not_depend_on_the_number_of_opencv_threads():
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = draw_scene(1, 2, 640)
        cv2.setNumThreads(4)
        assert same(alone, draw_scene(1, 2, 640))
    finally:
        cv2.setNumThreads(threads)


def test_scenes_keep_their_promises_about_sizes_labels_and_boxes():
    scenes = [draw_scene(0, index, 128) for index in range(150)]
    for image, boxes, labels in scenes:
        height, width = image.shape[:2]
        assert image.dtype == np.uint8 and image.shape[2] == 3 and max(height, width) == 128
        assert boxes.dtype == np.float32 and boxes.shape == (len(labels), 4) and len(labels) <= 12
        assert labels.dtype == np.int64 and ((labels >= 0) & (labels < len(SHAPE_CLASSES))).all()
        assert (boxes >= 0).all() and (boxes[:, 2:] <= (width, height)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    counts = [len(labels) for _, _, labels in scenes]
    assert 1 <= counts.count(0) <= 25 and max(counts) >= 8
    assert set(np.concatenate([labels for _, _, labels in scenes])) == set(range(len(KINDS)))
    assert len({image.shape for image, _, _ in scenes}) >= 4


def test_easy_scenes_have_few_large_objects_of_four_kinds():
    scenes = [draw_scene(0, index, 160, easy=True) for index in range(60)]
    counts = [len(labels) for _, _, labels in scenes]
    assert max(counts) == 4 and set(np.concatenate([s[2] for s in scenes])) == {0, 1, 2, 3}
    boxes = np.concatenate([boxes for _, boxes, _ in scenes])
    longer = (boxes[:, 2:] - boxes[:, :2]).max(1)
    assert np.median(longer) > 0.25 * 160


def test_objects_are_mostly_small_and_sometimes_large():
    sides = np.concatenate([(boxes[:, 2:] - boxes[:, :2]).max(1)
                            for boxes in (draw_scene(0, i, 320)[1] for i in range(60))]) / 320
    assert np.median(sides) < 0.2 and sides.max() > 0.35 and (sides < 0.06).any()
    assert sides.max() < 0.8 and sides.min() > 0.02


@pytest.mark.parametrize(("seed", "index", "size"), [(-1, 0, 640), (0, -1, 640), (0, 0, 63)])
def test_numbers_that_cannot_be_drawn_are_refused(seed: int, index: int, size: int):
    with pytest.raises(ShapesError, match="expected") as caught:
        draw_scene(seed, index, size)
    assert caught.value.exit_code == 2


# ---------------------------------------------------------------- painters and boxes


@each("paint", [*(kind.paint for kind in KINDS.values()), *DECOYS])
def test_a_painter_fills_its_canvas_with_premultiplied_color_fixed_by_the_generator(paint):
    patch = paint(np.random.default_rng(5), 96)
    assert patch.shape == (96, 96, 4) and patch.dtype == np.uint8
    assert np.array_equal(patch, paint(np.random.default_rng(5), 96))
    assert not np.array_equal(patch, paint(np.random.default_rng(6), 96))
    assert (patch[:, :, :3].max(2).astype(int) <= patch[:, :, 3].astype(int) + 2).all()
    x1, y1, x2, y2 = bounds(patch[:, :, 3] >= SOLID)
    assert max(x2 - x1, y2 - y1) >= 0.75 * 96


@each("name", SHAPE_CLASSES)
def test_the_box_of_a_lone_object_is_where_it_hides_the_ground(name: str):
    """What shows through is measured from outside: the same object over black and over white."""
    kind, checked = KINDS[name], 0
    for seed in range(6):
        patch = pose(np.random.default_rng(seed), kind.paint, 20 + 18 * seed, kind.tilt,
                     kind.squash)
        black = Stage(np.zeros((160, 200, 3), np.uint8))
        white = Stage(np.full((160, 200, 3), 255, np.uint8))
        for stage in (black, white):
            placed = stage.place(np.random.default_rng(seed + 50), patch, PLAIN, 1)
        through = white.image.astype(int) - black.image.astype(int)
        if placed:
            assert black.boxes().tolist() == [bounds(through.min(2) <= 255 - SOLID)]
            checked += 1
    assert checked >= 4


def test_boxes_and_visibility_of_a_crowd_agree_with_the_finished_picture():
    """Flat rectangles of one color each, so that the picture alone tells what is visible."""
    covered = clipped = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        stage, areas = Stage(np.zeros((120, 160, 3), np.uint8)), []
        for number in range(14):
            patch = np.full((*rng.integers(10, 60, 2), 4), 255, np.uint8)
            label = number if number % 4 else None  # every fourth hides, and gets no box
            patch[:, :, :3] = number + 1
            if stage.place(rng, patch, PLAIN, label) and label is not None:
                areas.append(patch.shape[0] * patch.shape[1])
        for box, label, area in zip(stage.boxes(), stage.labels, areas, strict=True):
            visible = stage.image[:, :, 0] == label + 1
            assert box.tolist() == bounds(visible)
            assert visible.sum() >= min(MIN_VISIBLE, MIN_INSIDE) * area
            covered += int(visible.sum() < np.prod(box[2:] - box[:2]))
            clipped += int(visible.sum() < area)
    assert covered > 5 and clipped > covered  # the test has seen both cases


# ---------------------------------------------------------------- on disk


def test_a_written_data_set_reads_back_as_drawn(tmp_path: Path):
    calls: list[tuple[int, int]] = []
    path = write_shapes(tmp_path / "set", train=6, val=3, test=1, seed=2, size=96,
                        on_progress=lambda done, total: calls.append((done, total)))
    assert path == tmp_path / "set" / "data.yaml"
    assert calls == [(done, 10) for done in range(1, 11)]
    description = yaml.safe_load(path.read_text())
    assert description["names"] == dict(enumerate(SHAPE_CLASSES))
    assert "path" not in description and "val" in description and "test" in description
    for number in range(6):
        image, boxes, labels = draw_scene(2, number, 96)
        picture = path.parent / description["train"] / f"{number:06d}.jpg"
        stored = cv2.imread(str(picture))[:, :, ::-1]
        assert stored.shape == image.shape
        assert np.abs(stored.astype(int) - image).mean() < 12  # JPEG's loss on a small picture
        text = (path.parent / "labels" / "train" / f"{number:06d}.txt").read_text()
        rows = np.array([line.split() for line in text.splitlines()], float).reshape(-1, 5)
        assert rows[:, 0].tolist() == labels.tolist()
        assert (rows[:, 1:] >= 0).all() and (rows[:, 1:] <= 1).all()
        centers, halves = rows[:, 1:3], rows[:, 3:] / 2
        corners = np.concatenate([centers - halves, centers + halves], 1)
        scale = np.tile(image.shape[1::-1], 2)
        assert np.allclose(corners * scale, boxes, atol=1e-3)


def test_image_i_does_not_depend_on_how_many_are_written(tmp_path: Path):
    write_shapes(tmp_path / "few", train=3, val=2, size=96)
    write_shapes(tmp_path / "more", train=5, val=3, size=96)
    few, more = files(tmp_path / "few"), files(tmp_path / "more")
    assert few.items() <= more.items() and len(more) == len(few) + 6


def test_no_image_is_in_two_splits(tmp_path: Path):
    write_shapes(tmp_path / "set", train=3, val=3, test=3, size=96)
    pictures = [data for name, data in files(tmp_path / "set").items() if name.endswith(".jpg")]
    assert len(set(pictures)) == len(pictures) == 9


@pytest.mark.parametrize("kind", ["full folder", "file"])
def test_what_exists_is_refused_and_left_alone(tmp_path: Path, kind: str):
    target = tmp_path / "set"
    if kind == "file":
        target.write_text("mine")
    else:
        target.mkdir()
        (target / "mine.txt").write_text("mine")
    before = files(tmp_path)
    with pytest.raises(ShapesError, match="not an empty folder") as caught:
        write_shapes(target, train=1, val=1, size=96)
    assert caught.value.exit_code == 2 and isinstance(caught.value, ValueError)
    assert files(tmp_path) == before


def test_an_empty_folder_and_missing_parents_are_accepted(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert write_shapes(tmp_path / "empty", train=1, val=0, size=96).is_file()
    path = write_shapes(tmp_path / "a" / "b", train=1, val=0, size=96)
    assert "val" not in yaml.safe_load(path.read_text())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "empty"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_writing_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]):
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise error

    with pytest.raises(error):
        write_shapes(tmp_path / "set", train=2, val=2, size=96, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


@each("numbers", [
    {"train": 0, "val": 0}, {"train": -1, "val": 1}, {"train": 1, "val": 1, "seed": -1},
    {"train": 1, "val": 1, "size": 10},
])
def test_impossible_requests_are_refused_before_anything_is_written(tmp_path: Path, numbers: dict):
    with pytest.raises(ShapesError):
        write_shapes(tmp_path / "deep" / "set", **numbers)
    assert list(tmp_path.iterdir()) == []
