"""Which parameters are frozen: stages by name, or layers by the numbers of the originals."""

from __future__ import annotations

import re

from torch import nn

from ...weights.importers.layers import layers_of
from ..models.detector import Detector
from ..models.stage_names import no_such_stage, stages_called
from ..options.errors import UsageError
from ..options.parse import show


def freeze(model: Detector, wanted: int | tuple[str, ...] | None) -> None:
    """Freeze the first N layers, or what is named.  Raises UsageError for what does not exist.

    A name is a stage (``backbone.stem``), a part that holds stages (``backbone``), or a layer
    (``3``, ``model.3``).  Numbers of layers without weights freeze nothing, as in the original.
    """
    if wanted is None:
        return
    text = show(wanted)
    names = [str(i) for i in range(wanted)] if isinstance(wanted, int) else wanted
    for name in names:
        for part in _parts(model, name, text):
            model.get_submodule(part).requires_grad_(False)


def frozen_parts(model: nn.Module) -> list[str]:
    """The largest modules in which nothing is trained, by name."""
    found: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{part}.") for part in found)
        parameters = list(module.parameters())
        if name and parameters and not inside and not any(p.requires_grad for p in parameters):
            found.append(name)
    return found


def _parts(model: Detector, name: str, text: str) -> list[str]:
    """The modules that one name stands for."""
    found = stages_called(model, name)
    number = re.fullmatch(r"(?:model\.)?(\d+)\.?", name)
    if found or number is None:
        if found:
            return found
        raise _unknown(model, name, text)
    layers = layers_of(model.name)
    if not layers:
        raise UsageError(
            f"freeze={text}: the layers of {model.name} have no numbers: name stages, of "
            f"{', '.join(model.stages)}"
        )
    last = max(layers)
    if int(number[1]) > last:
        raise UsageError(f"freeze={text}: {model.name} has the layers 0 to {last}")
    path = layers.get(int(number[1]))
    return [] if path is None or not _exists(model, path) else [path]


def _exists(model: Detector, path: str) -> bool:
    return any(name == path for name, _ in model.named_modules())


def _unknown(model: Detector, name: str, text: str) -> UsageError:
    layers = layers_of(model.name)
    numbers = f", or layers 0 to {max(layers)}" if layers else ""
    return UsageError(f"freeze={text}: {no_such_stage(model, name)}{numbers}")
