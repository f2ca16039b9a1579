"""Makes docs/images/detections.jpg: what a detector finds in photographs that it has never seen.

    python benchmarks/readme_picture.py --data bccd.yaml [--model runs/train] [--epochs 15]

Without --model it trains first: yolox_nano from its COCO weights, some minutes on two cores.  The
photographs are the first six of the test split; boxes, classes and scores are what
`det predict` writes, nothing is left out or chosen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
from yolodet import YOLO
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.evaluate.draw import tile_images

OUT = Path(__file__).parents[1] / "docs" / "images" / "detections.jpg"
COLUMNS, ROWS, CELL = 3, 2, 480


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", required=True, help="BCCD in YOLO layout (MIT license)")
    p.add_argument("--model", help="a run folder or checkpoint")
    p.add_argument("--epochs", type=int, default=15)
    p.add_argument("--conf", type=float, default=0.4)
    p.add_argument("--work", type=Path, default=Path("runs/picture"))
    options = p.parse_args()
    model = YOLO(options.model or "yolox_nano")
    if not options.model:
        model.train(data=options.data, epochs=options.epochs, imgsz=320, project=str(options.work))
    records = scan_split(load_dataset(options.data), "test").records
    paths = [record.path for record in records[: COLUMNS * ROWS]]
    drawn = [result.draw(line_width=3) for result in model.predict(paths, conf=options.conf)]
    sheet = tile_images(drawn, COLUMNS, CELL)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(OUT), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(OUT)


if __name__ == "__main__":
    main()
