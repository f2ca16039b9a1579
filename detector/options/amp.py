"""The options of ``det amp`` and ``det bench amp``."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import knob
from .names import MODELS
from .shared import CommonConfig


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(CommonConfig):
    """What is looked at without learning from it for long: a model, its data, a batch."""

    model: str = knob(MODELS[0], "Run")
    """A model name (fresh weights; nothing is fetched) or a checkpoint."""
    data: str = knob("coco8.yaml", "Data")
    """Data set YAML, or the name of a built-in one (coco8.yaml, shapes.yaml)."""
    imgsz: int = knob(640, "Data", low=32)
    """Side of the square network input in pixels; rounded up to a multiple of the stride."""
    batch: int = knob(16, "Run", low=1)
    """Images a step."""
    seed: int = knob(0, "Run", low=0)
    """Seed of initial weights and augmentation."""
    channels_last: bool = knob(True, "Precision")
    """Keep images and features in channels-last memory, as training does by default."""
    download: bool = knob(True, "Data")
    """Allow a built-in data set to be downloaded where it is not on disk."""
    plots: bool = knob(True, "Outputs")
    """Write the picture into the run folder."""


@dataclass(frozen=True, kw_only=True)
class AmpConfig(ProbeConfig):
    """det amp: find out which precision is right and fast here, layer by layer."""

    amp: str = knob("auto", "Precision", choices=("auto", "true", "false", "fp16", "bf16", "fp32"))
    """What to examine: True (or auto) all that this device computes natively, False only fp32; or
    name one."""
    amp_force: bool = knob(False, "Precision")
    """Examine the named precision even where it is known to be slow or broken."""


@dataclass(frozen=True, kw_only=True)
class BenchAmpConfig(ProbeConfig):
    """det bench amp: train some steps in each precision, side by side, and compare the cost."""

    steps: int = knob(20, "Run", low=1)
    """Training steps in each precision, all from the same weights on the same batches."""
    rounds: int = knob(5, "Run", low=1)
    """Turns that the steps are split into; the precisions alternate."""
    precisions: str | None = knob(None, "Precision")
    """Which to compare with fp32, separated by commas: tf32, bf16, fp16. Default: all that this
    device computes natively."""
    largest_batch: bool = knob(True, "Run")
    """Look for the largest batch that fits, in powers of two (CUDA only)."""
