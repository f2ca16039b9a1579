"""A CUDA device that is not here: torch's FakeTensorMode keeps device, dtype and shape of tensors
on ``cuda:0`` without a driver, refuses to mix devices, and applies CUDA's own autocast lists."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _foreach_utils
from torch.utils._python_dispatch import TorchDispatchMode
from yolodet.datasets.nouns import Batch
from yolodet.detector.models.build import build
from yolodet.detector.models.detector import Detector
from yolodet.detector.precision.precision import Precision
from yolodet.detector.run.hardware import DeviceTraits

CARD = torch.device("cuda", 0)
TRAITS = DeviceTraits("cuda", "a pretended card", (9, 0), bf16_native=True, fp16_native=True)
PAIRS = 5000
"""Rows that ``nonzero`` finds: how many there really are is what a card would have to be asked."""

FREE = {
    "alias", "detach", "device", "empty", "empty_like", "empty_strided", "lift_fresh", "new_empty",
    "set_", "_local_scalar_dense", "_record_function_enter_new", "_record_function_exit",
    "_unsafe_view",
}  # fmt: skip
"""Operations that launch nothing; views launch nothing either."""


class Launches(TorchDispatchMode):
    """Counts the operations that a card would be given, and those that the host waits for.

    A foreach operation counts once.  What the host would learn is made up: ``nonzero`` finds PAIRS
    rows, and a number is 1.
    """

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.waits: list[str] = []
        self.dtypes: dict[str, set[torch.dtype]] = {}

    @property
    def total(self) -> int:
        return sum(self.names.values())

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
        name = function.overloadpacket.__name__
        aliases = [argument.alias_info for argument in function._schema.arguments]
        view = any(alias is not None and not alias.is_write for alias in aliases)
        if not view and name not in FREE:
            self.names[name] += 1
        if name in ("nonzero", "_local_scalar_dense"):
            self.waits.append(name)
            (tensor,) = arguments
            if name == "nonzero":
                return torch.empty(PAIRS, tensor.dim(), dtype=torch.int64, device=tensor.device)
            return tensor.dtype == torch.bool or 1
        result = function(*arguments, **(keywords or {}))
        if isinstance(result, Tensor):
            self.dtypes.setdefault(name, set()).add(result.dtype)
        return result


@dataclass
class Card:
    """The pretended device while a test runs.  mode: what tensors are made under."""

    mode: FakeTensorMode
    backward: list[Tensor] = field(default_factory=list)
    """The losses that were differentiated: the engine asks for a CUDA context, so ``backward``
    leaves empty gradients instead."""

    def detector(self, name: str, num_classes: int = 3) -> Detector:
        """A detector in training mode on the card: built on the CPU, its tensors replaced."""
        model = build(name, num_classes).to(memory_format=torch.channels_last).train()
        model.detach_one_to_one = False  # as in training
        for module in model.modules():
            for parameter_name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    module._parameters[parameter_name] = nn.Parameter(self._empty(parameter))
            for buffer_name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    module._buffers[buffer_name] = self._empty(buffer)
        return model

    def _empty(self, like: Tensor) -> Tensor:
        with self.mode:
            return torch.empty_strided(like.shape, like.stride(), dtype=like.dtype, device=CARD)

    def batch(self, images: int = 16, side: int = 320, boxes: int = 100) -> Batch:
        """A batch that has been moved from the CPU to the card."""
        with self.mode:
            pixels = torch.empty(images, side, side, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
            return Batch(
                pixels, torch.empty(boxes, 4), torch.zeros(boxes, dtype=torch.int64),
                torch.zeros(boxes, dtype=torch.int64), list(range(images)), [], [], [],
            ).to(CARD)  # fmt: skip


@contextlib.contextmanager
def autocast_on_the_card(precision: Precision) -> Iterator[None]:
    """CUDA's own autocast: torch's context manager switches itself off without a driver."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", precision.name != "fp32")
    torch.set_autocast_dtype("cuda", precision.dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])


@contextlib.contextmanager
def pretended_card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Card]:
    """A Card.  Its mode is not entered: a test does that around what runs on the card."""
    card = Card(FakeTensorMode(allow_non_fake_inputs=True))

    def backward(loss: Tensor) -> None:
        assert loss.device == CARD and loss.dtype == torch.float32 and loss.shape == ()
        card.backward.append(loss)

    monkeypatch.setattr(Tensor, "backward", backward)
    monkeypatch.setattr(Precision, "autocast", autocast_on_the_card)
    monkeypatch.setattr("yolodet.detector.train.optim.traits_of", lambda device: TRAITS)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    known = _foreach_utils._foreach_supported_types
    monkeypatch.setattr(_foreach_utils, "_foreach_supported_types", [*known, FakeTensor])
    yield card
