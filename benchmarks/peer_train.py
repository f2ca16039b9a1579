"""Trains the peer and prints one line of JSON in the form of ours_train.py.

    PEER_PYTHON benchmarks/peer_train.py --data ... --epochs 3 [--threads 2] [--device cpu]

PEER_PYTHON is the python of an environment that has the peer.
Ultralytics trains with one thread fewer than there are cores and ignores OMP_NUM_THREADS; --threads
sets another number.  It runs with its defaults, with validation and checkpoints.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any


class Enough(Exception):
    """All measured epochs are finished."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: as installed")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    os.environ["YOLO_OFFLINE"] = "1"
    # both are the peer's, and not to be had in the environment that this repository is checked in
    import torch
    import ultralytics.utils.torch_utils as settings
    from ultralytics import YOLO, __version__

    if options.threads:
        settings.NUM_THREADS = options.threads
    times: dict[str, list[float]] = {"start": [], "trained": [], "done": []}

    def mark(name: str, _: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times[name].append(time.perf_counter())

    def done(trainer: Any) -> None:
        mark("done", trainer)
        if len(times["done"]) == options.epochs:
            raise Enough

    model = YOLO(options.model + ".yaml")
    model.add_callback("on_train_epoch_start", lambda trainer: mark("start", trainer))
    model.add_callback("on_train_epoch_end", lambda trainer: mark("trained", trainer))
    model.add_callback("on_fit_epoch_end", done)
    with contextlib.suppress(Enough):
        # its mosaic closes ten epochs before the end: ask for more epochs than are counted
        model.train(
            data=str(Path(options.data).resolve()), imgsz=options.imgsz, batch=options.batch,
            epochs=options.epochs + 30, workers=options.workers, device=options.device,
            plots=False, verbose=False, project=tempfile.mkdtemp(), name="r",
        )  # fmt: skip
    pairs = list(zip(times["start"], times["trained"], times["done"], strict=False))[1:]
    facts = {
        "peer": f"Ultralytics {__version__}",
        "images": len(model.trainer.train_loader.dataset),
        "train_s": [trained - start for start, trained, _ in pairs],
        "epoch_s": [end - start for start, _, end in pairs],
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
