"""Where this process stands among the ranks of a run, as its environment says."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ..options.errors import UsageError


@dataclass(frozen=True)
class Place:
    """rank: of ``size`` in the run; local_rank: of ``local_size`` on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place() -> Place:
    """As the launcher says; alone where there is none.  Raises UsageError where it says half."""
    words = os.environ
    if words.get("WORLD_SIZE", "1") == "1":
        return Place()
    size, rank = _number("WORLD_SIZE"), _number("RANK")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in words]
    if missing:
        raise UsageError(f"WORLD_SIZE={size} is set, but not {missing[0]}: start with torchrun")
    local = "LOCAL_WORLD_SIZE" in words
    return Place(
        rank,
        size,
        _number("LOCAL_RANK") if "LOCAL_RANK" in words else rank,
        _number("LOCAL_WORLD_SIZE") if local else size,
    )


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdigit():
        size = os.environ["WORLD_SIZE"]
        raise UsageError(
            f"WORLD_SIZE={size} is set, and {name} is {text!r}: expected a number; start with "
            "torchrun"
        )
    return int(text)


def environment_of(here: Place, address: str, port: int) -> dict[str, str]:
    """The environment of a rank: this process's, and its place."""
    return dict(os.environ) | {
        "RANK": str(here.rank),
        "WORLD_SIZE": str(here.size),
        "LOCAL_RANK": str(here.local_rank),
        "LOCAL_WORLD_SIZE": str(here.local_size),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def several(device: str | None) -> tuple[str, ...]:
    """The GPUs that ``device=0,1`` or ``device=cuda:0,1`` names; empty where it names one device or
    none."""
    if device is None or not re.fullmatch(r"(cuda:)?\d+(,\d+)+", device):
        return ()
    return tuple(device.removeprefix("cuda:").split(","))


def own_device(device: str | None, here: Place, *, cuda: bool) -> str | None:
    """What ``device=`` means for this rank: with several, its own GPU by its number on the machine.

    cuda: torch can use one.  Raises UsageError where one device is named for several ranks, or the
    other way round.
    """
    named = several(device)
    if here.size == 1:
        if named:
            raise UsageError(
                f"device={device} needs {len(named)} ranks, and this process is one: use det train "
                f"device={device}, or torchrun --nproc_per_node={len(named)} your_script.py"
            )
        return device
    if named:
        if len(named) != here.local_size:
            raise UsageError(
                f"device={device} names {len(named)} GPUs, and torchrun has started "
                f"{here.local_size} ranks: use device=cuda, each rank takes its own"
            )
        return named[here.local_rank]
    if device == "cpu" or (device is None and not cuda):
        return "cpu"
    if device in (None, "cuda"):
        return f"cuda:{here.local_rank}"
    raise UsageError(
        f"device={device} is one device for {here.size} ranks: use device=cuda, each rank takes "
        "its own, or device=cpu"
    )


def check_batch(batch: int, ranks: int) -> None:
    """Raise UsageError where a batch can not be shared equally."""
    if batch % ranks:
        mend = max(round(batch / ranks), 1) * ranks
        raise UsageError(
            f"batch={batch} is the total over {ranks} ranks and can not be shared equally by them: "
            f"use a multiple of {ranks}, e.g. batch={mend}"
        )
