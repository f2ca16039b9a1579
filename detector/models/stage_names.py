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
        parts = [stage for stage in stages if stage == name or stage.startswith(f"{name}.")]
        if not parts:
            raise UsageError(_unknown(model, name, option, stages))
        found += parts
    return tuple(stage for stage in stages if stage in found)


def _unknown(model: Detector, name: str, option: str, stages: list[str]) -> str:
    words = dict.fromkeys(word for stage in stages for word in (stage.partition(".")[0], stage))
    hint = did_you_mean(name, words)
    said = f"{option}: {model.name} has no stage {name!r}"
    return f"{said}{f'; {hint} It' if hint else ': it'} has {', '.join(stages)}"
