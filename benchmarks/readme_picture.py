"""Makes docs/images/detections.jpg: photographs of a test split, and all that a detector finds.

    python benchmarks/readme_picture.py --data bccd.yaml [--model runs/train]

Without ``--model`` the detector is trained first, as docs/first-detector.md does it.  The
photographs are the first of the test split by name.  Every box that scores CONF or more is drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
from yolodet import YOLO
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.evaluate.draw import tile_images

OUT = Path(__file__).parents[1] / "docs" / "images" / "detections.jpg"
COLUMNS, ROWS, CELL = 3, 2, 480
CONF = 0.4


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True, help="YAML of a data set with a test split")
    p.add_argument("--model", help="a run folder or a checkpoint")
    options = p.parse_args()
    model = YOLO(options.model or "yolox_nano")
    if not options.model:
        model.train(data=options.data, epochs=15, imgsz=320)
    folder = load_dataset(options.data).sources("test")[0]
    paths = sorted(path for path in folder.iterdir() if path.suffix == ".jpg")[: COLUMNS * ROWS]
    drawn = [result.draw(line_width=2) for result in model.predict(paths, conf=CONF)]
    sheet = tile_images(drawn, COLUMNS, CELL)
    cv2.imwrite(str(OUT), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(OUT)


if __name__ == "__main__":
    main()
