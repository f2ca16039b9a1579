"""``det label``: a new data set whose unlabeled images have the boxes of a detector."""

from __future__ import annotations

from ...files.counted import counted
from ..options.active import LabelConfig
from ..options.catalog import Command
from ..run.log import Log
from .looking import check_looks
from .outcome import Outcome
from .show import join


def execute(command: Command, config: LabelConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, look at the images, write, and say where the data set is."""
    config = check_looks(command, config, log)
    log.loading_torch()
    from ..examine.prelabel import NOTE, prelabel

    told, looked = prelabel(config, log)
    lines = [f"written: {told.data}"]
    lines += [
        f"  {split}: {counted(images, 'image')}, {counted(told.boxes[split], 'box')}"
        for split, images in told.images.items()
    ]
    images, boxes = counted(looked["looked_at"], "image"), counted(looked["boxes_of_model"], "box")
    lines += [f"{boxes} in {images} are the detector's (scores in {NOTE}): look at them",
              f"next: det data show data={told.data}"]  # fmt: skip
    return Outcome({**told.to_dict(), **looked}, join(lines))
