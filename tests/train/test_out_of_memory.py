"""A run that runs out of memory goes on with micro-batches, as one that had them from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import (
    essence,
    make_batch,
    make_criterion,
    make_trainer,
    same,
    saved,
    tiny_detector,
    train,
)
from torch import Tensor
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run.folder import RunError
from yolodet.detector.run.memory import out_of_memory
from yolodet.detector.train.ema import ModelEma
from yolodet.detector.train.optim import build_optimizer, choose_optimizer
from yolodet.detector.train.step import TrainStep
from yolodet.detector.train.trainer import Trainer
from yolodet.weights.checkpoint import CheckpointError, load_state, save_state

pytestmark = pytest.mark.usefixtures("tiny_models")

GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
LARGE = RuntimeError("upsample only supports tensors with less than INT_MAX elements, but got ...")
CPU = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to ...")


def limit(trainer: Trainer, most: int, error: BaseException, after: int = 0) -> list[int]:
    """Let ``error`` come wherever more than ``most`` images go through the last stage of the model
    in training, after so many batches; returns the images of all passes."""
    passes: list[int] = []

    def hook(_: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        passes.append(len(output))
        if trainer.at.batch + 100 * trainer.at.epoch >= after and len(output) > most:
            raise error

    trainer.run.model.backbone.stage5.register_forward_hook(hook)
    return passes


def weights(trainer: Trainer) -> Any:
    """What a run has learned."""
    state = essence(trainer)
    return {name: state[name] for name in ("model", "ema", "optimizer", "scaler")}


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (GPU, "memory ran out"),
        (CPU, "memory ran out"),
        (LARGE, "a tensor was too large for torch"),
    ],
    ids=["gpu", "cpu", "large"],
)
def test_out_of_memory_in_the_first_step_is_as_micro_batches_from_the_start(
    shapes: Path, tmp_path: Path, error: RuntimeError, what: str
) -> None:
    """12 images, 6 at a time; no more than 2 of them fit."""
    small = make_trainer(shapes, tmp_path / "small", batch=6, nbs=6, micro_batch=2)
    small.fit()
    run = make_trainer(shapes, tmp_path / "run", batch=6, nbs=6)
    passes = limit(run, 2, error)
    run.fit()
    assert passes[:5] == [6, 3, 2, 2, 2] and set(passes[2:]) == {2}
    assert same(weights(run), weights(small)) and run.at.updates == 4
    log = (tmp_path / "run" / "log.txt").read_text()
    assert log.count(what) == 2  # 6 -> 3 -> 2, each said once
    assert (
        f"WARNING: {what} at epoch 1, batch 0: rolled back to batch 0, continuing with "
        "micro-batches of 2 images (nominal batch and learning rate stay; batch norm normalizes "
        "over 2 images)" in log
    )


def test_out_of_memory_in_mid_run_goes_on_from_the_last_good_state(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights as a run that is stopped there and continues with the option."""
    monkeypatch.setattr("yolodet.detector.train.guard.READ_EVERY", 1)
    run = make_trainer(shapes, tmp_path / "run", batch=4, nbs=4, epochs=2)
    limit(run, 2, CPU, after=102)  # the last batch of the second epoch
    run.fit()
    told = make_trainer(shapes, tmp_path / "told", batch=4, nbs=4, epochs=2)
    inner = told.step.__class__.__call__

    class Smaller(TrainStep):
        def __call__(self, *args: Any, **words: Any) -> Any:
            self.micro_batch = 2 if (told.at.epoch, told.at.batch) >= (1, 2) else None
            return inner(self, *args, **words)

    told.step.__class__ = Smaller
    told.fit()
    assert same(weights(run), weights(told))
    assert "memory ran out at epoch 2, batch 2" in (tmp_path / "run" / "log.txt").read_text()


def test_accumulated_gradients_are_not_counted_twice(shapes: Path, tmp_path: Path) -> None:
    """Memory runs out in the second of two batches of a nominal batch: both are repeated."""
    small = make_trainer(shapes, tmp_path / "small", batch=4, nbs=8, micro_batch=2, epochs=1)
    small.fit()
    run = make_trainer(shapes, tmp_path / "run", batch=4, nbs=8, epochs=1)
    limit(run, 2, CPU, after=1)
    run.fit()
    assert run.run.accumulate == 2 and same(weights(run), weights(small))


def test_it_ends_with_the_ap_of_the_smaller_micro_batch_from_the_start(
    squares: Path, tmp_path: Path
) -> None:
    words: dict[str, Any] = {
        "batch": 4, "nbs": 4, "epochs": 30, "mosaic": 0.0, "scale": 0.0, "translate": 0.0
    }  # fmt: skip
    scores = []
    for name, late in (("small", False), ("run", True)):
        more = {} if late else {"micro_batch": 2}
        trainer = make_trainer(squares, tmp_path / name, **words, **more)
        if late:
            limit(trainer, 2, GPU, after=1001)  # in the eleventh epoch
        trainer.fit()
        assert trainer.step.micro_batch == 2
        scores.append(trainer.at.best_map)
    # rounding alone moves the AP of so short a training by 0.1; bits are compared above
    assert min(scores) > 0.1 and scores[0] == pytest.approx(scores[1], abs=0.25)


def test_a_run_that_goes_on_keeps_its_micro_batch(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where another one was typed at its start; a new one may be typed."""
    train(shapes, tmp_path, batch=6, epochs=1)
    last = tmp_path / "train" / "weights" / "last.pt"
    save_state(last, {**load_state(last), "micro_batch": 2})  # memory ran out
    train(shapes, tmp_path, resume=str(tmp_path / "train"), epochs=2)
    assert saved(tmp_path / "train")["micro_batch"] == 2
    train(shapes, tmp_path, resume=str(tmp_path / "train"), epochs=3, micro_batch=3)
    assert saved(tmp_path / "train")["micro_batch"] == 3
    save_state(last, {**load_state(last), "micro_batch": -1})
    with pytest.raises(CheckpointError, match="'micro_batch' cannot be -1"):
        train(shapes, tmp_path, resume=str(tmp_path / "train"), epochs=4)


def test_a_single_image_that_does_not_fit_ends_the_run(shapes: Path, tmp_path: Path) -> None:
    run = make_trainer(shapes, tmp_path, batch=2, nbs=2)
    passes = limit(run, 0, GPU)
    with pytest.raises(RunError, match=r"with 1 image \(CUDA out of memory. Tried .*\): use a"):
        run.fit()
    assert passes == [2, 1]


def test_another_error_of_torch_is_not_taken_for_memory(shapes: Path, tmp_path: Path) -> None:
    run = make_trainer(shapes, tmp_path, batch=2, nbs=2)
    limit(run, 0, RuntimeError("shape mismatch"))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        run.fit()


def test_of_several_ranks_the_one_ends_the_run_and_says_how_to_go_on(
    shapes: Path, tmp_path: Path
) -> None:
    run = make_trainer(shapes, tmp_path, batch=4, nbs=4)
    run.ranks = type("Two", (), {"size": 2, "rank": 1, "first": False})()
    run.step.micro_batch = 2
    from yolodet.detector.train.micro_batches import MemoryRanOut

    with pytest.raises(RunError, match=r"epoch 1, batch 0 on rank 1 .* micro_batch=2$"):
        run._split_batches(MemoryRanOut("full"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_micro_batches_take_the_step_of_accumulated_batches(precision: str) -> None:
    """Gradients, losses and counters are those of the same parts given one by one."""
    ran = []
    for micro in (None, 2):
        torch.manual_seed(0)
        model = tiny_detector().train()
        optimizer = build_optimizer(model, choose_optimizer(TrainConfig(optimizer="SGD", lr0=0.01)))
        step = TrainStep(
            model, make_criterion(), optimizer, Precision(precision, "cpu", ""),
            ema=ModelEma(model, decay=0.9, tau=1.0), clip=10.0,
        )  # fmt: skip
        step.micro_batch = micro
        batch = make_batch(6)
        parts = [batch] if micro else batch.split(2)
        losses = [step(part, update=part is parts[-1], eager=True).loss for part in parts]
        ran.append((model.state_dict(), losses))
    (apart, losses), (together, (loss,)) = ran
    assert same(apart, together)
    assert loss.total == pytest.approx(float(sum(part.total for part in losses)), rel=1e-6)
    for name, value in loss.parts.items():
        assert value == pytest.approx(float(sum(p.parts[name] for p in losses)) / 3, rel=1e-6)
    assert loss.num_pos == sum(part.num_pos for part in losses)


@pytest.mark.parametrize(("count", "most", "sizes"), [
    (16, 8, [8, 8]), (16, 6, [5, 5, 6]), (3, 2, [1, 2]), (4, 9, [4]), (5, 1, [1] * 5),
])  # fmt: skip
def test_a_batch_is_split_evenly_with_the_boxes_of_its_images(
    count: int, most: int, sizes: list[int]
) -> None:
    batch = make_batch(count)
    parts = batch.split(most)
    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert torch.equal(torch.cat([part.boxes for part in parts]), batch.boxes)
    for part in parts:
        assert part.batch_index.tolist() == sorted(2 * list(range(len(part))))
        assert len(part.paths) == len(part.indices) == len(part)


def no_memory() -> None:
    torch.empty(2**55)


@pytest.mark.parametrize("cause", [no_memory, lambda: bytearray(2**62)])
def test_what_the_allocators_say_is_recognized(cause: Callable[[], Any]) -> None:
    with pytest.raises((RuntimeError, MemoryError)) as failure:
        cause()
    assert out_of_memory(failure.value)


def test_a_micro_batch_is_checked_like_a_batch(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolodet.detector.train.check import check_train, idle_words

    config = TrainConfig(data=str(shapes), project=str(tmp_path), micro_batch=16)
    assert idle_words(config, frozenset()) == [
        "micro_batch=16 has no effect: batch=16 is no larger"
    ]
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "::1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", "1")
    with pytest.raises(UsageError, match="micro_batch=3 is the total over 2 ranks"):
        check_train(TrainConfig(data=str(shapes), project=str(tmp_path), micro_batch=3))
