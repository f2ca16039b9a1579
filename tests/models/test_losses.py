"""Losses and assignment against slow, obvious references."""

import math

import pytest
import torch
from rows import each
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import complete_box_iou_loss
from yolodet.datasets.nouns import Batch
from yolodet.detector.losses import detection
from yolodet.detector.losses.assign import (
    Assigner,
    Assignment,
    assign,
    candidate_pairs,
    resolve_conflicts,
    sort_by_group,
    top_k_per_group,
)
from yolodet.detector.losses.detection import DetectionLoss, Gains, LossOutput
from yolodet.detector.losses.iou import matched_ciou
from yolodet.detector.models.head import decode_boxes, make_points
from yolodet.detector.models.predictions import AUXILIARY, ONE_TO_MANY, ONE_TO_ONE, Predictions


def random_boxes(n: int, size: float = 256.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(n, 2, generator=generator) * size * 0.7
    return torch.cat([corner, corner + 2 + torch.rand(n, 2, generator=generator) * size * 0.3], 1)


def make_batch(
    seed: int = 0, images: int = 3, boxes: int = 12, classes: int = 4, size: int = 256
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, images, (boxes,), generator=generator).sort().values
    labels = torch.randint(0, classes, (boxes,), generator=generator)
    pixels = torch.zeros(images, 3, size, size, dtype=torch.uint8)
    return Batch(
        pixels, random_boxes(boxes, size, seed), labels, index, list(range(images)), [], [], []
    )


def make_predictions(
    batch: Batch, classes: int = 4, reg_max: int = 1, seed: int = 0
) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    size = batch.images.shape[-1]
    points, strides = make_points([(size // s, size // s) for s in (8, 16, 32)], (8, 16, 32), "cpu")
    shape = (len(batch), len(points))
    logits = torch.randn(*shape, classes, generator=generator) - 1
    distances = torch.randn(*shape, 4 * reg_max, generator=generator) + 2.0
    return Predictions(logits, distances, points, strides)


def test_ciou_and_its_gradient_equal_torchvision() -> None:
    a, b = random_boxes(200, seed=1).requires_grad_(), random_boxes(200, seed=2)
    mine = 1 - matched_ciou(a, b)
    (gradient,) = torch.autograd.grad(mine.sum(), a)
    theirs = complete_box_iou_loss(a, b, reduction="none")
    (reference,) = torch.autograd.grad(theirs.sum(), a)
    assert torch.allclose(mine, theirs, atol=1e-5)
    assert torch.allclose(gradient, reference, atol=1e-4)


def test_ciou_known_values() -> None:
    """Values derived by hand for four pairs (IoU .4138 .1905 .0096 .3226 in the same order)."""
    same = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    assert matched_ciou(same, same).item() == pytest.approx(1.0, abs=1e-5)
    half = torch.tensor([[0.0, 0.0, 1.0, 0.5]])
    assert 1 - matched_ciou(same, half).item() == pytest.approx(0.5345, abs=2e-3)
    diagonal = torch.tensor([[1.0, 1.0, 2.0, 2.0]])
    assert 1 - matched_ciou(same, diagonal).item() == pytest.approx(1.25, abs=1e-4)


def assigned(assigner: Assigner, predictions: Predictions, batch: Batch) -> Assignment:
    pairs = candidate_pairs(predictions.points, predictions.strides, batch.boxes)
    truth = (batch.boxes, batch.labels, batch.batch_index)
    boxes = decode_boxes(predictions).detach()
    return assign([assigner], [predictions.logits], [boxes], pairs, *truth)[0]


def reference_assignment(
    predictions: Predictions, batch: Batch, topk: int, keep: int | None
) -> dict:
    """Task-aligned assignment written as loops: {(image, point): (box, target)}."""
    boxes = decode_boxes(predictions)
    picked: list[tuple[int, int, int, float, float]] = []
    for m, (true, label, image) in enumerate(
        zip(batch.boxes, batch.labels, batch.batch_index, strict=True)
    ):
        center, side = (true[:2] + true[2:]) / 2, (true[2:] - true[:2]).clamp(min=16)
        ranked = []
        for p, point in enumerate(predictions.points):
            if bool(((point > center - side / 2) & (point < center + side / 2)).all()):
                score = predictions.logits[image, p, label].sigmoid().item()
                overlap = max(matched_ciou(boxes[image, p][None], true[None]).item(), 0.0)
                ranked.append((score**0.5 * overlap**6, p, overlap))
        ranked.sort(key=lambda entry: (-entry[0], entry[1]))
        picked += [(m, int(image), p, t, u) for t, p, u in ranked[:topk]]
    owner: dict[tuple[int, int], tuple[int, float, float]] = {}
    for m, image, p, t, u in picked:
        if (image, p) not in owner or u > owner[image, p][2]:
            owner[image, p] = (m, t, u)
    result = {}
    for m in range(len(batch.boxes)):
        mine = [(slot, t, u) for slot, (box, t, u) in owner.items() if box == m]
        mine.sort(key=lambda entry: (-entry[1], entry[0][1]))
        mine = mine[:keep]
        for slot, t, _ in mine:
            best_t, best_u = max(x[1] for x in mine), max(x[2] for x in mine)
            result[slot] = (m, t / (best_t + 1e-9) * best_u)
    return result


@each("seed", range(2))
@each(("topk", "keep"), [(10, None), (7, 1), (3, 2)])
def test_assigner_equals_the_loop_reference(seed: int, topk: int, keep: int | None) -> None:
    batch = make_batch(seed, boxes=20)
    predictions = make_predictions(batch, seed=seed)
    # near-perfect boxes at some points, so that overlaps are worth ranking
    found = assigned(Assigner(topk, keep), predictions, batch)
    assert len(found) == len(batch.boxes) * (keep or topk)
    assert not found.target[~found.positive].any()
    found = found.positives()
    assert found.positive.all()
    reference = reference_assignment(predictions, batch, topk, keep)
    mine = {
        (int(i), int(p)): (int(b), float(t))
        for i, p, b, t in zip(found.image, found.point, found.box, found.target, strict=True)
    }
    positive = {slot for slot, (_, target) in reference.items() if target > 1e-12}
    assert positive, "the case is empty"
    assert positive <= mine.keys()
    for slot in positive:
        assert mine[slot][0] == reference[slot][0]
        assert mine[slot][1] == pytest.approx(reference[slot][1], abs=1e-4)


def test_small_boxes_get_candidates() -> None:
    """A box of 3 pixels between anchor points would have none; the small-target rule gives it 16 x
    16 pixels."""
    points, strides = make_points([(32, 32), (16, 16), (8, 8)], (8, 16, 32), "cpu")
    box, _ = candidate_pairs(
        points, strides, torch.tensor([[62.0, 62.0, 65.0, 65.0], [0.0, 0.0, 256.0, 256.0]])
    )
    assert (box == 0).sum() >= 4
    assert (box == 1).sum() == len(points)


@each("seed", range(5))
def test_one_sort_by_group_equals_two(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    group = torch.randint(0, 40, (2000,), generator=generator)
    value = torch.rand(2000, generator=generator)
    value[::3] = (value[::3] * 8).floor() / 8  # ties, and zeros of both signs
    value[1::50] *= -0.0
    value[2::50] = 1e-42  # not a normal number
    order = value.argsort(descending=True, stable=True)
    order = order[group[order].argsort(stable=True)]
    assert torch.equal(sort_by_group(group, value), order)
    high = group + 2**31 - 50
    assert torch.equal(sort_by_group(high, value), order)


def test_best_of_each_and_conflicts() -> None:
    group = torch.tensor([0, 0, 0, 2, 2])
    value = torch.tensor([0.1, 0.3, 0.2, 0.5, 0.5])
    for k, expected in (
        (2, [[1, 2], [], [3, 4]]),
        (1, [[1], [], [3]]),
        (9, [[1, 2, 0], [], [3, 4]]),
    ):
        picked, there = top_k_per_group(group, value, k, 3)
        assert [row[here].tolist() for row, here in zip(picked, there, strict=True)] == expected
    slot = torch.tensor([[4, 2, 4], [4, 7, 2]])
    overlap = torch.tensor([[0.2, 0.1, 0.9], [1.0, 0.3, 0.1]])
    there = torch.tensor([[True, True, True], [False, True, True]])
    remains = resolve_conflicts(slot, overlap, there)
    assert remains.tolist() == [[False, True, True], [False, True, False]]


class Waits(TorchDispatchMode):
    """Counts the operations for which a host would have to wait for its device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        masks = name == "index" and any(
            index is not None and index.dtype == torch.bool for index in arguments[1]
        )
        if masks or name in (
            "nonzero", "_unique2", "unique_dim", "bincount", "_local_scalar_dense", "lift_fresh",
            "masked_select", "is_nonzero", "equal",
        ):  # fmt: skip
            self.found.append(name)
        return function(*arguments, **(keywords or {}))


def test_the_host_waits_once_a_loss() -> None:
    """For the number of candidates, whatever the number of heads."""
    batch = make_batch(3, boxes=20)
    many, one = make_predictions(batch, seed=1), make_predictions(batch, seed=2)
    many.logits.requires_grad_()
    with Waits() as waits:
        DetectionLoss(Gains())({ONE_TO_MANY: many, ONE_TO_ONE: one}, batch).total.backward()
    assert waits.found == ["nonzero"]


def dense_loss(
    predictions: Predictions, batch: Batch, assigner: Assigner, gains: Gains
) -> torch.Tensor:
    """The same loss with a dense target and library functions."""
    boxes = decode_boxes(predictions)
    found = assigned(assigner, predictions, batch).positives()
    target = torch.zeros_like(predictions.logits)
    target[found.image, found.point, batch.labels[found.box]] = found.target
    scale = target.sum().clamp(min=1)
    cls = torch.nn.functional.binary_cross_entropy_with_logits(
        predictions.logits, target, reduction="sum"
    )
    picked, true = boxes[found.image, found.point], batch.boxes[found.box]
    box = (found.target * complete_box_iou_loss(picked, true, reduction="none")).sum()
    size = batch.images.shape[-1]
    point = predictions.points[found.point]
    sides = torch.cat([point - true[:, :2], true[:, 2:] - point], 1)
    mine = predictions.distances[found.image, found.point] * predictions.strides[found.point, None]
    dfl = (found.target[:, None] * (mine - sides).abs() / size / 4).sum()
    return (gains.box * box + gains.cls * cls + gains.dfl * dfl) / scale


def test_loss_equals_a_dense_reference() -> None:
    batch = make_batch(3, boxes=20)
    many, one = make_predictions(batch, seed=1), make_predictions(batch, seed=2)
    criterion = DetectionLoss(Gains())
    output = criterion({ONE_TO_MANY: many, ONE_TO_ONE: one}, batch)
    expected = 0.8 * dense_loss(many, batch, Assigner(10), Gains()) + 0.2 * dense_loss(
        one, batch, Assigner(7, 1), Gains()
    )
    assert output.total.item() / len(batch) == pytest.approx(expected.item(), rel=1e-4)


def weighted_loss(
    weights: list[float] | None, second: str | None, reg_max: int
) -> tuple[LossOutput, list[torch.Tensor]]:
    """The loss of one batch with class weights; the gradients of logits and distances."""
    batch = make_batch(3, boxes=30)
    names = (ONE_TO_MANY, second) if second else (ONE_TO_MANY,)
    outputs = {name: make_predictions(batch, reg_max=reg_max, seed=len(name)) for name in names}
    leaves = [x.requires_grad_() for b in outputs.values() for x in (b.logits, b.distances)]
    factors = None if weights is None else torch.tensor(weights)
    output = DetectionLoss(Gains(), class_weights=factors)(outputs, batch)
    output.total.backward()
    return output, [leaf.grad for leaf in leaves]


@each(("second", "reg_max"), [(ONE_TO_ONE, 1), (AUXILIARY, 16), (None, 16)])
@each("passes", ["one", "each"])
def test_a_class_of_weight_two_counts_twice(
    monkeypatch: pytest.MonkeyPatch, second: str | None, reg_max: int, passes: str
) -> None:
    """In every family's combination of branches.  Weights of 1 change no bit."""
    if passes == "one":  # as on a GPU
        monkeypatch.setattr(detection, "branch_groups", lambda outputs, _: [list(outputs)])
    plain, gradients = weighted_loss(None, second, reg_max)
    ones, same = weighted_loss([1.0] * 4, second, reg_max)
    assert torch.equal(plain.total, ones.total)
    assert all(torch.equal(a, b) for a, b in zip(gradients, same, strict=True))
    twice, changed = weighted_loss([1.0, 1.0, 2.0, 1.0], second, reg_max)
    without, _ = weighted_loss([1.0, 1.0, 1e-30, 1.0], second, reg_max)
    one, two, none = (output.parts for output in (plain, twice, without))
    own = one["cls"] - none["cls"]  # the terms of class 2
    assert own > 0 and torch.allclose(two["cls"], one["cls"] + own, rtol=1e-5)
    assert two["box"] == one["box"] and two["dfl"] == one["dfl"]
    for number, gradient in enumerate(gradients):  # of logits and distances in turn
        if number % 2 == 0:
            gradient[..., 2] *= 2
        assert torch.allclose(changed[number], gradient, rtol=1e-6, atol=0)


@each("second", [ONE_TO_ONE, AUXILIARY])
@each("reg_max", [1, 16])
@each("boxes", [0, 1, 40])
def test_branches_in_one_pass_answer_as_one_by_one(
    monkeypatch: pytest.MonkeyPatch, second: str, reg_max: int, boxes: int
) -> None:
    """As on a GPU, and as on a CPU."""
    batch = make_batch(5, boxes=boxes)
    outcomes = []
    for passes in ([[ONE_TO_MANY, second]], [[ONE_TO_MANY], [second]]):
        branches = [make_predictions(batch, reg_max=reg_max, seed=seed) for seed in (1, 2)]
        leaves = [x.requires_grad_() for b in branches for x in (b.logits, b.distances)]
        monkeypatch.setattr(detection, "branch_groups", lambda *_, passes=passes: passes)
        output = DetectionLoss(Gains())(
            dict(zip((ONE_TO_MANY, second), branches, strict=True)), batch
        )
        output.total.backward()
        outcomes.append((output, [leaf.grad for leaf in leaves]))
    (joint, gradients), (alone, reference) = outcomes
    assert joint.num_pos == alone.num_pos and (joint.num_pos > 0) == (boxes > 0)
    assert torch.allclose(joint.total, alone.total, rtol=1e-6)
    assert joint.parts.keys() == alone.parts.keys()
    for name, part in joint.parts.items():
        assert torch.allclose(part, alone.parts[name], rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(gradients, reference, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_branch_weights_move_to_the_deployed_head() -> None:
    criterion = DetectionLoss(Gains())
    branches = {ONE_TO_MANY: None, ONE_TO_ONE: None}
    shares = []
    for criterion.progress in (0.0, 0.5, 1.0):
        shares.append(tuple(criterion.branch_weights(branches).values()))
    assert shares == [
        pytest.approx((0.8, 0.2)),
        pytest.approx((0.45, 0.55)),
        pytest.approx((0.1, 0.9)),
    ]
    assert criterion.branch_weights({ONE_TO_MANY: None}) == {ONE_TO_MANY: 1.0}


@pytest.mark.parametrize("reg_max", [1, 16])
def test_images_without_boxes_have_a_finite_loss_and_gradient(reg_max: int) -> None:
    batch = make_batch(0, boxes=0)
    predictions = make_predictions(batch, reg_max=reg_max)
    logits = predictions.logits.clone().requires_grad_()
    output = DetectionLoss(Gains())(
        {
            ONE_TO_MANY: Predictions(
                logits, predictions.distances, predictions.points, predictions.strides
            )
        },
        batch,
    )
    output.total.backward()
    assert output.total.isfinite() and logits.grad.isfinite().all() and output.num_pos == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_runs_in_float32_under_autocast(dtype: torch.dtype) -> None:
    batch = make_batch(1)
    full = make_predictions(batch)
    half = Predictions(full.logits.to(dtype), full.distances.to(dtype), full.points, full.strides)
    widened = Predictions(half.logits.float(), half.distances.float(), full.points, full.strides)
    criterion = DetectionLoss(Gains())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = criterion({ONE_TO_MANY: half}, batch).total
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(
        criterion({ONE_TO_MANY: widened}, batch).total.item(), rel=1e-6
    )


def test_two_copies_of_a_batch_have_the_mean_loss_of_one() -> None:
    """The normalizer is that of the batch, so a batch of twins gives twice the (per-image) total of
    one."""
    batch = make_batch(2)
    predictions = make_predictions(batch)
    twin_batch = Batch(
        torch.cat([batch.images] * 2),
        torch.cat([batch.boxes] * 2),
        torch.cat([batch.labels] * 2),
        torch.cat([batch.batch_index, batch.batch_index + len(batch)]),
        [],
        [],
        [],
        [],
    )
    twins = Predictions(
        torch.cat([predictions.logits] * 2),
        torch.cat([predictions.distances] * 2),
        predictions.points,
        predictions.strides,
    )
    criterion = DetectionLoss(Gains())
    one, two = (
        criterion({ONE_TO_MANY: predictions}, batch),
        criterion({ONE_TO_MANY: twins}, twin_batch),
    )
    assert two.total.item() == pytest.approx(2 * one.total.item(), rel=1e-5)


def test_distribution_focal_loss_by_hand() -> None:
    logits = torch.zeros(1, 4, 16)
    target = torch.tensor([[0.0, 3.25, 7.0, 99.0]])
    loss = detection.distribution_focal_loss(logits, target)
    assert torch.allclose(
        loss, torch.full((1, 4), math.log(16)), atol=1e-5
    )  # uniform: log R whatever the target
    sharp = torch.full((1, 4, 16), -30.0)
    sharp[0, 1, 3], sharp[0, 1, 4] = math.log(0.75), math.log(0.25)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert detection.distribution_focal_loss(sharp, target)[0, 1].item() == pytest.approx(
        entropy, abs=1e-4
    )
