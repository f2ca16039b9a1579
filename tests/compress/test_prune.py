"""det prune: what is chosen, what is left, going on, and what is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rows import each
from tiny import make_batch, make_criterion, same, tiny_detector, train, use_tiny_detector
from torch import nn
from yolodet.cli import main
from yolodet.datasets.nouns import Batch
from yolodet.detector.compress import latency, step, training
from yolodet.detector.compress import prune as pipeline
from yolodet.detector.compress.cost import Cost, deployed_rates
from yolodet.detector.compress.importance import gradients, importance
from yolodet.detector.compress.narrow import narrowed
from yolodet.detector.compress.plan import choose_widths
from yolodet.detector.compress.rules import trace
from yolodet.detector.compress.sensitivity import counts_of, mean_loss, measure, narrow_groups
from yolodet.detector.models.build import architecture_of, build
from yolodet.detector.models.detector import Detector
from yolodet.detector.options.parse import parse
from yolodet.detector.options.prune import PruneConfig
from yolodet.detector.run.folder import BEST
from yolodet.detector.run.log import Log
from yolodet.weights.checkpoint import load_weights, read_meta

CRITERIA = ("taylor", "magnitude", "bn", "random", "opposite")


@each("name", ("yolo26n", "yolov9t", "yolox_nano"))
def test_the_cost_of_any_widths_is_that_of_the_model_with_them(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, 2)
    found = trace(model)
    groups = narrow_groups(found.groups())
    rng = np.random.default_rng(0)
    kept = np.array([rng.choice(counts_of(group.width)) for group in groups])
    removed = {
        root
        for group, count in zip(groups, kept, strict=True)
        for part in group.parts
        for root in part[count:].tolist()
    }
    small = narrowed(model, found, removed)
    for of in ("macs", "parameters"):
        cost = Cost(found, groups, deployed_rates(model, 64, of))
        assert cost(kept) == pytest.approx(own_cost(small, of))
        assert cost(cost.widths) == pytest.approx(own_cost(model, of))


def own_cost(model: Detector, of: str) -> float:
    """Weights of the deployed convolutions, each times the size of its output for macs."""
    total = 0.0
    for path, rate in deployed_rates(model, 64, of).items():
        conv = model.get_submodule(path)
        assert isinstance(conv, nn.Conv2d)
        kernel = conv.kernel_size[0] * conv.kernel_size[1]
        total += conv.weight.numel() * rate / kernel
    return total


def learned(batch: Batch) -> Detector:
    """The tiny detector after a few steps on one batch."""
    torch.manual_seed(0)
    model, loss = tiny_detector(), make_criterion()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(40):
        optimizer.zero_grad()
        loss(model.train()(batch.images), batch).total.backward()
        optimizer.step()
    return model.eval()


def test_taylor_is_the_derivative_of_the_loss_by_the_size_of_a_channel() -> None:
    batch, loss = make_batch(2), make_criterion()
    model = learned(batch)
    found = trace(model)
    scores = importance("taylor", model, found, [batch], loss)
    loss.frozen = {}
    norm, step, pairs = model.backbone.stage3.norm, 0.01, []
    for channel, root in enumerate(found.roots(found.layers["backbone.stage3.conv"].outputs)):
        losses = []
        for factor in (1 + step, 1 - step):
            with torch.no_grad():
                kept = norm.weight[channel].clone(), norm.bias[channel].clone()
                norm.weight[channel] *= factor
                norm.bias[channel] *= factor
                outputs = model(batch.images, ("one_to_one",))
                losses.append(float(loss(outputs, batch).total))
                norm.weight[channel], norm.bias[channel] = kept
        pairs.append((scores[int(root)] ** 0.5, abs(losses[0] - losses[1]) / (2 * step)))
    ours, theirs = np.array(pairs).T
    assert np.allclose(ours, theirs, atol=0.05 * theirs.max()) and theirs.max() > 0.1


def test_criteria_choose_other_channels_and_the_opposite_hurts_more(tiny_models: None) -> None:
    """After a few steps of training, at 0.6 of the multiply-adds."""
    batch, loss = make_batch(8), make_criterion()
    model = learned(batch)
    found = trace(model)
    losses, removed = {}, {}
    for criterion in CRITERIA:
        scores = importance(criterion, model, found, [batch], loss)
        groups = narrow_groups(found.groups())
        matter = Cost(found, groups, deployed_rates(model, 64, "macs")).matter
        groups = [group for group, counts in zip(groups, matter, strict=True) if counts]
        cost = Cost(found, groups, deployed_rates(model, 64, "macs"))
        seen = measure(model, found, groups, scores, [batch], loss)
        before = mean_loss(model, [batch], loss)
        kept = choose_widths(seen, cost, 0.6 * cost(cost.widths), criterion)
        assert cost(kept) <= 0.6 * cost(cost.widths)
        gone = {r for s, n in zip(seen, kept.tolist(), strict=True) for r in s.removed(n)}
        removed[criterion] = frozenset(gone)
        losses[criterion] = mean_loss(narrowed(model, found, gone), [batch], loss)
        assert mean_loss(model, [batch], loss) == before  # all is put back
    assert len(set(removed.values())) == len(CRITERIA)
    assert losses["taylor"] < min(losses["random"], losses["opposite"])


def test_widths_that_are_tried_are_multiples_of_eight() -> None:
    assert counts_of(64) == (64, 48, 32, 16)
    assert counts_of(16) == (16, 8)
    assert counts_of(20) == (20, 16, 8)


def test_gradients_leave_the_model_as_it_was() -> None:
    model, batch = tiny_detector(), make_batch(2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert len(list(gradients(model, [batch, batch], make_criterion()))) == 2
    assert same(dict(model.state_dict()), before)
    assert all(p.grad is None for p in model.parameters())


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def trained(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector of the shapes."""
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_detector(patch)
        return Path(train(shapes, tmp_path_factory.mktemp("trained"), epochs=1)["best"])


def words_of(data: Path, project: Path, model: Path, **more: Any) -> list[str]:
    usual: dict[str, Any] = {
        "model": model, "data": data, "project": project, "imgsz": 64, "batch": 3, "epochs": 1,
        "device": "cpu", "workers": 0, "amp": False, "samples": 8, "report": False,
        "plots": False,
    }  # fmt: skip
    return [f"{name}={value}" for name, value in {**usual, **more}.items()]


@pytest.fixture
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is exported to be timed: two of these are most of what a small pruning takes."""
    monkeypatch.setattr(pipeline, "seconds_of", lambda models, *_: dict.fromkeys(models, 1.0))


def prune(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The result of the command."""
    capsys.readouterr()
    assert main(["prune", *words, "--json"]) == 0
    return dict(json.loads(capsys.readouterr().out)["result"])


def test_a_pruned_detector_is_an_ordinary_checkpoint(
    tiny_models: None,
    shapes: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """Train, val, predict, export and prune take it; resuming its training is in the next test."""
    result = prune(capsys, *words_of(shapes, tmp_path, trained, keep=0.7, plots=True))
    best, rows = Path(result["best"]), result["rows"]
    assert [row["name"] for row in rows] == ["whole", "step 1"]
    assert all(row["seconds"] > 0 for row in rows)
    assert 0.5 < rows[1]["gflops"] / rows[0]["gflops"] < 0.76
    before, after = read_meta(trained).architecture, read_meta(best).architecture
    assert before is not None and after is not None
    changed = {path for path in before.widths if before.widths[path] != after.widths[path]}
    assert changed and all(w % 8 == 0 for p in changed for w in after.widths[p][:2] if w > 10)
    folder = best.parents[1]
    for name in ("sensitivity-1.png", "prune.png", "results.json", "sensitivity-1.json"):
        assert (folder / name).is_file()
    usual = ["device=cpu", "imgsz=64", "--quiet"]
    here = [f"project={tmp_path}", "workers=0", "plots=False", "report=False"]
    assert main(["val", f"model={best}", f"data={shapes}", *usual, *here]) == 0
    image = next((shapes.parent / "images" / "val").iterdir())
    assert main(["predict", str(image), f"model={best}", *usual, f"project={tmp_path}"]) == 0
    capsys.readouterr()
    assert main(["export", f"model={best}", "format=onnx", "imgsz=64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["result"]["passed"]
    request.getfixturevalue("untimed")
    again = prune(capsys, *words_of(shapes, tmp_path, best, keep=0.9, epochs=0))
    assert again["rows"][1]["gflops"] < again["rows"][0]["gflops"] == rows[1]["gflops"]
    assert again["rows"][0]["ap"] == rows[1]["ap"]


class Crash(Exception):
    """A process that is killed."""


def test_a_pruning_that_was_killed_ends_as_the_one_that_was_not(
    tiny_models: None,
    untimed: None,
    shapes: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between its steps, in the middle of one, and inside a training."""
    more = {"keep": 0.6, "steps": 2, "epochs": 2}
    whole = prune(capsys, *words_of(shapes, tmp_path / "whole", trained, **more))
    for number, (module, name, turn) in enumerate(
        ((pipeline, "prune_step", 1), (training, "train", 1), (pipeline, "save_weights", 1))
    ):
        count, real = itertools.count(), getattr(module, name)

        def stops(*arguments: Any, **words: Any) -> Any:
            if next(count) == turn:  # noqa: B023
                raise Crash
            return real(*arguments, **words)  # noqa: B023

        project = tmp_path / f"parts-{number}"
        with monkeypatch.context() as patch:
            patch.setattr(module, name, stops)
            assert main(["prune", *words_of(shapes, project, trained, **more)]) == 1
        folder = project / "prune"
        assert not (folder / BEST).exists()
        result = prune(capsys, f"resume={folder}")
        assert same(load_weights(folder / BEST)[0], load_weights(Path(whole["best"]))[0])
        assert [row["ap"] for row in result["rows"]] == [row["ap"] for row in whole["rows"]]


def test_what_cannot_be_pruned_is_one_line_and_leaves_nothing(
    tiny_models: None,
    shapes: Path,
    squares: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for changes, wanted in (
        ({"keep": 0}, "keep=0: expected a share between 0 and 1"),
        ({"keep": 1}, "keep=1: expected a share between 0 and 1"),
        ({"keep": "half"}, "keep=half"),
        ({"folds": 3}, "det prune has no option 'folds': it belongs to det train"),
        ({"seeds": 2}, "det prune has no option 'seeds': it belongs to det train"),
        ({"qat": "int8"}, "det prune has no option 'qat': quantize after pruning"),
        ({"of": "mac"}, "macs"),
        ({"model": "yolo26n"}, "has not been trained"),
        ({"model": tmp_path / "none.safetensors"}, "no such file"),
        ({"data": squares}, "use the data that the checkpoint was trained on"),
        ({"teacher": "yolo26s"}, "is a model without weights"),
        ({"resume": tmp_path / "none"}, "there is no pruning"),
        ({"save": False}, "save=False"),
    ):
        place: dict[str, Any] = {"data": shapes, "project": tmp_path / "runs", "model": trained}
        words = words_of(**{**place, **changes})
        if "resume" in changes:
            words = [f"resume={changes['resume']}"]
        assert main(["prune", *words]) == 2, changes
        assert wanted in capsys.readouterr().err.strip().splitlines()[-1]
    assert main(["prune", f"model={trained}", "keep=0.5"]) == 2
    assert "name them with data=" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_pruned_model_keeps_its_widths_for_other_classes(
    tiny_models: None, untimed: None, shapes: Path, squares: Path, trained: Path, tmp_path: Path,
    capsys: Any,
) -> None:  # fmt: skip
    result = prune(capsys, *words_of(shapes, tmp_path, trained, keep=0.7, epochs=0))
    best = Path(result["best"])
    other = train(squares, tmp_path, model=str(best), epochs=1)
    ours, theirs = read_meta(best).architecture, read_meta(Path(other["best"])).architecture
    assert ours is not None and theirs is not None and theirs.num_classes == 1
    backbone = {p: w for p, w in ours.widths.items() if p.startswith("backbone")}
    assert backbone.items() <= theirs.widths.items()
    assert architecture_of(tiny_detector(10)).widths != ours.widths


def test_a_latency_is_met_by_what_files_take(
    tiny_models: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that counts multiply-adds and a fixed time per file."""
    batch = make_batch(4)
    model, fixed = learned(batch), 0.3
    found = trace(model)
    places = deployed_rates(model, 64, "macs")
    rates = latency.latency_rates(model, found, places, 1)
    assert rates.keys() == places.keys() and min(rates.values()) > 0
    whole = own_cost(model, "macs")

    def counted(models: dict[str, Detector], *_: Any) -> dict[str, float]:
        return {name: fixed + own_cost(m, "macs") / whole for name, m in models.items()}

    monkeypatch.setattr(step, "seconds_of", counted)
    monkeypatch.setattr(step, "latency_rates", lambda *_: places)
    config, _ = parse(PruneConfig, {"of": "latency", "threads": 1})
    pruned = step.prune_step(model, [batch], 0.75, config, Log(verbose=False))
    assert 0.6 < pruned.reached <= 0.75 * 1.03
    assert own_cost(pruned.model, "macs") < (0.75 * (1 + fixed) - fixed + 0.05) * whole
