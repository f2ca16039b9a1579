"""Every family learns: with our loss, our optimizer and our step, in float32 and in bfloat16."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from rows import each
from yolodet.datasets.nouns import Batch
from yolodet.detector.evaluate.postprocess import head_in_use, uses_nms
from yolodet.detector.losses.detection import AUXILIARY_SHARE, DetectionLoss, Gains
from yolodet.detector.models.build import NAMES, build
from yolodet.detector.models.predictions import AUXILIARY, ONE_TO_MANY
from yolodet.detector.options.names import MODELS, NMS_FREE
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.precision.sanity import SanityCheck
from yolodet.detector.train.ema import ModelEma
from yolodet.detector.train.optim import build_optimizer, choose_optimizer
from yolodet.detector.train.step import TrainStep

SMALLEST = ("yolo26n", "yolo11n", "yolov8n", "yolov9t", "yolox_nano")
SIZE, STEPS = 64, 8


def scenes(images: int = 4) -> Batch:
    """Smooth colors with a red and a blue rectangle in each image."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(images, 3, 5, 5, generator=generator) * 255
    pixels = F.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 255).to(torch.uint8)
    boxes = []
    for image in pixels:
        for color in ((250, 30, 30), (20, 60, 240)):
            side = torch.randint(16, 32, (2,), generator=generator)
            x, y = (torch.rand(2, generator=generator) * (SIZE - side)).int().tolist()
            right, bottom = x + int(side[0]), y + int(side[1])
            image[:, y:bottom, x:right] = torch.tensor(color, dtype=torch.uint8)[:, None, None]
            boxes.append([x, y, right, bottom])
    labels, owners = torch.tensor([0, 1] * images), torch.arange(images).repeat_interleave(2)
    sizes, numbers = [(SIZE, SIZE)] * images, list(range(images))
    return Batch(
        pixels, torch.tensor(boxes).float(), labels, owners, numbers, [], sizes, [None] * images
    )


def stepper(name: str, precision: str) -> TrainStep:
    torch.manual_seed(0)
    model = build(name, 2).train()
    choice = choose_optimizer(TrainConfig(model=name, optimizer="AdamW", lr0=0.003))
    return TrainStep(
        model,
        DetectionLoss(Gains()),
        build_optimizer(model, choice),
        Precision(precision, "cpu", "as told"),
        ema=ModelEma(model, decay=0.9, tau=1.0),
        clip=10.0,
    )


@each("precision", ["fp32", "bf16"])
@each("name", SMALLEST)
def test_steps_lower_the_loss(name: str, precision: str) -> None:
    """The positives are those of the first step, or the loss would not be one function."""
    step, batch, losses = stepper(name, precision), scenes(), []
    step.criterion.frozen = {}
    for _ in range(STEPS):
        output = step(batch, update=True, eager=True)
        assert output.skipped is False
        losses.append(output.loss.total.item())
    assert (losses[-1] + losses[-2]) / 2 < losses[0], losses


@each("name", SMALLEST)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    step = stepper(name, "fp32")
    step(scenes(), update=False, eager=True)
    assert not [n for n, p in step.model.named_parameters() if p.grad is None]
    still = [n for n, p in step.model.named_parameters() if not p.grad.any()]
    assert all(".boxes." in name for name in still), still  # no positive on that level


@pytest.mark.parametrize("name", ["yolov9t", "yolox_nano"])
def test_the_precision_check_measures_every_stage(name: str) -> None:
    step = stepper(name, "fp32")
    trial = SanityCheck(step.model, step.criterion, scenes()).run({"bf16": ()})[1]
    assert trial.stages.keys() == step.model.stages.keys()
    assert trial.finite


def test_an_auxiliary_branch_counts_a_quarter() -> None:
    criterion, batch = DetectionLoss(Gains()), scenes()
    torch.manual_seed(0)
    outputs = build("yolov9t", 2)(batch.images)
    both = criterion(outputs, batch)
    alone = {name: criterion({ONE_TO_MANY: branch}, batch) for name, branch in outputs.items()}
    expected = alone[ONE_TO_MANY].total + AUXILIARY_SHARE * alone[AUXILIARY].total
    torch.testing.assert_close(both.total, expected)
    assert both.parts == alone[ONE_TO_MANY].parts


def test_what_is_known_of_heads_without_building_is_so() -> None:
    assert set(MODELS) == set(NAMES)
    for name in NAMES:
        with torch.device("meta"):
            branches = build(name, 2).branches
        assert uses_nms(False, branches) == (not name.startswith(NMS_FREE))
        assert uses_nms(True, branches)
        assert ("NMS-free" in head_in_use(False, branches)) == name.startswith(NMS_FREE)
