"""Detectors: sizes equal the published tables, and every shortcut equals the plain way."""

from __future__ import annotations

import copy

import pytest
import torch
from rows import each
from widths import build_wide
from yolodet.detector.models.blocks import join
from yolodet.detector.models.build import NAMES, build
from yolodet.detector.models.detector import Detector
from yolodet.detector.models.head import decode_boxes, distances_in_strides, make_points
from yolodet.detector.models.predictions import AUXILIARY, ONE_TO_MANY, ONE_TO_ONE, Predictions
from yolodet.detector.options.names import MODELS

ONE_OF_EACH = [
    *("yolo26n", "yolo26n-p2", "yolo11n", "yolov8n", "yolov9t", "yolov9c", "yolox_nano"),
    "yolox_tiny",
]


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


def test_class_tower_width_follows_the_class_count() -> None:
    assert count(on_meta("yolo26n", 2)) == 2_504_580
    with torch.device("meta"):
        assert build_wide("yolo26n", 2, 80).head.one_to_one.classes[0][-1].in_channels == 80


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


@each("name", ONE_OF_EACH)
@each(("height", "width"), [(160, 128), (32, 96)])
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


@each("name", ["yolo26n", "yolov9t", "yolov9c"])
@each("training", [True, False])
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


@each("name", ONE_OF_EACH)
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


def test_anchor_points_are_cell_centers_row_by_row() -> None:
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


@each("name", ONE_OF_EACH)
def test_stages_are_in_order_and_hold_every_parameter(name: str) -> None:
    detector = on_meta(name, 3)
    stages = detector.stages
    assert list(stages)[:3] == ["backbone.stem", "backbone.stage2", "backbone.stage3"]
    prefixed = [
        f"{stage}.{key}" for stage, part in stages.items() for key, _ in part.named_parameters()
    ]
    assert prefixed == [key for key, _ in detector.named_parameters()]


@each("name", ONE_OF_EACH)
def test_class_keys_are_all_parameters_that_depend_on_the_class_count(name: str) -> None:
    with torch.device("meta"):
        shapes = [{key: p.shape for key, p in build(name, n).named_parameters()} for n in (3, 7)]
    detector = on_meta(name, 3)
    assert set(detector.class_keys) == {k for k in shapes[0] if shapes[0][k] != shapes[1][k]}
    assert all(shapes[1][key][0] == 7 for key in detector.class_keys)


def test_unit_ranges_and_color_order_are_the_models_own_business() -> None:
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.device("meta"):
        rgb, bgr = build("yolo26n", 2), build("yolox_tiny", 2)
    assert torch.equal(rgb.preprocess(images), images.float() / 255)
    assert torch.equal(rgb.preprocess(images.float() / 255), images.float() / 255)
    assert torch.equal(bgr.preprocess(images), images.flip(1).float())
    torch.testing.assert_close(bgr.preprocess(images.float() / 255), images.flip(1).float())


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


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_joined_parts_have_the_gradients_of_a_concatenation_without_gaps(
    layout: torch.memory_format,
) -> None:
    weights = torch.randn(2, 7, 4, 4).contiguous(memory_format=layout)
    sources = [torch.randn(2, c, 4, 4).contiguous(memory_format=layout) for c in (3, 4)]
    gradients: dict[str, list[torch.Tensor]] = {"cat": [], "join": []}
    for name, concatenate in (("cat", lambda parts: torch.cat(parts, 1)), ("join", join)):
        leaves = [source.clone().requires_grad_() for source in sources]
        parts = [torch.sigmoid(leaf) for leaf in leaves]
        for part in parts:
            part.register_hook(gradients[name].append)
        joined = concatenate(parts)
        assert torch.equal(joined, torch.cat(parts, 1))
        (joined * weights).sum().backward()
    for ours, theirs in zip(gradients["join"], gradients["cat"], strict=True):
        assert torch.equal(ours, theirs) and not theirs.is_contiguous(memory_format=layout)
        assert ours.is_contiguous(memory_format=layout)


def test_without_gradients_nothing_but_a_concatenation_is_there() -> None:
    """Or a runtime that reads the graph would meet an operation it does not know."""
    parts = [torch.ones(1, 2, 3, 3), torch.zeros(1, 1, 3, 3)]
    traced = torch.jit.trace(lambda a, b: join((a, b)), parts)
    assert "aten::cat" in str(traced.graph) and "PythonOp" not in str(traced.graph)
