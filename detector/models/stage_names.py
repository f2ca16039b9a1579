"""The stages that an option names."""

from __future__ import annotations

from ..options.errors import UsageError, did_you_mean
from .detector import Detector


def stages_named(model: Detector, wanted: object, option: str) -> tuple[str, ...]:
    """The stages that ``wanted`` means, in the order of the data path: all (True), none (False,
    None), or those that are named by themselves or by their part (``backbone``).

    option: in messages.  Raises UsageError for a name that does not exist."""
    stages = list(model.stages)
    if wanted is None or isinstance(wanted, bool):
        return tuple(stages) if wanted else ()
    found = []
    for name in wanted if isinstance(wanted, tuple | list) else (str(wanted),):
        parts = stages_called(model, name)
        if not parts:
            raise UsageError(f"{option}: {no_such_stage(model, name)}")
        found += parts
    return tuple(stage for stage in stages if stage in found)


def stages_called(model: Detector, name: str) -> list[str]:
    """The stage ``name``, or the stages of the part ``name``; none where there is no such."""
    return [stage for stage in model.stages if stage == name or stage.startswith(f"{name}.")]


def no_such_stage(model: Detector, name: str) -> str:
    """``yolo26n has no stage 'bakcbone'; did you mean backbone? It has backbone.stem, ...``."""
    stages = list(model.stages)
    words = dict.fromkeys(word for stage in stages for word in (stage.partition(".")[0], stage))
    hint = did_you_mean(name, words)
    said = f"{model.name} has no stage {name!r}"
    return f"{said}{f'; {hint} It' if hint else '; it'} has {', '.join(stages)}"
