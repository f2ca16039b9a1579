"""How much a channel matters, by a stated criterion.

- taylor (the default): the change of the loss, to first order, if the channel becomes zero: the
  square of the sum of gain x gradient + bias x gradient of its norms, the mean over batches of
  training images (Molchanov et al. 2019, arXiv 1906.10771, equation 8).
- magnitude: the mean square of the weights that make it (after Li et al. 2017, arXiv 1608.08710).
- bn: the size of the gains of its norms (Liu et al. 2017, "Network Slimming", arXiv 1708.06519).
- random, and opposite (taylor upside down): what a criterion has to be better than.

A channel that several convolutions make, behind an addition, has the sum of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from ...datasets.nouns import Batch
from ..evaluate.postprocess import branches_for
from ..losses.detection import DetectionLoss
from ..models.blocks import Conv
from ..models.detector import Detector
from .channels import Trace

TAYLOR, MAGNITUDE, NORM, RANDOM, OPPOSITE = "taylor", "magnitude", "bn", "random", "opposite"

Scores = Mapping[int, float]
"""Root of a channel -> its importance, at least 0."""


def importance(
    criterion: str,
    model: Detector,
    trace: Trace,
    batches: Iterable[Batch],
    loss: DetectionLoss,
    seed: int = 0,
) -> Scores:
    """The importance of every channel.  batches: training images, which taylor looks at."""
    if criterion == RANDOM:
        roots = sorted({r for layer in trace.layers.values() for r in trace.roots(layer.outputs)})
        drawn = np.random.default_rng(seed).random(len(roots))
        return dict(zip((int(root) for root in roots), drawn.tolist(), strict=True))
    if criterion in (TAYLOR, OPPOSITE):
        found = _taylor(model, trace, batches, loss)
        most = max(found.values(), default=0.0)
        return {r: most - v for r, v in found.items()} if criterion == OPPOSITE else found
    measure = _mean_square if criterion == MAGNITUDE else _gain
    return _sums(trace, lambda path: measure(model, path))


def _sums(trace: Trace, values: Callable[[str], Tensor]) -> dict[int, float]:
    """Root -> the sum of what ``values`` gives for the outputs [C] of each convolution."""
    sums: dict[int, float] = {}
    for path, layer in trace.layers.items():
        own = values(path).double().tolist()
        for root, value in zip(trace.roots(layer.outputs).tolist(), own, strict=True):
            sums[root] = sums.get(root, 0.0) + value
    return sums


def _mean_square(model: Detector, path: str) -> Tensor:
    weight = model.get_parameter(f"{path}.weight").detach()
    return weight.square().mean((1, 2, 3))


def _gain(model: Detector, path: str) -> Tensor:
    weight, _ = maker_of(model, path)
    return weight.detach().abs() if weight.ndim == 1 else _mean_square(model, path).sqrt()


def maker_of(model: Detector, path: str) -> tuple[nn.Parameter, nn.Parameter | None]:
    """Weight and bias of what makes the output of a convolution: its norm, or itself."""
    block = model.get_submodule(path.rpartition(".")[0])
    norm = block.norm if isinstance(block, Conv) else None
    maker = norm if isinstance(norm, nn.BatchNorm2d) else model.get_submodule(path)
    return maker.weight, maker.bias  # type: ignore[return-value]


def _taylor(
    model: Detector, trace: Trace, batches: Iterable[Batch], loss: DetectionLoss
) -> dict[int, float]:
    total: dict[int, float] = {}
    for _ in gradients(model, batches, loss):
        for root, value in _sums(trace, lambda path: _first_order(model, path)).items():
            total[root] = total.get(root, 0.0) + value**2
    return total


def _first_order(model: Detector, path: str) -> Tensor:
    """Sum of parameter x gradient of what makes each output: [C]."""
    total = torch.zeros(())
    for parameter in maker_of(model, path):
        if parameter is not None and parameter.grad is not None:
            product = (parameter.detach() * parameter.grad).flatten(1 if parameter.ndim > 1 else 0)
            total = total + (product.sum(1) if product.ndim > 1 else product).cpu()
    return total if total.ndim else total.expand(len(maker_of(model, path)[0]))


def gradients(model: Detector, batches: Iterable[Batch], loss: DetectionLoss) -> Iterator[Batch]:
    """The batches, one after the other, with the gradients of each in the parameters: of the branch
    that is deployed, in evaluation mode, so that norms use the statistics of use."""
    branches = branches_for(False, model.branches)
    model.eval().requires_grad_(True)
    for batch in batches:
        model.zero_grad(set_to_none=True)
        loss(model(batch.images, branches), batch).total.backward()
        yield batch
    model.zero_grad(set_to_none=True)
