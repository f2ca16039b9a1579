"""Tiles and their joining: an object is found once wherever the seams of the tiles lie."""

import itertools

import numpy as np
import pytest
import torch
from yolodet.datasets.images.tiling import Tiling
from yolodet.detector.evaluate.joining import join
from yolodet.detector.evaluate.postprocess import Detections

TILING = Tiling(640, 0.2)
SIZE = (1500, 2100)
SHARED = 128
"""Pixels that two neighbors have in common, at least."""


@pytest.mark.parametrize(
    "size", [(640, 640), (641, 640), (1500, 2100), (200, 5000), (64, 64), (20_000, 20_000)]
)
def test_tiles_cover_the_image_and_overlap_enough(size):
    tiles = TILING.of(size)
    for axis, length in ((0, size[1]), (1, size[0])):
        spans = sorted({(tile[axis], tile[axis + 2]) for tile in tiles})
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert all(stop - start == min(640, length) for start, stop in spans)
        shared = [one[1] - two[0] for one, two in itertools.pairwise(spans)]
        assert all(common >= SHARED - 1 for common in shared)
        assert len(spans) == 1 or len(spans) == -(-(length - 640) // 512) + 1  # as few as possible
    assert len(set(tiles)) == len(tiles)


def found(boxes, scores=None, labels=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    count = len(boxes)
    scores = torch.full((count,), 0.9) if scores is None else torch.tensor(scores)
    labels = torch.zeros(count, dtype=torch.long) if labels is None else torch.tensor(labels)
    return Detections(boxes, scores, labels)


def seen_in_tiles(boxes, rng=None, labels=None, size=SIZE):
    """What a detector says that sees the visible part of every object in each tile.  rng: then it
    is off by a pixel or two, and misses most pieces that are a small part of both their object and
    the tile."""
    parts = []
    for tile in TILING.of(size):
        low, high = np.array(tile[:2] * 2), np.array(tile[2:] * 2)
        shown = np.clip(boxes, low, high)
        sides = shown[:, 2:] - shown[:, :2]
        keep = sides.min(1) >= 1
        scores = np.full(len(boxes), 0.9)
        if rng is not None:
            shown = np.clip(shown + rng.normal(0, 1.5, shown.shape), low, high)
            share = sides.prod(1) / (boxes[:, 2:] - boxes[:, :2]).prod(1)
            share = np.maximum(share, sides.prod(1) / 640**2)
            keep &= (share > 0.3) | (rng.random(len(boxes)) < 0.3)
            keep &= (shown[:, 2:] > shown[:, :2]).all(1)
            scores = np.clip(0.5 * share + rng.uniform(0.3, 0.5, len(boxes)), 0, 1)
        own = np.zeros(len(boxes), int) if labels is None else labels
        parts.append(found(shown[keep], scores[keep].astype(np.float32), own[keep]))
    return parts


def iou(one, other):
    """Of two boxes [4]."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = (high - low).clip(0).prod()
    areas = sum((box[2:] - box[:2]).prod() for box in (one, other))
    return common / (areas - common)


def objects_on_seams(rng, count, smallest, largest):
    """Boxes over edges and corners of tiles, one to a scene."""
    tiles = np.array(TILING.of(SIZE))
    xs = np.unique(tiles[:, [0, 2]])[1:-1]
    ys = np.unique(tiles[:, [1, 3]])[1:-1]
    for _ in range(count):
        sides = rng.uniform(smallest, largest, 2)
        center = np.array((rng.choice(xs), rng.choice(ys))) + rng.uniform(-0.7, 0.7, 2) * sides
        free = rng.integers(3)  # over a corner, or over an edge only
        if free < 2:
            center[free] = rng.uniform(0, SIZE[1 - free])
        box = np.concatenate((center - sides / 2, center + sides / 2))
        box = np.clip(box, 0, (SIZE[1], SIZE[0]) * 2)
        if (box[2:] - box[:2]).min() >= 8:
            yield box[None]


@pytest.mark.parametrize(("smallest", "largest"), [(10, 40), (40, 128), (128, 500), (500, 1400)])
@pytest.mark.parametrize("exact", [True, False])
def test_an_object_on_a_seam_is_found_once(smallest, largest, exact):
    rng = np.random.default_rng(smallest)
    right = total = 0
    for box in objects_on_seams(rng, 300, smallest, largest):
        parts = seen_in_tiles(box, None if exact else rng)
        if not any(map(len, parts)):
            continue
        joined = join(parts, TILING.of(SIZE), SIZE)
        close = 0.99 if exact else 0.5
        right += len(joined) == 1 and iou(joined.boxes[0].numpy(), box[0]) > close
        total += 1
    assert total > 250
    assert right >= (1.0 if exact else 0.99) * total, f"{right} of {total}"


def test_neighbors_of_one_class_stay_apart_where_seams_cut_their_row():
    x = np.arange(4, SIZE[1] - 30, 26.0)
    row = np.stack((x, np.full_like(x, 500), x + 24, np.full_like(x, 540)), 1)
    crowd = np.concatenate([row + np.tile(shift, 2) for shift in ((0, 0), (0, 44), (5, 470))])
    joined = join(seen_in_tiles(crowd), TILING.of(SIZE), SIZE)
    assert len(joined) == len(crowd)
    assert np.allclose(np.unique(joined.boxes.numpy(), axis=0), np.unique(crowd, axis=0))


def test_boxes_of_one_tile_are_never_compared():
    twins = [[100, 100, 200, 200]] * 2 + [[105, 100, 205, 200]]
    parts = [found([]) for _ in TILING.of(SIZE)]
    parts[0] = found(twins, [0.9, 0.8, 0.7])
    assert len(join(parts, TILING.of(SIZE), SIZE)) == 3
    shared = [[560, 100, 600, 140]] * 2  # whole in two tiles, twice in each
    parts[0] = parts[1] = found(shared, [0.9, 0.8])
    assert join(parts, TILING.of(SIZE), SIZE).scores.tolist() == pytest.approx([0.9, 0.8])


def test_a_piece_is_dropped_where_a_neighbor_saw_the_object_whole():
    tiles = TILING.of(SIZE)
    right_edge, left_edge = tiles[0][2], tiles[1][0]
    whole = [left_edge + 60, 100, right_edge + 80, 180]
    piece = [whole[0], 100, right_edge, 180]
    parts = [found([]) for _ in tiles]
    parts[0] = found([piece], [0.9], [1])  # taken for another class
    parts[1] = found([whole], [0.5], [0])
    joined = join(parts, tiles, SIZE)
    assert joined.labels.tolist() == [0] and joined.boxes.tolist() == [whole]
    parts[1] = found([whole], [0.1], [0])  # too weak to say so
    assert len(join(parts, tiles, SIZE)) == 2
    parts[1] = found([])  # a neighbor that saw nothing displaces nothing
    assert join(parts, tiles, SIZE).boxes.tolist() == [piece]


def test_best_first_and_nothing_at_all():
    parts = [found([]) for _ in TILING.of(SIZE)]
    assert len(join(parts, TILING.of(SIZE), SIZE)) == 0
    parts[0], parts[5] = found([[5, 5, 20, 20]], [0.3]), found([[700, 900, 730, 950]], [0.8], [2])
    joined = join(parts, TILING.of(SIZE), SIZE)
    assert joined.scores.tolist() == pytest.approx([0.8, 0.3]) and joined.labels.tolist() == [2, 0]
