"""What a detector costs as a function of its widths: multiply-adds, parameters, or time.

Only what is deployed counts: not the branches of the head that a file leaves out.  A layer costs
``rate x channels in x channels out``, and a depthwise one ``rate x channels``; the rate follows
from its kernel and the size of its output.  For time it is measured (latency.py).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from ..evaluate.postprocess import branches_for
from ..models.detector import Detector
from ..models.detector_like import sides_of
from .channels import Group, Trace

MACS, PARAMETERS, LATENCY = "macs", "parameters", "latency"


class Cost:
    """The cost of a model for every choice of widths.

    rates: of each deployed convolution.  groups: what can be narrowed."""

    def __init__(self, trace: Trace, groups: Sequence[Group], rates: Mapping[str, float]) -> None:
        self.paths = list(rates)
        self.rates = np.array([rates[path] for path in self.paths])
        layers = [trace.layers[path] for path in self.paths]
        of = {int(root): i for i, group in enumerate(groups) for part in group.parts
              for root in part}  # fmt: skip
        self.widths = np.array([group.width for group in groups], np.int64)
        count = len(groups)
        self.inputs = np.stack([_counts(trace, layer.inputs, of, count) for layer in layers])
        self.outputs = np.stack([_counts(trace, layer.outputs, of, count) for layer in layers])
        # channels per channel of a group; the last column are those that always stay
        self.inputs[:, :-1] /= self.widths
        self.outputs[:, :-1] /= self.widths
        self.divisor = np.array([layer.groups for layer in layers], float)
        self.depthwise = np.array([layer.depthwise for layer in layers])

    @property
    def matter(self) -> np.ndarray:
        """[G] bool: the groups that have a part in the cost."""
        return np.asarray((self.inputs + self.outputs)[:, :-1].any(0))

    def __call__(self, kept: np.ndarray) -> float:
        """The cost with ``kept`` channels in the parts of each group: [G]."""
        widths = np.append(kept, 1.0)
        inputs, outputs = self.inputs @ widths, self.outputs @ widths
        per_output = np.where(self.depthwise, 1.0, inputs / self.divisor)
        return float((self.rates * outputs * per_output).sum())


def _counts(trace: Trace, channels: np.ndarray, of: Mapping[int, int], count: int) -> np.ndarray:
    """[G+1]: how many of the channels belong to each group, and to none."""
    numbers = [of.get(root, count) for root in trace.roots(channels).tolist()]
    return np.bincount(numbers, minlength=count + 1).astype(float)


def deployed_rates(model: Detector, image_size: int | tuple[int, int], of: str) -> dict[str, float]:
    """Rate of each convolution that is computed in a file of the model.

    of: ``macs`` per image, or ``parameters``."""
    branches = branches_for(False, model.branches)
    shadow = copy.deepcopy(model).fuse(branches).to("meta")
    convs = {module: path for path, module in shadow.named_modules()
             if isinstance(module, nn.Conv2d)}  # fmt: skip
    rates: dict[str, float] = {}

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        kernel = module.kernel_size[0] * module.kernel_size[1]
        places = output.shape[2] * output.shape[3] if of == MACS else 1
        rates[convs[module]] = float(kernel * places)

    for module in convs:
        module.register_forward_hook(note)
    shadow(torch.empty(1, 3, *sides_of(image_size), device="meta"))
    return rates


def deployed(model: Detector, image_size: int | tuple[int, int]) -> dict[str, float]:
    """Parameters and GFLOPs of what is exported."""
    small = copy.deepcopy(model).fuse(branches_for(False, model.branches))
    about = small.describe(image_size)
    return {"parameters": about["parameters"], "gflops": about["gflops"]}
