"""The tiles of validation and prediction: of the options, else of the checkpoint's training."""

from __future__ import annotations

from ...datasets.images.tiling import DEFAULT_OVERLAP, SMALLEST, Tiling
from ...weights.checkpoint import Meta
from ..options.predict import PredictConfig
from ..options.val import ValConfig


def tiling_of(meta: Meta, config: ValConfig | PredictConfig | None = None) -> Tiling | None:
    """The tiles that images are cut into; None for whole images.  config: of a command that can
    say so itself."""
    side, overlap = meta.config.get("tile"), meta.config.get("overlap")
    if config is not None:
        side = side if config.tile is None else config.tile
        overlap = overlap if config.overlap is None else config.overlap
    if not isinstance(side, int) or side < SMALLEST:
        return None
    return Tiling(side, overlap if isinstance(overlap, float) else DEFAULT_OVERLAP)
