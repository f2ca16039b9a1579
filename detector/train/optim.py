"""Which parameter is updated how.

Three groups: matrices (weights with two or more axes, decayed), and norms and biases (never
decayed), plus with MuSGD the split of the matrices into those that take the orthogonalized step and
the last layer of each tower, whose rows are classes or box sides and not a mixing of features.
``auto`` fills in what the user did not say, and says so.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ..options.errors import UsageError
from ..options.train import TrainConfig
from ..run.hardware import product_dtype, traits_of
from ..run.ranks import ALONE, Ranks
from .bf16_state import keep_in_bf16
from .muon import MuSGD

AUTO, AUTO_FROM_WEIGHTS = "MuSGD", "AdamW"
"""What ``auto`` is from random and from given weights: docs/log.md.  An orthogonalized step has the
same length whatever the gradient is, so it also moves what need not move."""
TRANSFERRED = ", transferred"
"""How the names of their groups end."""
MUON_SHARE = 0.5
MUON_EVERY = 4
"""Updates between two orthogonalized steps of a matrix: docs/log.md."""

DEFAULTS = {
    "SGD": {"lr0": 0.01, "momentum": 0.937, "weight_decay": 5e-4},
    "AdamW": {"lr0": 0.002, "momentum": 0.9, "weight_decay": 0.05},
    "MuSGD": {"lr0": 0.02, "momentum": 0.9, "weight_decay": 5e-4},
    "Adam": {"lr0": 0.001, "momentum": 0.9, "weight_decay": 5e-4},
    "NAdam": {"lr0": 0.002, "momentum": 0.9, "weight_decay": 5e-4},
    "RAdam": {"lr0": 0.001, "momentum": 0.9, "weight_decay": 5e-4},
    "Adamax": {"lr0": 0.002, "momentum": 0.9, "weight_decay": 5e-4},
    "RMSProp": {"lr0": 0.001, "momentum": 0.9, "weight_decay": 5e-4},
}
"""By optimizer, for what is not given.  The first three found by measuring (docs/log.md); the
others are torch's, which nobody has tuned here: lr0 of RMSProp is a tenth of its own, because
momentum=0.9 makes its steps ten times as long."""
ADAPTIVE: dict[str, type[torch.optim.Optimizer]] = {
    "Adam": torch.optim.Adam,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "Adamax": torch.optim.Adamax,
}
"""Torch's own with betas=(momentum, 0.999)."""


@dataclass(frozen=True)
class OptimizerChoice:
    """What is used: the user's words where given, else the table above."""

    name: str
    lr0: float
    momentum: float
    weight_decay: float
    state: str = "fp32"

    def __str__(self) -> str:
        decay = f"weight_decay={self.weight_decay:g}"
        decay += "" if self.state == "fp32" else f", optimizer_state={self.state}"
        return f"{self.name}(lr0={self.lr0:g}, momentum={self.momentum:g}, {decay})"


def settle_optimizer(config: TrainConfig, from_weights: bool) -> TrainConfig:
    """The config of a run from given weights with a name in place of ``optimizer=auto``; ``qat=``,
    which has a learning rate of its own, keeps the optimizer of the float training."""
    if config.optimizer != "auto" or not from_weights or config.qat is not None:
        return config
    return replace(config, optimizer=AUTO_FROM_WEIGHTS)


def choose_optimizer(config: TrainConfig) -> OptimizerChoice:
    """Complete the optimizer's settings.  A value that was given is never changed."""
    name = AUTO if config.optimizer == "auto" else config.optimizer
    given = {key: getattr(config, key) for key in ("lr0", "momentum", "weight_decay")}
    values = {key: DEFAULTS[name][key] if value is None else value for key, value in given.items()}
    return OptimizerChoice(name, **values, state=config.optimizer_state)


def parameter_groups(
    model: nn.Module, transferred: Container[str] = ()
) -> dict[str, list[nn.Parameter]]:
    """Trainable parameters by how they are updated, empty groups left out.

    ``matrices``, ``last`` (weights of the layers that make predictions) and ``plain`` (norms and
    biases); those named in ``transferred`` in groups of their own, ``matrices, transferred`` ...
    """
    kinds = ("matrices", "last", "plain")
    groups: dict[str, list[nn.Parameter]] = {
        kind + suffix: [] for kind in kinds for suffix in ("", TRANSFERRED)
    }
    for path, module in model.named_modules():
        predicts = isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            weight = parameter.ndim >= 2 and name != "bias"
            kind = ("last" if predicts else "matrices") if weight else "plain"
            known = f"{path}.{name}".lstrip(".") in transferred
            groups[kind + TRANSFERRED if known else kind].append(parameter)
    return {name: members for name, members in groups.items() if members}


def build_optimizer(
    model: nn.Module,
    choice: OptimizerChoice,
    *,
    transferred: Container[str] = (),
    transferred_lr: float = 1.0,
    ranks: Ranks = ALONE,
) -> torch.optim.Optimizer:
    """The optimizer of ``choice`` over the trainable parameters of ``model``, on its device.

    transferred: names of parameters that come from other weights; they learn at ``transferred_lr``
    of the learning rate.  ranks: those that train together; MuSGD multiplies in one format on
    all of them.  Raises UsageError if every parameter is frozen.
    """
    groups = parameter_groups(model, transferred)
    if not groups:
        raise UsageError("freeze leaves nothing to train: freeze fewer stages")
    options: list[dict[str, Any]] = [
        {
            "name": name,
            "params": groups[name],
            "weight_decay": 0.0 if name.startswith("plain") else choice.weight_decay,
            "lr": choice.lr0 * (transferred_lr if name.endswith(TRANSFERRED) else 1.0),
        }
        for name in groups
    ]
    optimizer: torch.optim.Optimizer
    if choice.name == "AdamW":
        optimizer = torch.optim.AdamW(
            options, lr=choice.lr0, betas=(choice.momentum, 0.999), fused=True
        )
    elif choice.name == "SGD":
        optimizer = torch.optim.SGD(options, lr=choice.lr0, momentum=choice.momentum, nesterov=True)
    elif choice.name == "RMSProp":
        optimizer = torch.optim.RMSprop(options, lr=choice.lr0, momentum=choice.momentum)
    elif choice.name in ADAPTIVE:
        make: Any = ADAPTIVE[choice.name]
        optimizer = make(options, lr=choice.lr0, betas=(choice.momentum, 0.999))
    else:
        for option in options:
            option["muon"] = MUON_SHARE if option["name"].startswith("matrices") else 0.0
        optimizer = MuSGD(
            options,
            lr=choice.lr0,
            momentum=choice.momentum,
            every=MUON_EVERY,
            product_dtype=_common_dtype(next(model.parameters()).device, ranks),
        )
    for settings in optimizer.param_groups:
        settings["peak_lr"] = settings["lr"]
    if choice.state == "bf16":
        keep_in_bf16(optimizer)
    return optimizer


def newton_schulz_precision(optimizer: torch.optim.Optimizer) -> str | None:
    """``bf16`` or ``fp32``; None for an optimizer that does not orthogonalize."""
    if not isinstance(optimizer, MuSGD):
        return None
    return "bf16" if optimizer.product_dtype == torch.bfloat16 else "fp32"


def _common_dtype(device: torch.device, ranks: Ranks) -> torch.dtype:
    """The format of Newton-Schulz products: bfloat16 if it is native on every rank, else
    float32."""
    dtypes = ranks.gather(product_dtype(traits_of(device)))
    return dtypes[0] if len(set(dtypes)) == 1 else torch.float32


def set_learning_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Every group's learning rate = its peak times ``factor``."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def learning_rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """Columns of results.csv: ``lr``, and ``lr/transferred`` where tensors were transferred.

    Where nothing is new, ``lr`` is the same as ``lr/transferred``.
    """
    groups = optimizer.param_groups
    moved = [group["lr"] for group in groups if group.get("name", "").endswith(TRANSFERRED)]
    rates = {"lr": max(group["lr"] for group in groups)}
    return rates | ({"lr/transferred": moved[0]} if moved else {})
