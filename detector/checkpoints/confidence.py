"""The confidences that a checkpoint proposes (``conf=auto``), and writing them into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...weights.checkpoint import Meta, load_weights, save_weights
from ..options.detect import DetectOptions
from ..options.errors import UsageError
from ..options.predict import PredictConfig
from .load import Loaded

AUTO = "auto"
SUFFIX = ".safetensors"


def detect_options(
    config: PredictConfig, used: Loaded, classes: tuple[int, ...] | None
) -> DetectOptions:
    """The options of detection, with the checkpoint's confidences where ``conf=auto``.

    Raises UsageError where it has none.
    """
    if config.conf != AUTO:
        return config.detect_options(float(config.conf), classes)
    per_class = confidences(used.meta, used.path)
    return replace(config.detect_options(min(per_class), classes), class_conf=per_class)


def confidences(meta: Meta, path: Path) -> tuple[float, ...]:
    """The confidence to use for each class.  A class without a proposal has that of all classes.

    Raises UsageError where the checkpoint proposes none, or its proposal is damaged.
    """
    told, count = meta.confidence, meta.num_classes
    whole = told.get("all", meta.metrics.get("best_conf"))
    if whole is None:
        raise UsageError(
            f"conf=auto: {path} holds no confidence to use; give a number (conf=0.25), or let det "
            f"val model={path} save_conf=True measure and keep one"
        )
    rows = told.get("classes") or [None] * count
    found = [whole if value is None else value for value in rows]
    if len(found) != count or not all(_is_score(value) for value in found):
        raise UsageError(f"conf=auto: the confidences in {path} are damaged; give conf= a number")
    return tuple(map(float, found))


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def check_keeps(path: Path) -> None:
    """Raise UsageError where confidences cannot be written into a file."""
    if path.suffix != SUFFIX:
        raise UsageError(
            f"save_conf=True writes into a {SUFFIX} checkpoint of det, and {path} is none: leave "
            "it out (an exported file has the confidences of its checkpoint)"
        )


def keep(path: Path, proposed: Mapping[str, Any]) -> None:
    """Write the confidences into a checkpoint, atomically; its weights stay as they are."""
    check_keeps(path)
    tensors, meta = load_weights(path)
    save_weights(path, tensors, replace(meta, confidence=dict(proposed)))


def describe(proposed: Mapping[str, Any], names: list[str]) -> str:
    """The proposal in one line."""
    if proposed["all"] is None:
        return f"no confidence gives {proposed['rule']}"
    rows = zip(names, proposed["classes"], strict=True)
    each = ", ".join(f"{name} {conf:g}" for name, conf in rows if conf is not None)
    of_each = f"; by class (conf=auto): {each}" if len(names) > 1 and each else ""
    return f"conf={proposed['all']:g} gives {proposed['rule']}{of_each}"
