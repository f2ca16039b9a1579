"""What a training step needs, estimated from shapes, and whether a CPU has that much memory.

Without this, the kernel kills the process in the middle of a step, and nobody says why.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ...datasets.images.input_size import InputSize
from ...files.limits import available_memory
from ..models.checkpointing import checkpointed_stages
from ..models.detector import Detector
from ..models.detector_like import sides_of
from ..options.errors import UsageError
from ..options.parse import show
from ..precision.precision import Precision
from ..precision.probe import tensors_in
from ..run.rank_info import rank_info
from .bf16_state import is_kept_in_bf16
from .muon import MuSGD

if TYPE_CHECKING:
    from .assemble import Run

HALF = 0.52
"""Of what autograd keeps in float32, in half precision."""
OVERHEAD = 1.2
"""Memory of a step over what autograd keeps: gradients of features, work of the kernels, gaps."""
KERNELS = 60 << 20
"""Bytes of the code that a CPU's first step compiles and loads, with the buffers of its kernels."""


@dataclass(frozen=True)
class Needs:
    """Bytes that a step takes above the idle process.

    image: activations, per image of a forward pass.  gradients, optimizer (its state), work (of
    the update), kernels (see KERNELS): in any case.
    """

    image: int
    gradients: int
    optimizer: int = 0
    work: int = 0
    kernels: int = 0

    @property
    def fixed(self) -> int:
        return self.gradients + self.optimizer + self.work + self.kernels

    def of(self, images: int) -> int:
        return self.fixed + images * self.image


def needs_of(
    model: Detector,
    image_size: int | tuple[int, int],
    precision: Precision,
    optimizer: Optimizer | None = None,
) -> Needs:
    """An estimate from the tensors that autograd keeps in a forward pass.  optimizer: None counts
    two float32 momenta per parameter.

    Only shapes are computed (device ``meta``).  Half precision keeps about half of
    it (docs/log.md).  Stages that compute in float32 keep all of it.
    """
    recomputed = checkpointed_stages(model)
    kept = kept_by(model, image_size, precision)
    inputs = sum(kept.inputs[name] for name in recomputed)
    # a stage that is computed again is there with the gradients of its features
    largest = 2 * max((kept.stages[name] for name in recomputed), default=0)
    others = sum(size for name, size in kept.stages.items() if name not in recomputed)
    gradients = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    return Needs(
        int((others + inputs + largest) * OVERHEAD) // 2,
        gradients,
        2 * gradients if optimizer is None else state_bytes(optimizer),
        work=gradients,
        kernels=KERNELS if next(model.parameters()).device.type == "cpu" else 0,
    )


def stage_savings(
    model: Detector, image_size: int | tuple[int, int], precision: Precision
) -> dict[str, int]:
    """Bytes per image that each stage saves if it is computed again in the backward pass, the
    largest first; those that save nothing or are computed again already are left out."""
    kept = kept_by(model, image_size, precision)
    done = checkpointed_stages(model)
    saved = {n: int(kept.stages[n] - kept.inputs[n]) // 2 for n in model.stages if n not in done}
    return {n: saved[n] for n in sorted(saved, key=lambda name: -saved[name]) if saved[n] > 0}


def state_bytes(optimizer: Optimizer) -> int:
    """What the optimizer keeps per parameter, before or after its first step: one momentum in SGD,
    another for each matrix in MuSGD, two moments in all others."""
    single = isinstance(optimizer, torch.optim.SGD | MuSGD)
    width = 2 if is_kept_in_bf16(optimizer) else 4
    return sum(
        p.numel() * width * (1 if single and not group.get("muon") else 2)
        for group in optimizer.param_groups
        for p in group["params"]
    )


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd keeps of two images: inside each stage ("" for what lies between them),
    and the inputs of each stage."""

    stages: dict[str, float]
    inputs: dict[str, float]

    def scaled(self, share: float, whole: Sequence[str]) -> Kept:
        """``share`` of it, and all of what lies inside the stages ``whole``."""
        stages = {n: size * (1.0 if n in whole else share) for n, size in self.stages.items()}
        return Kept(stages, {name: size * share for name, size in self.inputs.items()})


def kept_by(
    model: Detector, image_size: int | tuple[int, int], precision: Precision
) -> Kept:
    """What a forward pass of ``model`` keeps in ``precision`` if no stage is computed again."""
    shadow = copy.deepcopy(model).to("meta").train()
    for name in checkpointed_stages(shadow):  # computed once here
        del shadow.stages[name].forward
    kept = _kept_bytes(shadow, image_size)
    return kept if precision.name == "fp32" else kept.scaled(HALF, precision.fp32_stages)


def _kept_bytes(shadow: Detector, image_size: int | tuple[int, int]) -> Kept:
    """What a forward pass on the device ``meta`` keeps, each storage counted where it comes up
    first."""
    weights = {p.untyped_storage()._cdata for p in shadow.parameters()}
    seen: dict[int, torch.UntypedStorage] = {}  # held, or an address could be given out again
    stages = dict.fromkeys(("", *shadow.stages), 0.0)
    inputs = dict.fromkeys(shadow.stages, 0.0)
    now = [""]

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights and storage._cdata not in seen:
            seen[storage._cdata] = storage
            stages[now[-1]] += storage.nbytes()
        return tensor

    def enter(name: str) -> Any:
        def hook(_: nn.Module, arguments: Any) -> None:
            inputs[name] += sum(t.untyped_storage().nbytes() for t in tensors_in(arguments))
            now.append(name)

        return hook

    for name, stage in shadow.stages.items():
        stage.register_forward_pre_hook(enter(name))
        stage.register_forward_hook(lambda *_: now.pop() and None)
    images = torch.empty(2, 3, *sides_of(image_size), device="meta")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        shadow(images)
    return Kept(stages, inputs)


def largest_size(run: Run) -> tuple[int, int]:
    """Height and width of the largest batch, with ``multi_scale=``."""
    stride, factor = run.model.max_stride, 1.0 + run.config.multi_scale
    height, width = (round(side * factor / stride) * stride for side in run.image_size.whole)
    return height, width


def cache_bytes(run: Run) -> int:
    """Decoded images that are kept in memory, or will be."""
    return sum(loader.dataset.cache.memory for loader in (run.train_loader, run.val_loader))


def check_memory(run: Run, precision: Precision, available: int | None = None) -> None:
    """Raise UsageError if a step on the CPU needs more memory than this process may still take.

    available: bytes; None asks the machine and the control group.
    """
    if run.device.type != "cpu":
        return
    here, config = rank_info(), run.config
    room = (available_memory() if available is None else available) // here.local_size
    images = config.images_per_pass // run.ranks.size
    stride = run.model.max_stride
    needs = needs_of(run.model, largest_size(run), precision, run.optimizer)
    caches = cache_bytes(run)
    if needs.of(images) + caches <= room:
        return
    ways = []
    if caches and needs.of(images) <= room:
        ways.append("cache=disk")
    fitting = (room - needs.fixed) // needs.image * run.ranks.size
    if fewer := [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= fitting and n < config.batch_size]:
        ways.append(f"micro_batch={fewer[-1]} (gradients add up)")
    share = max(room - needs.fixed, 0) / (images * needs.image)
    smaller = [int(side * share**0.5) // stride * stride for side in run.image_size.whole]
    if min(smaller) >= 2 * stride:
        ways.append(f"imgsz={show(InputSize.of((smaller[0], smaller[1])).plain)}")
    needed = (needs.of(images) + caches) / 2**30
    size = show(run.image_size.plain)
    raise UsageError(
        f"a step of {run.model.name} with batch={config.batch_size} imgsz={size} in "
        f"{precision.name} needs about {needed:.1f} GiB of memory, and "
        f"{room / 2**30:.1f} GiB are available: use {', or '.join(ways) or 'a smaller model'}"
    )
