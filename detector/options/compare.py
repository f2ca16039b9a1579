"""The options of ``det compare``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option
from .shared import DetectConfig, LayoutConfig, LoaderConfig, RunsConfig


@dataclass(frozen=True, kw_only=True)
class CompareConfig(LayoutConfig, LoaderConfig, DetectConfig, RunsConfig):
    """det compare: say whether one detector is better than another, with error bars."""

    a: str | None = option(
        None, "Run", "The first detector: a run folder, checkpoint or exported file.")
    b: str | None = option(None, "Run", "The second one. A difference is that of b minus a.")
    data: str | None = option(
        None, "Data", "Data set on which both are measured: YAML, folder or COCO JSON.")
    imgsz: int | None = option(
        None, "Data", "Side of the square network input in pixels. Default: that of each "
        "checkpoint.", low=32)
    batch: int = option(16, "Run", "Images per step.", low=1)
    device: str | None = option(
        None, "Run", "Where to run: cpu, cuda, 0, 1 or mps. Default: the first GPU, or the CPU "
        "where there is none.")
    amp: bool | str = option(
        "checkpoint", "Precision", "Precision of the forward pass. Default: that in which each "
        "checkpoint was validated during training.",
        choices=("checkpoint", "auto", True, False, "fp16", "bf16", "fp32"))
    samples: int = option(
        1000, "Statistics", "Bootstrap samples of the images.", low=100)
    level: float = option(
        0.95, "Statistics", "Probability with which the interval is to hold the difference.",
        low=0.5, high=0.999)
    seed: int = option(0, "Statistics", "Seed of the bootstrap samples.", low=0)
