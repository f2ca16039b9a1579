"""Workers on a Ray cluster: an actor each, on one GPU or some CPU cores, wherever Ray finds them.

Data and weights are read by path, so they lie in the same place on every node.  A trial trains in a
temporary folder of its node; its files are sent to the folder of the search, on the way and at the
end.  https://docs.ray.io/en/latest/ray-core/actors.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from ...datasets.batches.loader import choose_workers
from ...files.counted import counted
from ...files.version import __version__
from ..options.errors import UsageError
from ..options.tune import TuneConfig
from ..record.environment import value_of
from ..run.folder import RunError
from ..run.log import Log
from .crew import Crew
from .link import Lost, Make, serve
from .training import Training

PATHS = ("data", "images", "val", "model", "pretrained", "replay")
"""Options that may name a file or folder."""


@dataclass(frozen=True)
class Share:
    """What each of ``workers`` trials gets of a cluster."""

    workers: int
    cpus: int
    gpus: int

    def __str__(self) -> str:
        each = counted(self.gpus, "GPU") if self.gpus else counted(self.cpus, "CPU core")
        return f"{counted(self.workers, 'trial')} at once, {each} each"


def ray_crew(config: TuneConfig, fixed: Mapping[str, Any], log: Log) -> Crew:
    """Connect to the cluster.  Raises UsageError where there is none, or no room on it."""
    connect(config.ray_address)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    share = share_of(config, nodes)
    log.info(f"workers    Ray cluster of {counted(len(nodes), 'node')}: {share}")
    words = {**absolute(fixed), "threads": share.cpus}
    if share.gpus:
        words["workers"] = choose_workers("cuda", share.cpus, share.cpus)
    elif "device" not in words:
        words["device"] = "cpu"
    return Crew(lambda number: Actor(partial(Training, words), share), share.workers, log,
                ships=True)  # fmt: skip


def connect(address: str | None) -> None:
    """Join the cluster at ``address``, of RAY_ADDRESS, or of this machine, as a caller may have
    done already.  Raises UsageError."""
    if ray.is_initialized():
        return
    where = address or value_of("RAY_ADDRESS") or "auto"
    try:
        ray.init(address=where, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        told = "on this machine" if where == "auto" else f"at {where}"
        raise UsageError(
            f"engine=ray: no Ray cluster {told} ({str(error).splitlines()[0]}); start one with "
            "ray start --head, or name ray_address=HOST:PORT"
        ) from error


def share_of(config: TuneConfig, nodes: Sequence[Mapping[str, float]]) -> Share:
    """How a cluster is shared.  nodes: the CPU and GPU of each.  Raises UsageError."""
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpu and config.device != "cpu":
        per_gpu = min(int(node.get("CPU", 1) // node["GPU"]) for node in with_gpu)
        room = sum(int(node["GPU"]) for node in with_gpu)
        return Share(min(config.workers or room, room), config.threads or max(per_gpu, 1), 1)
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not cores:
        raise UsageError("engine=ray: the cluster has no GPU and no CPU core for trials")
    fair = sum(cores) // config.workers if config.workers else min(cores)
    cpus = config.threads or max(min(fair, *cores), 1)
    room = sum(count // cpus for count in cores)
    if not room:
        raise UsageError(f"threads={cpus}: no node of the Ray cluster has more than {max(cores)}")
    return Share(min(config.workers or room, room), cpus, 0)


def absolute(fixed: Mapping[str, Any]) -> dict[str, Any]:
    """Options with full paths: a node has another current folder."""
    named = {n: Path(v) for n, v in fixed.items() if n in PATHS and isinstance(v, str)}
    return {**fixed, **{n: str(path.absolute()) for n, path in named.items() if path.exists()}}


class Actor:
    """A link to an actor.  Raises UsageError where its node has another det, Lost where it is gone
    at once."""

    def __init__(self, make: Make, share: Share) -> None:
        self._actor: Any = (
            ray.remote(Worker).options(num_cpus=share.cpus, num_gpus=share.gpus).remote(make)
        )
        try:
            found = ray.get(self._actor.version.remote())
        except RayActorError as error:
            if "ModuleNotFoundError" in str(error):
                raise UsageError(
                    "a node of the Ray cluster cannot import yolodet: install the same version on "
                    "every node"
                ) from error
            raise Lost(_how(error)) from error
        if found != __version__:
            raise UsageError(
                f"a node of the Ray cluster has yolodet {found}, and this machine {__version__}: "
                "install the same version on every node"
            )

    def talk(self, message: object) -> Any:
        try:
            return ray.get(self._actor.talk.remote(message))
        except RayActorError as error:
            raise Lost(_how(error)) from error
        except RayError as error:  # such as a message that the object store has no room for
            raise RunError(f"Ray: {str(error).splitlines()[0]}") from error

    def stop(self) -> None:
        self.close()

    def close(self) -> None:
        ray.kill(self._actor)


def _how(error: RayActorError) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    reason = next((line for line in lines if line.startswith("The actor")), lines[0])
    return f"its node or process is gone ({reason[:200]})"


class Worker:
    """Lives on a node: trains what it is told to, one trial after the other."""

    def __init__(self, make: Make) -> None:
        self._orders: SimpleQueue[Any] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()
        ends = (self._orders.get, self._answers.put, make)
        Thread(target=serve, args=ends, daemon=True).start()

    def version(self) -> str:
        return __version__

    def talk(self, message: object) -> Any:
        self._orders.put(message)
        return self._answers.get()
