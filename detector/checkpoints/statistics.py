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
from ..models.blocks import Conv
from ..models.detector import Detector
from ..quantization.simulate import ranges_of
from ..run.log import Log
from ..run.ranks import Ranks

IMAGES = 128
"""Images to measure on; the estimates change little with more."""
SIZE = 0.65
"""Of a filter, beside torch's initialization, whose root mean square is 1 / sqrt(3 x inputs)."""


def restore_statistics(
    model: Detector, transferred: frozenset[str], loader: Loader, ranks: Ranks, log: Log
) -> None:
    """Measure batch norms that have no statistics, and bring filters to one size; the result is
    the same on all ranks."""
    if norms := unmeasured_norms(model, transferred):
        seen = measure_norms(model, norms.values(), (batch.images for batch in loader.epoch(0)))
        ranks.broadcast_tensors(model.state_dict().values())
        log.info(
            f"the weights have no batch-norm statistics: {counted(len(norms), 'norm')} measured on "
            f"{counted(seen, 'training image')}"
        )
    if ranges_of(model) is None:
        settle_filters(model, transferred, log)


def settle_filters(model: Detector, transferred: Container[str], log: Log) -> None:
    """Bring the filters before batch norms that came with ``transferred`` tensors to one size, in
    place: a root mean square of SIZE times that of fresh filters.

    The norm behind them hides their size, but an adaptive optimizer takes steps of its own length,
    so larger filters would learn more slowly (docs/log.md).  The outputs in evaluation mode stay
    the same up to rounding.
    """
    changed = 0
    for path, block in model.named_modules():
        known = isinstance(block, Conv) and f"{path}.conv.weight" in transferred
        if known and isinstance(block.norm, nn.BatchNorm2d):
            changed += _resize(block.conv.weight, block.norm)
    if changed:
        log.detail(f"filters brought to the size that fresh ones have: {changed} layers")


@torch.no_grad()
def _resize(filters: torch.Tensor, norm: nn.BatchNorm2d) -> bool:
    """Whether any filter [C_out, C_in, h, w] was not of that size."""
    assert norm.running_mean is not None and norm.running_var is not None
    wanted = SIZE / (3 * filters[0].numel()) ** 0.5
    size = filters.double().square().mean((1, 2, 3)).sqrt()
    factor = torch.where(size > 0, wanted / size, 1.0)  # [C_out]
    if bool(((factor - 1).abs() < 1e-3).all()):
        return False
    variance = norm.running_var.double()
    larger = variance * factor.square()
    gain = ((larger + norm.eps) / (variance + norm.eps)).sqrt() / factor
    filters.mul_(factor.to(filters.dtype)[:, None, None, None])
    norm.running_mean.mul_(factor.to(norm.running_mean.dtype))
    norm.running_var.copy_(larger)
    norm.weight.mul_(gain.to(norm.weight.dtype))
    return True


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
