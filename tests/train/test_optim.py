"""Optimizers, schedule and average against plain formulas."""

import copy
import dataclasses
import itertools
import math

import pytest
import torch
from rows import each
from torch import nn
from torch.overrides import TorchFunctionMode
from yolodet.detector.models.build import build
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.run.hardware import DeviceTraits, product_dtype
from yolodet.detector.run.ranks import Ranks
from yolodet.detector.train.ema import ModelEma
from yolodet.detector.train.muon import MuSGD, newton_schulz, orthogonalize_all, turns_of
from yolodet.detector.train.optim import (
    DEFAULTS,
    build_optimizer,
    choose_optimizer,
    newton_schulz_precision,
    parameter_groups,
    set_learning_rate,
    settle_optimizer,
)
from yolodet.detector.train.schedule import (
    RunLength,
    close_epoch,
    ema_constants,
    lr_factor,
    warmup_steps,
)


class TorchFunctions(TorchFunctionMode):
    """Counts the calls of a function of torch, and the formats of what it returned."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name, self.calls, self.dtypes = name, 0, set()

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") == self.name:
            self.calls += 1
            self.dtypes.add(result.dtype)
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_newton_schulz_is_close_to_the_svd_answer(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    for shape in ((8, 64, 27), (3, 16, 144)):
        matrices = torch.randn(shape)
        u, _, v = torch.linalg.svd(matrices, full_matrices=False)
        found = newton_schulz(matrices, dtype)
        assert found.dtype == torch.float32
        values = torch.linalg.svdvals(found)
        assert values.min() > 0.5 and values.max() < 1.4
        assert nn.functional.cosine_similarity(found.flatten(1), (u @ v).flatten(1)).min() > 0.95


def test_batched_orthogonalization_equals_one_by_one() -> None:
    torch.manual_seed(0)
    tensors = [
        torch.randn(16, 8, 3, 3),
        torch.randn(16, 72),
        torch.randn(32, 1, 3, 3),
        torch.randn(16, 8, 3, 3),
    ]
    together = orthogonalize_all(tensors)
    for tensor, found in zip(tensors, together, strict=True):
        alone = orthogonalize_all([tensor])[0]
        assert found.shape == tensor.shape
        assert torch.allclose(found, alone, atol=1e-5)


def test_padding_with_zeros_changes_nothing_but_the_number_of_products() -> None:
    torch.manual_seed(0)
    shapes = [(16, 8, 3, 3), (12, 5), (7, 90), (64, 1, 3, 3), (33, 4, 3, 3), (9, 70)]
    tensors = [torch.randn(shape) for shape in shapes]
    tensors[0] = tensors[0].to(memory_format=torch.channels_last)
    with TorchFunctions("baddbmm") as exact:
        alone = orthogonalize_all(tensors, padded=False)
    with TorchFunctions("baddbmm") as padded:
        together = orthogonalize_all(tensors, padded=True)
    for tensor, one, other in zip(tensors, alone, together, strict=True):
        assert one.shape == other.shape == tensor.shape
        assert torch.allclose(one, other, atol=1e-5)
    assert (exact.calls, padded.calls) == (2 * 5 * 6, 2 * 5 * 3)  # short sides 5 7, 9 9 16, 33


@each(
    ("native", "expected"),
    [((True,), "bf16"), ((False,), "fp32"), ((True, False), "fp32"), ((True, True), "bf16")],
)
def test_products_are_in_the_format_that_is_fast_on_every_rank(
    monkeypatch: pytest.MonkeyPatch, native: tuple[bool, ...], expected: str
) -> None:
    class TwoRanks(Ranks):
        def gather(self, value: object) -> list[object]:
            own = product_dtype(DeviceTraits("cpu", "", bf16_native=native[0]))
            assert value == own
            return [product_dtype(DeviceTraits("cpu", "", bf16_native=n)) for n in native]

    traits = DeviceTraits("cpu", "", bf16_native=native[0])
    monkeypatch.setattr("yolodet.detector.train.optim.traits_of", lambda device: traits)
    model = build("yolo26n", 1)
    optimizer = build_optimizer(model, choose_optimizer(TrainConfig()), ranks=TwoRanks())
    assert newton_schulz_precision(optimizer) == expected
    sgd = build_optimizer(model, choose_optimizer(TrainConfig(optimizer="SGD")))
    assert newton_schulz_precision(sgd) is None
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    with TorchFunctions("baddbmm") as seen:
        optimizer.step()
    assert seen.dtypes == {"bf16": {torch.bfloat16}, "fp32": {torch.float32}}[expected]


def test_sgd_part_equals_torch_sgd() -> None:
    torch.manual_seed(0)
    mine = nn.Linear(6, 4)
    theirs = copy.deepcopy(mine)
    a = MuSGD(mine.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    b = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, nesterov=True)
    for step in range(5):
        x = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
        for model, optimizer in ((mine, a), (theirs, b)):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
    assert torch.allclose(mine.weight, theirs.weight, atol=1e-6)


def test_muon_step_follows_the_formula() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(8, 4))
    start, gradient = weight.detach().clone(), torch.randn(8, 4)
    optimizer = MuSGD([{"params": [weight], "muon": 0.2, "sgd": 0.0}], lr=0.5, momentum=0.9)
    weight.grad = gradient.clone()
    optimizer.step()
    momentum = 0.1 * gradient
    nesterov = 0.9 * momentum + 0.1 * gradient
    expected = start - 0.5 * 0.2 * orthogonalize_all([nesterov])[0]
    assert torch.allclose(weight, expected, atol=1e-5)
    assert orthogonalize_all([nesterov])[0].norm() == pytest.approx(math.sqrt(2) * 2, rel=0.3)


def test_matrices_take_turns_and_make_up_for_it() -> None:
    torch.manual_seed(0)
    wide, tall = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(8, 4))
    start, gradient = wide.detach().clone(), torch.randn(4, 6)
    group = {"params": [wide, tall], "muon": 0.2, "sgd": 0.0, "every": 2}
    optimizer = MuSGD([group], lr=0.5, momentum=0.9)
    first = turns_of([(4, 6), (8, 4)], 2).index(0)  # the dearer one begins
    assert first == 1
    momentum = torch.zeros_like(gradient)
    for step in range(4):
        before = [weight.detach().clone() for weight in (wide, tall)]
        wide.grad, tall.grad = gradient.clone(), torch.randn(8, 4)
        optimizer.step()
        moved = [not torch.equal(*pair) for pair in zip(before, (wide, tall), strict=True)]
        assert moved == [step % 2 == 1, step % 2 == 0]
        momentum = 0.9 * momentum + 0.1 * gradient  # goes on, also where the turn is another's
        if step % 2:
            direction = orthogonalize_all([0.9 * momentum + 0.1 * gradient])[0]
            start = start - 0.5 * 0.2 * 2 * direction
    assert torch.allclose(wide, start, atol=1e-5)


def test_turns_cost_alike_and_keep_one_shape_together() -> None:
    matrices = parameter_groups(build("yolo26n", 3))["matrices"]
    shapes = [(len(p), p[0].numel()) for p in matrices]
    for every in (2, 3, 4):
        turns = turns_of(shapes, every)
        loads = [0] * every
        for (rows, columns), turn in zip(shapes, turns, strict=True):
            loads[turn] += min(rows, columns) ** 2 * max(rows, columns)
        assert max(loads) < 1.2 * min(loads)
        assert all(len({t for s, t in zip(shapes, turns, strict=True) if s == shape}) == 1
                   for shape in shapes)  # fmt: skip


@pytest.mark.parametrize("every", [1, 2, 3])
def test_optimizer_state_survives_saving(every: int) -> None:
    torch.manual_seed(0)
    models = [nn.Conv2d(3, 4, 3, bias=False)]
    models.append(copy.deepcopy(models[0]))
    optimizers = [
        MuSGD([{"params": list(m.parameters()), "muon": 0.2}], lr=0.1, every=every) for m in models
    ]
    for step in range(4):
        if step == 2:
            optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
        gradient = torch.randn(4, 3, 3, 3)
        for model, optimizer in zip(models, optimizers, strict=True):
            if step < 2 and optimizer is optimizers[1]:
                model.load_state_dict(models[0].state_dict())
                continue
            model.weight.grad = gradient.clone()
            optimizer.step()
        if step == 1:
            models[1].load_state_dict(models[0].state_dict())
    assert torch.equal(models[0].weight, models[1].weight)


def test_every_parameter_is_in_one_group_and_only_matrices_decay() -> None:
    model = build("yolo26n", 3)
    groups = parameter_groups(model)
    assert sum(p.numel() for ps in groups.values() for p in ps) == sum(
        p.numel() for p in model.parameters()
    )
    assert all(p.ndim < 2 for p in groups["plain"]) and all(p.ndim == 4 for p in groups["matrices"])
    assert len(groups["last"]) == 2 * 2 * 3  # two branches, boxes and classes, three levels
    optimizer = build_optimizer(model, choose_optimizer(TrainConfig()))
    decays = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decays["plain"] == 0.0 and decays["matrices"] > 0


def test_transferred_weights_learn_more_slowly() -> None:
    model = build("yolo26n", 3)
    fresh = {name for name, _ in model.named_parameters() if name.startswith("head.")}
    known = {name for name, _ in model.named_parameters()} - fresh
    choice = choose_optimizer(TrainConfig(lr0=0.4))
    for name in ("SGD", "AdamW", "MuSGD"):
        optimizer = build_optimizer(
            model, dataclasses.replace(choice, name=name), transferred=known, transferred_lr=0.25
        )
        rates = {id(p): g["peak_lr"] for g in optimizer.param_groups for p in g["params"]}
        for path, parameter in model.named_parameters():
            assert rates[id(parameter)] == pytest.approx(0.1 if path in known else 0.4)
        shares = [g.get("muon") for g in optimizer.param_groups if "matrices" in g["name"]]
        assert len(set(shares)) == 1  # how a matrix is updated does not depend on where it is from


def test_a_given_value_is_never_changed() -> None:
    choice = choose_optimizer(TrainConfig(lr0=0.123, optimizer="AdamW"))
    assert choice.name == "AdamW" and choice.lr0 == 0.123 and choice.weight_decay > 0
    assert choose_optimizer(TrainConfig(lr0=0.5, momentum=0.1)).lr0 == 0.5


def test_learning_rate_curve() -> None:
    curve = [
        lr_factor(s, steps=100, warmup=10, final=0.01, shape="flat_cosine") for s in range(100)
    ]
    assert curve[0] == pytest.approx(0.1) and curve[9] == pytest.approx(1.0)
    assert curve[54] == pytest.approx(1.0) and curve[99] < 0.02
    assert all(a >= b for a, b in itertools.pairwise(curve[10:]))
    linear = [lr_factor(s, steps=100, warmup=0, final=0.1, shape="linear") for s in (0, 50, 100)]
    assert linear == pytest.approx([1.0, 0.55, 0.1])
    assert lr_factor(100, steps=100, warmup=0, final=0.1, shape="cosine") == pytest.approx(0.1)


@each(("steps", "epochs"), [(1, 3), (3, 100), (13, 10), (13, 100), (1848, 300)])
def test_constants_follow_the_length_of_the_run(steps: int, epochs: int) -> None:
    run = RunLength(steps, epochs)
    assert warmup_steps(run, None) <= 0.06 * run.steps
    assert close_epoch(run, None) >= 0.85 * epochs - 1  # a short run still sees mosaics
    decay, tau = ema_constants(run, None)
    assert 0.4 < decay <= 0.9999 and 1 / (1 - decay) <= 0.1 * run.steps + 2 and tau <= 2000
    assert close_epoch(run, 2) == epochs - 2 and ema_constants(run, 0.5)[0] == 0.5


def test_average_follows_the_formula() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    ema = ModelEma(model, decay=0.9, tau=5.0)
    expected = model[0].weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            model[0].weight.add_(1.0)
            model[1].num_batches_tracked.add_(1)
        d = 0.9 * (1 - math.exp(-step / 5.0))
        expected = d * expected + (1 - d) * model[0].weight.detach()
        ema.update(model)
    assert torch.allclose(ema.average[0].weight, expected, atol=1e-6)
    assert ema.average[1].num_batches_tracked.item() == 5


def test_learning_rate_is_set_relative_to_each_peak() -> None:
    model = build("yolo26n", 1)
    optimizer = build_optimizer(model, choose_optimizer(TrainConfig(optimizer="SGD", lr0=0.2)))
    set_learning_rate(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("Adam", torch.optim.Adam), ("NAdam", torch.optim.NAdam), ("RAdam", torch.optim.RAdam),
     ("Adamax", torch.optim.Adamax), ("RMSProp", torch.optim.RMSprop)],
)  # fmt: skip
def test_other_optimizers_are_those_of_torch(name: str, kind: type) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    choice = choose_optimizer(TrainConfig(optimizer=name, lr0=0.02, weight_decay=0.1))
    optimizer = build_optimizer(model, choice)
    assert type(optimizer) is kind
    decay = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decay == {"matrices": 0.1, "plain": 0.0}
    assert {group["peak_lr"] for group in optimizer.param_groups} == {0.02}
    before = copy.deepcopy(model[0].weight)
    model(torch.ones(2, 3, 2, 2)).square().mean().backward()
    optimizer.step()
    assert not torch.equal(before, model[0].weight)


@each(
    ("words", "from_weights", "name"),
    [
        ({}, False, "MuSGD"),
        ({}, True, "AdamW"),
        ({"optimizer": "SGD"}, True, "SGD"),
        ({"qat": "int8"}, True, "MuSGD"),
    ],
)
def test_auto_depends_on_the_start(words: dict[str, str], from_weights: bool, name: str) -> None:
    """And the learning rate is that of the optimizer."""
    choice = choose_optimizer(settle_optimizer(TrainConfig(**words), from_weights))
    assert (choice.name, choice.lr0) == (name, DEFAULTS[name]["lr0"])
