"""Building blocks that several families share: convolution, CSP, pooling and attention blocks.

Every block maps [B,C_in,H,W] to [B,C_out,H',W'] and keeps the memory format it is given.  A
``Conv`` is convolution, batch norm and activation under the names ``conv``, ``norm``, ``act``;
``Conv.fuse`` folds the norm into the convolution.  Blocks of a single family are in its file.

Sources: CSPNet (arXiv 1911.11929), ELAN (arXiv 2211.04800), SPP (arXiv 1406.4729), PSA (YOLOv10,
arXiv 2405.14458).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

NORM_EPS = 1e-3
NORM_MOMENTUM = 0.03


class Fusable(nn.Module, ABC):
    """A module that can be simplified for inference, in place."""

    @abstractmethod
    def fuse(self) -> None:
        """Use fewer layers for the same outputs in evaluation mode; a second call does nothing."""


class Norm(nn.BatchNorm2d):
    """Batch norm that does not count its batches; the training step does it (``count_batch``).

    torch adds 1 to ``num_batches_tracked`` in every layer and step: a hundred kernel launches per
    step on a GPU for a number that nothing reads while ``momentum`` is set.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.momentum is None:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, True, self.momentum,
            self.eps,
        )  # fmt: skip


def count_batch(norms: list[Norm]) -> None:
    """Add 1 to the batch counter of each norm in training mode, in one kernel launch."""
    seen = [
        norm.num_batches_tracked for norm in norms if norm.training and norm.momentum is not None
    ]
    if counters := [counter for counter in seen if counter is not None]:
        torch._foreach_add_(counters, 1)


class Conv(Fusable):
    """Convolution without bias, batch norm, activation; "same" padding for odd kernels."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 1,
        stride: int = 1,
        *,
        groups: int = 1,
        act: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm: nn.Module = Norm(c_out, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.act = nn.SiLU() if act is None else act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.norm(self.conv(x)))

    @torch.no_grad()
    def fuse(self) -> None:
        """Fold the norm's running statistics into weight and bias; a second call does nothing."""
        if not isinstance(self.norm, nn.BatchNorm2d):
            return
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()  # [C_out]
        weight = self.conv.weight.double() * gain[:, None, None, None]
        bias = norm.bias.double() - norm.running_mean.double() * gain
        dtype = self.conv.weight.dtype
        self.conv.weight = nn.Parameter(
            weight.to(dtype).contiguous(memory_format=_layout(self.conv.weight))
        )
        self.conv.bias = nn.Parameter(bias.to(dtype))
        self.norm = nn.Identity()


def _layout(weight: torch.Tensor) -> torch.memory_format:
    """The memory format of a [O,I,K,K] weight."""
    channels_last = (
        weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    )
    return torch.channels_last if channels_last else torch.contiguous_format


class _Joined(torch.autograd.Function):
    """Concatenation along the channels whose gradients are dense tensors, not views of one."""

    @staticmethod
    def forward(ctx: Any, *parts: torch.Tensor) -> torch.Tensor:
        ctx.widths = [part.shape[1] for part in parts]
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (grad,) = grads
        layout = _layout(grad)
        return tuple(g.contiguous(memory_format=layout) for g in grad.split(ctx.widths, 1))


def join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """[B,C_i,H,W] -> [B,sum C_i,H,W].

    On a CPU the gradient of each part is copied: earlier layers, activations most of all, are
    several times slower on a view with gaps.  This saves 5 % of a training step.
    """
    if parts[0].device.type == "cpu" and any(part.requires_grad for part in parts):
        joined: torch.Tensor = _Joined.apply(*parts)
        return joined
    return torch.cat(tuple(parts), 1)


class Add(nn.Module):
    """The sum of two maps, as a module so that quantization can take hold of it."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


def linear_conv(c_in: int, c_out: int, kernel: int = 1, *, groups: int = 1) -> Conv:
    """A ``Conv`` without activation."""
    return Conv(c_in, c_out, kernel, groups=groups, act=nn.Identity())


def depthwise(c: int, *, stride: int = 1) -> Conv:
    """A 3x3 ``Conv`` with one group per channel."""
    return Conv(c, c, 3, stride, groups=c)


class Bottleneck(nn.Module):
    """Two convolutions in a row; ``residual`` adds their input."""

    def __init__(self, conv1: nn.Module, conv2: nn.Module, *, residual: bool = True) -> None:
        super().__init__()
        self.conv1 = conv1
        self.conv2 = conv2
        self.residual = residual
        self.add = Add()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv2(self.conv1(x))
        return self.add(x, y) if self.residual else y


def bottleneck(c: int, *, squeeze: int = 1, residual: bool = True) -> Bottleneck:
    """Two 3x3 convolutions through ``c / squeeze`` channels."""
    hidden = c // squeeze
    return Bottleneck(Conv(c, hidden, 3), Conv(hidden, c, 3), residual=residual)


Inner = Callable[[int], nn.Module]
"""Channels -> one link of a chain, with as many output channels."""


class CrossStage(nn.Module):
    """CSP block: a chain of ``n`` links beside a plain 1x1 path, each half as wide, then merged."""

    def __init__(self, c_in: int, c_out: int, n: int, inner: Inner) -> None:
        super().__init__()
        hidden = c_out // 2
        self.enter = Conv(c_in, hidden)
        self.skip = Conv(c_in, hidden)
        self.chain = nn.Sequential(*(inner(hidden) for _ in range(n)))
        self.merge = Conv(2 * hidden, c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chained, skipped = self.chain(self.enter(x)), self.skip(x)
        return self.merge(join((chained, skipped)))


class Aggregate(nn.Module):
    """CSP block that merges every step: two halves, and each link of a chain on the second half.

    hidden: channels of a half.  inner: makes one link of the chain.
    """

    def __init__(self, c_in: int, c_out: int, hidden: int, n: int, inner: Inner) -> None:
        super().__init__()
        self.enter = Conv(c_in, 2 * hidden)
        self.chain = nn.ModuleList(inner(hidden) for _ in range(n))
        self.merge = Conv((2 + n) * hidden, c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.enter(x).chunk(2, 1))
        for link in self.chain:
            parts.append(link(parts[-1]))
        return self.merge(join(parts))


class PyramidPool(nn.Module):
    """Three chained 5x5 max-pools, all merged: a receptive field of 13x13."""

    def __init__(self, c: int, *, act: nn.Module | None = None, residual: bool = False) -> None:
        super().__init__()
        self.enter = Conv(c, c // 2, act=act)
        self.merge = Conv(2 * c, c)
        self.residual = residual
        self.add = Add()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [self.enter(x)]
        for _ in range(3):
            parts.append(F.max_pool2d(parts[-1], 5, 1, 2))
        y: torch.Tensor = self.merge(join(parts))
        return self.add(x, y) if self.residual else y


class Attention(nn.Module):
    """Self-attention over all positions; keys half as wide as values; a depthwise position term."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.heads = max(c // 64, 1)
        self.value_dim = c // self.heads
        self.key_dim = self.value_dim // 2
        self.qkv = linear_conv(c, c + 2 * self.key_dim * self.heads)
        self.position = linear_conv(c, c, 3, groups=c)
        self.project = linear_conv(c, c)
        self.add = Add()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, _, h, w = x.shape
        c = self.heads * self.value_dim  # that of x, unless it is pruned
        qkv = self.qkv(x).reshape(b, self.heads, -1, h * w)  # [B,heads,2*key+value,HW]
        query, key, value = qkv.split((self.key_dim, self.key_dim, self.value_dim), 2)
        scores = (query * self.key_dim**-0.5).transpose(2, 3) @ key  # [B,heads,HW,HW]
        weights = scores.float().softmax(-1).to(value.dtype)  # float32 also under autocast
        mixed = (value @ weights.transpose(2, 3)).reshape(b, c, h, w)
        return self.project(self.add(mixed, self.position(value.reshape(b, c, h, w))))


class AttentionBlock(nn.Module):
    """Self-attention and a two-layer feed-forward net, each added to its input."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.attention = Attention(c)
        self.feed = nn.Sequential(Conv(c, 2 * c), linear_conv(2 * c, c))
        self.add1, self.add2 = Add(), Add()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.add1(x, self.attention(x))
        return self.add2(x, self.feed(x))


class PartialAttention(nn.Module):
    """Attention blocks on half of the channels (PSA of YOLOv10); the other half is unchanged."""

    def __init__(self, c: int, n: int = 1) -> None:
        super().__init__()
        kept = c // 2
        self.enter = Conv(c, 2 * kept)
        self.chain = nn.Sequential(*(AttentionBlock(kept) for _ in range(n)))
        self.merge = Conv(2 * kept, c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept, attended = self.enter(x).chunk(2, 1)
        return self.merge(join((kept, self.chain(attended))))
