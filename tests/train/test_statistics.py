"""Weights without batch-norm statistics: the function stays, and training does not destroy it."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from foreign_files import renamed
from tiny import (
    keep_threads,
    make_batch,
    make_criterion,
    make_trainer,
    tiny_detector,
    write_tiny_data,
)
from torch import Tensor, nn
from yolodet.detector.checkpoints import statistics
from yolodet.detector.checkpoints.statistics import (
    measure_norms,
    settle_filters,
    unmeasured_norms,
)
from yolodet.detector.models.blocks import Conv
from yolodet.detector.models.build import build
from yolodet.detector.models.detector import Detector
from yolodet.detector.run.log import Log
from yolodet.weights.importers.imported import unfuse

SIZE = 64


def learned(model: Detector) -> Detector:
    """``model`` with norms as training leaves them: own gains, and statistics of its images."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.3, 2)
            nn.init.normal_(module.bias, 0, 0.3)
            module.momentum = 0.5
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, 0.3 / module.weight[0].numel() ** 0.5)
    with torch.no_grad():
        for seed in range(8):
            model.train()(make_batch(16, SIZE, seed=seed).images)
    return model.eval()


def folded(model: Detector) -> Detector:
    """The same function as imported from a file with folded norms."""
    tensors = copy.deepcopy(model).fuse().state_dict()
    fresh = copy.deepcopy(model)
    fresh.load_state_dict(unfuse(dict(tensors)))
    return fresh.eval()


def outputs(model: Detector) -> Tensor:
    with torch.no_grad():
        found = model.eval()(make_batch(4, SIZE, seed=99).images)
    return torch.cat([torch.cat((p.logits, p.distances), -1) for p in found.values()], 1)


def step(model: Detector) -> None:
    """One step of gradient descent."""
    batch = make_batch(16, SIZE, seed=50)
    loss = make_criterion()(model.train()(batch.images), batch).total
    loss.backward()
    torch.optim.SGD(model.parameters(), 1e-3).step()


def test_the_function_stays_and_the_first_step_keeps_it() -> None:
    torch.manual_seed(0)
    model = folded(learned(tiny_detector()))
    before, left_alone = outputs(model), copy.deepcopy(model)
    norms = unmeasured_norms(model, model.state_dict())
    assert len(norms) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    batches = [make_batch(16, SIZE, seed=seed).images for seed in range(20)]
    assert measure_norms(model, norms.values(), batches) == 128
    torch.testing.assert_close(outputs(model), before, atol=1e-4, rtol=0)
    assert not unmeasured_norms(model, model.state_dict())
    for each in (model, left_alone):
        step(each)
    changes = [(outputs(each) - before).abs().mean() for each in (model, left_alone)]
    kept, lost = (float(change / before.std()) for change in changes)
    assert kept < 0.1 and lost > 3 * kept, (kept, lost)


def rescaled(model: Detector) -> Detector:
    """The same function with other filters: each as large as chance wants it."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for block in other.modules():
            if isinstance(block, Conv):
                norm, factor = block.norm, torch.empty(len(block.conv.weight)).uniform_(0.5, 4)
                spread = (norm.running_var + norm.eps).sqrt()
                block.conv.weight.mul_(factor[:, None, None, None])
                norm.running_mean.mul_(factor)
                norm.running_var.mul_(factor**2)
                norm.weight.mul_((norm.running_var + norm.eps).sqrt() / spread / factor)
    return other


@pytest.mark.parametrize("name", ["yolo26n", "yolov9t", "yolox_nano"])
def test_equal_functions_become_equal_starts(name: str) -> None:
    torch.manual_seed(0)
    model = learned(build(name, 2))
    other, before = rescaled(model), outputs(model)
    torch.testing.assert_close(outputs(other), before, atol=1e-3, rtol=1e-3)
    for each in (model, other):
        settle_filters(each, each.state_dict(), Log(verbose=False))
        torch.testing.assert_close(outputs(each), before, atol=1e-3, rtol=1e-3)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, atol=1e-5, rtol=1e-3, msg=key)
    sizes = [b.conv.weight.square().mean((1, 2, 3)) * 3 * b.conv.weight[0].numel()
             for b in model.modules() if isinstance(b, Conv)]  # fmt: skip
    torch.testing.assert_close(torch.cat(sizes), torch.full_like(torch.cat(sizes), 0.65**2))


def test_fresh_filters_stay_as_they_are() -> None:
    model = tiny_detector()
    before = copy.deepcopy(model.state_dict())
    settle_filters(model, (), Log(verbose=False))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_norms_that_are_fresh_or_were_trained_are_left_alone() -> None:
    torch.manual_seed(0)
    fresh, trained = tiny_detector(), learned(tiny_detector())
    assert not unmeasured_norms(fresh, ())
    assert not unmeasured_norms(trained, trained.state_dict())


def test_a_run_from_a_folded_file_measures_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_threads(monkeypatch)
    torch.manual_seed(0)
    model = build("yolov8n", 2)
    torch.save(renamed(copy.deepcopy(model).fuse()), tmp_path / "folded.pt")
    counts = []

    def measure(model, norms, batches):
        counts.append(len(norms))
        return measure_norms(model, norms, batches)

    monkeypatch.setattr(statistics, "measure_norms", measure)
    data = write_tiny_data(tmp_path / "data")
    trainer = make_trainer(data, tmp_path, model=str(tmp_path / "folded.pt"))
    text = (tmp_path / "log.txt").read_text()
    assert counts == [57] and "57 norms measured on 6 training images" in " ".join(text.split())
    assert not unmeasured_norms(trainer.run.model, trainer.run.transferred_names)
