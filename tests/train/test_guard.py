"""The guard: when it looks, what it keeps, what it takes for a failure and what it reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rows import each
from tiny import (
    IN_BF16,
    NAN,
    STEPS,
    assert_all_finite,
    essence,
    fail_in_bf16,
    hooked,
    make_batch,
    make_criterion,
    make_trainer,
    poison,
    same,
    snapshot,
    tiny_detector,
    watch,
)
from torch import nn
from yolodet.datasets.nouns import Batch
from yolodet.detector.losses.detection import LossOutput
from yolodet.detector.precision.precision import Precision
from yolodet.detector.train import guard
from yolodet.detector.train.guard import Failure, Guard, Rollback, find_failure
from yolodet.detector.train.position import Position
from yolodet.detector.train.step import StepOutput
from yolodet.detector.train.trainer import Trainer


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tiny_models: None) -> None:
    monkeypatch.setattr(guard, "READ_EVERY", 3)


# ---------------------------------------------------------------- flags that are read late


def waiting(trainer: Trainer) -> Trainer:
    """As on a device where reading a flag makes the host wait."""
    trainer.guard = Guard(trainer.state_dict, waits=True)
    return trainer


@each(
    ("step", "words", "every"),
    [
        (0, {}, 3),
        (STEPS + 1, {}, 3),
        (2 * STEPS - 1, {"nbs": 6}, 3),
        (STEPS - 1, {"nbs": 12}, 1),  # more batches under way than lie between two readings
        (1, {"save_steps": 1}, 3),
    ],
)
def test_a_bad_batch_found_late_ends_in_the_same_run_bit_for_bit(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    step: int, words: dict[str, Any], every: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(guard, "READ_EVERY", every)
    states = []
    for waits in (False, True):
        trainer = make_trainer(shapes, tmp_path / str(waits), "bf16", ("fp32",), **words)
        if waits:
            waiting(trainer)
        epoch, batch = divmod(step, STEPS)
        images = list(trainer.run.train_loader.epoch(epoch))[batch].paths

        def bad(b: Batch, t: Trainer = trainer, e: int = epoch, i: Any = images) -> bool:
            return t.at.epoch == e and b.paths == i

        poison(trainer, bad)
        trainer.fit()
        states.append(essence(trainer))
        assert trainer.at.skipped == 1 and len(trainer.log.warnings) == 1
        assert_all_finite(trainer.folder)
    assert same(states[0], states[1])


def test_steps_are_done_again_one_by_one_from_the_last_reading(
    shapes: Path, tmp_path: Path
) -> None:
    trainer = waiting(make_trainer(shapes, tmp_path, epochs=3))
    poison(trainer, lambda batch: (trainer.at.epoch, trainer.at.batch) == (1, 1))
    tried = watch(trainer)
    trainer.fit()
    blind = [(epoch, batch) for epoch, batch, eager, _ in tried if not eager]
    eager = [(epoch, batch) for epoch, batch, eager, _ in tried if eager]
    # kept at (1, 0); read before the next state is kept three steps later
    assert blind[:7] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
    assert eager[:3] == [(1, 0), (1, 1), (1, 2)]
    assert eager == sorted(set(eager)) and len(eager) == 3 + guard.READ_EVERY
    assert trainer.at.skipped == 1 and trainer.at.updates == 3 * STEPS - 1


def test_where_all_is_well_nobody_looks_and_nothing_is_done_twice(
    shapes: Path, tmp_path: Path
) -> None:
    trainers = [make_trainer(shapes, tmp_path / name, "bf16", ("fp32",)) for name in "ab"]
    tried = watch(waiting(trainers[0]))
    for trainer in trainers:
        trainer.fit()
    assert [(e, b, eager) for e, b, eager, _ in tried] == [
        (epoch, batch, False) for epoch in range(2) for batch in range(STEPS)
    ]
    assert same(essence(trainers[0]), essence(trainers[1]))


def test_a_failure_of_bf16_found_late_falls_to_fp32_like_one_found_at_once(
    shapes: Path, tmp_path: Path
) -> None:
    states = []
    for waits in (False, True):
        trainer = make_trainer(shapes, tmp_path / str(waits), "bf16", ("fp32",), epochs=3)
        fail_in_bf16(waiting(trainer) if waits else trainer, 2, 1)
        trainer.fit()
        assert trainer.precision.name == "fp32"
        assert trainer.precision.reason.startswith("epoch 3, batch 1: the loss is not finite")
        states.append(essence(trainer))
        assert_all_finite(trainer.folder)
    assert same(states[0], states[1])


@pytest.mark.parametrize("loaders", [0, 2])
def test_an_epoch_is_entered_again_in_the_middle_also_with_loader_processes(
    shapes: Path, tmp_path: Path, loaders: int
) -> None:
    plain = make_trainer(shapes, tmp_path / "plain", epochs=1)
    poison(plain, lambda batch: plain.at.batch == 2)
    plain.fit()
    trainer = waiting(make_trainer(shapes, tmp_path / "late", epochs=1, workers=loaders))
    poison(trainer, lambda batch: trainer.at.batch == 2)
    trainer.fit()
    trainer.run.train_loader.close(), trainer.run.val_loader.close()
    assert same(essence(plain), essence(trainer))


# ---------------------------------------------------------------- what is kept, and when


@pytest.mark.parametrize(("nbs", "accumulate"), [(3, 1), (6, 2), (9, 3)])
def test_a_state_is_kept_only_where_no_gradient_is_under_way(
    shapes: Path, tmp_path: Path, nbs: int, accumulate: int
) -> None:
    trainer = make_trainer(shapes, tmp_path, nbs=nbs)
    save, places = trainer.guard._save, []

    def look() -> Any:
        places.append((trainer.at.epoch, trainer.at.batch))
        assert all(p.grad is None for p in trainer.step.parameters)
        return save()

    trainer.guard._save = look
    trainer.fit()
    assert trainer.run.accumulate == accumulate
    assert places[0] == (0, 0) and (1, 0) in places  # and what was written is kept
    assert all(batch % accumulate == 0 for _, batch in places)


def test_the_kept_state_is_a_copy_and_what_is_given_of_it_too() -> None:
    state = {"weights": torch.zeros(3)}
    keeper = Guard(lambda: state, waits=False)
    keeper.before(boundary=True)
    state["weights"].add_(1)
    keeper.state["weights"].add_(2)
    assert torch.equal(keeper.state["weights"], torch.zeros(3))


def output_of(
    loss: float, *, skipped: bool | None, scaled: bool = False, update: bool = True
) -> StepOutput:
    output = LossOutput(torch.tensor(loss), {"box": torch.tensor(loss)}, 1)
    return StepOutput(output, torch.tensor(loss) if update else None, skipped, scaled)


FAILURE = Failure(0, 7, "fp16", "box", None, ["a.jpg"], helped=False, cause="")


class Examiner:
    """Stands in for find_failure."""

    def __init__(self, *, helped: bool) -> None:
        self.helped, self.causes = helped, []  # type: bool, list[str]

    def __call__(self, cause: str) -> Failure:
        self.causes.append(cause)
        return replace(FAILURE, helped=self.helped, cause=cause)


def test_loss_scaling_may_skip_but_not_for_ever() -> None:
    keeper, examine = Guard(dict, waits=False), Examiner(helped=True)
    for _ in range(guard.MOST_SKIPS - 1):
        assert keeper.after(output_of(1.0, skipped=True, scaled=True), 8.0, examine) is None
    with pytest.raises(Rollback, match="12 updates in a row were skipped"):
        keeper.after(output_of(1.0, skipped=True, scaled=True), 8.0, examine)
    assert keeper.skips_in_a_row == 0


def test_a_good_update_ends_the_row_of_skipped_ones() -> None:
    keeper, examine = Guard(dict, waits=False), Examiner(helped=True)
    for _ in range(5):
        for _ in range(guard.MOST_SKIPS - 1):
            keeper.after(output_of(1.0, skipped=True, scaled=True), 8.0, examine)
        keeper.after(output_of(1.0, skipped=False, scaled=True), 8.0, examine)
    assert examine.causes == []


def test_a_loss_scale_that_collapses_is_a_failure() -> None:
    keeper, examine = Guard(dict, waits=False), Examiner(helped=True)
    keeper.after(output_of(1.0, skipped=True, scaled=True), 1.0, examine)
    with pytest.raises(Rollback, match=r"the loss scale has collapsed to 0\.5"):
        keeper.after(output_of(1.0, skipped=True, scaled=True), 0.5, examine)


def test_a_few_batches_that_fail_in_fp32_too_are_skipped() -> None:
    keeper, examine = Guard(dict, waits=False), Examiner(helped=False)
    for count in range(1, guard.MOST_BAD_BATCHES + 1):
        assert not keeper.diverged
        failure = keeper.after(output_of(NAN, skipped=True), 1.0, examine)
        assert failure is not None and keeper.bad_in_a_row == count
    assert keeper.diverged
    keeper.after(output_of(1.0, skipped=False), 1.0, examine)
    assert not keeper.diverged and keeper.bad_in_a_row == 0


def test_batches_under_way_say_nothing_about_how_it_goes() -> None:
    """With accumulation most batches end without an update: they do not end a row of bad ones."""
    keeper, examine = Guard(dict, waits=False), Examiner(helped=False)
    for _ in range(guard.MOST_BAD_BATCHES):
        assert keeper.after(output_of(1.0, skipped=False, update=False), 1.0, examine) is None
        keeper.after(output_of(NAN, skipped=True), 1.0, examine)
    assert keeper.diverged


def test_gradients_that_are_not_finite_without_scaling_are_a_failure_at_once() -> None:
    keeper, examine = Guard(dict, waits=False), Examiner(helped=True)
    with pytest.raises(Rollback, match="the gradients are not finite"):
        keeper.after(output_of(1.0, skipped=True), 1.0, examine)


@pytest.mark.parametrize("loss", [NAN, float("inf")])
def test_a_flag_stays_set_until_it_is_read(loss: float) -> None:
    keeper, examine = Guard(dict, waits=True), Examiner(helped=True)
    keeper.before(boundary=True)
    assert not keeper.eager
    keeper.after(output_of(loss, skipped=None), 1.0, examine)
    keeper.after(output_of(1.0, skipped=None), 1.0, examine)
    with pytest.raises(Rollback) as back:
        keeper.check_flag()
    assert back.value.failure is None and keeper.eager and examine.causes == []
    keeper.check_flag()  # read once


def test_after_a_skipped_update_the_guard_looks_until_one_is_good() -> None:
    keeper, examine = Guard(dict, waits=True), Examiner(helped=False)
    keeper.before(boundary=True)
    keeper.after(output_of(NAN, skipped=None), 1.0, examine)
    with pytest.raises(Rollback):
        keeper.check_flag()
    for _ in range(20):  # the last of the careful steps meets another bad batch
        keeper.before(boundary=False)
        last = keeper._careful == 1
        keeper.after(output_of(NAN if last else 1.0, skipped=last), 1.0, examine)
        if last:
            break
    keeper.before(boundary=True)
    assert last and keeper.eager
    keeper.after(output_of(1.0, skipped=False), 1.0, examine)
    keeper.before(boundary=True)
    assert not keeper.eager


# ---------------------------------------------------------------- the report


def test_a_report_names_place_part_layer_and_images() -> None:
    images = [f"{i}.jpg" for i in range(6)]
    failure = Failure(2, 5, "bf16", "box, cls", "stem.conv", images, True, "the loss is bad")
    assert str(failure) == (
        "epoch 3, batch 5: the loss is bad in bf16, box, cls first at the output of stem.conv; "
        "images: 0.jpg, 1.jpg, 2.jpg, 3.jpg and 2 more"
    )
    assert str(replace(failure, layer=None, images=["a.jpg"])).endswith(
        "box, cls in the backward pass; images: a.jpg"
    )


def test_looking_for_the_cause_changes_nothing() -> None:
    torch.manual_seed(0)
    model = tiny_detector().train()
    model.backbone.stem.eval()
    hooked(model.backbone.stage3.conv, lambda x: x * NAN, IN_BF16)
    before = snapshot(dict(model.state_dict()))
    modes = [module.training for module in model.modules()]
    hooks = [len(module._forward_hooks) for module in model.modules()]
    failure = find_failure(
        model, make_criterion(), [make_batch(2)], Precision("bf16", "cpu", ""),
        Position(batch=1), "the loss is not finite",
    )  # fmt: skip
    assert failure.layer == "backbone.stage3.conv" and failure.helped
    assert failure.images == ["0.jpg", "1.jpg"] and "cls" in failure.part
    assert same(before, dict(model.state_dict()))
    assert modes == [module.training for module in model.modules()]
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert all(p.grad is None for p in model.parameters())


def test_fp32_is_not_helped_by_fp32() -> None:
    model = tiny_detector()
    hooked(model.backbone.stem, lambda x: x * NAN, lambda: True)
    at = Position()
    for name in ("fp32", "bf16"):
        precision = Precision(name, "cpu", "")
        assert not find_failure(
            model, make_criterion(), [make_batch(1)], precision, at, "nan"
        ).helped


def test_a_kept_state_is_a_copy_in_the_memory_of_the_one_before() -> None:
    layer = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    state: dict[str, Any] = {
        "model": layer.state_dict(), "rows": [{"a": 1.0}], "pair": (torch.zeros(2), "x"), "n": None,
    }  # fmt: skip
    first = guard.keep(state)
    assert same(first, state) and first["model"]["weight"].stride() == layer.weight.stride()
    addresses = [first["model"]["weight"].data_ptr(), first["pair"][0].data_ptr()]
    with torch.no_grad():
        layer.weight.add_(1)
    assert not same(first, state)
    state["rows"].append({"a": 2.0})
    state["sums"] = {"box": torch.ones(())}
    second = guard.keep(state, first)
    assert same(second, state) and second["rows"] is not state["rows"]
    assert addresses == [second["model"]["weight"].data_ptr(), second["pair"][0].data_ptr()]
    assert second["sums"]["box"].data_ptr() != state["sums"]["box"].data_ptr()


@each(
    "now", [torch.ones(3), torch.ones(2, dtype=torch.float64), torch.ones(()), {"a": 1}, 7, None]
)
def test_what_does_not_fit_the_memory_of_the_one_before_gets_its_own(now: Any) -> None:
    for before in (torch.zeros(2), {"a": torch.zeros(2)}, (1, 2), "text", None):
        assert same(guard.keep({"x": now}, {"x": before}), {"x": now})
