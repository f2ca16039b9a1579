"""One step: accumulation, loss scaling, clipping, and updates that leave no trace when skipped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from rows import each
from tiny import hooked, make_batch, make_criterion, same, snapshot, tiny_detector
from torch import nn
from yolodet.datasets.nouns import Batch
from yolodet.detector.losses.detection import DetectionLoss, Gains, LossOutput
from yolodet.detector.models.blocks import Norm
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.train.ema import ModelEma
from yolodet.detector.train.optim import build_optimizer, choose_optimizer
from yolodet.detector.train.step import StepOutput, TrainStep


class Recorded:
    """An optimizer's step, watched: the gradients it was given."""

    def __init__(self, step: TrainStep) -> None:
        self.gradients: list[torch.Tensor] = []
        self.steps = 0
        step.optimizer.register_step_pre_hook(self._look)
        self._parameters = step.parameters

    def _look(self, *_: Any) -> None:
        self.steps += 1
        self.gradients.append(torch.cat([p.grad.flatten() for p in self._parameters]))


def make_step(
    precision: str = "fp32", *, clip: float = 0.0, optimizer: str = "SGD", training: bool = True,
    criterion: DetectionLoss | None = None, scale: float = 64.0,
) -> TrainStep:  # fmt: skip
    """scale: of the loss in fp16, where 2^16 is too large for this little detector."""
    torch.manual_seed(0)
    model = tiny_detector().train(training)
    choice = choose_optimizer(TrainConfig(optimizer=optimizer, lr0=0.01))
    step = TrainStep(
        model,
        criterion or make_criterion(),
        build_optimizer(model, choice),
        Precision(precision, "cpu", "as told"),
        ema=ModelEma(model, decay=0.9, tau=1.0),
        clip=clip,
    )
    assert step.scaler.is_enabled() == (precision == "fp16")
    rescale(step, scale)
    return step


def rescale(step: TrainStep, scale: float, growth_interval: int = 2000) -> None:
    """Begin with another loss scale, where there is one."""
    step.scaler = torch.amp.GradScaler(
        "cpu", init_scale=scale, growth_interval=growth_interval, enabled=step.scaler.is_enabled()
    )


def learn(step: TrainStep, *batches: Batch, eager: bool = True) -> StepOutput:
    """One nominal batch made of ``batches``."""
    for batch in batches[:-1]:
        output = step(batch, update=False, eager=eager)
        assert output.grad_norm is None
    return step(batches[-1], update=True, eager=eager)


def twins(count: int) -> Batch:
    """The same image ``count`` times."""
    one = make_batch(1)
    return Batch(
        one.images.repeat(count, 1, 1, 1),
        one.boxes.repeat(count, 1),
        one.labels.repeat(count),
        torch.arange(count).repeat_interleave(2),
        one.indices * count,
        one.paths * count,
        one.original_sizes * count,
        one.letterboxes * count,
    )


def everything(step: TrainStep) -> Any:
    """All that an update may change."""
    assert step.ema is not None
    return snapshot(
        {
            "model": dict(step.model.state_dict()),
            "ema": step.ema.state_dict(),
            "optimizer": step.optimizer.state_dict(),
        }
    )


# ---------------------------------------------------------------- accumulation


@each("precision", ["fp32", "bf16", "fp16"])
@each("size", [1, 2, 4])
def test_small_batches_of_twins_add_up_to_the_large_one(precision: str, size: int) -> None:
    """Batch norm sees the same statistics in each, so nothing else may differ."""
    large, small = make_step(precision), make_step(precision)
    seen = Recorded(large), Recorded(small)
    learn(large, twins(4))
    learn(small, *twins(4).split(size))
    assert seen[0].steps == seen[1].steps == 1
    (a,), (b,) = seen[0].gradients, seen[1].gradients
    tolerance = 1e-5 if precision == "fp32" else 2e-2
    assert (a - b).norm() < tolerance * a.norm() and a.norm() > 1


def test_small_batches_of_different_images_add_up_without_batch_statistics() -> None:
    """Each small batch is divided by its own targets, so it is compared with their own sum."""
    batch = make_batch(4)
    together = make_step(training=False)
    seen = Recorded(together)
    learn(together, *batch.split(2))
    alone = []
    for piece in batch.split(2):
        step = make_step(training=False)
        alone.append(Recorded(step))
        learn(step, piece)
    expected = alone[0].gradients[0] + alone[1].gradients[0]
    assert (seen.gradients[0] - expected).norm() < 1e-5 * expected.norm()


def test_nothing_is_updated_before_the_nominal_batch_is_full() -> None:
    step = make_step()
    before = everything(step)
    step(make_batch(2), update=False, eager=True)
    after = everything(step)
    assert same(after["ema"], before["ema"]) and same(after["optimizer"], before["optimizer"])
    assert all(
        same(after["model"][name], dict(before["model"])[name])
        for name, _ in step.model.named_parameters()
    )
    assert any(p.grad is not None for p in step.parameters)
    step.drop_gradients()
    assert all(p.grad is None for p in step.parameters)


def test_scaling_changes_no_gradient() -> None:
    plain, scaled = make_step("fp16", scale=1.0), make_step("fp16", scale=1024.0)
    seen = Recorded(plain), Recorded(scaled)
    outputs = [learn(step, make_batch(2)) for step in (plain, scaled)]
    (a,), (b,) = (each.gradients for each in seen)
    assert (a - b).norm() < 1e-2 * a.norm()
    assert torch.equal(outputs[0].loss.total, outputs[1].loss.total)


def test_a_gradient_that_underflows_without_scaling_is_learnt_with_it() -> None:
    class Faint(DetectionLoss):
        def __call__(self, outputs: Any, batch: Batch) -> LossOutput:
            output = super().__call__(outputs, batch)
            return replace(output, total=output.total * 1e-6)

    lost = []
    for scale in (1.0, 65536.0):
        step = make_step("fp16", criterion=Faint(Gains()), scale=scale)
        seen = Recorded(step)
        learn(step, make_batch(4))
        lost.append((seen.gradients[0] == 0).float().mean().item())
    assert lost[0] > 0.5 > 0.1 > lost[1]


# ---------------------------------------------------------------- clipping


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_long_gradient_is_cut_after_unscaling_and_its_length_reported(precision: str) -> None:
    free, cut = make_step(precision), make_step(precision, clip=2.5)
    seen = Recorded(free), Recorded(cut)
    norms = [learn(step, make_batch(2)).grad_norm for step in (free, cut)]
    (a,), (b,) = seen[0].gradients, seen[1].gradients
    assert norms[0] is not None and norms[1] is not None
    assert norms[0].item() == pytest.approx(a.norm().item(), rel=1e-4)  # before clipping
    assert norms[1].item() == pytest.approx(norms[0].item(), rel=1e-4) and norms[0] > 2.5
    assert b.norm().item() == pytest.approx(2.5, rel=1e-4)
    assert torch.allclose(b, a * (2.5 / a.norm()), atol=1e-6)


def test_a_short_gradient_is_left_as_it_is() -> None:
    free, cut = make_step(), make_step(clip=1e6)
    seen = Recorded(free), Recorded(cut)
    for step in (free, cut):
        learn(step, make_batch(2))
    assert torch.equal(seen[0].gradients[0], seen[1].gradients[0])


# ---------------------------------------------------------------- skipped updates


def poisoned(step: TrainStep) -> Any:
    """Make a stage say NaN from now on; returns the hook."""
    return hooked(step.model.stages["backbone.stage4"], lambda x: x * float("nan"), lambda: True)


@each("precision", ["fp32", "bf16", "fp16"])
@each("optimizer", ["SGD", "AdamW", "MuSGD"])
@each("warm", [False, True])
def test_an_update_with_nan_gradients_leaves_no_trace(
    precision: str, optimizer: str, warm: bool
) -> None:
    step = make_step(precision, optimizer=optimizer, clip=10.0)
    if warm:  # the optimizer has state
        assert learn(step, make_batch(2)).skipped is False
    before = everything(step)
    hook = poisoned(step)
    output = learn(step, make_batch(2, seed=1), make_batch(2, seed=2))
    hook.remove()
    assert output.skipped is True and output.scaled == (precision == "fp16")
    assert same(everything(step), before)
    assert all(p.grad is None for p in step.parameters)
    assert learn(step, make_batch(2)).skipped is False
    assert not same(everything(step), before)


def test_one_bad_batch_among_those_accumulated_undoes_all_of_them() -> None:
    step = make_step()
    before = everything(step)
    hook = poisoned(step)
    step(make_batch(2), update=False, eager=True)
    hook.remove()
    assert step(make_batch(2, seed=1), update=True, eager=True).skipped is True
    assert same(everything(step), before)


def test_statistics_go_back_to_the_start_of_the_nominal_batch_only() -> None:
    """What the update before it learned stays."""
    step = make_step()
    learn(step, make_batch(2), make_batch(2, seed=1))
    before = everything(step)
    assert dict(before["model"])["backbone.stem.norm.num_batches_tracked"] == 2
    poisoned(step)
    learn(step, make_batch(2, seed=2), make_batch(2, seed=3))
    assert same(everything(step), before)


def test_where_nobody_looks_nothing_is_kept_back() -> None:
    """The path of a device that would have to be waited for: whoever reads the norm undoes it."""
    step = make_step()
    poisoned(step)
    output = learn(step, make_batch(2), eager=False)
    assert output.skipped is None and output.grad_norm is not None
    assert not output.grad_norm.isfinite()
    assert not step.model.state_dict()["backbone.stage5.conv.weight"].isfinite().all()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_looking_changes_nothing_where_all_is_well(precision: str) -> None:
    looked, blind = make_step(precision), make_step(precision)
    for seed in range(3):
        assert learn(looked, make_batch(2, seed=seed), eager=True).skipped is False
        assert learn(blind, make_batch(2, seed=seed), eager=False).skipped is None
    assert same(everything(looked), everything(blind))


# ---------------------------------------------------------------- the loss scale


def test_the_scale_backs_off_after_an_overflow_and_grows_again() -> None:
    step = make_step("fp16")
    rescale(step, 2.0**40, growth_interval=2)
    skipped, scales = [], []
    for seed in range(40):
        skipped.append(learn(step, make_batch(2, seed=seed)).skipped)
        scales.append(step.scaler.get_scale())
    expected, good, grown = 2.0**40, 0, 0
    for was_skipped, scale in zip(skipped, scales, strict=True):
        good = 0 if was_skipped else good + 1
        expected *= 0.5 if was_skipped else 1.0
        if good == 2:  # growth_interval
            expected, good, grown = expected * 2, 0, grown + 1
        assert scale == expected
    first = skipped.index(False)
    assert first > 10 and grown > 0  # 2^40 is far too large for fp16
    assert any(skipped[first + 1 :])  # it grows until it is too large again
    assert all(p.isfinite().all() for p in step.model.parameters())


def test_a_fresh_scale_comes_with_a_new_precision() -> None:
    step = make_step("fp16")
    poisoned(step)
    learn(step, make_batch(1))
    assert step.scaler.get_scale() == 32.0
    step.use(Precision("fp16", "cpu", "with a stage in float32", ("backbone.stem",)))
    assert step.scaler.get_scale() == 32.0
    step.use(Precision("bf16", "cpu", "fallen"))
    assert not step.scaler.is_enabled() and step.precision.name == "bf16"
    step.use(Precision("fp16", "cpu", "again"))
    assert step.scaler.get_scale() == 2.0**16


# ---------------------------------------------------------------- the average


def test_the_average_moves_with_good_updates_only() -> None:
    step = make_step()
    assert step.ema is not None
    learn(step, make_batch(2), make_batch(2))
    assert step.ema.updates == 1
    hook = poisoned(step)
    learn(step, make_batch(2))
    hook.remove()
    assert step.ema.updates == 1
    learn(step, make_batch(2))
    assert step.ema.updates == 2


def test_norms_count_their_batches_as_torch_counts_them() -> None:
    steps = [make_step(), make_step()]
    for parent in list(steps[1].model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, Norm):
                plain = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum)
                plain.load_state_dict(norm.state_dict())
                setattr(parent, name, plain)
    steps[1] = TrainStep(
        steps[1].model, make_criterion(),
        build_optimizer(steps[1].model, choose_optimizer(TrainConfig(optimizer="SGD", lr0=0.01))),
        steps[1].precision, ema=ModelEma(steps[1].model, decay=0.9, tau=1.0), clip=0.0,
    )  # fmt: skip
    for step in steps:
        learn(step, make_batch(2), make_batch(3))
        learn(step, make_batch(2))
    mine, theirs = (step.model.state_dict() for step in steps)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert {int(mine[key]) for key in mine if key.endswith("num_batches_tracked")} == {3}


def test_a_norm_without_momentum_is_torchs_cumulative_average() -> None:
    torch.manual_seed(0)
    norms = [kind(3, momentum=None) for kind in (Norm, nn.BatchNorm2d)]
    for _ in range(3):
        x = torch.randn(2, 3, 4, 4)
        assert torch.equal(*(norm(x) for norm in norms))
    assert torch.equal(norms[0].running_var, norms[1].running_var)
    assert norms[0].num_batches_tracked == 3
