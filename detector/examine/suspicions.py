"""Which labels look wrong, by what a detector sees that has not learned them.

Labels and detections of each image are paired, and four kinds of errors are scored (the kinds of
Schubert et al., "Identifying Label Errors in Object Detection Datasets by Loss Inspection", arXiv
2303.06999; similar scores in Tkachenko et al., "ObjectLab", arXiv 2309.00832):

- missing: an object without a label.  p c, where p is its score and c the share of objects of such
  a score that have a label in this data set.
- wrong class: another class is seen where the label is.  sqrt(p) (1 - q / p) / (1 + k / 0.05),
  where q is the score of the class of the label there, and k the share of the objects that are seen
  as this class and have that label: what a detector confuses often is its own error.  The root: a
  label says that there is something, so a weak detection is evidence, too.
- loose: the object lies otherwise than its label.  sqrt(p) s(e / e95), where e = 1 - IoU, e95 is
  what 95 % of the labels of such a size stay below, and s rises from 0 to 1 around 1.6.
- duplicated: two labels of a class on one object.  Their IoU.

Most labels are right, so what is usual (c, k, e95) is measured on the data set itself: a detector
that is bad at small boxes makes no small box suspicious.  NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...datasets.boxes import overlaps
from ...datasets.formats.record import Record
from .found import Found

KINDS = ("missing", "wrong class", "loose", "duplicated")
LOW = 0.05
"""Detections below this score are not looked at."""
ONE_OBJECT = 0.55
"""Detections that overlap by this IoU see one object, whatever their classes."""
PAIRED = 0.5
"""IoU from which label and object surely are one."""
NEAR = 0.1
"""IoU from which they may be, where both have nothing better."""
DOUBLED = 0.6
"""IoU of two labels of one class on one object."""
COVERED = 0.3
"""An object is not missing where a label without an object overlaps it by this IoU."""
SEEN_TWICE = 0.4
"""The same for a label that has an object: one object is seen twice."""
USUAL = 0.95
SIZES = 5
"""Groups of equally many labels by size, each with its own usual error."""
LEAST = 20
"""Pairs in a group from which an error is usual or not."""
CONFUSED = 0.05
"""Share of confusions that halves the suspicion."""
NEIGHBORS = 40
"""Objects of the nearest scores that say how many of such a score have a label."""


@dataclass(frozen=True)
class Suspicion:
    """One label that looks wrong.

    score: 0..1, how likely.  number: which box of its record; None for a missing one.  box, label:
    as they are, xyxy pixels; None for a missing one.  suggested_box, suggested_label: what to write
    instead; None to remove the box.
    """

    image: Path
    kind: str
    score: float
    number: int | None
    box: tuple[float, float, float, float] | None
    label: int | None
    suggested_box: tuple[float, float, float, float] | None
    suggested_label: int | None


@dataclass
class Objects:
    """What a detector sees in one image.  boxes [K,4], scores [K,C] of each class.  label [K]: the
    number of the label that it is paired with, -1 for none.  iou [K]: with it."""

    boxes: np.ndarray
    scores: np.ndarray
    label: np.ndarray
    iou: np.ndarray

    @property
    def top(self) -> np.ndarray:
        """The best class of each object."""
        return self.scores.argmax(axis=1) if len(self.scores) else np.zeros(0, np.int64)

    @property
    def best(self) -> np.ndarray:
        """Its score."""
        return self.scores.max(axis=1, initial=0)


def suspicions(
    records: Sequence[Record], found: Sequence[Found], least: float = 0.0
) -> list[Suspicion]:
    """Labels that look wrong, the most suspicious first; at most one suspicion per label.

    found: what a detector sees in each image, in the classes of the records, that has not learned
    this image.  least: the lowest score that is told.  A box around a crowd is taken as it is.
    """
    labels = [one.labels for one in records] + [each.labels for each in found]
    classes = 1 + max((int(each.max()) for each in labels if len(each)), default=0)
    seen = [
        paired(record, objects_in(each, classes))
        for record, each in zip(records, found, strict=True)
    ]
    usual, confused = UsualErrors(seen), Confusions(records, seen, classes)
    shares = shares_with_label(records, seen)
    told: list[Suspicion] = []
    for record, objects, share in zip(records, seen, shares, strict=True):
        told += _of_image(record, objects, share, usual, confused)
    return sorted((one for one in told if one.score >= least), key=lambda one: -one.score)


def objects_in(found: Found, classes: int) -> Objects:
    """Detections of one object, of whatever classes, taken together."""
    found = found.above(LOW)
    boxes: list[np.ndarray] = []
    scores: list[np.ndarray] = []
    for n in np.argsort(-found.scores, kind="stable"):
        same = overlaps(found.boxes[n : n + 1], np.stack(boxes))[0] if boxes else np.zeros(0)
        if len(same) and same.max() >= ONE_OBJECT:
            row = scores[int(same.argmax())]
        else:
            boxes.append(found.boxes[n])
            row = np.zeros(classes, np.float32)
            scores.append(row)
        row[found.labels[n]] = max(row[found.labels[n]], found.scores[n])
    count = len(boxes)
    return Objects(
        np.stack(boxes) if boxes else np.zeros((0, 4), np.float32),
        np.stack(scores) if scores else np.zeros((0, classes), np.float32),
        np.full(count, -1),
        np.zeros(count, np.float32),
    )


def paired(record: Record, objects: Objects) -> Objects:
    """The objects with the number of the label of each: first where they surely are one, the
    largest IoU first, then what is left over and near; a label that doubles another one is not."""
    table = overlaps(objects.boxes, record.boxes) if len(record.boxes) else np.zeros((0, 0))
    if not table.size:
        return objects
    crowd = np.zeros(len(record.boxes), bool) if record.crowd is None else record.crowd
    right = objects.scores[:, record.labels]  # of each object, in the class of each label
    _pair(objects, table + 0.1 * right, table >= PAIRED)
    used = set(objects.label[objects.label >= 0].tolist())
    among = overlaps(record.boxes, record.boxes)
    doubles = [n for n in range(len(crowd)) if n not in used and _doubled(n, record, among, used)]
    free = np.array([n not in used and n not in doubles for n in range(len(crowd))])
    near = (table >= NEAR) & free[None, :] & ~crowd[None, :] & (objects.label < 0)[:, None]
    _pair(objects, table * objects.best[:, None], near)
    rows = np.flatnonzero(objects.label >= 0)
    objects.iou[rows] = table[rows, objects.label[rows]]
    return objects


def _pair(objects: Objects, value: np.ndarray, allowed: np.ndarray) -> None:
    """Pair objects and labels that are allowed, the best value first, each once."""
    rows, columns = np.nonzero(allowed)
    taken = set(objects.label[objects.label >= 0].tolist())
    for at in np.argsort(-value[rows, columns], kind="stable"):
        row, column = int(rows[at]), int(columns[at])
        if objects.label[row] < 0 and column not in taken:
            objects.label[row] = column
            taken.add(column)


def _doubled(number: int, record: Record, among: np.ndarray, used: set[int]) -> bool:
    """Whether a label without an object doubles one that has it."""
    return any(
        among[number, other] >= DOUBLED and record.labels[number] == record.labels[other]
        for other in used
    )


class UsualErrors:
    """What 1 - IoU of label and object usually stays below, for labels of a size."""

    def __init__(self, seen: Sequence[Objects]) -> None:
        sides: list[float] = []
        errors: list[float] = []
        for objects in seen:
            sure = (objects.label >= 0) & (objects.iou >= PAIRED) & (objects.best >= 0.3)
            for row in np.flatnonzero(sure):
                sides.append(side_of(objects.boxes[row]))
                errors.append(1 - float(objects.iou[row]))
        groups = min(SIZES, max(len(sides) // LEAST, 1))
        inner = np.linspace(0, 1, groups + 1)[1:-1]
        self.edges: np.ndarray = np.quantile(sides, inner) if sides else np.zeros(0)
        place = np.searchsorted(self.edges, sides)
        all_errors = np.array(errors)
        self.limits = [
            float(np.quantile(all_errors[place == n], USUAL)) if (place == n).any() else PAIRED
            for n in range(groups)
        ]

    def limit(self, box: np.ndarray) -> float:
        """For a box [4]."""
        return max(self.limits[int(np.searchsorted(self.edges, side_of(box)))], 0.1)


class Confusions:
    """How often objects that are seen as a class have another label."""

    def __init__(self, records: Sequence[Record], seen: Sequence[Objects], classes: int) -> None:
        self.counts = np.zeros((classes, classes))
        for record, objects in zip(records, seen, strict=True):
            rows = np.flatnonzero(objects.label >= 0)
            top, label = objects.top[rows], record.labels[objects.label[rows]]
            own = objects.scores[rows, label] / np.maximum(objects.best[rows], 1e-9)
            np.add.at(self.counts, (top, label), np.where(top == label, 1, 1 - own))

    def trust(self, top: int, label: int) -> float:
        """From 0 to 1 for an object that is seen as ``top`` and has ``label``; the others of this
        kind speak against it."""
        others = max(float(self.counts[top, label]) - 1, 0)
        return 1 / (1 + others / max(float(self.counts[top].sum()), 1) / CONFUSED)


def side_of(box: np.ndarray) -> float:
    """The side of a square as large as the box."""
    return float(np.sqrt(max((box[2] - box[0]) * (box[3] - box[1]), 0)))


def shares_with_label(records: Sequence[Record], seen: Sequence[Objects]) -> list[np.ndarray]:
    """For each object, the share of the objects of nearest score that have a label."""
    covered = [
        has_label(record, objects) for record, objects in zip(records, seen, strict=True)
    ]
    flags = np.concatenate([*covered, np.zeros(0, bool)]).astype(float)
    scores = np.concatenate([*(objects.best for objects in seen), np.zeros(0)])
    order = np.argsort(scores, kind="stable")
    sums = np.concatenate([[0.0], np.cumsum(flags[order])])
    at = np.arange(len(flags))
    low, high = np.maximum(at - NEIGHBORS // 2, 0), np.minimum(at + NEIGHBORS // 2 + 1, len(flags))
    share = np.empty(len(flags))
    share[order] = (sums[high] - sums[low]) / (high - low)
    return np.split(share, np.cumsum([len(objects.best) for objects in seen])[:-1])[: len(seen)]


def has_label(record: Record, objects: Objects) -> np.ndarray:
    """Which objects [K] have a label of their own, or lie on one."""
    table = overlaps(objects.boxes, record.boxes)
    sure = objects.label[(objects.label >= 0) & (objects.iou >= PAIRED)]
    limits = np.full(len(record.boxes), COVERED)
    limits[sure] = SEEN_TWICE
    return (objects.label >= 0) | (table >= limits).any(axis=1)


def _of_image(
    record: Record, objects: Objects, share: np.ndarray, usual: UsualErrors, confused: Confusions
) -> list[Suspicion]:
    told = _missing(record, objects, share) + _duplicated(record, objects)
    for row in np.flatnonzero(objects.label >= 0):
        number = int(objects.label[row])
        label, p = int(record.labels[number]), float(objects.best[row])
        own, root = float(objects.scores[row, label]), float(np.sqrt(p))
        top = int(objects.top[row])
        scores = {
            "wrong class": root * (1 - own / p) * confused.trust(top, label),
            "loose": root * rise((1 - float(objects.iou[row])) / usual.limit(objects.boxes[row])),
        }
        kind = max(scores, key=lambda name: scores[name])
        wrong = kind == "wrong class"
        box = record.boxes[number] if wrong and scores["loose"] < 0.1 else objects.boxes[row]
        told.append(
            Suspicion(
                record.path, kind, scores[kind], number, corners(record.boxes[number]), label,
                corners(box), top if wrong else label,
            )
        )  # fmt: skip
    return told


def rise(ratio: float) -> float:
    """From 0 to 1 around 1.6 times what is usual (logistic)."""
    return float(1 / (1 + np.exp(-6 * (ratio - 1.6))))


def _missing(record: Record, objects: Objects, share: np.ndarray) -> list[Suspicion]:
    return [
        Suspicion(
            record.path, "missing", float(objects.best[row] * share[row]), None, None, None,
            corners(objects.boxes[row]), int(objects.top[row]),
        )
        for row in np.flatnonzero(~has_label(record, objects))
    ]  # fmt: skip


def _duplicated(record: Record, objects: Objects) -> list[Suspicion]:
    """Labels without an object that lie on one of their class; of two without one, the second."""
    if len(record.boxes) < 2:
        return []
    among = overlaps(record.boxes, record.boxes)
    with_object = set(objects.label[objects.label >= 0].tolist())
    told, gone = [], set[int]()
    for number in range(len(record.boxes) - 1, -1, -1):
        if number in with_object:
            continue
        others = [
            other
            for other in range(len(record.boxes))
            if other not in (number, *gone) and record.labels[other] == record.labels[number]
        ]
        iou = max((float(among[number, other]) for other in others), default=0.0)
        if iou >= DOUBLED:
            gone.add(number)
            box, label = corners(record.boxes[number]), int(record.labels[number])
            told.append(Suspicion(record.path, "duplicated", iou, number, box, label, None, None))
    return told


def accept(record: Record, told: Sequence[Suspicion]) -> Record:
    """The record with what suspicions about its image suggest: boxes added, changed and removed."""
    boxes, labels = record.boxes.copy(), record.labels.copy()
    keep = np.ones(len(boxes), bool)
    more = []
    for one in told:
        if one.number is None:
            more.append(one)
        elif one.suggested_box is None:
            keep[one.number] = False
        else:
            boxes[one.number], labels[one.number] = one.suggested_box, one.suggested_label
    kept = replace(record, boxes=boxes, labels=labels, area=None).chosen(keep)
    if not more:
        return kept
    added = np.array([one.suggested_box for one in more], np.float32)
    classes = np.array([one.suggested_label for one in more], np.int64)
    crowd = None if kept.crowd is None else np.concatenate((kept.crowd, np.zeros(len(more), bool)))
    return replace(
        kept, boxes=np.concatenate((kept.boxes, added)),
        labels=np.concatenate((kept.labels, classes)), crowd=crowd,
    )  # fmt: skip


def corners(box: np.ndarray) -> tuple[float, float, float, float]:
    """[4] as plain numbers."""
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, x2, y2
