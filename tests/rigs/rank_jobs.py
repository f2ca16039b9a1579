"""Runs of two ranks that are cheap: a warm process forks them, and they talk by gloo.

As a program it reads one job a line (JSON): the name of a function below and its arguments; each
rank of it is a fork with the environment that torchrun would give it.  ``RankPool`` is the other
end, for tests.  What a function returns comes back by rank; what it raises, as the exit code and
the line of the command line.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

RANKS = 2


@dataclass
class End:
    """How a rank ended.  value: what its function returned.  talk: its stderr."""

    code: int
    value: Any
    talk: str
    seconds: float


class RankPool:
    """Starts the warm process; ``run`` has it fork the ranks of one job and waits for them."""

    def __init__(self, cache: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "DET_CACHE": str(cache)},
        )

    def run(self, job: str, folder: Path, **arguments: Any) -> list[End]:
        """The ends of both ranks of ``job(folder, **arguments)``."""
        assert self.process.stdin is not None and self.process.stdout is not None
        folder.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"job": job, "folder": str(folder), "arguments": arguments})
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return [End(talk=_read(folder / f"talk{r}.txt"), value=_load(folder / f"value{r}.pt"), **a)
                for r, a in enumerate(answer)]  # fmt: skip

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.kill()
        self.process.communicate()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _load(path: Path) -> Any:
    return torch.load(path, weights_only=False) if path.exists() else None


def serve() -> None:
    """Warm up, then fork the ranks of a job for every line of stdin."""
    warm_up()
    gc.collect()
    gc.freeze()  # forks need not look through what was imported
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        task = json.loads(line)
        started = time.monotonic()
        port = free_port()
        children = [start(task, rank, port) for rank in range(RANKS)]
        timer = threading.Timer(600, lambda pids=children: [kill(pid) for pid in pids])
        timer.start()
        ends: dict[int, dict[str, Any]] = {}
        while len(ends) < RANKS:
            child, status = os.wait()
            seconds = time.monotonic() - started
            ends[child] = {"code": os.waitstatus_to_exitcode(status), "seconds": seconds}
        timer.cancel()
        timer.join()
        answers.write(json.dumps([ends[child] for child in children]) + "\n")
        answers.flush()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def free_port() -> int:
    """Below those that the system gives to outgoing connections, so that nobody else takes it
    before the ranks do."""
    while True:
        port = random.randrange(12_000, 32_000)
        with socket.socket() as meeting, contextlib.suppress(OSError):
            meeting.bind(("127.0.0.1", port))
            return port


def warm_up() -> None:
    """Import all that a training loads; a tiny detector stands in the place of yolo26n."""
    import faster_coco_eval  # noqa: F401
    import jinja2  # noqa: F401
    import torch._dynamo
    import torch._refs
    import torch.distributed
    from tiny import tiny_detector
    from yolodet import cli  # noqa: F401
    from yolodet.detector.models import yolo26
    from yolodet.detector.train import pipeline  # noqa: F401

    yolo26.build = lambda size, classes, width=None: tiny_detector(classes)
    torch.set_num_threads = lambda count: None
    torch.distributed.is_nccl_available = lambda: False


def start(task: dict[str, Any], rank: int, port: int) -> int:
    """Fork one rank; returns its process."""
    child = os.fork()
    if child:
        return child
    from yolodet import cli
    from yolodet.detector.run.rank_info import RankInfo, environment_of

    folder = Path(task["folder"])
    os.environ.update(environment_of(RankInfo(rank, RANKS, rank, RANKS), "127.0.0.1", port))
    talk = os.open(folder / f"talk{rank}.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(talk, stream)
    code = 0
    try:
        value = globals()[task["job"]](folder, **task["arguments"])
        torch.save(value, folder / f"value{rank}.pt")
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  as the command line does
        code = cli._report(error, ["--debug"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# ---------------------------------------------------------------- the jobs


def det(folder: Path, words: list[str]) -> None:
    """One command."""
    from yolodet import cli

    code = cli.main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def two_ranks() -> Any:
    from yolodet.detector.train.distributed import join

    return join("cpu")


def messages(folder: Path) -> dict[str, Any]:
    """What each method of a Ranks gives."""
    with two_ranks() as ranks:
        tensor = torch.full((3,), float(ranks.rank))
        ranks.broadcast_tensors([tensor])
        order = folder / "order.txt"
        with ranks.rank0_first(), order.open("a") as file:
            if ranks.first:
                time.sleep(0.2)
            file.write(str(ranks.rank))
        return {
            "sum": ranks.sum(torch.tensor([1.0, 10.0]) * (ranks.rank + 1)),
            "largest": ranks.largest(-ranks.rank),
            "gather": ranks.gather({"rank": ranks.rank}),
            "broadcast": ranks.broadcast(["first", "second"][ranks.rank]),
            "shared": tensor,
            "order": (ranks.wait(), order.read_text())[1],
        }


def learn(folder: Path, steps: int, accumulate: int, bad: list[int], precision: str) -> Any:
    """A few steps on this rank's half of each batch; see rank_steps.py."""
    from rank_steps import steps_of

    with two_ranks() as ranks:
        return steps_of(ranks, steps, accumulate, bad, precision)


def decide(folder: Path, broken: int | None) -> Any:
    """The precision of each rank where the bf16 of one is garbage."""
    from known_hardware import ZEN4
    from ladder_fakes import BF16, Checks
    from tiny import make_batch, make_criterion, tiny_detector
    from yolodet.detector.options.parse import parse
    from yolodet.detector.options.train import TrainConfig
    from yolodet.detector.precision import ladder
    from yolodet.detector.run.log import Log

    with two_ranks() as ranks:
        problem = "the output of head is not finite"
        own = (replace(BF16, problem=problem),) if ranks.rank == broken else ()
        checks = Checks(*own)
        ladder.SanityCheck = checks
        config, _ = parse(TrainConfig, {"amp": True})
        torch.manual_seed(0)
        found = [
            ladder.choose_precision(
                config, tiny_detector(), make_criterion(), lambda: iter([make_batch(2)]),
                torch.device("cpu"), Log(verbose=False), traits=ZEN4, ranks=ranks,
            )
            for _ in range(2)
        ]  # fmt: skip
        return [(d.precision.name, d.line(), d.cached) for d in found], len(checks.asked)


def budget(folder: Path, data: str, memory: str) -> Any:
    """The options that meet a budget, which rank 1 finds harder."""
    import pytest
    from pretended_memory import pretend_memory
    from tiny import train_config, use_tiny_detector
    from yolodet.detector.run.log import Log
    from yolodet.detector.train.memory_budget import settle_memory

    config, _ = train_config(Path(data), folder, batch=6, memory=memory)
    with pytest.MonkeyPatch.context() as monkeypatch, two_ranks() as ranks:
        use_tiny_detector(monkeypatch)
        pretend_memory(monkeypatch)
        found = settle_memory(config, Log(verbose=False), ranks)
        return found.config.checkpointing, found.config.micro_batch, found.expected


def validate(folder: Path, data: str) -> Any:
    """Metrics, detections, paths and pictures of a validation by both ranks, and of one by a single
    process; on rank 0."""
    from tiny import train_config
    from yolodet.detector.run.log import Log
    from yolodet.detector.run.ranks import ALONE
    from yolodet.detector.train.assemble import assemble
    from yolodet.detector.train.evaluator import CocoEvaluator

    config, _ = train_config(Path(data), folder, batch=2)
    log = Log(verbose=False)
    found = []
    with two_ranks() as ranks:
        for own in (ranks, ALONE):
            run = assemble(config, log, ranks=own)
            precision = fp32()
            measured = CocoEvaluator()(run.model, precision, run, log)
            found.append([len(run.val_loader), measured.metrics])
            if (evaluation := measured.evaluation) is not None:
                pictures = [picture.image for picture in evaluation.pictures]
                rows = evaluation.collector.coco_results()
                found[-1] += [rows, evaluation.paths, pictures]
    return found


def fp32() -> Any:
    from yolodet.detector.precision.precision import Precision

    return Precision("fp32", "cpu", "as told")


def train(folder: Path, data: str, fault: str | None, **words: Any) -> Any:
    """A whole run; ``fault`` befalls the second rank."""
    import faults_of_ranks
    from tiny import essence
    from yolodet.detector.options.parse import parse
    from yolodet.detector.options.train import TrainConfig
    from yolodet.detector.run.log import Log
    from yolodet.detector.train import pipeline, trainer

    seen: list[Any] = []
    fit = trainer.Trainer.fit

    def watched(self: Any) -> None:
        seen.append(self)
        if fault and self.ranks.rank == 1:
            getattr(faults_of_ranks, fault)(self)
        fit(self)

    trainer.Trainer.fit = watched
    usual = {
        "data": data, "project": str(folder), "device": "cpu", "imgsz": 64, "batch": 4, "epochs": 2,
        "workers": 0, "plots": False, "amp": False, "cache": "none", "nbs": 4, "mosaic": 0.0,
    }  # fmt: skip
    given = {**usual, **words}
    config, names = parse(TrainConfig, given)
    log = Log(verbose=False)
    results = pipeline.train(config, frozenset(words) if "resume" in words else names, log)
    return {
        "state": essence(seen[0]) | {"torch_random_state": None},
        "results": results,
        "mute": log.mute,
        "failures": [str(failure) for failure in seen[0].guard.failures],
        "precision": seen[0].precision.label,
    }


if __name__ == "__main__":
    serve()
