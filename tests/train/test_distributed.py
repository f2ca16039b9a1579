"""Several ranks learn what one process learns, decide alike, and end together.

Two processes that talk by gloo on the CPU (rank_jobs.py); the pure functions without any.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ladder_fakes import BF16, FP16, FP32
from rank_jobs import RankPool
from rank_steps import steps_of
from rows import each
from tiny import (
    NAN,
    make_batch,
    needs_bf16,
    rows_of,
    same,
    saved,
    tensors_of,
    tiny_detector,
    train,
    write_tiny_data,
)
from torch import nn
from yolodet.detector.options.errors import UsageError
from yolodet.detector.precision.agree import agree, merge_objections
from yolodet.detector.run.folder import LAST
from yolodet.detector.run.ranks import ALONE
from yolodet.detector.train import data_parallel
from yolodet.detector.train.guard import Failure, worst
from yolodet.weights.checkpoint import load_state

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="ranks are forked")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RankPool]:
    pool = RankPool(tmp_path_factory.mktemp("cache"))
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"), train=10, val=2)


# ---------------------------------------------------------------- messages


def test_every_message_arrives(pool: RankPool, tmp_path: Path) -> None:
    for end in pool.run("messages", tmp_path):
        assert end.code == 0, end.talk
        found = end.value
        assert found["sum"].tolist() == [3.0, 30.0]
        assert found["largest"] == 0  # of 0 and -1
        assert found["gather"] == [{"rank": 0}, {"rank": 1}]
        assert found["broadcast"] == "first"
        assert found["shared"].tolist() == [0.0, 0.0, 0.0]
        assert found["order"] == "01"


def test_a_group_of_one_gives_back_what_it_gets() -> None:
    tensor = torch.ones(2)
    assert ALONE.sum(tensor) is tensor and ALONE.largest(3) == 3
    assert ALONE.gather("x") == ["x"] and ALONE.broadcast("x") == "x" and ALONE.first
    with ALONE.rank0_first():
        ALONE.wait()


# ---------------------------------------------------------------- two ranks are one process


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_ranks_learn_what_one_process_learns(
    pool: RankPool, tmp_path: Path, accumulate: int
) -> None:
    """Loss, its parts, norm of the gradient, weights and average after six batches; the images of
    the ranks have unequal shares of S."""
    one = steps_of(ALONE, 6, accumulate, [], "fp32")
    ends = pool.run("learn", tmp_path, steps=6, accumulate=accumulate, bad=[], precision="fp32")
    first, second = (end.value for end in ends)
    assert same(first, second), [end.talk for end in ends]
    for name in ("total", "parts", "norm"):
        exact = [x for x in one[name] if x is not None]
        close = [x for x in first[name] if x is not None]
        assert torch.allclose(torch.tensor(close), torch.tensor(exact), rtol=1e-4), name
    for name in ("model", "ema"):
        for key, tensor in one[name].items():
            close = torch.allclose(first[name][key].float(), tensor.float(), rtol=1e-3, atol=1e-5)
            assert close, f"{name} {key}"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_what_is_not_finite_on_one_rank_is_skipped_on_both(
    pool: RankPool, tmp_path: Path, precision: str
) -> None:
    """Weights, average and loss scale stay together."""
    ends = pool.run("learn", tmp_path, steps=4, accumulate=1, bad=[1], precision=precision)
    first, second = (end.value for end in ends)
    assert same(first, second), [end.talk for end in ends]
    assert math.isnan(first["total"][1]) and math.isfinite(first["total"][2])
    assert first["skipped"][1] and not first["skipped"][3]
    assert all(bool(t.isfinite().all()) for t in tensors_of([first["model"], first["ema"]]))
    if precision == "fp16":
        assert first["scale"][1] == first["scale"][0] / 2


def test_ranks_share_a_validation_and_measure_what_one_process_measures(
    pool: RankPool, tmp_path: Path
) -> None:
    """Seven images in four batches: each rank takes two, and no digit changes."""
    data = write_tiny_data(tmp_path / "data", train=4, val=7)
    first, second = pool.run("validate", tmp_path, data=str(data))
    assert first.code == second.code == 0, first.talk + second.talk
    shared, alone = first.value
    assert (shared[0], second.value[0][0], alone[0]) == (2, 2, 4)
    assert json.dumps(shared[1]) == json.dumps(alone[1]) and alone[1]["num_images"] == 7
    assert shared[2] == alone[2] and len(alone[2]) > 100
    assert shared[3] == alone[3]
    assert all((a == b).all() for a, b in zip(shared[4], alone[4], strict=True))


def test_sync_bn_is_refused_on_the_cpu(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sync_bn=True needs CUDA devices, and this run is on cpu"):
        train(squares, tmp_path, sync_bn=True)
    assert not (tmp_path / "train").exists()


def test_modules_with_sync_bn_share_every_tensor_with_the_bare_model() -> None:
    model = tiny_detector().train()
    model.backbone.stem.eval()
    synced = data_parallel._with_sync_bn(model)
    kinds = {type(module) for module in synced.modules()}
    assert nn.SyncBatchNorm in kinds and nn.BatchNorm2d not in kinds
    assert nn.SyncBatchNorm not in {type(module) for module in model.modules()}
    own, theirs = model.state_dict(keep_vars=True), synced.state_dict(keep_vars=True)
    assert own.keys() == theirs.keys() and all(theirs[name] is own[name] for name in own)
    modes = {name: module.training for name, module in model.named_modules()}
    assert modes == {name: module.training for name, module in synced.named_modules()}
    model.eval(), synced.eval()  # in evaluation it needs no other rank
    images = make_batch(2).images
    assert torch.equal(model(images)["one_to_one"].logits, synced(images)["one_to_one"].logits)


# ---------------------------------------------------------------- one precision


def test_one_rank_whose_bf16_is_garbage_sends_both_to_fp32_and_both_say_why(
    pool: RankPool, tmp_path: Path
) -> None:
    line = "AMP disabled: bf16: rank 1: the output of head is not finite; training in fp32"
    for end in pool.run("decide", tmp_path, broken=1):
        assert end.code == 0, end.talk
        decisions, asked = end.value
        assert decisions == [("fp32", line, False)] * 2
        assert asked == 2  # what failed is not kept


def test_ranks_that_agree_take_bf16_and_keep_the_evidence(pool: RankPool, tmp_path: Path) -> None:
    for end in pool.run("decide", tmp_path, broken=None):
        assert end.code == 0, end.talk
        decisions, asked = end.value
        assert [name for name, _, _ in decisions] == ["bf16", "bf16"]
        assert [cached for _, _, cached in decisions] == [False, True]
        assert asked == 1


def test_a_precision_is_as_fast_as_on_the_slowest_rank_and_as_bad_as_on_the_worst() -> None:
    slow = [replace(FP32, step_ms=110.0), replace(BF16, step_ms=120.0, saved_bytes=600)]
    base, bf16 = agree([[FP32, BF16], slow])
    assert (base.step_ms, bf16.step_ms, bf16.saved_bytes, bf16.problem) == (110.0, 120.0, 600, None)
    worse = replace(BF16, loss_error=0.015)
    assert agree([[FP32, BF16], [FP32, worse]])[1].loss_error == 0.015
    failed = replace(BF16, problem="boxes move by 9.0 pixels (at most 4)", loss=NAN)
    _, found, fp16 = agree([[FP32, BF16, FP16], [FP32, failed, FP16]])
    assert found.problem == "rank 1: boxes move by 9.0 pixels (at most 4)"
    assert fp16 == FP16
    small = replace(FP16, scale=16.0)
    for pair in ((FP16, small), (small, FP16)):
        assert agree([[FP32, each] for each in pair])[1].scale == 16.0
    assert agree([[FP32, failed]]) == [FP32, failed]  # alone nobody speaks of ranks


def test_what_is_known_against_one_device_counts_for_all() -> None:
    assert merge_objections([{"fp16": "slow"}, {}]) == {"fp16": "slow"}
    both = merge_objections([{"fp16": "slow"}, {"fp16": "broken", "bf16": "emulated"}])
    assert both == {"fp16": "slow", "bf16": "rank 1: emulated"}


@each(
    ("found", "helped", "named"),
    [
        # (guilty, helped) of each rank
        ([(False, True), (True, True)], True, 1),  # its batch fails in bf16 alone
        ([(True, True), (True, False)], False, 1),  # going down would not help the second
        ([(False, False), (True, False)], False, 1),  # float32 already
        ([(False, True), (False, True)], True, 0),  # only the sum overflows
    ],
)
def test_the_worst_failure_decides_and_is_named(
    found: list[tuple[bool, bool]], helped: bool, named: int
) -> None:
    failures = [
        Failure(0, 1, "bf16", "box", None, [f"{rank}.jpg"], own, "the loss is not finite", guilty)
        for rank, (guilty, own) in enumerate(found)
    ]
    failure = worst(failures)
    assert failure.helped == helped and failure.images == [f"{named}.jpg"]


# ---------------------------------------------------------------- whole runs


def test_both_ranks_end_a_run_with_the_same_state_and_the_first_alone_writes(
    pool: RankPool, tmp_path: Path, data: Path
) -> None:
    """Ten images at batch 4: the last step is shared too.  Then the run goes on, longer."""
    first, second = pool.run("train", tmp_path, data=str(data), fault=None)
    assert first.code == second.code == 0, first.talk + second.talk
    assert same(first.value["state"], second.value["state"])
    assert first.value["results"] == second.value["results"]
    assert first.value["results"]["ranks"] == 2
    folder = Path(first.value["results"]["folder"])
    assert folder.parent == tmp_path and len(list(tmp_path.glob("train*"))) == 1
    state = first.value["state"]
    assert same({name: saved(folder)[name] for name in state if state[name] is not None}, {
        name: value for name, value in state.items() if value is not None
    })  # fmt: skip
    assert [row["epoch"] for row in rows_of(folder)] == ["1", "2"]
    assert "2 ranks, the first on cpu" in (folder / "log.txt").read_text()
    assert (first.value["mute"], second.value["mute"]) == (False, True)
    first, second = pool.run(
        "train", tmp_path, data=str(data), fault=None, resume=str(folder), epochs=3
    )
    assert first.code == second.code == 0, first.talk + second.talk
    assert same(first.value["state"], second.value["state"])
    assert first.value["results"]["epochs"] == 3
    assert load_state(folder / LAST)["position"]["epoch"] == 3


def test_a_batch_that_fails_in_fp32_too_is_skipped_by_both_ranks(
    pool: RankPool, tmp_path: Path, data: Path
) -> None:
    first, second = pool.run("train", tmp_path, data=str(data), fault="nan_once")
    assert first.code == second.code == 0, first.talk + second.talk
    assert same(first.value["state"], second.value["state"])
    assert first.value["state"]["position"]["skipped"] == 1
    assert first.value["failures"] == second.value["failures"] and first.value["failures"]
    text = (tmp_path / "train" / "log.txt").read_text()
    assert "batch skipped: epoch 1, batch 1: the loss is not finite in fp32, box" in text


@needs_bf16
def test_both_ranks_put_the_same_stage_into_fp32_at_the_same_step(
    pool: RankPool, tmp_path: Path, data: Path
) -> None:
    words = {"amp": "bf16", "amp_check": False}
    first, second = pool.run("train", tmp_path, data=str(data), fault="nan_in_bf16", **words)
    assert first.code == second.code == 0, first.talk + second.talk
    safer = "bf16 with backbone.stage5 in fp32"
    assert first.value["precision"] == second.value["precision"] == safer
    assert same(first.value["state"], second.value["state"])
    text = (tmp_path / "train" / "log.txt").read_text()
    assert "first at the output of backbone.stage5.norm" in text
    assert f"continuing in {safer}" in text


# ---------------------------------------------------------------- ending together


def test_an_error_of_one_rank_ends_both_and_is_reported_once(
    pool: RankPool, tmp_path: Path, data: Path
) -> None:
    first, second = pool.run("train", tmp_path, data=str(data), fault="unreadable_image")
    assert first.code == second.code == 1
    assert "det: error: photo.jpg: cannot be read any more" in second.talk
    assert "det: error" not in first.talk
    assert load_state(tmp_path / "train" / LAST)["position"]["epoch"] == 1


def test_a_budget_of_memory_is_met_alike_by_the_rank_that_needs_more(
    pool: RankPool, tmp_path: Path, data: Path
) -> None:
    """3 images per rank in a pass need 160 and 210 MiB with all stages computed again."""
    first, second = pool.run("budget", tmp_path, data=str(data), memory="180MiB")
    assert first.code == second.code == 0, first.talk + second.talk
    assert first.value == second.value == (True, 4, (2 * 40 + 40 + 50) << 20)


def test_a_command_that_is_refused_is_refused_once(
    pool: RankPool, tmp_path: Path, data: Path
) -> None:
    words = ["train", f"data={data}", "device=cpu", "batch=3", f"project={tmp_path}"]
    first, second = pool.run("det", tmp_path, words=words)
    assert first.code == second.code == 2
    assert (first.talk + second.talk).count("det: error: batch=3 is the total over 2 ranks") == 1
    assert not (tmp_path / "train").exists()


def test_a_divergence_of_one_rank_stops_both_and_is_reported_once(
    pool: RankPool, tmp_path: Path, data: Path
) -> None:
    first, second = pool.run("train", tmp_path, data=str(data), fault="nan_always")
    assert first.code == second.code == 1
    assert (first.talk + second.talk).count("det: error: training has diverged") == 1


def test_a_killed_rank_ends_the_other(pool: RankPool, tmp_path: Path, data: Path) -> None:
    first, second = pool.run("train", tmp_path, data=str(data), fault="killed")
    assert second.code == -9 and first.code == 1
    assert "det: error: another rank of this run does not answer" in first.talk


def test_a_signal_to_one_rank_stops_both_at_the_same_batch(
    pool: RankPool, tmp_path: Path, data: Path
) -> None:
    first, second = pool.run("train", tmp_path, data=str(data), fault="terminated")
    assert first.code == second.code == 143, first.talk + second.talk
    assert "det: stopped at epoch 1, batch 2; continue with" in first.talk
    assert "stopped at" not in second.talk
    position = load_state(tmp_path / "train" / LAST)["position"]
    assert (position["epoch"], position["batch"]) == (0, 2)


@pytest.mark.slow
def test_torchrun_trains_and_the_first_rank_alone_speaks(tmp_path: Path, data: Path) -> None:
    """The real model, started as a user would."""
    words = [f"data={data}", f"project={tmp_path}", "imgsz=64", "batch=4", "epochs=1", "device=cpu"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    end = subprocess.run(
        [*torchrun, "-m", "yolodet.cli", "train", *words, "plots=False", "--json"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert end.returncode == 0, end.stderr
    result = json.loads(end.stdout)
    assert result["ok"] and result["result"]["ranks"] == 2
    assert end.stderr.count("2 ranks, the first on cpu") == 1
