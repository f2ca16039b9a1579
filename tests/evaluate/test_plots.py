"""Drawing and plots: files exist, show something, and leave the user's matplotlib alone."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from coco_reference import add
from rows import each
from yolodet.datasets.formats.record import Record
from yolodet.datasets.nouns import Batch
from yolodet.detector.evaluate import course, plots
from yolodet.detector.evaluate.checked import worst_images
from yolodet.detector.evaluate.draw import (
    BACKGROUND,
    CAPTION,
    PALETTE,
    Tag,
    _place_tag,
    class_color,
    draw_detections,
    fit,
    tile_images,
)
from yolodet.detector.evaluate.evaluator import Evaluation, Picture
from yolodet.detector.evaluate.metrics import DetectionCollector
from yolodet.detector.evaluate.pictures import WRONG, plot_worst
from yolodet.detector.evaluate.postprocess import Detections

GRAY = np.full((120, 160, 3), 90, np.uint8)


def changed(image: np.ndarray, original: np.ndarray) -> np.ndarray:
    return (image != original).any(-1)


def test_a_box_is_drawn_in_its_class_color_where_it_lies_on_a_copy():
    image = GRAY.copy()
    drawn = draw_detections(image, np.array([[40.0, 50, 100, 110]]), [7], None, ["x"] * 8)
    assert (image == GRAY).all() and drawn.dtype == np.uint8
    for y, x in ((110, 70), (80, 40), (80, 100)):
        assert tuple(drawn[y, x]) == class_color(7)
    assert not changed(drawn, GRAY)[60:100, 50:90].any()  # the inside stays visible
    assert not changed(drawn, GRAY)[:, 110:].any()


@each("box", [[0, 0, 160, 120], [150, 100, 159, 119], [-50, -50, 400, 5], [155, 0, 160, 4]])
def test_tags_stay_whole_inside_the_picture(box):
    """The tag's area is the same wherever the box lies."""
    color = class_color(0)
    inside = draw_detections(GRAY, np.array([[40.0, 60, 60, 80]]), [0], [0.5], ["zebra"])
    pushed = draw_detections(GRAY, np.array([box], float), [0], [0.5], ["zebra"])
    tag = inside[:58].reshape(-1, 3)
    filled = (tag == color).all(-1).sum()
    assert filled > 300
    assert (pushed == color).all(-1).sum() >= filled


def test_the_best_detection_lies_on_top():
    boxes = np.array([[40.0, 50, 100, 110], [40.0, 50, 100, 110]])
    drawn = draw_detections(GRAY, boxes, [1, 2], [0.9, 0.1], ["a", "b", "c"])
    assert tuple(drawn[110, 70]) == class_color(1)


def test_line_width_follows_the_picture_or_the_caller():
    def thickness(image, **options):
        side = len(image)
        box = np.array([[side * 0.2, side * 0.5, side * 0.8, side * 0.9]])
        drawn = draw_detections(image, box, [0], None, ["a"], **options)
        return changed(drawn, image)[int(side * 0.85) : int(side * 0.95), side // 2].sum()

    small, large = (np.full((side, side, 3), 90, np.uint8) for side in (320, 2560))
    assert thickness(small) == 1
    assert thickness(large) == 12
    assert thickness(small, line_width=5) == 5


def test_no_box_an_id_without_a_name_and_a_view_in_other_memory_are_drawn():
    assert (draw_detections(GRAY, np.empty((0, 4)), [], [], []) == GRAY).all()
    drawn = draw_detections(GRAY[:, ::-1], np.array([[9.0, 30, 50, 70]]), [23], None, ["a"])
    assert tuple(drawn[70, 30]) == PALETTE[3]


def test_colors_of_classes_are_far_apart():
    colors = np.array(PALETTE, float)
    assert len(colors) == 20
    distances = np.abs(colors[:, None] - colors[None]).sum(-1) + 999 * np.eye(20)
    assert distances.min() > 50


def test_a_contact_sheet_has_a_place_for_every_picture():
    wide, high = np.full((50, 100, 3), 10, np.uint8), np.full((200, 100, 3), 20, np.uint8)
    sheet = tile_images([wide, wide, high], columns=2, cell=60, gap=4)
    assert sheet.shape == (4 + 30 + 4 + 60 + 4, 4 + 64 * 2, 3)
    assert tuple(sheet[0, 0]) == BACKGROUND
    assert (sheet == 10).all(-1).sum() == 2 * 60 * 30 and (sheet == 20).all(-1).sum() == 60 * 30
    assert tile_images([], 4, 60).shape[2] == 3


def test_fitting_keeps_the_ratio_of_the_sides():
    assert fit(np.zeros((100, 50, 3), np.uint8), 40).shape == (40, 20, 3)
    assert fit(np.zeros((1, 300, 3), np.uint8), 30).shape == (1, 30, 3)


# -- plots ---------------------------------------------------------------------------------------


def evaluation_of(num_classes: int, true=True, found=True) -> Evaluation:
    """Images of 96 x 64 with two objects of most classes, found a little shifted."""
    rng = np.random.default_rng(0)
    names = [f"name {i}" for i in range(num_classes)]
    collector, pictures = DetectionCollector(names), []
    for i in range(num_classes + 4):
        low = rng.random((2, 2)) * 40
        boxes = np.concatenate((low, low + 12 + rng.random((2, 2)) * 10), 1).astype(np.float32)
        labels = np.array([i, i + 3]) % num_classes
        scores = torch.tensor([0.9, 0.4]) - 0.3 * torch.rand(2)
        shifted = torch.from_numpy(boxes + rng.normal(size=(2, 4)).astype(np.float32))
        detections = Detections(shifted, scores, torch.from_numpy(labels))
        truth = (boxes, labels) if true else (np.empty((0, 4)), np.empty(0, int))
        detections = detections if found else detections.above(2.0)
        add(collector, i, (64, 96), *truth, detections)
        image = rng.integers(0, 255, (64, 96, 3)).astype(np.uint8)
        pictures.append(Picture(image, *truth, detections))
    speed = {"preprocess": 1.0, "inference": 2.0, "postprocess": 3.0}
    return Evaluation(collector.compute(), speed, collector, pictures[:3])


def shown(path: Path) -> np.ndarray:
    """The picture at ``path``, which is no blank sheet and alone in its folder."""
    image = cv2.imread(str(path))
    assert image is not None and min(image.shape[:2]) > 150
    assert image.std() > 3
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # nothing temporary is left
    return image


KINDS = [
    evaluation_of(1),
    evaluation_of(3),
    evaluation_of(80),
    evaluation_of(2, true=False),
    evaluation_of(2, found=False),
    evaluation_of(2, true=False, found=False),
]


@each("evaluation", KINDS)
@pytest.mark.filterwarnings("error")
def test_plots_of_an_evaluation_show_something(evaluation, tmp_path):
    metrics, names = evaluation.metrics, evaluation.metrics.class_names
    for folder in ("pr", "conf", "matrix", "pictures"):
        (tmp_path / folder).mkdir()
    plots.plot_pr_curve(metrics, tmp_path / "pr" / "a.png")
    plots.plot_confidence_curves(metrics, tmp_path / "conf" / "a.png")
    plots.plot_confusion_matrix(metrics, names, tmp_path / "matrix" / "a.png")
    plots.plot_detections(evaluation, names, tmp_path / "pictures" / "a.jpg")
    shown(tmp_path / "pr" / "a.png")
    assert shown(tmp_path / "conf" / "a.png").shape[1] > 1500
    matrix = shown(tmp_path / "matrix" / "a.png")
    assert matrix.shape[0] > (1500 if len(names) == 80 else 500)
    shown(tmp_path / "pictures" / "a.jpg")


def test_detections_below_the_best_confidence_are_not_drawn(tmp_path):
    evaluation = evaluation_of(1)
    picture = evaluation.pictures[0]
    weak = Detections(picture.detections.boxes, torch.full((2,), 0.001), torch.zeros(2).long())
    images = []
    for number, detections in enumerate((weak, weak.above(1.0))):
        drawn = Picture(picture.image, picture.boxes, picture.labels, detections)
        path = tmp_path / f"{number}.png"
        one = Evaluation(evaluation.metrics, {}, evaluation.collector, [drawn])
        plots.plot_detections(one, ["a"], path)
        images.append(cv2.imread(str(path)))
    np.testing.assert_array_equal(*images)


def test_a_batch_is_shown_as_it_is_fed_with_its_boxes(tmp_path):
    count, side = 20, 96
    images = torch.randint(0, 255, (count, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    boxes = torch.tensor([[10.0, 10, 60, 60], [20, 20, 90, 90]])
    batch = Batch(images, boxes, torch.tensor([0, 1]), torch.tensor([0, 5]), list(range(count)),
                  [Path("x")] * count, [(side, side)] * count, [None] * count)  # fmt: skip
    plots.plot_batch(iter([batch.first(10), batch]), ["a", "b"], tmp_path / "a.png")
    sheet = shown(tmp_path / "a.png")[..., ::-1]
    assert sheet.shape == (4 * 406 + 6, 4 * 406 + 6, 3)  # 16 of the 30
    share = 400 / (400 + CAPTION)  # under its file name an image is fitted into its cell
    bottom = 6 + share * (CAPTION + 60 * 400 / side)
    middle = 6 + 200 + share * (35 - side / 2) * 400 / side
    near = sheet[round(bottom) - 1 : round(bottom) + 2, round(middle)].astype(int)
    assert np.abs(near - class_color(0)).sum(1).min() < 60


@each(("num_classes", "num_records"), [(1, 0), (1, 40), (80, 0), (80, 40)])
@pytest.mark.filterwarnings("error")
def test_a_data_set_is_shown_at_a_glance(num_classes, num_records, tmp_path):
    rng = np.random.default_rng(0)
    records = []
    for _ in range(num_records):
        low = rng.random((3, 2)) * 40
        boxes = np.concatenate((low, low + 20), 1).astype(np.float32)
        records.append(Record(Path("x"), (64, 96), boxes, rng.integers(0, num_classes, 3)))
    plots.plot_labels(records, [f"name {i}" for i in range(num_classes)], tmp_path / "a.png")
    shown(tmp_path / "a.png")


def result_rows(epochs: int) -> list[dict]:
    return [
        {
            "epoch": i + 1, "time": 3.0 * i, "train/box_loss": 2 / (i + 1), "train/cls_loss": 1.0,
            "val/box_loss": 1.0, "train/dfl_loss": 0.5, "lr": 0.01,
            "precision": "fp16" if i < 3 else "bf16", "loss_scale": 2.0**16 if i < 3 else 1.0,
            "skipped": min(i, 3),
            "metrics/map": 0.1 * i if i % 2 else "", "metrics/map_50": 0.2,
            "metrics/precision": 0.5, "metrics/recall": float("nan"),
        }
        for i in range(epochs)
    ]  # fmt: skip


@each("epochs", [0, 1, 100])
@pytest.mark.filterwarnings("error")
def test_the_course_of_a_training_is_drawn_from_rows_or_their_file(epochs, tmp_path):
    rows = result_rows(epochs)
    (tmp_path / "csv").mkdir()
    (tmp_path / "plots").mkdir()
    file = tmp_path / "csv" / "results.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(result_rows(1)[0]))
        writer.writeheader()
        writer.writerows(rows)
    plots.plot_results(file, tmp_path / "plots" / "a.png")
    from_file = shown(tmp_path / "plots" / "a.png")
    plots.plot_results(rows, tmp_path / "plots" / "a.png")
    if epochs:
        np.testing.assert_array_equal(from_file, shown(tmp_path / "plots" / "a.png"))
        assert from_file.shape[0] > 800  # seven panels: two rows of four


def test_the_worst_images_come_first_and_their_errors_are_counted(tmp_path):
    """Three images: all right; one missed and two false; one missed."""
    collector, paths = DetectionCollector(["a", "b"]), []
    box = np.array([[10.0, 10, 40, 40]], np.float32)
    far = np.array([[60.0, 60, 90, 90]], np.float32)
    found = [(box, [0]), (np.concatenate((far, box)), [0, 1]), (box[:0], [])]
    for place, (boxes, labels) in enumerate(found):
        paths.append(tmp_path / f"image{place}.png")
        cv2.imwrite(str(paths[-1]), np.full((100, 100, 3), 40 * place, np.uint8))
        detections = Detections(
            torch.from_numpy(boxes), torch.full((len(labels),), 0.9), torch.tensor(labels).long()
        )
        add(collector, place, (100, 100), box, np.array([0]), detections)
    evaluation = Evaluation(collector.compute(), {}, collector, [], paths)
    worst = [(place, checked.missed.sum(), checked.false.sum())
             for place, checked in worst_images(evaluation)]  # fmt: skip
    assert worst == [(1, 1, 2), (2, 1, 0)]
    paths[2].unlink()  # an image that is gone is left out
    (tmp_path / "plots").mkdir()
    plot_worst(evaluation, ["a", "b"], tmp_path / "plots" / "a.png")
    image = cv2.imread(str(tmp_path / "plots" / "a.png"))[..., ::-1]
    assert image.shape[0] < 500 and (image == WRONG).all(-1).sum() > 1000


def test_tags_of_overlapping_boxes_do_not_hide_each_other():
    boxes = np.array([[40.0, 50, 100, 110], [42.0, 51, 100, 110], [44.0, 52, 101, 112]])
    tags: list[Tag] = []
    for place, box in enumerate(boxes.astype(int).tolist()):
        tags.append(_place_tag((160, 160), f"a long name {place}", box, 1, tags))
    canvas = np.zeros((160, 160), int)
    for tag in tags:
        left, top, right, bottom = tag.corners
        assert left >= 0 and top >= 0 and right <= 160 and bottom <= 160
        canvas[top:bottom, left:right] += 1
    assert canvas.max() == 1


def test_false_alarms_are_a_share_of_the_detections_and_absent_classes_are_not_shown():
    counts = np.zeros((5, 5), int)
    counts[0] = (8, 0, 0, 0, 2)
    counts[2] = (0, 0, 5, 0, 5)
    counts[4, :4] = (2, 0, 15, 0)  # 15 of 20 detections of class 2 hit nothing
    shown, shares = plots.confusion_shares(counts)
    assert shown == [0, 2, 4]
    np.testing.assert_allclose(shares, [[0.8, 0, 0.2], [0, 0.5, 0.5], [0.2, 0.75, 0]])


@pytest.mark.parametrize(("precision", "skipped", "panels"), [("fp32", 0, 6), ("fp32", 2, 7)])
def test_the_panel_of_the_precision_is_there_when_it_tells_something(
    precision, skipped, panels, tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr(course, "_precision", lambda axes, rows: drawn.append("precision"))
    monkeypatch.setattr(course, "_epoch_lines", lambda axes, rows, names: drawn.append("lines"))
    rows = [row | {"precision": precision, "skipped": skipped, "val/cls_loss": float("nan")}
            for row in result_rows(3)]  # fmt: skip
    plots.plot_results(rows, tmp_path / "a.png")
    assert len(drawn) == panels and drawn.count("precision") == panels - 6


def test_the_users_matplotlib_is_left_alone(tmp_path):
    """A fresh interpreter: no pyplot, no change of settings or backend."""
    code = """
import sys, matplotlib, pathlib
before = matplotlib.rcParams.copy()  # reading a setting one by one would load pyplot
from yolodet.detector.evaluate import plots
plots.plot_results([{"epoch": 1, "lr": 0.1}], pathlib.Path(sys.argv[1]))
assert "matplotlib.pyplot" not in sys.modules
assert matplotlib.rcParams.copy() == before
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)
    shown(tmp_path / "a.png")
