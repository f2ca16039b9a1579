"""Families: sizes equal the published tables, layer by layer; what one does alone is exact."""

from __future__ import annotations

import pytest
import torch
from rows import each
from yolodet.detector.models.build import build
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.head import decode_boxes, distances_in_strides, make_points
from yolodet.detector.models.predictions import ONE_TO_MANY, ONE_TO_ONE, Predictions
from yolodet.detector.models.yolox import distances_of, joint_logits

# Published sizes for 80 classes: parameters and GFLOPs at 640 of the whole model, parameters fused
# with one branch.  Counts of the other projects include constants that are no parameters here.
DFL, ANC2VEC = 16, 48
PUBLISHED = {
    "yolo26n": (2_572_280, 6.24, 2_408_932),
    "yolo26s": (10_009_784, 23.08, 9_496_140),
    "yolo26m": (21_896_248, 75.64, 20_411_132),
    "yolo26l": (26_299_704, 94.16, 24_807_420),
    "yolo26x": (58_993_368, 210.07, 55_725_948),
    "yolo11n": (2_624_080 - DFL, 6.67, 2_616_248 - DFL),
    "yolo11s": (9_458_752 - DFL, 21.84, 9_443_760 - DFL),
    "yolo11m": (20_114_688 - DFL, 68.64, 20_091_712 - DFL),
    "yolo11l": (25_372_160 - DFL, 87.85, 25_340_992 - DFL),
    "yolo11x": (56_966_176 - DFL, 196.32, 56_919_424 - DFL),
    "yolov8n": (3_157_200 - DFL, 8.86, 3_151_904 - DFL),
    "yolov8s": (11_166_560 - DFL, 28.81, 11_156_544 - DFL),
    "yolov8m": (25_902_640 - DFL, 79.31, 25_886_080 - DFL),
    "yolov8l": (43_691_520 - DFL, 165.73, 43_668_288 - DFL),
    "yolov8x": (68_229_648 - DFL, 258.54, 68_200_608 - DFL),
    "yolov9t": (2_905_584 - 2 * ANC2VEC, 12.07, 2_001_872 - ANC2VEC),
    "yolov9s": (9_804_576 - 2 * ANC2VEC, 39.50, 7_105_920 - ANC2VEC),
    "yolov9m": (32_878_496 - 2 * ANC2VEC, 132.08, 19_978_704 - ANC2VEC),
    "yolov9c": (51_182_144 - 2 * ANC2VEC, 238.66, 25_288_800 - ANC2VEC),
    "yolox_nano": (912_159, 2.474, 904_463),
    "yolox_tiny": (5_055_855, 15.18, 5_047_191),
    "yolox_s": (8_968_255, 26.69, 8_956_703),
    "yolox_m": (25_326_495, 73.53, 25_304_847),
    "yolox_l": (54_208_895, 155.29, 54_174_271),
    "yolox_x": (99_071_455, 281.41, 99_020_975),
}

# Layers 0..10, 13, 16, 17, 19, 20, 22, 23 of the published table, and where they are here.
LAYERS = [
    *["stem", "stage2.down", "stage2.mix", "stage3.down", "stage3.mix", "stage4.down"],
    *["stage4.mix", "stage5.down", "stage5.mix", "pool", "attention", "neck.mix_down4"],
    *["neck.mix_down3", "neck.down3", "neck.mix_up4", "neck.down4", "neck.mix_up5", "head"],
]
LAYER_PARAMETERS = {
    "yolo26n": [
        *[464, 4672, 6640, 36992, 26080, 147712, 87040, 295424, 346112, 164608, 249728],
        *[119808, 34304, 36992, 95232, 147712, 463104, 309656],
    ],
    "yolo26m": [
        *[1856, 73984, 111872, 590336, 444928, 2360320, 1380352, 2360320, 1380352, 656896, 990976],
        *[1642496, 542720, 590336, 1511424, 2360320, 1974784, 2921976],
    ],
    "yolo26x": [
        *[2784, 166272, 389760, 1327872, 1553664, 5309952, 5022720, 5309952, 5022720, 1476864],
        *[3264768, 5612544, 1700352, 1327872, 5317632, 5309952, 4436736, 6440952],
    ],
}

# Layers of YOLOv9 m and c that have parameters, numbers 0 to 38, from the published table.
YOLOV9_LAYERS = [
    *["backbone.stem", "backbone.stage2.down", "backbone.stage2.mix", "backbone.stage3.down"],
    *["backbone.stage3.mix", "backbone.stage4.down", "backbone.stage4.mix", "backbone.stage5.down"],
    *["backbone.stage5.mix", "neck.lateral5", "neck.mix_down4", "neck.mix_down3", "neck.down3"],
    *["neck.mix_up4", "neck.down4", "neck.mix_up5", "head.one_to_many", "auxiliary.link3"],
    *["auxiliary.link4", "auxiliary.link5", "auxiliary.stem", "auxiliary.stage2.down"],
    *["auxiliary.stage2.mix", "auxiliary.stage3.down", "auxiliary.stage3.mix"],
    *["auxiliary.stage4.down", "auxiliary.stage4.mix", "auxiliary.stage5.down"],
    *["auxiliary.stage5.mix", "head.auxiliary"],
]
YOLOV9_PARAMETERS = {
    "yolov9m": [
        *[928, 18560, 171648, 276960, 629520, 778320, 1414080, 1556160, 2511840, 577440, 1586880],
        *[715920, 397808, 1480320, 778080, 2627040, 4602528 - ANC2VEC, 57840, 216600, 519480, 928],
        *[18560, 171648, 276960, 629520, 778320, 1414080, 1556160, 2511840, 4602528 - ANC2VEC],
    ],
    "yolov9c": [
        *[1856, 73984, 212864, 164352, 847616, 656384, 2857472, 656384, 2857472, 656896, 3119616],
        *[912640, 164352, 2988544, 656384, 3119616, 5552352 - ANC2VEC, 131328, 393984, 656640],
        *[1856, 73984, 212864, 164352, 847616, 656384, 2857472, 656384, 2857472],
        16173024 - ANC2VEC,
    ],
}


def on_meta(name: str, num_classes: int = 80) -> Detector:
    with torch.device("meta"):
        return build(name, num_classes)


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@each("name", PUBLISHED)
def test_parameters_and_flops_equal_the_published_size(name: str) -> None:
    parameters, gflops, fused = PUBLISHED[name]
    detector = on_meta(name)
    facts = detector.describe(640)
    assert facts["parameters"] == parameters
    assert facts["gflops"] == pytest.approx(gflops, rel=0.03)  # some published counters count norms
    deployed = ONE_TO_ONE if ONE_TO_ONE in detector.branches else ONE_TO_MANY
    assert count(detector.fuse(branches=(deployed,))) == fused


@pytest.mark.parametrize("name", LAYER_PARAMETERS)
def test_each_layer_has_the_published_parameters(name: str) -> None:
    detector = on_meta(name)
    paths = [p if p.split(".")[0] in ("neck", "head") else f"backbone.{p}" for p in LAYERS]
    assert [count(detector.get_submodule(path)) for path in paths] == LAYER_PARAMETERS[name]


@pytest.mark.parametrize("name", YOLOV9_PARAMETERS)
def test_each_layer_of_yolov9_has_the_published_parameters(name: str) -> None:
    detector = on_meta(name)
    counts = [count(detector.get_submodule(path)) for path in YOLOV9_LAYERS]
    assert counts == YOLOV9_PARAMETERS[name]


@pytest.mark.parametrize("name", ["yolo26n", "yolo11n", "yolox_nano"])
def test_fresh_boxes_reach_about_two_strides_to_each_side(name: str) -> None:
    torch.manual_seed(0)
    branch = build(name, 3).head.one_to_many
    for parameter in branch.parameters():  # what is left of the output are the last biases
        if parameter.dim() == 4:
            torch.nn.init.zeros_(parameter)
    first = branch.stems if name == "yolox_nano" else [tower[0] for tower in branch.boxes]
    features = [torch.rand(1, layer.conv.in_channels, 2, 2) for layer in first]
    logits, distances = branch.eval()(features)
    bins = distances.shape[-1] // 4
    expected = 2.0 if bins == 1 else (bins - 1) / 2  # equal logits of a distribution: its middle
    points, strides = make_points([(2, 2)] * 3, (8, 16, 32), "cpu")
    found = distances_in_strides(Predictions(logits, distances, points, strides))
    torch.testing.assert_close(found, torch.full_like(found, expected))


def test_joint_logits_are_the_logits_of_the_product_also_where_it_saturates() -> None:
    torch.manual_seed(0)
    classes = torch.cat((torch.randn(500, 3) * 6, torch.tensor([[-90.0, 0.0, 90.0]])))
    objectness = torch.cat((torch.randn(500, 1) * 6, torch.tensor([[50.0]])))
    exact = classes.double().sigmoid() * objectness.double().sigmoid()
    joint = joint_logits(classes.requires_grad_(), objectness.requires_grad_())
    torch.testing.assert_close(joint.double().sigmoid(), exact, atol=1e-7, rtol=1e-5)
    joint.sum().backward()
    assert classes.grad.isfinite().all() and objectness.grad.isfinite().all()
    assert joint.isfinite().all()


def test_yolox_distances_are_its_boxes_seen_from_the_center_of_the_cell() -> None:
    torch.manual_seed(0)
    points, strides = make_points([(3, 2), (1, 1), (1, 1)], (8, 16, 32), "cpu")
    raw = torch.randn(2, 8, 4)
    boxes = decode_boxes(Predictions(torch.zeros(2, 8, 1), distances_of(raw), points, strides))
    corner = points / strides[:, None] - 0.5  # the published formula counts from the cell's corner
    center = (raw[..., :2] + corner) * strides[:, None]
    size = raw[..., 2:].exp() * strides[:, None]
    expected = torch.cat((center - size / 2, center + size / 2), -1)
    torch.testing.assert_close(boxes, expected, atol=1e-4, rtol=1e-5)
