"""The rank of this process in a run, from the launcher's environment variables."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ...files.counted import counted
from ..options.errors import UsageError


@dataclass(frozen=True)
class RankInfo:
    """rank: of ``size`` in the run.  local_rank: of ``local_size`` on this machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def rank_info() -> RankInfo:
    """Read the environment; without a launcher there is one rank.  Raises UsageError when variables
    are missing or are no numbers."""
    environment = os.environ
    if environment.get("WORLD_SIZE", "1") == "1":
        return RankInfo()
    size, rank = _number("WORLD_SIZE"), _number("RANK")
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in environment]
    if missing:
        raise UsageError(f"WORLD_SIZE={size} is set, but not {missing[0]}: start with torchrun")
    local_rank = _number("LOCAL_RANK") if "LOCAL_RANK" in environment else rank
    local_size = _number("LOCAL_WORLD_SIZE") if "LOCAL_WORLD_SIZE" in environment else size
    return RankInfo(rank, size, local_rank, local_size)


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    if not text.isdigit():
        size = os.environ["WORLD_SIZE"]
        raise UsageError(
            f"WORLD_SIZE={size} is set, and {name} is {text!r}: expected a number; start with "
            "torchrun"
        )
    return int(text)


def environment_of(info: RankInfo, address: str, port: int) -> dict[str, str]:
    """This process's environment, with the variables that make a child process rank ``info``."""
    return dict(os.environ) | {
        "RANK": str(info.rank),
        "WORLD_SIZE": str(info.size),
        "LOCAL_RANK": str(info.local_rank),
        "LOCAL_WORLD_SIZE": str(info.local_size),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(port),
    }


def gpus_of(device: str | None) -> tuple[str, ...]:
    """The GPUs named by ``device=0,1`` or ``device=cuda:0,1``; empty for one device or none."""
    if device is None or not re.fullmatch(r"(cuda:)?\d+(,\d+)+", device):
        return ()
    return tuple(device.removeprefix("cuda:").split(","))


def device_of_rank(device: str | None, info: RankInfo, *, cuda: bool) -> str | None:
    """The device of rank ``info`` when ``device`` was typed; with several GPUs each rank has its
    own.

    cuda: torch can use CUDA.  Raises UsageError when the devices do not fit the number of ranks.
    """
    gpus = gpus_of(device)
    if info.size == 1:
        if gpus:
            raise UsageError(
                f"device={device} needs {len(gpus)} ranks, and this process is one: use det train "
                f"device={device}, or torchrun --nproc_per_node={len(gpus)} your_script.py"
            )
        return device
    if gpus:
        if len(gpus) != info.local_size:
            raise UsageError(
                f"device={device} names {len(gpus)} GPUs, but torchrun started "
                f"{counted(info.local_size, 'rank')}: use device=cuda, then each rank takes its "
                "own GPU"
            )
        return gpus[info.local_rank]
    if device == "cpu" or (device is None and not cuda):
        return "cpu"
    if device in (None, "cuda"):
        return f"cuda:{info.local_rank}"
    raise UsageError(
        f"device={device} is one device for {info.size} ranks: use device=cuda, then each rank "
        "takes its own GPU, or device=cpu"
    )


def check_batch(batch: int, ranks: int, option: str = "batch") -> None:
    """Raise UsageError when a batch cannot be divided equally among the ranks."""
    if batch % ranks:
        nearest = max(round(batch / ranks), 1) * ranks
        raise UsageError(
            f"{option}={batch} is the total over {ranks} ranks and cannot be divided equally: "
            f"use a multiple of {ranks}, e.g. {option}={nearest}"
        )
