"""Steps of one process, or of a rank that takes its part of each batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from tiny import Poison, holding, make_batch, tiny_detector
from torch import nn
from yolodet.datasets.nouns import Batch
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run.ranks import Ranks
from yolodet.detector.train.data_parallel import forward_of
from yolodet.detector.train.ema import ModelEma
from yolodet.detector.train.optim import build_optimizer, choose_optimizer
from yolodet.detector.train.step import TrainStep


def steps_of(
    ranks: Ranks, steps: int, accumulate: int, bad: list[int], precision: str
) -> dict[str, Any]:
    """Learn from ``steps`` batches of four images, of which a rank takes its part; in the batches
    ``bad`` the last image has a loss that is not a number.  The weights are shared out.  Batch norm
    is as in validation: what an image gives does not depend on those beside it."""
    torch.manual_seed(ranks.rank)  # only the first rank's weights count
    model = tiny_detector()
    ranks.broadcast_tensors(model.state_dict().values())
    model.train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    at = 0
    criterion = Poison(lambda batch: at in bad and holding("3.jpg")(batch))
    criterion.ranks = ranks
    step = TrainStep(
        model,
        criterion,
        build_optimizer(model, choose_optimizer(TrainConfig(optimizer="SGD", lr0=0.05))),
        Precision(precision, "cpu", "as told"),
        ema=ModelEma(model, decay=0.9, tau=2.0),
        clip=1.0,
        forward=forward_of(model, ranks),
        ranks=ranks,
    )
    found: dict[str, Any] = {"total": [], "parts": [], "norm": [], "skipped": [], "scale": []}
    for at in range(steps):
        full = (at + 1) % accumulate == 0
        output = step(part_of(make_batch(4, seed=at), ranks), update=full, eager=True)
        found["total"].append(output.loss.total.item())
        found["parts"].append([value.item() for value in output.loss.parts.values()])
        found["norm"].append(None if output.grad_norm is None else output.grad_norm.item())
        found["skipped"].append(output.skipped)
        found["scale"].append(step.scaler.get_scale())
    assert step.ema is not None
    return found | {"model": model.state_dict(), "ema": step.ema.average.state_dict()}


def part_of(batch: Batch, ranks: Ranks) -> Batch:
    """The images of a rank."""
    count = len(batch) // ranks.size
    first = ranks.rank * count
    mine = (batch.batch_index >= first) & (batch.batch_index < first + count)
    return replace(
        batch,
        images=batch.images[first : first + count],
        boxes=batch.boxes[mine],
        labels=batch.labels[mine],
        batch_index=batch.batch_index[mine] - first,
        indices=batch.indices[first : first + count],
        paths=batch.paths[first : first + count],
        original_sizes=batch.original_sizes[first : first + count],
        letterboxes=batch.letterboxes[first : first + count],
    )
