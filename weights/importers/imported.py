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
"""Of every batch norm in the models the tensors are for."""

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class ImportedWeights:
    """Weights of another project under our names.

    family and size: which model they are for.  class_names: None where the file has none.
    tensors: float32 (counters int64), a whole state dict of the model unless ``notes`` says so.
    license: SPDX name of the license of the project the weights come from.  provenance: plain facts
    about the source.  preprocess: what the model was trained on; the Detector of the family does
    color order and range itself.
    notes: remarks for the user, one sentence each.
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
    """Tensors under new names, in float32; None drops one.  ImportFailed where names collide."""
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
    """Give fused convolutions a batch norm that does nothing but add their bias.

    A file with folded norms then loads into the same model as any other.  Before it is trained, the
    norms need statistics (``detector/train/statistics.py``).
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
