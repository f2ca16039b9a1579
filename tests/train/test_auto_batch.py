"""batch=auto and batch=0.8: near the largest that fits, and a number from there on."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny import same, saved, train, train_config, use_tiny_detector
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import parse
from yolodet.detector.options.train import AUTO_SHARE, TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run import memory
from yolodet.detector.run.log import Log
from yolodet.detector.run.ranks import ALONE
from yolodet.detector.train import auto_batch, pipeline, trial_step
from yolodet.detector.train.assemble import assemble
from yolodet.detector.train.auto_batch import largest_fitting, settle_batch
from yolodet.detector.train.trial_step import RAN_OUT, TrialStep, tiled

MiB = 1 << 20


def bisected(measure: Callable[[int], int], room: int, most: int) -> int:
    """The reference: the largest that fits, by bisection over all numbers."""
    fits, fails = 0, most + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if measure(middle) <= room:
            fits = middle
        else:
            fails = middle
    return fits


@pytest.mark.parametrize("seed", range(20))
def test_the_search_ends_near_the_largest_that_fits(seed: int) -> None:
    """Memory of any size, a device that runs out early, and sizes that are off by 3 %."""
    draw = random.Random(seed)
    fixed, image = draw.randint(1, 400) * MiB, draw.randint(1, 300) * MiB
    room, ends = draw.randint(4, 60_000) * MiB, draw.choice((1.0, 0.9, 0.5))
    most = draw.choice((1024, 40, 16))

    def exact(count: int) -> int:
        taken = fixed + count * image
        return RAN_OUT if taken > room * ends else taken

    tried: list[int] = []

    def measure(count: int) -> int:
        tried.append(count)
        taken = exact(count)
        return taken if taken == RAN_OUT else int(taken * draw.uniform(0.97, 1.0))

    found, taken = largest_fitting(measure, room, most)
    largest = bisected(exact, room, most)
    assert found <= largest and len(tried) <= 12
    if largest < 2:
        assert (found, taken) == (0, 0)
        return
    assert found >= 0.9 * largest - 1 and taken == pytest.approx(exact(found), rel=0.03)


def test_the_way_up_is_taken_in_steps() -> None:
    """The kernel ends a process that asks for too much: nothing far above the known is tried."""
    tried: list[int] = []

    def measure(count: int) -> int:
        tried.append(count)
        return 1 if count < 10 else 100 * count  # the first steps say nothing

    found, _ = largest_fitting(measure, 10_000, 1024)
    assert tried[0] == 2 and found == 100
    assert all(later <= 8 * max(tried[:i]) for i, later in enumerate(tried[1:], 1))


class Pretended(TrialStep):
    """A device with room for eight images per rank."""

    def __init__(self, run: Any, precision: Precision) -> None:
        super().__init__(run, precision)
        self.room = 900 * MiB

    def __call__(self, images: int) -> int:
        taken = 100 * MiB * images
        return taken if taken <= self.room else RAN_OUT


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_detector(monkeypatch)
    monkeypatch.setattr(auto_batch, "TrialStep", Pretended)
    monkeypatch.setattr(auto_batch, "LEAST_STEPS", 1)


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(("word", "number"), [("auto", 8), ("-1", 8), ("0.6", 5)])
def test_the_run_is_the_one_with_the_number(
    shapes: Path, tmp_path: Path, word: str, number: int
) -> None:
    results = train(shapes, tmp_path / "auto", batch=word, epochs=1)
    train(shapes, tmp_path / "told", batch=number, epochs=1)
    folder = tmp_path / "auto" / "train"
    assert same(saved(folder), saved(tmp_path / "told" / "train"))
    assert yaml.safe_load((folder / "args.yaml").read_text())["batch"] == number
    log = (folder / "log.txt").read_text()
    said = "auto" if word == "-1" else word
    assert f"batch={said}: {number} images, measured: a step in fp32 takes 0." in log
    assert log.count("measured:") == 1
    train(shapes, tmp_path, resume=results["folder"], epochs=2)
    assert yaml.safe_load((folder / "args.yaml").read_text())["batch"] == number
    with pytest.raises(UsageError, match=f"cannot change batch of a run .* has batch={number}"):
        train(shapes, tmp_path, resume=results["folder"], epochs=3, batch=word)


@pytest.mark.usefixtures("pretended")
def test_what_was_said_while_measuring_is_not_said_again(shapes: Path, tmp_path: Path) -> None:
    config, given = train_config(shapes, tmp_path, batch="auto", imgsz=65, epochs=1)
    log = Log(verbose=False)
    pipeline.train(config, given, log)
    text = (tmp_path / "train" / "log.txt").read_text()
    assert text.count("imgsz=65 is rounded up") == 1
    assert len(log.warnings) == len(set(log.warnings))


@pytest.mark.usefixtures("pretended")
def test_an_epoch_keeps_some_steps(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_batch, "LEAST_STEPS", 4)
    monkeypatch.setattr(auto_batch, "USUAL", 2)
    config, _ = train_config(shapes, tmp_path, batch="auto")
    log = Log(verbose=False)
    log.to_file(tmp_path / "log.txt")
    assert settle_batch(config, log, ALONE).batch == 3  # of 12 images
    assert "fewer than 4 steps" in (tmp_path / "log.txt").read_text()


def test_too_little_for_two_images_is_refused(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_detector(monkeypatch)
    monkeypatch.setattr(trial_step, "free_memory", lambda _: trial_step.LATER + 1000)
    config, _ = train_config(shapes, tmp_path, batch="auto", cache="none")
    with pytest.raises(UsageError, match=r"batch=auto: not even two images fit into 0\.00 GiB"):
        settle_batch(config, Log(verbose=False), ALONE)


@pytest.mark.skipif(
    not memory.PeakMemory.measurable(torch.device("cpu")), reason="needs /proc of Linux"
)
def test_a_real_step_is_measured(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More images take more memory, in nearly equal amounts."""
    use_tiny_detector(monkeypatch)
    config, _ = train_config(shapes, tmp_path, batch=4, imgsz=320)
    run = assemble(config, Log(verbose=False))
    step = TrialStep(run, Precision("fp32", "cpu", ""))
    taken = [step(images) for images in (8, 16, 24)]
    step.end()
    run.close()
    grown = [taken[1] - taken[0], taken[2] - taken[1]]
    assert min(grown) > 4 * MiB and max(grown) < 1.5 * min(grown)
    assert step.room < memory.free_memory(run.device) + 1000 * MiB


def test_images_are_repeated_with_their_boxes(shapes: Path, tmp_path: Path) -> None:
    from tiny import make_batch

    batch = make_batch(3)
    many = tiled(batch, 7)
    assert len(many) == 7 and many.indices == [0, 1, 2, 0, 1, 2, 0]
    assert torch.equal(many.images[3:6], batch.images)
    assert many.batch_index.tolist() == sorted(2 * list(range(7)))
    assert torch.equal(many.boxes[6:12], batch.boxes) and torch.equal(
        many.boxes[12:], batch.boxes[:2]
    )


@pytest.mark.parametrize(
    ("word", "batch", "share"),
    [("auto", "auto", AUTO_SHARE), ("AUTO", "auto", AUTO_SHARE), (-1, "auto", AUTO_SHARE),
     ("0.8", 0.8, 0.8), (0.25, 0.25, 0.25), ("8", 8, None), (8.0, 8, None), (1, 1, None)],
)  # fmt: skip
def test_words_for_the_batch(word: object, batch: object, share: float | None) -> None:
    config, _ = parse(TrainConfig, {"batch": word})
    assert config.batch == batch and config.memory_share == share
    assert config.batch_size == (batch if isinstance(batch, int) else 16)


@pytest.mark.parametrize("word", ["0", "-2", "1.5", "atuo", "0.0", "none"])
def test_other_words_are_refused(word: str) -> None:
    with pytest.raises(
        UsageError, match="a whole number from 1, a share of the memory below 1, or"
    ):
        parse(TrainConfig, {"batch": word})


def test_a_measured_batch_has_no_named_micro_batch(shapes: Path, tmp_path: Path) -> None:
    from yolodet.detector.train.check import check_train

    config, given = train_config(shapes, tmp_path, batch="auto", micro_batch=2)
    with pytest.raises(UsageError, match="leave one of them out"):
        check_train(config, given)
