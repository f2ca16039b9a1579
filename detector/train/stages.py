"""Whether the stages that options name exist, found out before data are read."""

from __future__ import annotations

from pathlib import Path

from ...weights.checkpoint import read_meta
from ..options.names import MODELS
from ..run.folder import BEST


def check_stages(
    model: str,
    *,
    amp_fp32: object = None,
    checkpointing: object = None,
    freeze: int | tuple[str, ...] | None = None,
) -> None:
    """Raise UsageError where an option names a stage that ``model=`` lacks.

    torch is loaded only where a stage is named.  A file of another project, and ``model=auto``, are
    not opened here: there the names are checked when the model is built.
    """
    named = [amp_fp32, checkpointing, freeze]
    if not any(isinstance(each, tuple | int) and not isinstance(each, bool) for each in named):
        return
    if model not in MODELS:
        if Path(model).suffix != BEST.suffix:
            return
        model = read_meta(Path(model)).model
    import torch

    from ..models.build import build
    from ..models.stage_names import stages_named
    from .freeze import freeze as freeze_stages

    with torch.device("meta"):
        built = build(model, 1)
    stages_named(built, amp_fp32, "amp_fp32")
    stages_named(built, checkpointing, "checkpointing")
    freeze_stages(built, freeze)
