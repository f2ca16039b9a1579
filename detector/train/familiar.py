"""How well the weights that a run starts from already see its objects, and the learning rate.

Weights that already find the objects, under whatever name, need small steps: large ones undo more
than the run can learn again.  Weights to which the objects are new need larger ones.  Both are
measured in docs/log.md.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ...datasets.batches.loader import Loader
from ..evaluate.postprocess import branches_for, postprocess
from ..models.detector import Detector
from ..options.detect import DetectOptions
from ..options.train import TrainConfig
from ..run.log import Log
from ..run.ranks import Ranks

IMAGES = 128
"""Training images to measure on."""
OVERLAP = 0.5
FAMILIAR = 0.1
"""Mean score from which objects count as known: COCO weights have 0.01 to 0.04 on cells and chess
pieces, 0.22 on COCO's own photographs, 0.32 on persons under another name."""
RATES = {True: 0.1, False: 0.25}
"""Learning rate of transferred weights as a share of lr0, by whether the objects are known."""


def settle_rate(
    config: TrainConfig,
    source: Detector | None,
    loader: Loader,
    device: torch.device,
    ranks: Ranks,
    log: Log,
) -> TrainConfig:
    """The config with a number in place of ``lr_transferred=auto``, the same on all ranks.

    source: the detector that the weights come from, None without one.  loader: of training
    images."""
    if config.lr_transferred is not None:
        return config
    if source is None:
        return replace(config, lr_transferred=RATES[False])
    score = ranks.broadcast(familiarity(source.to(device), loader))
    known = score >= FAMILIAR
    log.info(
        f"lr_transferred={RATES[known]:g}: the weights "
        f"{'already find' if known else 'do not know'} the objects of the run (mean score of the "
        f"best box on each: {score:.2f}; from {FAMILIAR:g} they count as known)"
    )
    return replace(config, lr_transferred=RATES[known])


def share_of(config: TrainConfig) -> float:
    """``lr_transferred``, before a run has settled it that for new objects."""
    return RATES[False] if config.lr_transferred is None else config.lr_transferred


@torch.inference_mode()
def familiarity(model: Detector, loader: Loader) -> float:
    """Mean over the labeled boxes of the first IMAGES images: the highest score, of any class, of
    a detection that overlaps the box by at least OVERLAP; 0 for a box without one.

    0 where there is no box.  The model is left in evaluation mode."""
    from torchvision.ops import box_iou  # importing it takes a second

    options, branches = DetectOptions(conf=0.01, max_det=100), branches_for(False, model.branches)
    device, scores, images = next(model.eval().parameters()).device, [torch.zeros(0)], 0
    for batch in loader.epoch(0):
        outputs = model(batch.images.to(device), branches=branches)
        for index, found in enumerate(postprocess(outputs, options)):
            boxes = batch.boxes[batch.batch_index == index].cpu()
            overlapping = box_iou(boxes, found.boxes) >= OVERLAP  # [boxes, detections]
            best = (overlapping * found.scores).amax(1) if len(found) else torch.zeros(len(boxes))
            scores.append(best)
        images += len(batch)
        if images >= IMAGES:
            break
    every = torch.cat(scores)
    return float(every.mean()) if len(every) else 0.0
