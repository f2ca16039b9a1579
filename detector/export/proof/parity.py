"""The proof that a file answers as its checkpoint does: both look at the same images.

Boxes are compared one by one: a detection of the checkpoint is matched with the nearest one of its
class in the file's answer.  What matters is what a user would see, so only detections with a score
of at least ``conf`` count, and one that is missing because its score lies within the tolerance of
that threshold is no difference.  With a data set, the AP of both is measured by the same evaluator.
An AP of 0 judges nothing: any file reaches it, so boxes are the judge then.

Tolerances are those of a precision, in pixels of the input, of score and of AP.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from ...evaluate.postprocess import Detections

CONF = 0.25
"""Score from which detections are compared; lower where the checkpoint finds nothing better."""


@dataclass(frozen=True)
class Tolerance:
    """Largest differences that are no fault: pixels of a corner, score, AP.  ap_alone: where the AP
    is measured, it is the judge, and single boxes are only told of."""

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
"""By precision of the file.  One of fp32 differs by the order of its sums; one of fp16 by the
rounding of its weights, 2^-11 of each.  One of int8 moves boxes, and what that costs is for the AP
to say: ``max_drop=`` takes the place of that number."""


@dataclass(frozen=True)
class Parity:
    """How far two answers are apart.  images: looked at.  conf: from which score on.  matched,
    missed, extra: detections of both, of the checkpoint alone, of the file alone.  pixels, score:
    largest difference of a matched corner and score.  ap: of checkpoint and file, where measured.
    """

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
        """Whether there is an AP that a file could fall short of."""
        return self.ap is not None and self.ap[0] > 0

    @property
    def faults(self) -> list[str]:
        """What is outside the tolerance, in words; empty where the file answers the same."""
        limit = self.tolerance
        found = [
            (self.matched == 0 and not self._judged_by_ap, "nothing was found to compare"),
            (self.missed > 0, f"{self.missed} detections are missing"),
            (self.extra > 0, f"{self.extra} detections are extra"),
            (not self.pixels <= limit.pixels, f"boxes differ by {self.pixels:.3g} pixels"),
            (not self.score <= limit.score, f"scores differ by {self.score:.3g}"),
        ]
        if self.ap is not None and self._judged_by_ap:
            drop = self.ap[0] - self.ap[1]
            if limit.ap_alone:
                found = [(not drop <= limit.ap, f"AP drops by {drop:.4f}")]
            else:
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
    """Compare the answers of a checkpoint (``wanted``) and of a file, image by image."""
    conf = threshold(wanted)
    matched = missed = extra = 0
    pixels = score = 0.0
    for one, other in zip(wanted, found, strict=True):
        pairs = match(one.above(conf - tolerance.score), other.above(conf - tolerance.score))
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


def match(one: Detections, other: Detections) -> list[tuple[int, int]]:
    """Pairs of indices, the best scored of ``one`` first: each with the nearest free detection of
    its class, by the largest difference of a corner in shares of its size and by score."""
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
    """How many of either have no partner and a score of at least ``sure``."""
    left = {i for i, _ in pairs}
    right = {j for _, j in pairs}
    lost = sum(i not in left and bool(s >= sure) for i, s in enumerate(one.scores))
    new = sum(j not in right and bool(s >= sure) for j, s in enumerate(other.scores))
    return lost, new
