"""Batch-norm statistics for weights without them.

A file whose norms were folded into its convolutions has none.  It is imported with norms that only
add a bias.  That is correct for inference, but training normalizes with the statistics of the
batch, which are very different, so the first step would destroy what was learned (0.082 AP against
0.516 on a small set: docs/log.md).  Here the statistics are measured on training images, and each
norm's gain and bias are changed so that the outputs in evaluation mode stay the same.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from typing import Any

import torch
from torch import nn

from ...datasets.batches.loader import Loader
from ...files.counted import counted
from ..models.detector import Detector
from ..run.log import Log
from ..run.ranks import Ranks

IMAGES = 128
"""Images to measure on; the estimates change little with more."""


def restore_statistics(
    model: Detector, transferred: frozenset[str], loader: Loader, ranks: Ranks, log: Log
) -> None:
    """Measure batch norms that have no statistics; the result is the same on all ranks."""
    if norms := unmeasured_norms(model, transferred):
        seen = measure_norms(model, norms.values(), (batch.images for batch in loader.epoch(0)))
        ranks.broadcast_tensors(model.state_dict().values())
        log.info(
            f"the weights have no batch-norm statistics: {counted(len(norms), 'norm')} measured on "
            f"{counted(seen, 'training image')}"
        )


def unmeasured_norms(model: nn.Module, transferred: Container[str]) -> dict[str, nn.BatchNorm2d]:
    """The norms that came with ``transferred`` tensors and have never seen an image: all their
    means are 0 and all their variances equal."""
    found = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and f"{path}.running_var" in transferred:
            assert module.running_mean is not None and module.running_var is not None
            variances = module.running_var
            if not module.running_mean.any() and bool((variances == variances[0]).all()):
                found[path] = module
    return found


@torch.no_grad()
def measure_norms(
    model: Detector, norms: Collection[nn.BatchNorm2d], batches: Iterable[torch.Tensor]
) -> int:
    """Give ``norms`` the statistics of their inputs on the first IMAGES images, in place.

    batches: of images [B,3,H,W] as ``Detector.forward`` takes them.
    The outputs in evaluation mode stay the same up to rounding.  Returns the number of
    images.
    """
    sums: dict[nn.Module, torch.Tensor] = {
        norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms
    }

    def add(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        variance, mean = torch.var_mean(inputs[0].float(), (0, 2, 3), correction=0)  # of [B,C,H,W]
        variance, mean = variance.double().cpu(), mean.double().cpu()
        count = float(inputs[0].numel() // len(mean))
        both = torch.stack((torch.ones_like(mean), mean, variance + mean.square()))
        sums[norm] += count * both

    hooks: list[Any] = [norm.register_forward_pre_hook(add) for norm in sums]
    training, device, images = model.training, next(model.parameters()).device, 0
    model.eval()
    try:
        for batch in batches:
            model(batch.to(device))
            images += len(batch)
            if images >= IMAGES:
                break
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    for norm in norms:
        count, total, squares = sums[norm]
        mean = total / count
        _restate(norm, mean, squares / count - mean.square())
    return images


def _restate(norm: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Change the statistics of a norm but not its output g / s * (x - m) + b (g: gain)."""
    assert norm.running_mean is not None and norm.running_var is not None
    old_mean, old_variance = norm.running_mean.double().cpu(), norm.running_var.double().cpu()
    slope = norm.weight.double().cpu() / (old_variance + norm.eps).sqrt()
    norm.bias.copy_(norm.bias.double().cpu() + slope * (mean - old_mean))
    norm.weight.copy_(slope * (variance.clamp(min=0) + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance.clamp(min=0))
