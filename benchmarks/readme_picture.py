"""Makes docs/images/detections.jpg: trains on drawn scenes, then predicts on new ones.

    python benchmarks/readme_picture.py [--epochs 20 --images 1000 --work runs/picture]

Takes about eight minutes on two cores.  The scenes of the picture have another seed than the
training images; boxes, classes and scores are those of `det predict`, without selection.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
from yolodet import YOLO
from yolodet.datasets.drawn.shapes import write_shapes
from yolodet.detector.evaluate.draw import tile_images

OUT = Path(__file__).parents[1] / "docs" / "images" / "detections.jpg"
COLUMNS, ROWS, CELL = 3, 2, 480


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--epochs", type=int, default=20)
    p.add_argument("--images", type=int, default=1000)
    p.add_argument("--work", type=Path, default=Path("runs/picture"))
    options = p.parse_args()
    val = options.images // 10
    data = write_shapes(options.work / "scenes", train=options.images - val, val=val, seed=1)
    new = write_shapes(options.work / "new", train=1, val=COLUMNS * ROWS, seed=2)
    model = YOLO("yolo26n")
    model.train(data=data, epochs=options.epochs, imgsz=320, project=options.work / "train")
    paths = sorted((new.parent / "images" / "val").iterdir())
    drawn = [result.draw(line_width=3) for result in model.predict(paths, conf=0.3)]
    sheet = tile_images(drawn, COLUMNS, CELL)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(OUT), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(OUT)


if __name__ == "__main__":
    main()
