"""Detectors: sizes equal the published tables, and every shortcut equals the plain way."""

from __future__ import annotations

import copy

import pytest
import torch
from yolodet.detector.config import MODELS
from yolodet.detector.models.build import NAMES, build
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.head import decode_boxes, distances_in_strides, make_points
from yolodet.detector.models.predictions import (
    AUXILIARY,
    ONE_TO_MANY,
    ONE_TO_ONE,
    Predictions,
)
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
ONE_OF_EACH = ["yolo26n", "yolo11n", "yolov8n", "yolov9t", "yolov9c", "yolox_nano", "yolox_tiny"]

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


def random_detector(name: str = "yolo26n", num_classes: int = 5) -> Detector:
    """Weights and running statistics away from their initial values, so that a wrong fold or a lost
    branch shows.
    """
    torch.manual_seed(0)
    detector = build(name, num_classes)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, 0.0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias, 0.0, 0.2)
    for parameter in detector.head.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 0.5, 0.5)
    return detector.eval()


def assert_equal(
    one: dict[str, Predictions], other: dict[str, Predictions], atol: float = 0.0
) -> None:
    assert one.keys() == other.keys()
    for name in one:
        for field in ("logits", "distances", "points", "strides"):
            torch.testing.assert_close(
                getattr(one[name], field), getattr(other[name], field), atol=atol, rtol=0
            )


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_flops_equal_the_published_size(name: str) -> None:
    parameters, gflops, fused = PUBLISHED[name]
    detector = on_meta(name)
    facts = detector.describe(640)
    assert facts["parameters"] == parameters
    assert facts["gflops"] == pytest.approx(gflops, rel=0.03)  # some published counters count norms
    deployed = ONE_TO_ONE if ONE_TO_ONE in detector.branches else ONE_TO_MANY
    assert detector.fuse(branches=(deployed,)).describe(64)["parameters"] == fused


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


def test_class_tower_width_follows_the_class_count() -> None:
    assert count(on_meta("yolo26n", 2)) == 2_504_580
    with torch.device("meta"):
        assert build("yolo26n", 2, class_width=80).head.one_to_one.classes[0][-1].in_channels == 80


def test_every_configured_name_builds() -> None:
    assert set(MODELS) <= set(NAMES)
    for name in MODELS:
        assert on_meta(name, 3).name == name


@pytest.mark.parametrize(
    ("name", "word"), [("yolo26q", "yolo26"), ("yollo26n", "yolo26n"), ("zzz", "known are")]
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        build(name, 3)


def test_no_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="num_classes"):
        build("yolo26n", 0)


def test_a_seed_decides_all_weights() -> None:
    states = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        states.append(build("yolo26n", 4).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(
        states[0]["backbone.stem.conv.weight"], states[2]["backbone.stem.conv.weight"]
    )


def test_fresh_biases_are_the_priors() -> None:
    many, one = build("yolo26n", 80).head.children()
    for branch in (many, one):
        priors = [tower[-1].bias[0].item() for tower in branch.classes]
        assert priors == pytest.approx([-11.5366, -10.1503, -8.7641], abs=1e-4)
        assert all(bool((tower[-1].bias == 2).all()) for tower in branch.boxes)
    pairs = zip(many.parameters(), one.parameters(), strict=True)
    assert all(torch.equal(a, b) and a is not b for a, b in pairs)


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize(("height", "width"), [(160, 128), (32, 96)])
def test_shapes_for_any_multiple_of_the_stride(name: str, height: int, width: int) -> None:
    detector = random_detector(name)
    anchors = sum((height // s) * (width // s) for s in detector.strides)
    for predictions in detector(torch.rand(2, 3, height, width)).values():
        assert predictions.logits.shape == (2, anchors, 5)
        assert predictions.distances.shape[:2] == (2, anchors)
        assert predictions.reg_max == (1 if name.startswith(("yolo26", "yolox")) else 16)
        assert predictions.points.shape == (anchors, 2)
        assert predictions.strides.shape == (anchors,)


def test_other_sizes_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        random_detector()(torch.rand(1, 3, 64, 100))


def test_uint8_images_equal_floats() -> None:
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    detector = random_detector()
    assert_equal(detector(images), detector(images.float() / 255))


@pytest.mark.parametrize("name", ["yolo26n", "yolov9t", "yolov9c"])
@pytest.mark.parametrize("training", [True, False])
def test_a_selected_branch_equals_the_same_branch_of_all(name: str, training: bool) -> None:
    detector = random_detector(name).train(training)
    images = torch.rand(2, 3, 64, 64)
    full = detector(images)
    assert tuple(full) == detector.branches and len(full) == 2
    for branch in detector.branches:
        assert_equal(detector(images, (branch,)), {branch: full[branch]})
    with pytest.raises(ValueError, match="no branch 'main'"):
        detector(images, ("main",))


def test_an_unselected_branch_is_not_computed() -> None:
    detector = random_detector()
    calls = []
    detector.head.one_to_many.register_forward_hook(lambda *_: calls.append(1))
    detector(torch.rand(1, 3, 32, 32), (ONE_TO_ONE,))
    assert not calls


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_fused_equals_unfused(name: str) -> None:
    detector = random_detector(name)
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = detector(images)
        fused = copy.deepcopy(detector).fuse()
        found = fused(images)
        for branch, one in expected.items():
            for field in ("logits", "distances"):
                wanted = getattr(one, field)
                error = (getattr(found[branch], field) - wanted).abs().max()
                assert error < 1e-5 * wanted.abs().max() + 1e-5
        kept = detector.branches[-1]
        slim = fused.fuse(branches=(kept,))
        assert slim.branches == (kept,)
        assert_equal(slim(images), {kept: found[kept]})
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in fused.modules())


@pytest.mark.parametrize("detach", [True, False])
def test_one_to_one_sends_gradients_to_the_backbone_only_when_told(detach: bool) -> None:
    detector = random_detector().train()
    detector.detach_one_to_one = detach
    images = torch.rand(2, 3, 64, 64)
    weight = detector.backbone.stem.conv.weight
    one = detector(images, (ONE_TO_ONE,))[ONE_TO_ONE]
    (one.logits.sum() + one.distances.sum()).backward()
    assert (weight.grad is None) == detach
    assert detector.head.one_to_one.boxes[0][0].conv.weight.grad.abs().sum() > 0
    many = detector(images, (ONE_TO_MANY,))[ONE_TO_MANY]
    (many.logits.sum() + many.distances.sum()).backward()
    assert weight.grad.abs().sum() > 0


def test_anchor_points_are_cell_centres_row_by_row() -> None:
    points, strides = make_points([(2, 3), (1, 1)], (8, 16), "cpu")
    expected = [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12], [8, 8]]
    assert points.tolist() == expected and points.dtype == torch.float32
    assert strides.tolist() == [8.0] * 6 + [16.0]


def test_points_made_in_inference_can_be_trained_on() -> None:
    detector = random_detector()
    with torch.inference_mode():
        detector(torch.rand(1, 3, 32, 32))
    predictions = detector(torch.rand(1, 3, 32, 32))[ONE_TO_MANY]
    assert not predictions.points.is_inference() and not predictions.points.requires_grad
    decode_boxes(predictions).sum().backward()


def test_channels_last_equals_contiguous() -> None:
    detector = random_detector()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = detector(images)
        found = detector.to(memory_format=torch.channels_last)(
            images.to(memory_format=torch.channels_last)
        )
    assert_equal(found, expected, atol=1e-4)


@pytest.mark.parametrize("bins", [1, 16])
def test_decoding_follows_the_formula_in_float32_under_autocast(bins: int) -> None:
    torch.manual_seed(1)
    points, strides = make_points([(4, 4), (2, 2), (1, 1)], (8, 16, 32), "cpu")
    raw = torch.randn(2, 21, 4 * bins, dtype=torch.bfloat16) * 4
    predictions = Predictions(torch.zeros(2, 21, 3), raw, points, strides)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        boxes, distances = decode_boxes(predictions), distances_in_strides(predictions)
    assert boxes.dtype == distances.dtype == torch.float32
    for image, anchor in ((0, 0), (1, 7), (1, 20)):
        sides = []
        for side in raw[image, anchor].double().reshape(4, bins):
            weights = (side - side.max()).exp()
            sides.append(
                float((weights * torch.arange(bins)).sum() / weights.sum())
                if bins > 1
                else float(side)
            )
        (x, y), stride = points[anchor].tolist(), float(strides[anchor])
        left, top, right, bottom = (stride * d for d in sides)
        assert boxes[image, anchor].tolist() == pytest.approx(
            [x - left, y - top, x + right, y + bottom], abs=1e-3
        )
        assert distances[image, anchor].tolist() == pytest.approx(sides, abs=1e-4)


def test_bf16_autocast_stays_close_and_decodes_in_float32() -> None:
    detector = random_detector()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        full = detector(images, (ONE_TO_ONE,))[ONE_TO_ONE]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = detector(images, (ONE_TO_ONE,))[ONE_TO_ONE]
            boxes = decode_boxes(half)
    assert half.logits.dtype == torch.bfloat16 and boxes.dtype == torch.float32
    assert (half.logits.float() - full.logits).abs().mean() < 0.05 * full.logits.abs().mean() + 0.05


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_stages_are_in_order_and_hold_every_parameter(name: str) -> None:
    detector = on_meta(name, 3)
    stages = detector.stages
    assert list(stages)[:3] == ["backbone.stem", "backbone.stage2", "backbone.stage3"]
    prefixed = [
        f"{stage}.{key}" for stage, part in stages.items() for key, _ in part.named_parameters()
    ]
    assert prefixed == [key for key, _ in detector.named_parameters()]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_class_keys_are_all_parameters_that_depend_on_the_class_count(name: str) -> None:
    with torch.device("meta"):
        width = 4 * 24 if name == "yolox_tiny" else 64
        shapes = [
            {key: p.shape for key, p in build(name, n, width).named_parameters()} for n in (3, 7)
        ]
    detector = on_meta(name, 3)
    assert set(detector.class_keys) == {k for k in shapes[0] if shapes[0][k] != shapes[1][k]}
    assert all(shapes[1][key][0] == 7 for key in detector.class_keys)


def test_unit_ranges_and_colour_order_are_the_models_own_business() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.device("meta"):
        rgb, bgr = build("yolo26n", 2), build("yolox_tiny", 2)
    assert torch.equal(rgb.preprocess(images), images.float() / 255)
    assert torch.equal(rgb.preprocess(images.float() / 255), images.float() / 255)
    assert torch.equal(bgr.preprocess(images), images.flip(1).float())
    torch.testing.assert_close(bgr.preprocess(images.float() / 255), images.flip(1).float())


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


def test_yolox_distances_are_its_boxes_seen_from_the_centre_of_the_cell() -> None:
    torch.manual_seed(0)
    points, strides = make_points([(3, 2), (1, 1), (1, 1)], (8, 16, 32), "cpu")
    raw = torch.randn(2, 8, 4)
    boxes = decode_boxes(Predictions(torch.zeros(2, 8, 1), distances_of(raw), points, strides))
    corner = points / strides[:, None] - 0.5  # the published formula counts from the cell's corner
    centre = (raw[..., :2] + corner) * strides[:, None]
    size = raw[..., 2:].exp() * strides[:, None]
    expected = torch.cat((centre - size / 2, centre + size / 2), -1)
    torch.testing.assert_close(boxes, expected, atol=1e-4, rtol=1e-5)


def test_yolox_has_no_other_class_width() -> None:
    with pytest.raises(ValueError, match="width 96, not 80"):
        build("yolox_tiny", 3, class_width=80)


@pytest.mark.parametrize("name", ["yolov9t", "yolov9c"])
def test_the_auxiliary_branch_trains_the_backbone_and_can_be_dropped(name: str) -> None:
    detector = random_detector(name).train()
    found = detector(torch.rand(2, 3, 32, 32), (AUXILIARY,))[AUXILIARY]
    (found.logits.sum() + found.distances.sum()).backward()
    assert detector.backbone.stem.conv.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in detector.neck.parameters())
    slim = detector.fuse(branches=(ONE_TO_MANY,))
    assert slim.branches == (ONE_TO_MANY,) and slim.auxiliary is None
    assert not any(key.startswith(("auxiliary", "head.auxiliary")) for key in slim.state_dict())
