"""Makes docs/images/tiles.jpg: what the tiles of a drawn scene say, and what is left when joined.

    python benchmarks/tiles_picture.py [--seed 0 --index 30]

Above, the true boxes as each tile shows them, cut by the rule of training; below, these boxes after
the joining of prediction.  No detector is involved: the picture shows the rules.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from yolodet.datasets.batches.tiles import cut
from yolodet.datasets.drawn.shapes import SHAPE_CLASSES, draw_scene
from yolodet.datasets.formats.record import Record
from yolodet.datasets.images.tiling import Tiling
from yolodet.detector.evaluate.draw import draw_boxes, draw_detections
from yolodet.detector.evaluate.joining import join
from yolodet.detector.evaluate.postprocess import Detections

OUT = Path(__file__).parents[1] / "docs" / "images" / "tiles.jpg"
TILING = Tiling(400, 0.2)
EDGE = (255, 220, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--index", type=int, default=30)
    parser.add_argument("--size", type=int, default=1100)
    options = parser.parse_args()
    image, boxes, labels = draw_scene(options.seed, options.index, options.size)
    size = (image.shape[0], image.shape[1])
    samples, tiles = cut([Record(Path("scene"), size, boxes, labels)], TILING)
    places = [tiles.place(number) for number in range(len(tiles))]
    parts = [
        Detections(torch.from_numpy(sample.boxes + np.tile(place[:2], 2).astype(np.float32)),
                   torch.ones(len(sample.labels)), torch.from_numpy(sample.labels))
        for sample, place in zip(samples, places, strict=True)
    ]  # fmt: skip
    colors = [tuple(np.random.default_rng(n).integers(90, 255, 3).tolist()) for n in range(99)]
    above = image
    for number, part in enumerate(parts):  # a color for each tile
        own = colors[number : number + 1] * len(part)
        above = draw_boxes(above, part.boxes.numpy(), None, own, 3)
    for x0, y0, x1, y1 in places:
        cv2.rectangle(above, (x0, y0), (x1 - 1, y1 - 1), EDGE, 1)
    found = join(parts, places, size)
    labels = found.labels.numpy()
    below = draw_detections(image, found.boxes.numpy(), labels, None, SHAPE_CLASSES, 3)
    sheet = np.concatenate((above, np.full((12, size[1], 3), 255, np.uint8), below))
    cv2.imwrite(str(OUT), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    print(f"{OUT}: {sum(map(len, parts))} boxes of {len(places)} tiles, {len(found)} joined")


if __name__ == "__main__":
    main()
