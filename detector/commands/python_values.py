"""Values that Python callers hand over, as a command has them, and what they get back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


class Exported(dict[str, Any]):
    """What an export wrote; where a path is expected it stands for the first file."""

    def __str__(self) -> str:
        return str(self["exports"][0]["file"])

    __fspath__ = __str__


def as_typed(name: str, value: Any) -> Any:
    """An option as the command line has it: devices of torch, NumPy and torch scalars, and equal
    sides of an image are converted."""
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, np.generic | torch.Tensor) and value.ndim == 0:
        return value.item()
    if name == "imgsz" and isinstance(value, list | tuple) and len(set(value)) == 1:
        return value[0]
    return value
