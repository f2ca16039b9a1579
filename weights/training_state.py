"""Whether the content of ``last.pt`` is that of a training state, part by part.

The file's own checksums say that it is as it was written, not who wrote it.  What is used without a
look later is looked at here, so that a wrong part is called by its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checkpoint import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 2**40
"""Above every number of epochs, batches and updates."""
WEIGHTS = ("meta", "model", "ema")
"""The parts that a model is made from; the rest is for continuing."""

Rule = Callable[[Any], bool]


def check_state(state: Mapping[str, Any], path: Path, parts: tuple[str, ...] = ()) -> None:
    """Raise CheckpointError unless ``state`` has all parts of a training state, or ``parts`` of
    them, with values that are possible."""
    for name in parts or tuple(_RULES):
        if name not in state:
            raise CheckpointError(f"{path} is damaged: it has no part {name!r}; use an older copy")
        check_part(f"{name!r}", state[name], _RULES[name], path)
    if not parts:
        for name, rule in _LATER.items():
            check_part(f"{name!r}", state.get(name), rule, path)
        _check_position(state["position"], path)


def check_part(name: str, value: Any, rule: Rule, path: Path) -> None:
    """Raise CheckpointError where a value is not possible."""
    if not rule(value):
        shown = repr(value)[:60] if isinstance(value, str | int | float) else type(value).__name__
        raise CheckpointError(f"{path} is damaged: {name} cannot be {shown}; use an older copy")


def _check_position(position: Mapping[str, Any], path: Path) -> None:
    for name, rule in _POSITION.items():
        if name in position:  # the first states had fewer
            check_part(f"'position.{name}'", position[name], rule, path)
    if unknown := set(position) - set(_POSITION):
        raise CheckpointError(f"{path} is damaged: unknown 'position.{min(unknown, key=str)}'")
    for needed in ("epoch", "batch", "updates", "rows"):
        if needed not in position:
            raise CheckpointError(f"{path} is damaged: it has no 'position.{needed}'")
    if len(position["rows"]) != position["epoch"]:
        rows, epoch = len(position["rows"]), position["epoch"]
        raise CheckpointError(f"{path} is damaged: epoch {epoch} with {rows} rows of results")


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _number(value: Any) -> bool:
    return type(value) in (int, float) and not math.isnan(value)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _tensors(value: Any) -> bool:
    return isinstance(value, dict) and all(_text(k) and _real(v) for k, v in value.items())


def _real(value: Any) -> bool:
    """A tensor that a parameter or buffer can be filled from."""
    tensor: Tensor = value
    return _tensor(value) and not (tensor.is_complex() or tensor.is_quantized or tensor.is_sparse)


def _average(value: Any) -> bool:
    whole = isinstance(value, dict) and _tensors(value.get("average"))
    return value is None or (whole and _count(value.get("updates")))


def _optimizer(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("state"), dict)
        and isinstance(value.get("param_groups"), list)
        and all(isinstance(each, dict) for each in value["param_groups"])
    )


def _list_of(rule: Rule) -> Rule:
    return lambda value: isinstance(value, list | tuple) and all(map(rule, value))


def _mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_text, value))


_RULES: dict[str, Rule] = {
    **dict.fromkeys(("meta", "config", "position", "scaler"), _mapping),
    "model": _tensors,
    "ema": _average,
    "optimizer": _optimizer,
    "precision": lambda value: value in ("fp32", "bf16", "fp16"),
    "failures": _list_of(_mapping),
    "epochs": _count,
    "transferred": _list_of(_text),
    "torch_random_state": _tensor,
}
_LATER: dict[str, Rule] = {
    "fp32_stages": lambda value: value is None or _list_of(_text)(value),
    "micro_batch": lambda value: value is None or (_count(value) and value > 0),
}
"""Parts that the first states did not have."""
_POSITION: dict[str, Rule] = {
    **dict.fromkeys(("epoch", "batch", "updates", "skipped"), _count),
    **dict.fromkeys(("best_epoch", "improved_epoch"), lambda value: value == -1 or _count(value)),
    "seconds": lambda value: _number(value) and 0 <= value < math.inf,
    "best_map": _number,
    "rows": _list_of(_mapping),
    "sums": lambda value: _mapping(value) and all(_number(v) or _tensor(v) for v in value.values()),
}
"""Name of a part -> whether a value is possible."""
