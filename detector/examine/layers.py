"""Range, error, lost gradient and time of each layer of a model in each precision.

A layer is the smallest building block: a convolution with its norm and activation, an attention, a
last convolution.  One float32 pass records the inputs and gradients of every layer; each layer is
then measured alone on its recording, so that all precisions get equal inputs (probe.py).

Overflow and underflow of fp16 are computed from the float32 pass: the largest value of any
operation, and the gradients rounded to fp16.  So they are known on devices without fp16 too.

Left out: errors that accumulate over layers (sanity.py compares the loss), and memory per layer.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ...datasets.nouns import Batch
from ..losses.detection import DetectionLoss
from ..models.blocks import Attention, Fusable
from ..models.detector import Detector
from ..precision.precision import FIRST_SCALE, Precision
from ..precision.probe import (
    Recording,
    StageError,
    count_saved_bytes,
    recording,
    replay,
    tensors_in,
)
from ..precision.sanity import preserved_state
from ..run.device import synchronize

FP16_MAX = torch.finfo(torch.float16).max
"""65504: larger values become infinite in fp16."""
ROUNDS = 3
"""Timed runs of a layer per precision, of which the best counts."""


@dataclass(frozen=True)
class LayerStats:
    """Measurements of one layer or stage.

    peak, gradient_peak: largest magnitude inside it, and of the gradient at its output, in float32.
    lost, lost_scaled: share of that gradient that is zero in fp16, without and with loss scaling.
    ms: forward and backward per precision.  errors: per candidate precision.  saved: bytes that
    autograd keeps per precision, of stages only.  unscaled_lost: share of its parameters' gradients
    that a candidate lost without loss scaling.
    """

    name: str
    stage: str
    kind: str
    peak: float
    gradient_peak: float
    lost: float
    lost_scaled: float
    ms: dict[str, float]
    errors: dict[str, StageError] = field(default_factory=dict)
    saved: dict[str, int] = field(default_factory=dict)
    unscaled_lost: dict[str, float] = field(default_factory=dict)

    @property
    def fp16_share(self) -> float:
        """``peak`` as a share of fp16's largest value; above 1 it overflows."""
        return self.peak / FP16_MAX


@dataclass(frozen=True)
class LayerReport:
    """Stages and layers in order of the forward pass.  fp16_scale: the largest loss scale up to the
    initial one of a run with which no gradient overflows."""

    stages: list[LayerStats]
    layers: list[LayerStats]
    fp16_scale: float


def layers_of(model: Detector) -> dict[str, nn.Module]:
    """Layers in order of the forward pass; each key is the prefix of its parameters' names."""
    found: dict[str, nn.Module] = {}
    for name, stage in model.stages.items():
        found |= dict(_walk(name, stage))
    return found


def _walk(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    whole = isinstance(module, Fusable | Attention) or not any(True for _ in module.children())
    if not whole:
        for child, part in module.named_children():
            yield from _walk(f"{name}.{child}", part)
    elif any(True for _ in module.parameters()):
        yield name, module


class LayerProbe:
    """Measures the layers and stages of copies of ``model`` on one ``batch`` (on the device).

    names: candidate precisions.  scales: loss scale per precision, by default 1.
    """

    def __init__(
        self,
        model: Detector,
        criterion: DetectionLoss,
        batch: Batch,
        names: tuple[str, ...],
        scales: Mapping[str, float],
    ) -> None:
        self.model, self.batch, self.names = model, batch, names
        self.criterion = copy.copy(criterion)
        self.criterion.frozen = None
        self.scales = {name: scales.get(name, 1.0) for name in names}
        self.device = batch.images.device

    def run(self) -> LayerReport:
        """Measure everything.  Raises torch's OutOfMemoryError."""
        with preserved_state(self.device):
            model = copy.deepcopy(self.model).train()
            layers = layers_of(model)
            parts = model.stages | layers
            with recording(parts) as records, watching(parts) as watched:
                outputs = model(self.batch.images)
            self.criterion(outputs, self.batch).total.backward()
            del outputs
            records = {n: r for n, r in records.items() if r.gradients and _learns(parts[n])}
            for name, record in records.items():
                record.take_gradients(parts[name])
            model.zero_grad(set_to_none=True)
            scale = best_scale(max(map(gradient_peak, records.values()), default=0.0))
            found = {
                name: self._measure(name, parts[name], records[name], watched, scale)
                for name in records
            }
        return LayerReport(
            [found[name] for name in model.stages if name in found],
            [found[name] for name in layers if name in found],
            scale,
        )

    def _measure(
        self, name: str, module: nn.Module, record: Recording, watched: Watched, scale: float
    ) -> LayerStats:
        scaled = [name for name, factor in self.scales.items() if factor != 1.0]
        return LayerStats(
            name,
            next(stage for stage in self.model.stages if f"{name}.".startswith(f"{stage}.")),
            type(module).__name__,
            max(peak for part, peak in watched.peaks.items() if f"{part}.".startswith(f"{name}.")),
            gradient_peak(record),
            lost_in_fp16(record, 1.0),
            lost_in_fp16(record, scale),
            self._time(module, record, watched.flows[name]),
            {n: replay(module, record, self._precision(n), s) for n, s in self.scales.items()},
            self._saved(module, record) if name in self.model.stages else {},
            {n: replay(module, record, self._precision(n)).lost for n in scaled},
        )

    def _saved(self, module: nn.Module, record: Recording) -> dict[str, int]:
        """Bytes that autograd keeps in a forward pass, per precision, beside the inputs."""
        found = {}
        for name in ("fp32", *self.names):
            copied = copy.deepcopy(module)
            with count_saved_bytes(copied) as saved, self._precision(name).autocast():
                copied(*record.arguments)
            found[name] = saved.total
        return found

    def _precision(self, name: str) -> Precision:
        return Precision(name, self.device.type, "examined")

    def _time(self, module: nn.Module, record: Recording, flows: list[bool]) -> dict[str, float]:
        """Milliseconds of forward and backward: best of ROUNDS interleaved rounds.  flows: whether
        each input needs a gradient."""
        module = copy.deepcopy(module)
        best = dict.fromkeys(("fp32", *self.names), math.inf)
        for _ in range(ROUNDS):
            for name in best:
                inputs = _reopened(record.arguments, iter(flows))
                scale = self.scales.get(name, 1.0)  # fp32 is none of the candidates
                synchronize(self.device)
                started = time.perf_counter()
                with self._precision(name).autocast():
                    outputs = tensors_in(module(*inputs))
                chosen = [(outputs[i], grad) for i, grad in record.gradients.items()]
                torch.autograd.backward(
                    [output for output, _ in chosen],
                    [(grad * scale).to(output.dtype) for output, grad in chosen],
                )
                synchronize(self.device)
                best[name] = min(best[name], (time.perf_counter() - started) * 1000)
                module.zero_grad(set_to_none=True)
        return best


@dataclass
class Watched:
    """peaks: largest magnitude per module.  flows: per module, which inputs need a gradient."""

    peaks: dict[str, float] = field(default_factory=dict)
    flows: dict[str, list[bool]] = field(default_factory=dict)


@contextmanager
def watching(modules: Mapping[str, nn.Module]) -> Iterator[Watched]:
    """Watch every operation inside ``modules``; those in nested modules belong to the inner one."""
    watched, inside = Watched(dict.fromkeys(modules, 0.0)), list[str]()

    def enter(name: str) -> Any:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            inside.append(name)
            watched.flows[name] = [tensor.requires_grad for tensor in tensors_in(arguments)]

        return hook

    def leave(module: nn.Module, arguments: tuple[Any, ...], output: Any) -> None:
        inside.pop()

    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_pre_hook(enter(name)).remove)
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(_PeakMode(watched.peaks, inside))
        yield watched


class _PeakMode(TorchDispatchMode):
    """Keeps the largest magnitude of the results of all operations, per module."""

    def __init__(self, peaks: dict[str, float], inside: list[str]) -> None:
        super().__init__()
        self.peaks, self.inside = peaks, inside

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.inside and "empty" not in func.__name__:  # fresh memory holds anything
            for tensor in result if isinstance(result, tuple | list) else (result,):
                self._see(tensor)
        return result

    def _see(self, tensor: Any) -> None:
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point() or not tensor.numel():
            return
        largest = tensor.detach().abs().amax().item()
        name = self.inside[-1]
        self.peaks[name] = max(self.peaks[name], largest if math.isfinite(largest) else math.inf)


def gradient_peak(record: Recording) -> float:
    """Largest magnitude among the recorded output gradients."""
    return max(gradient.abs().max().item() for gradient in record.gradients.values())


def best_scale(peak: float) -> float:
    """The largest power of two up to FIRST_SCALE with which ``peak`` is finite in fp16."""
    if not 0.0 < peak < math.inf:
        return FIRST_SCALE
    return min(FIRST_SCALE, 2.0 ** math.floor(math.log2(FP16_MAX / peak)))


def lost_in_fp16(record: Recording, scale: float) -> float:
    """Share of the recorded output gradients that are zero in fp16 when multiplied by ``scale``."""
    flat = torch.cat([gradient.flatten().float() for gradient in record.gradients.values()])
    present = flat != 0
    lost = present & ((flat * scale).half() == 0)
    return int(lost.sum()) / max(int(present.sum()), 1)


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _reopened(value: Any, flows: Iterator[bool]) -> Any:
    """Recorded arguments as new leaves with the same need of gradients."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(next(flows))
    return tuple(_reopened(item, flows) for item in value)
