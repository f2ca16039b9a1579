"""The options of ``det amp`` and ``det bench amp``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option
from .names import MODELS
from .shared import CommonConfig, StartConfig, amp_fp32


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(StartConfig, CommonConfig):
    """A model, data and a batch that are examined in a few steps, without a training run."""

    model: str = option(
        MODELS[0], "Run", "A model name (random weights, no download), a checkpoint, or auto: "
        "the weights that det train would start from.")
    batch: int = option(16, "Run", "Images per step, over all devices.", low=1)


@dataclass(frozen=True, kw_only=True)
class AmpConfig(ProbeConfig):
    """det amp: find out which precision is correct and fast here, layer by layer."""

    amp: bool | str = option(
        "auto", "Precision", "Precisions to examine. True or auto: all that this device computes "
        "natively. False: only fp32. A name: that precision.",
        choices=("auto", True, False, "fp16", "bf16", "fp32"))
    amp_force: bool = option(
        False, "Precision", "Examine the named precision even if it is known to be slow or broken.")
    amp_fp32: tuple[str, ...] | None = amp_fp32()


@dataclass(frozen=True, kw_only=True)
class BenchAmpConfig(ProbeConfig):
    """det bench amp: train some steps in each precision, interleaved, and compare the cost."""

    steps: int = option(
        20, "Run", "Training steps per precision, all from the same weights on the same batches.",
        low=1)
    rounds: int = option(
        5, "Run", "Rounds that the steps are split into; the precisions are interleaved.", low=1)
    precisions: str | None = option(
        None, "Precision", "Precisions to compare with fp32, separated by commas: tf32, bf16, "
        "fp16. Default: all that this device computes natively.")
    largest_batch: bool = option(
        True, "Run", "Search for the largest batch that fits, in powers of two (CUDA only).")
