"""memory=: the run is the one with the same options by hand, and no way is taken in vain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from known_hardware import ZEN4
from pretended_memory import MiB, pretend_memory
from test_resume import in_batch, stop
from tiny import STEPS, same, saved, train, train_config, use_tiny_detector
from yolodet.cli import main
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.memory_size import memory_bytes
from yolodet.detector.precision.ladder import Decision
from yolodet.detector.precision.precision import Precision
from yolodet.detector.precision.sanity import Trial
from yolodet.detector.run.log import Log
from yolodet.detector.run.memory import PeakMemory
from yolodet.detector.run.ranks import ALONE
from yolodet.detector.run.signals import Interrupted
from yolodet.detector.train import assemble as assembling
from yolodet.detector.train import memory_budget
from yolodet.detector.train.assemble import assemble
from yolodet.detector.train.memory import needs_of, stage_savings
from yolodet.detector.train.memory_budget import settle_memory
from yolodet.detector.train.trial_step import TrialStep

FP32 = Precision("fp32", "cpu", "")
STAGES = [f"backbone.{name}" for name in ("stem", "stage3", "stage4", "stage5")]


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_detector(monkeypatch)
    pretend_memory(monkeypatch)


def passed(name: str, ms: float) -> Trial:
    numbers = (1.0, 0.0, 0.0, True, 1.0, {}, 0.0, 0.0, ms, 100, 0)
    return Trial(name, *numbers)


ALL = {"checkpointing": True}
ROWS = [
    ("400MiB", {}, 340),
    ("300MiB", {"checkpointing": STAGES[:2]}, 280),
    ("150MiB", {**ALL, "micro_batch": 2}, 120),
    ("75MiB", {**ALL, "micro_batch": 1, "optimizer_state": "bf16"}, 60),
]


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(("word", "by_hand", "taken"), ROWS, ids=[row[0] for row in ROWS])
def test_the_run_is_the_one_with_the_options_by_hand(
    shapes: Path, tmp_path: Path, word: str, by_hand: dict[str, Any], taken: int
) -> None:
    results = train(shapes, tmp_path / "budget", memory=word, epochs=1)
    train(shapes, tmp_path / "hand", epochs=1, **by_hand)
    folder = tmp_path / "budget" / "train"
    assert same(saved(folder), saved(tmp_path / "hand" / "train"))
    options = yaml.safe_load((folder / "args.yaml").read_text())
    assert options["memory"] is None
    note = json.loads((folder / "memory.json").read_text())
    assert (note["budget"], note["expected"]) == (memory_bytes(word), taken * MiB)
    assert len(note["steps"]) == len(by_hand)
    assert results["memory"]["budget"] == note["budget"]
    log = (folder / "log.txt").read_text()
    assert f"memory={word}: 0.33 GiB at 3 ms per step in fp32" in log
    assert f"of {memory_bytes(word) / 2**30:.2f} GiB, by trial steps" in log
    if "micro_batch" in by_hand:
        assert log.count("6 of 6 stages computed again (checkpointing=): 0.33 -> 0.16 GiB") == 1


@pytest.mark.usefixtures("pretended")
def test_half_precision_comes_first_if_it_has_passed(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It passed the check, and was not chosen because it is slower here."""
    trials = [passed("fp32", 10), passed("bf16", 20)]
    slower = Decision(Precision("fp32", "cpu", "slower"), (), trials, {})
    monkeypatch.setattr(assembling, "traits_of", lambda _: ZEN4)
    monkeypatch.setattr(memory_budget, "decide_precision", lambda *_, **__: slower)
    found = {}
    for word in ("400MiB", "250MiB", "210MiB"):
        config, _ = train_config(shapes, tmp_path, memory=word, amp=True)
        settled = settle_memory(config, Log(verbose=False), ALONE)
        precision = settled.decision.precision.name
        found[word] = (precision, settled.config.amp, settled.config.checkpointing)
    assert found == {
        "400MiB": ("fp32", True, False),
        "250MiB": ("bf16", "bf16", False),
        "210MiB": ("bf16", "bf16", (STAGES[0],)),
    }
    assert settled.decision.rungs == ("fp32",) and "needs it" in settled.decision.precision.reason
    train(shapes, tmp_path / "budget", memory="250MiB", epochs=1, amp=True)
    train(shapes, tmp_path / "hand", epochs=1, amp="bf16", amp_check=False, amp_force=True)
    states = [saved(tmp_path / name / "train") for name in ("budget", "hand")]
    assert states[0]["precision"] == "bf16"
    assert all(same(states[0][part], states[1][part]) for part in ("model", "ema", "optimizer"))


@pytest.mark.usefixtures("pretended")
def test_a_resumed_run_keeps_what_was_found(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(shapes, tmp_path / "hand", nbs=3, **ROWS[3][1])
    with in_batch(STEPS + 1, stop()), pytest.raises(Interrupted):
        train(shapes, tmp_path / "budget", nbs=3, memory="75MiB")
    monkeypatch.setattr(memory_budget.Fitting, "settle", None)  # nothing is measured again
    folder = tmp_path / "budget" / "train"
    with pytest.raises(UsageError, match="cannot change memory of a run that has started"):
        train(shapes, tmp_path, resume=str(folder), memory="1GiB")
    results = train(shapes, tmp_path, resume=str(folder))
    assert same(saved(folder), saved(tmp_path / "hand" / "train"))
    assert results["memory"]["budget"] == 75 * MiB and len(results["memory"]["steps"]) == 3


@pytest.mark.usefixtures("pretended")
def test_a_budget_that_cannot_be_met_names_the_least(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"data={shapes}", f"project={tmp_path}", "device=cpu", "imgsz=64", "batch=3",
             "amp=False", "workers=0", "model=yolo26n"]  # fmt: skip
    assert main(["train", *words, "memory=50MiB"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("det: error: memory=50MiB (0.05 GiB) cannot be met: the least that")
    assert "at 64 pixels was brought to is 0.06 GiB: use a smaller model" in last
    assert last.endswith("memory=0.06GiB")
    assert main(["train", *words, "memory=75MiB", "dry_run=True"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("needs about 0.06 GiB") and "optimizer state in bf16: " in said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    not PeakMemory.measurable(torch.device("cpu")), reason="needs /proc of Linux"
)
def test_real_steps_cost_less_in_parts(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_detector(monkeypatch)
    config, _ = train_config(shapes, tmp_path, batch=4, imgsz=320)
    run = assemble(config, Log(verbose=False))
    trial = TrialStep(run, FP32)
    before = {name: value.clone() for name, value in run.model.named_parameters()}
    whole = trial.cost(24)
    needs = needs_of(run.model, 320, FP32, run.optimizer)
    trial.room = needs.of(12) + 1
    half = trial.cost(24)
    trial.step.micro_batch = 6
    parts = trial.cost(24)
    assert same(before, dict(run.model.named_parameters()))
    trial.end()
    run.close()
    assert (whole.images, half.images, parts.images) == (24, 12, 24)
    grown = [cost.bytes - trial.peak.base for cost in (whole, half, parts)]
    # how much exactly depends on the gaps that other tests have left in this process
    assert grown[2] < grown[0] - 0.25 * (24 - 6) * needs.image
    assert grown[1] == pytest.approx(grown[0], rel=0.5)
    assert min(cost.ms for cost in (whole, half, parts)) > 0


def test_what_a_stage_saves_is_what_the_estimate_loses() -> None:
    from tiny import tiny_detector
    from yolodet.detector.models.checkpointing import checkpoint_stages

    model = tiny_detector()
    savings = stage_savings(model, 128, FP32)
    assert list(savings.values()) == sorted(savings.values(), reverse=True) and len(savings) > 2
    checkpoint_stages(model, list(savings)[:1])
    assert list(stage_savings(model, 128, FP32)) == list(savings)[1:]


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 8 * 2**30), ("8gib", 8 * 2**30), ("1.5 GiB", 3 * 2**29), ("800MiB", 800 * MiB),
     ("8GB", 8 * 10**9), ("8g", 8 * 2**30), ("500m", 500 * MiB), ("auto", None)],
)  # fmt: skip
def test_words_for_a_size(text: str, size: int | None) -> None:
    assert memory_bytes(text) == size
