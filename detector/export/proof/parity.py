"""The comparison of an exported file with its checkpoint, on the same images.

Each detection of the checkpoint is matched with the nearest one of its class in the file's output.
Only detections with a score of at least ``conf`` count.  A detection that is missing because its
score lies within the tolerance of that threshold is not a difference.  With a data set, the AP of
both is measured by the same evaluator.  An AP of 0 proves nothing, since any file reaches it, so
boxes decide then.  They also decide where all scores lie within the tolerance: rounding changes the
order of such detections, and AP depends on the order.

Each precision has its tolerances: pixels of the input, score and AP.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ....files.counted import counted
from ...evaluate.postprocess import Detections

CONF = 0.25
"""Score from which detections are compared; lower where the checkpoint finds nothing better."""


@dataclass(frozen=True)
class Tolerance:
    """Largest allowed differences: pixels of a corner, score, AP.  ap_alone: where the AP is
    measured it decides, and differences of single boxes are only reported."""

    pixels: float
    score: float
    ap: float
    ap_alone: bool = False


TOLERANCES = {
    "fp32": Tolerance(pixels=0.1, score=0.001, ap=0.001),
    "fp16": Tolerance(pixels=2.0, score=0.02, ap=0.002),
    "int8": Tolerance(pixels=16.0, score=0.2, ap=0.01, ap_alone=True),
    "int8-weights": Tolerance(pixels=8.0, score=0.1, ap=0.01, ap_alone=True),
    "int8-dynamic": Tolerance(pixels=16.0, score=0.2, ap=0.01, ap_alone=True),
}
"""By precision of the file.  fp32 differs by the order of sums; fp16 by the rounding of weights,
2^-11 of each.  int8 moves boxes, so its AP decides, with ``max_drop=`` in place of this number."""


@dataclass(frozen=True)
class Parity:
    """How far file and checkpoint are apart.  images: number compared.  conf: score threshold.
    matched, missed, extra: detections of both, of the checkpoint only, of the file only.  pixels,
    score: largest differences of matched detections.  ap: (checkpoint, file) where measured."""

    images: int
    conf: float
    matched: int
    missed: int
    extra: int
    pixels: float
    score: float
    ap: tuple[float, float] | None = None
    tolerance: Tolerance = field(default_factory=lambda: TOLERANCES["fp32"])

    @property
    def _judged_by_ap(self) -> bool:
        """Whether there is an AP above 0 to compare with."""
        return self.ap is not None and self.ap[0] > 0

    @property
    def faults(self) -> list[str]:
        """What is outside the tolerance, in words; empty where the file matches."""
        limit = self.tolerance
        found = [
            (self.matched == 0 and not self._judged_by_ap, "nothing was found to compare"),
            (self.missed > 0, f"missing: {counted(self.missed, 'detection')}"),
            (self.extra > 0, f"extra: {counted(self.extra, 'detection')}"),
            (not self.pixels <= limit.pixels, f"boxes differ by {self.pixels:.3g} pixels"),
            (not self.score <= limit.score, f"scores differ by {self.score:.3g}"),
        ]
        if self.ap is not None and self._judged_by_ap:
            drop = self.ap[0] - self.ap[1]
            if limit.ap_alone:
                found = [(not drop <= limit.ap, f"AP drops by {drop:.4f}")]
            elif self.conf > limit.score:
                found.append((not abs(drop) <= limit.ap, f"AP differs by {abs(drop):.4f}"))
        return [text for wrong, text in found if wrong]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"faults": self.faults}


def compare(
    wanted: Sequence[Detections],
    found: Sequence[Detections],
    tolerance: Tolerance,
    ap: tuple[float, float] | None = None,
) -> Parity:
    """Compare the detections of a checkpoint (``wanted``) and a file (``found``) per image."""
    conf = threshold(wanted)
    matched = missed = extra = 0
    pixels = score = 0.0
    for one, other in zip(wanted, found, strict=True):
        low = conf - tolerance.score
        pairs = match_detections(one.above(low), other.above(low))
        lost, new = unmatched(one, other, pairs, conf + tolerance.score)
        missed, extra = missed + lost, extra + new
        for i, j in pairs:
            if max(float(one.scores[i]), float(other.scores[j])) < conf:
                continue
            matched += 1
            pixels = max(pixels, float((one.boxes[i] - other.boxes[j]).abs().max()))
            score = max(score, float((one.scores[i] - other.scores[j]).abs()))
    return Parity(
        len(wanted), conf, matched, missed, extra, pixels, score, ap=ap, tolerance=tolerance
    )


def threshold(wanted: Iterable[Detections]) -> float:
    """CONF, or half of the best score where nothing reaches it."""
    best = max((float(each.scores[0]) for each in wanted if len(each)), default=0.0)
    return CONF if best >= CONF else best / 2


def match_detections(one: Detections, other: Detections) -> list[tuple[int, int]]:
    """Pairs of indices, greedy by score of ``one``: each with the nearest free detection of its
    class.  Distance: largest corner difference relative to the box size, plus score difference."""
    free = torch.ones(len(other), dtype=torch.bool)
    pairs = []
    for i in range(len(one)):
        candidates = free & (other.labels == one.labels[i])
        if not candidates.any():
            continue
        box = one.boxes[i]
        side = (box[2:] - box[:2]).max().clamp(min=1)
        distance = (other.boxes - box).abs().amax(1) / side + (other.scores - one.scores[i]).abs()
        nearest = int(distance.masked_fill(~candidates, torch.inf).argmin())
        if distance[nearest] < 0.5:
            free[nearest] = False
            pairs.append((i, nearest))
    return pairs


def unmatched(
    one: Detections, other: Detections, pairs: Sequence[tuple[int, int]], sure: float
) -> tuple[int, int]:
    """Number of unpaired detections of either side with a score of at least ``sure``."""
    left = {i for i, _ in pairs}
    right = {j for _, j in pairs}
    lost = sum(i not in left and bool(s >= sure) for i, s in enumerate(one.scores))
    new = sum(j not in right and bool(s >= sure) for j, s in enumerate(other.scores))
    return lost, new
