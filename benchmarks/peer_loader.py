"""Images per second of the peer's mosaic pipeline on one core, as one line of JSON.

    PEER_PYTHON benchmarks/peer_loader.py --data data.yaml [--imgsz 640 --passes 2]

Uses its training data set with its defaults and every image in its cache, one by one; the first
pass is a warm-up.  Time is the processor time of the thread, as in loader.py.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--passes", type=int, default=2)
    options = parser.parse_args()
    os.environ["YOLO_OFFLINE"] = "1"
    with contextlib.redirect_stdout(sys.stderr):  # it talks while it reads
        # the peer's, and not to be had in the environment that this repository is checked in
        import cv2
        from ultralytics import __version__
        from ultralytics.cfg import get_cfg
        from ultralytics.data.build import build_yolo_dataset
        from ultralytics.data.utils import check_det_dataset

        cv2.setNumThreads(1)
        words = {"imgsz": options.imgsz, "cache": "ram", "task": "detect", "mode": "train"}
        config = get_cfg(overrides=words)
        data = check_det_dataset(str(Path(options.data).resolve()))
        dataset = build_yolo_dataset(config, data["train"], 16, data, mode="train")
        rates = []
        for _ in range(options.passes):
            started = time.thread_time()
            for index in range(len(dataset)):
                dataset[index]
            rates.append(len(dataset) / (time.thread_time() - started))
    facts = {
        "peer": f"Ultralytics {__version__}",
        "images": len(dataset),
        "image": list(dataset[0]["img"].shape),
        "images_per_s": rates[-1],
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
