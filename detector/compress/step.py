"""One step of a pruning: look at the channels on training images, choose, and remove."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...datasets.batches.dataset import DetectionDataset
from ...datasets.batches.loader import Loader
from ...datasets.formats.record import Record
from ...datasets.images.input_size import InputSize
from ...datasets.nouns import Batch
from ..losses.detection import DetectionLoss, Gains
from ..models.detector import Detector
from ..options.prune import PruneConfig
from ..run.log import Log
from .channels import Trace
from .cost import LATENCY, MACS, Cost, deployed_rates
from .importance import importance
from .latency import latency_rates, seconds_of
from .narrow import narrowed
from .plan import choose_widths
from .rules import trace
from .sensitivity import Sensitivity, measure, narrow_groups

BATCH = 8
TRIES = 4
"""Files that are measured to meet a latency."""
NEAR = 0.03
"""Share of the wanted latency that is near enough."""


@dataclass(frozen=True)
class Pruned:
    """model: with fewer channels.  found: sensitivity of each group.  kept: channels that each
    part of a group keeps.  reached: the cost as a share of the cost before."""

    model: Detector
    found: Sequence[Sensitivity]
    kept: Sequence[int]
    reached: float


def sample_batches(
    records: Sequence[Record], count: int, image_size: int | InputSize, model: Detector
) -> list[Batch]:
    """Training images without augmentation, evenly spread, on the device of the model."""
    places = np.linspace(0, len(records) - 1, min(count, len(records))).round().astype(int)
    data = DetectionDataset(
        [records[place] for place in places], image_size, augment=None, align=model.letterbox
    )
    loader = Loader(data, BATCH, shuffle=False, workers=0)
    device = next(model.parameters()).device
    return [batch.to(device) for batch in loader.epoch(0)]


def prune_step(
    model: Detector, batches: Sequence[Batch], keep: float, config: PruneConfig, log: Log
) -> Pruned:
    """Remove channels until the cost is ``keep`` times what it is.

    batches: training images.  The choice depends on nothing but the arguments, unless latency is
    measured."""
    height, width = batches[0].images.shape[-2:]
    size = height, width
    loss = DetectionLoss(Gains(config.box, config.cls, config.dfl))
    found = trace(model)
    macs = deployed_rates(model, size, MACS)
    rates = macs if config.of == MACS else deployed_rates(model, size, config.of)
    if config.of == LATENCY:
        log.info("measuring the layers in ONNX Runtime")
        rates = latency_rates(model, found, macs, config.threads)
    groups = narrow_groups(found.groups())
    matter = Cost(found, groups, rates).matter
    groups = [group for group, counts in zip(groups, matter, strict=True) if counts]
    cost = Cost(found, groups, rates)
    scores = importance(config.criterion, model, found, batches, loss, config.seed)
    with log.progress("measuring sensitivity", len(groups)) as update:
        seen = measure(model, found, groups, scores, batches, loss, update)
    model.requires_grad_(True)
    whole = cost(cost.widths)
    if config.of == LATENCY:
        return _to_latency(model, found, seen, cost, keep, config, size)
    kept = choose_widths(seen, cost, keep * whole, config.criterion, config.seed)
    return Pruned(_remove(model, found, seen, kept), seen, kept.tolist(), cost(kept) / whole)


def _remove(
    model: Detector, found: Trace, seen: Sequence[Sensitivity], kept: np.ndarray
) -> Detector:
    gone: set[int] = set()
    for each, count in zip(seen, kept.tolist(), strict=True):
        gone |= each.removed(count)
    return narrowed(model, found, gone)


def _to_latency(
    model: Detector,
    found: Trace,
    seen: Sequence[Sensitivity],
    cost: Cost,
    keep: float,
    config: PruneConfig,
    size: tuple[int, int],
) -> Pruned:
    """Try costs until a whole file takes ``keep`` times as long; the slowest that is fast enough,
    or the fastest."""
    whole, share = cost(cost.widths), keep
    tries: list[Pruned] = []
    cpu = torch.device("cpu")
    for _ in range(TRIES):
        kept = choose_widths(seen, cost, share * whole, config.criterion, config.seed)
        small = _remove(model, found, seen, kept)
        taken = seconds_of({"whole": model.to(cpu), "small": small.to(cpu)}, size, config.threads)
        ratio = taken["small"] / taken["whole"]
        tries.append(Pruned(small, seen, kept.tolist(), ratio))
        if abs(ratio / keep - 1) <= NEAR or (ratio > keep and cost(kept) > 1.05 * share * whole):
            break  # near enough, or nothing is left to remove
        share *= keep / ratio
    fast = [each for each in tries if each.reached <= keep * (1 + NEAR)]
    return max(fast, key=lambda p: p.reached) if fast else min(tries, key=lambda p: p.reached)
