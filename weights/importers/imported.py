"""The result of an importer, and steps that all importers share.

Importers work on tensors by name and build no model.  Floating tensors become float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ..architecture import model_name
from .errors import ImportFailed

NORM_EPS = 1e-3
"""The epsilon of every batch norm in our models."""

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ImportedWeights:
    """Weights of another project under our names.

    family, size: of the model to build.  class_names: None if the file has none.  tensors: float32
    (counters int64), a complete state dict unless ``notes`` says otherwise.  license: SPDX name of
    the source project's license.  provenance: facts about the source.  preprocess: the input that
    the model was trained on; the Detector converts color order and range itself.  notes: remarks
    for the user, one sentence each.
    """

    family: str
    size: str
    num_classes: int
    class_names: tuple[str, ...] | None
    tensors: Tensors
    license: str
    provenance: dict[str, str]
    preprocess: dict[str, Any]
    notes: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        """The name of the model to build."""
        return model_name(self.family, self.size)


def rename(tensors: Mapping[str, torch.Tensor], new_name: Callable[[str], str | None]) -> Tensors:
    """Tensors under new names, in float32; a new name of None drops the tensor.

    Raises ImportFailed if two tensors get the same name.
    """
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        target = new_name(name)
        if target is None:
            continue
        if target in renamed:
            raise ImportFailed(
                f"two tensors of the checkpoint have the name {target}: unknown format"
            )
        renamed[target] = tensor.float() if tensor.is_floating_point() else tensor
    return renamed


def unfuse(tensors: Tensors) -> Tensors:
    """Replace the bias of each fused convolution by a batch norm that adds only this bias.

    So a file with folded norms loads into the same model as any other.  Before training, the norms
    need statistics (``detector/checkpoints/statistics.py``).
    """
    whole: Tensors = {}
    for name, tensor in tensors.items():
        if not name.endswith(".conv.bias"):
            whole[name] = tensor
            continue
        norm = name.removesuffix("conv.bias") + "norm."
        whole[f"{norm}weight"] = torch.full_like(tensor, math.sqrt(1 + NORM_EPS))
        whole[f"{norm}bias"] = tensor
        whole[f"{norm}running_mean"] = torch.zeros_like(tensor)
        whole[f"{norm}running_var"] = torch.ones_like(tensor)
        whole[f"{norm}num_batches_tracked"] = torch.tensor(0)
    return whole


def only_tensors(content: object) -> Mapping[str, torch.Tensor] | None:
    """``content`` if it is a dictionary of named tensors and nothing else, else None."""
    if not isinstance(content, dict) or not content:
        return None
    named = all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())
    return content if named else None
