"""``optimizer_state=bf16``: momenta and moments in bfloat16 between updates, two bytes in place of
four per number.

An update computes in float32: the state is widened before it and rounded after it.  The rounding
is stochastic: up or down at random, so that it is right on average (Gupta et al. 2015, arXiv
1502.02551).  To the nearest it would lose what is smaller than half a step of bfloat16 (1/512 of
the value), and Adam's second moment changes by 1/1000 per update: it would never change again.

The random bits depend on the number of the update only, which is part of the saved state: a run
that continues rounds as if it had never stopped, and no other random numbers move.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

ROUNDED = "rounded"
"""In the parameter groups: how often the state has been rounded."""


def keep_in_bf16(optimizer: Optimizer) -> None:
    """Keep the state of ``optimizer`` in bfloat16 between its updates from now on, in place.  Its
    state dict has bfloat16 tensors; loading one gives the same bits."""
    for group in optimizer.param_groups:
        group.setdefault(ROUNDED, 0)
    optimizer.register_step_pre_hook(lambda own, *_: _widen(own))
    optimizer.register_step_post_hook(lambda own, *_: _narrow(own))
    optimizer.register_load_state_dict_post_hook(_as_saved)


def is_kept_in_bf16(optimizer: Optimizer) -> bool:
    """Whether the state of ``optimizer`` is bfloat16 between its updates."""
    return all(ROUNDED in group for group in optimizer.param_groups)


def _widen(optimizer: Optimizer) -> None:
    for state, name in _moments(optimizer):
        state[name] = state[name].float()


def _narrow(optimizer: Optimizer) -> None:
    count = optimizer.param_groups[0][ROUNDED]
    generators: dict[torch.device, torch.Generator] = {}
    for state, name in _moments(optimizer):
        device = state[name].device
        if device not in generators:
            generators[device] = torch.Generator(device).manual_seed(count)
        state[name] = rounded(state[name], generators[device])
    for group in optimizer.param_groups:
        group[ROUNDED] = count + 1


def _as_saved(optimizer: Optimizer) -> None:
    """Torch loads moments in the format of the parameters; they were bfloat16, so nothing is
    lost."""
    for state, name in _moments(optimizer):
        state[name] = state[name].bfloat16()


def _moments(optimizer: Optimizer) -> Iterator[tuple[dict[str, Any], str]]:
    """Where each tensor of the state lies that has a number per parameter."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            for name, value in state.items():
                if isinstance(value, Tensor) and value.ndim and value.shape == parameter.shape:
                    yield state, name


def rounded(values: Tensor, generator: torch.Generator) -> Tensor:
    """float32 -> bfloat16, up or down with the probability that makes it right on average."""
    words = -(-values.numel() // 4)
    noise = torch.randint(
        -(2**63), 2**63 - 1, (words,), generator=generator, device=values.device, dtype=torch.int64
    )
    low = noise.view(torch.int16)[: values.numel()].view(values.shape).to(torch.int32) & 0xFFFF
    bits = (values.view(torch.int32) + low) & -0x10000
    return bits.view(torch.float32).bfloat16()
