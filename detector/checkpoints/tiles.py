"""The tiles of validation and prediction: of the options, else of the checkpoint's training."""

from __future__ import annotations

from ...datasets.images.tiling import DEFAULT_OVERLAP, SMALLEST, Tiling
from ...weights.checkpoint import Meta
from ..options.predict import PredictConfig
from ..options.val import ValConfig


def tiling_of(config: ValConfig | PredictConfig, meta: Meta) -> Tiling | None:
    """The tiles that images are cut into; None for whole images."""
    side = meta.config.get("tile") if config.tile is None else config.tile
    overlap = meta.config.get("overlap") if config.overlap is None else config.overlap
    if not isinstance(side, int) or side < SMALLEST:
        return None
    return Tiling(side, overlap if isinstance(overlap, float) else DEFAULT_OVERLAP)
