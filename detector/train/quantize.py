"""Quantization-aware training (``qat=int8``): what differs from any other training.

The model is a trained float detector that simulates 8 bits (``detector/quantization``).  Its ranges
are measured before the first step, follow the values, and stay as they are in the last quarter of
the run: so those of the averaged weights, which cover 3 % of it, never lag behind.  The schedule is
short, and the learning rate small: the weights are nearly right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...files.counted import counted
from ...weights.checkpoint import read_meta
from ..checkpoints.check import SUFFIX, is_quantized, start_of
from ..options.errors import UsageError
from ..options.train import TrainConfig
from ..run.check import Pairs
from ..run.log import Log

if TYPE_CHECKING:  # the checks come before torch is loaded
    from ...datasets.batches.loader import Loader
    from ..models.detector import Detector
    from ..precision.precision import Precision
    from .schedule import RunLength

EPOCHS = 10
"""Where the checkpoint does not say how long it was trained."""
SHARE = 0.1
"""Of the epochs of the float training."""
LR = 0.1
"""Of the usual learning rate."""
LR_TRANSFERRED = 0.01
"""Of that, for the weights: they are nearly right, and larger steps undo what they know."""
MOVING = 0.75
"""Share of the run in which ranges follow the values."""


def qat_pairs(config: TrainConfig, ranks: int) -> Pairs:
    """What ``qat=`` contradicts, and why."""
    if config.qat is None:
        return []
    word = start_of(config)
    already = word is not None and is_quantized(word)
    return [
        (
            word is None,
            f"qat={config.qat} starts from trained weights, and model={config.model} has none: "
            "train it without qat= first, then name its checkpoint",
        ),
        (already, f"model={word} was trained with qat= already: name the float checkpoint"),
        (config.compile, f"compile=True is not for qat={config.qat}: leave one of them out"),
        (config.keep_classes, f"keep_classes=True is not for qat={config.qat}: first train with it "
         "alone, then start qat= from that checkpoint"),
        (ranks > 1, f"qat={config.qat} trains on one device: use device=0"),
    ]  # fmt: skip


def shorten(config: TrainConfig, given: frozenset[str], log: Log) -> TrainConfig:
    """The options of a new run with the short schedule of ``qat=``, where others are not given."""
    from .optim import choose_optimizer

    if config.qat is None:
        return config
    if "epochs" not in given and config.time is None:
        epochs, before, why = EPOCHS, None, ""
        path = Path(str(start_of(config)))
        if path.suffix == SUFFIX and path.is_file():
            before = read_meta(path).config.get("epochs")
        if type(before) is int and before > 0:
            epochs, why = max(round(SHARE * before), 1), ", a tenth of the float training"
        config = replace(config, epochs=epochs)
        log.info(f"qat={config.qat}: {counted(epochs, 'epoch')}{why}")
    if config.lr0 is None:
        config = replace(config, lr0=LR * choose_optimizer(config).lr0)
    if config.lr_transferred is None:
        config = replace(config, lr_transferred=LR_TRANSFERRED)
    return config


def check_classes(config: TrainConfig, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Raise UsageError where the data have other classes than the float checkpoint."""
    if tuple(theirs) != tuple(ours):
        raise UsageError(
            f"qat={config.qat}: data={config.data} has other classes than model={config.model}: "
            "train the float model on these data first"
        )


def stop_ranges(model: Detector, length: RunLength) -> None:
    """Say from which optimizer step of the run on the ranges stay as they are; does nothing for a
    float model."""
    from ..quantization.simulate import ranges_of

    if (ranges := ranges_of(model)) is not None:
        ranges.until = round(MOVING * length.steps)


def measure_ranges(
    model: Detector, loader: Loader, length: RunLength, log: Log, *, resumed: bool
) -> None:
    """Measure the ranges of a new run of this length; does nothing for a float model."""
    from ..quantization.calibrate import calibrate
    from ..quantization.simulate import ranges_of

    stop_ranges(model, length)
    if (ranges := ranges_of(model)) is None:
        return
    if not resumed:
        images = calibrate(model, (batch.images for batch in loader.epoch(0)))
        log.info(
            f"8-bit simulation of {counted(len(ranges.ends), 'range')}, measured on "
            f"{counted(images, 'training image')}; batch norms are folded"
        )


def measured_in(model: Detector, precision: Precision) -> Precision:
    """The precision of a validation: float32 where 8 bits are simulated, else that of the training.

    Half precision rounds sums before they become integers, which an exported file does not.
    """
    from ..quantization.simulate import ranges_of

    if ranges_of(model) is None or precision.name == "fp32":
        return precision
    return replace(precision, name="fp32", reason="an exported file rounds no sums")
