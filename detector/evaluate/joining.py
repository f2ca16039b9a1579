"""The detections of tiles joined to those of their image: every object once.

Boxes of one tile are never compared with each other: what the head (and NMS, where it is used) said
of a tile stays.  Two boxes of different tiles are compared in the part of the image that both tiles
show.  The rule:

1. Boxes of one class with an IoU of at least SAME in the shared part are one object.  The best
   pairs come first, and an object has at most one box of each tile.
2. Its score is the best of its boxes.  Its box is the best scored one that no tile edge cuts,
   unless the others reach far beyond it; if all are cut, the rectangle around them.  Boxes with
   less than WEIGHT of the best score have no say in this.
3. A box that is cut and has no partner is dropped where it is a piece of what another tile shows:
   COVERED of its area lies inside a box of its class, or it has an IoU of SAME with a whole box of
   any class.  A box with less than WEIGHT of its score cannot displace it.

A box is cut if it comes within EDGE of an edge of its tile that is no edge of the image.  Where one
of two boxes is cut, both are compared with a rim of that width: a piece of few pixels would
otherwise fail for an error of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...datasets.augment.transforms import clip_boxes
from ...datasets.images.tiling import Rectangle
from .postprocess import Detections

SAME = 0.5
"""IoU in the shared part from which two boxes are one object."""
COVERED = 0.7
"""Share of a piece that lies inside the box that it is a piece of."""
WEIGHT = 0.25
"""Share of the best score from which a box has a say."""
EDGE = 0.01
"""Distance from an edge at which a box counts as cut: a share of the tile's side ..."""
EDGE_PIXELS = 2.0
"""... but at least so many pixels."""


def join(
    parts: Sequence[Detections], tiles: Sequence[Rectangle], size: tuple[int, int]
) -> Detections:
    """The detections of an image, best first, on the CPU.

    parts: of each of ``tiles``, in pixels of the image.  size: (height, width) of the image.
    """
    if len(tiles) == 1:
        return parts[0]
    found = _Found(parts, tiles, size)
    objects = found.objects()
    if not objects:
        return parts[0]
    boxes = np.stack([found.box_of(members) for members in objects])
    best = np.array([found.best_of(members) for members in objects])
    order = np.argsort(-found.scores[best], kind="stable")
    scores, labels = found.scores[best][order], found.labels[best][order]
    return Detections(
        torch.from_numpy(boxes[order].astype(np.float32)),
        torch.from_numpy(scores),
        torch.from_numpy(labels),
    )


class _Found:
    """All boxes of an image.  boxes: [N,4] float64.  scores, labels: [N].  tile: [N], which one a
    box is of.  cut: [N] bool."""

    def __init__(
        self, parts: Sequence[Detections], tiles: Sequence[Rectangle], size: tuple[int, int]
    ) -> None:
        self.boxes = np.concatenate([part.boxes.numpy() for part in parts]).astype(np.float64)
        self.scores = np.concatenate([part.scores.numpy() for part in parts])
        self.labels = np.concatenate([part.labels.numpy() for part in parts])
        self.tile = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        self.tiles = np.array(tiles, np.float64)  # [T,4]
        self.starts = np.concatenate(((0,), np.cumsum([len(part) for part in parts])))
        side = max(self.tiles[0, 2] - self.tiles[0, 0], self.tiles[0, 3] - self.tiles[0, 1])
        self.rim = max(EDGE * side, EDGE_PIXELS)
        whole = np.array((0.0, 0.0, size[1], size[0]))
        own = self.tiles[self.tile]  # [N,4]
        self.cut = ((np.abs(self.boxes - own) < self.rim) & (own != whole)).any(1)

    def objects(self) -> list[list[int]]:
        """The boxes of each object, by number."""
        first, second, same, cover = self._pairs()
        equal = self.labels[first] == self.labels[second]
        groups = self._groups(first, second, np.where(equal, same, 0.0))
        # What a lone piece is compared with: every pair, seen from both sides.
        piece, other = np.concatenate((first, second)), np.concatenate((second, first))
        same, equal = np.concatenate((same, same)), np.concatenate((equal, equal))
        is_piece = (equal & (cover.T.ravel() >= COVERED)) | (~self.cut[other] & (same >= SAME))
        heard = self.scores[other] >= WEIGHT * self.scores[piece]
        displaced = set(piece[self.cut[piece] & is_piece & heard].tolist())
        return [group for group in groups if len(group) > 1 or group[0] not in displaced]

    def _groups(self, first: np.ndarray, second: np.ndarray, same: np.ndarray) -> list[list[int]]:
        """Boxes that are one object, by rule 1; each box is in one group."""
        groups = [[number] for number in range(len(self.scores))]
        for pair in np.argsort(-same, kind="stable").tolist():
            if same[pair] < SAME:
                break
            one, two = groups[first[pair]], groups[second[pair]]
            if one is two or not {*self.tile[one]}.isdisjoint(self.tile[two]):
                continue
            one.extend(two)
            for number in two:
                groups[number] = one
        return list({id(group): group for group in groups}.values())

    def _pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """All pairs of boxes of two tiles that meet in the shared part: first [P], second [P], IoU
        there [P], and the share of each of the two boxes that the other covers [P,2]."""
        found = [self._between(*pair) for pair in self._neighbors()]
        empty = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 2)))
        first, second, same, cover = zip(empty, *found, strict=True)
        return (
            np.concatenate(first), np.concatenate(second), np.concatenate(same),
            np.concatenate(cover),
        )  # fmt: skip

    def _neighbors(self) -> list[tuple[int, int]]:
        """Tiles with boxes that show a common part of the image."""
        filled = np.unique(self.tile)
        found = []
        for place, one in enumerate(filled.tolist()):
            others = filled[place + 1 :]
            low = np.maximum(self.tiles[one, :2], self.tiles[others, :2])
            high = np.minimum(self.tiles[one, 2:], self.tiles[others, 2:])
            found += [(one, other) for other in others[(low < high).all(1)].tolist()]
        return found

    def _between(self, one: int, two: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """``_pairs`` of two tiles."""
        mine = np.arange(self.starts[one], self.starts[one + 1])
        theirs = np.arange(self.starts[two], self.starts[two + 1])
        low = np.maximum(self.tiles[one, :2], self.tiles[two, :2])
        high = np.minimum(self.tiles[one, 2:], self.tiles[two, 2:])
        mine = mine[self._meets(mine, low, high)]
        theirs = theirs[self._meets(theirs, low, high)]
        first, second = np.repeat(mine, len(theirs)), np.tile(theirs, len(mine))
        shown = [clip_boxes(self.boxes[rows], (*low, *high)) for rows in (first, second)]
        rim = np.where(self.cut[first] | self.cut[second], self.rim, 0.0)[:, None]
        a, b = (boxes + rim * (-1, -1, 1, 1) for boxes in shown)
        common = _common(a, b)
        same = common / (_area(a) + _area(b) - common)
        whole = np.stack([_area(self.boxes[rows]) for rows in (first, second)], 1)
        cover = _common(*shown)[:, None] / whole
        meet = same > 0
        return first[meet], second[meet], same[meet], cover[meet]

    def _meets(self, rows: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        boxes = self.boxes[rows]
        met: np.ndarray = ((boxes[:, :2] < high) & (boxes[:, 2:] > low)).all(1)
        return met

    def best_of(self, members: Sequence[int]) -> int:
        """The box with the best score."""
        return max(members, key=lambda number: (self.scores[number], -number))

    def box_of(self, members: Sequence[int]) -> np.ndarray:
        """The box [4] of an object, by rule 2."""
        top = self.scores[self.best_of(members)]
        heard = [number for number in members if self.scores[number] >= WEIGHT * top]
        boxes = self.boxes[heard]
        around = np.concatenate((boxes[:, :2].min(0), boxes[:, 2:].max(0)))
        uncut = [number for number in heard if not self.cut[number]]
        if not uncut:
            return around
        box: np.ndarray = self.boxes[self.best_of(uncut)]
        return box if _area(box) >= COVERED * _area(around) else around


def _area(boxes: np.ndarray) -> np.ndarray:
    sides = boxes[..., 2:] - boxes[..., :2]
    area: np.ndarray = sides[..., 0] * sides[..., 1]
    return area


def _common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[N] area that is in both boxes of each pair."""
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, 2:], b[:, 2:])
    common: np.ndarray = (high - low).clip(min=0).prod(1)
    return common
