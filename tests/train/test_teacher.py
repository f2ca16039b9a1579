"""teacher=: the loss against a teacher, what a run keeps of it, and which teachers are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from rows import each
from tiny import make_batch, make_trainer, needs_bf16, rows_of, saved, tiny_detector, train
from torch import Tensor
from yolodet.cli import main
from yolodet.datasets.nouns import Batch
from yolodet.detector.losses.detection import DetectionLoss, Gains
from yolodet.detector.losses.distill import Distillation, Lesson, feature_loss
from yolodet.detector.models.build import build
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.predictions import AUXILIARY
from yolodet.detector.options.errors import UsageError
from yolodet.detector.run.folder import BEST
from yolodet.detector.run.observer import Epoch, Observer
from yolodet.detector.train.teacher import class_order
from yolodet.weights.checkpoint import Meta, load_weights, read_meta, save_weights

CLASSES = ("square", "disc")


class Told:
    """A teacher that answers with a detector's predictions."""

    def __init__(self, model: Detector) -> None:
        self.about = {"model": "told"}
        self.model, self.branches = model, tuple(b for b in model.branches if b != AUXILIARY)

    def __call__(self, images: Tensor) -> Lesson:
        with torch.no_grad():
            return Lesson(self.model(images, self.branches))

    def use(self, dtype: torch.dtype) -> None:
        """It has one precision."""


@torch.no_grad()
def seen(model: Detector, batch: Batch) -> Detector:
    """The model with the batch-norm statistics of a batch: random weights that look at images."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
        if isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            module.weight *= 0.01  # a random log of a size may be beyond exp
    model.train()(batch.images)
    for key in model.class_keys:
        if key.endswith("bias"):
            model.get_parameter(key).add_(4.0)  # as sure as a trained one
    return model.eval()


@torch.no_grad()
def loss_of(student: Detector, teacher: Detector, batch: Batch) -> tuple[Tensor, Tensor]:
    """The loss against the teacher, and the part of it that a run shows."""
    criterion = DetectionLoss(Gains())
    alone = criterion(student(batch.images), batch)
    criterion.distillation = Distillation(Told(teacher), Gains())
    both = criterion(student(batch.images), batch)
    assert criterion.part_names == tuple(both.parts) == (*alone.parts, "distill")
    return (both.total - alone.total) / len(batch), both.parts["distill"]


@each(("name", "other"), [("yolo26n", "yolo26s"), ("yolov8n", "yolo11s"), ("yolov9t", "yolov8n"),
                          ("yolox_nano", "yolov8n"), ("yolov8n", "yolox_nano")])  # fmt: skip
def test_the_loss_is_zero_for_the_same_answers_only(name: str, other: str) -> None:
    torch.manual_seed(0)
    batch = make_batch(2)
    student, teacher = seen(build(name, 2), batch), seen(build(other, 2), batch)
    loss, shown = loss_of(student, student, batch)
    assert abs(float(loss)) < 1e-4 and abs(float(shown)) < 1e-4
    loss, shown = loss_of(student, teacher, batch)
    assert float(loss) == pytest.approx(float(shown), rel=1e-2) and float(loss) > 0.01


def test_a_student_learns_the_boxes_and_scores_of_its_teacher() -> None:
    torch.manual_seed(0)
    teacher, student, batch = tiny_detector().eval(), tiny_detector(), make_batch(4)
    with torch.no_grad():
        for tower in (*teacher.head.one_to_one.classes, *teacher.head.one_to_many.classes):
            tower[-1].bias += 4.0  # as sure as a trained one
    lesson = Distillation(Told(teacher), Gains())
    optimizer = torch.optim.Adam(student.parameters(), 0.01)
    losses = []
    for _ in range(30):
        criterion = DetectionLoss(Gains(0.0, 0.0, 0.0))  # the labels say nothing
        criterion.distillation = lesson
        output = criterion(student(batch.images), batch)
        optimizer.zero_grad()
        output.total.backward()
        optimizer.step()
        losses.append(float(output.parts["distill"]))
    assert losses[-1] < 0.2 * losses[0]


def test_features_are_compared_by_their_shape_not_their_scale() -> None:
    torch.manual_seed(0)
    levels = [torch.randn(2, 5, side, side) for side in (8, 4)]
    assert float(feature_loss([3 * x + 1 for x in levels], levels)) == pytest.approx(0, abs=1e-5)
    assert float(feature_loss([-x for x in levels], levels)) == pytest.approx(2, abs=1e-5)


@pytest.fixture(scope="module")
def teacher(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector of the ten classes of the shapes, trained for an epoch."""
    with pytest.MonkeyPatch.context() as patch:
        from tiny import use_tiny_detector

        use_tiny_detector(patch)
        return Path(train(shapes, tmp_path_factory.mktemp("teacher"), epochs=1)["best"])


def test_a_run_says_what_its_teacher_costs_and_keeps_which_it_was(
    tiny_models: None, shapes: Path, teacher: Path, tmp_path: Path
) -> None:
    result = train(shapes, tmp_path, teacher=str(teacher), epochs=1)
    folder = Path(result["folder"])
    said = [line for line in (folder / "log.txt").read_text().splitlines() if "teacher  " in line]
    assert len(said) == 1 and "parameters" in said[0] and "ms per image in fp32" in said[0]
    assert float(rows_of(folder)[0]["train/distill_loss"]) > 0
    assert f"teacher: {teacher}" in (folder / "args.yaml").read_text()
    about = read_meta(folder / BEST)
    known = about.data["teacher"]
    assert known["model"] == "yolo26n" and len(known["sha256"]) == 64
    assert str(teacher) not in json.dumps(about.config)  # a path of one machine
    assert result["data"]["teacher"] == known


class Stop(Observer):
    """Ends a run after its first epoch, as patience would."""

    def epoch(self, epoch: Epoch) -> str | None:
        return "enough" if epoch.epoch == 1 else None


def test_a_run_with_a_teacher_goes_on_exactly(
    tiny_models: None, shapes: Path, teacher: Path, tmp_path: Path
) -> None:
    words: dict[str, Any] = {"teacher": str(teacher), "epochs": 2, "patience": 0}
    whole = Path(train(shapes, tmp_path / "whole", **words)["folder"])
    train(shapes, tmp_path / "parts", **words, observers=[Stop()])
    folder = tmp_path / "parts" / "train"
    with pytest.raises(UsageError, match="another file than when the run began"):
        train(shapes, tmp_path / "parts", resume=folder, epochs=2, teacher=str(whole / BEST))
    train(shapes, tmp_path / "parts", resume=folder, epochs=2)
    ours, theirs = saved(folder), saved(whole)
    assert all(torch.equal(ours["model"][name], value) for name, value in theirs["model"].items())
    plain = Path(train(shapes, tmp_path / "plain", epochs=2, patience=0)["folder"])
    assert any(not torch.equal(saved(plain)["model"][n], v) for n, v in theirs["model"].items())


@needs_bf16
def test_the_teacher_computes_in_the_precision_of_the_run_where_its_answers_stay(
    tiny_models: None, shapes: Path, teacher: Path, tmp_path: Path
) -> None:
    trainer = make_trainer(shapes, tmp_path, "bf16", teacher=str(teacher))
    lessons = trainer.run.criterion.distillation
    assert isinstance(lessons, Distillation)
    asked: Any = lessons.teacher
    assert next(asked.model.parameters()).dtype == torch.bfloat16
    assert not any(p.requires_grad for p in asked.model.parameters())
    assert asked.levels == (0, 1, 2)  # as wide as the student
    trainer.fit()
    for boxes, classes in zip(
        asked.exact.head.one_to_one.boxes, asked.exact.head.one_to_one.classes, strict=True
    ):
        boxes[-1].weight.data *= 1e4  # rounding moves a box by cells
        classes[-1].bias.data += 4
    asked.use(torch.bfloat16)
    assert next(asked.model.parameters()).dtype == torch.float32
    assert "(bf16: " in (tmp_path / "log.txt").read_text()


def test_classes_in_another_order_are_matched_by_name(teacher: Path, tmp_path: Path) -> None:
    assert class_order("t", ("a", "b", "c"), ("c", "a")) == [2, 0]
    with pytest.raises(UsageError, match=r"does not know the class 'bus' .*nearest is 'buss'"):
        class_order("t", ("car", "buss"), ("bus",))


def other_classes(teacher: Path, path: Path) -> str:
    """The same weights with other names."""
    tensors, meta = load_weights(teacher)
    names = tuple(f"thing{number}" for number in range(len(meta.class_names)))
    save_weights(path, tensors, Meta(**{**vars(meta), "class_names": names}))
    return str(path)


def test_a_teacher_that_cannot_teach_is_one_line_and_leaves_nothing(
    tiny_models: None,
    shapes: Path,
    teacher: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    foreign = other_classes(teacher, tmp_path / "foreign.safetensors")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    usual = [f"data={shapes}", f"project={tmp_path}/runs", "imgsz=64", "device=cpu", "workers=0"]
    for words, wanted, code in (
        (["teacher=yolo26s"], "is a model without weights", 2),
        (["teacher=nowhere.safetensors"], "no such file", 2),
        (["distill=2"], "has no effect without teacher=", 2),
        ([f"teacher={teacher}", "distill=0"], "learns nothing", 2),
        ([f"teacher={teacher}", "distill=-1"], "distill", 2),
        ([f"teacher={foreign}"], "does not know the class", 2),
        ([f"teacher={tmp_path}/empty.safetensors"], "not a safetensors file", 1),
    ):
        assert main(["train", *usual, *words]) == code, words
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert wanted in error
    assert not (tmp_path / "runs").exists()
