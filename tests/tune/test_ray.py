"""A real Ray cluster on this machine: a head without cores, and two nodes of one core each."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the search needs the extra [tune]")
pytest.importorskip("ray", reason="engine=ray needs the extra [ray]")

import ray
from stand_in import begun, kill_once_begun, make_slow, make_study, quiet, wait_for
from tiny import learned, write_squares
from yolodet.detector.options.errors import UsageError
from yolodet.detector.options.parse import parse
from yolodet.detector.options.tune import TuneConfig
from yolodet.detector.tune import ray_cluster
from yolodet.detector.tune.crew import Crew
from yolodet.detector.tune.ray_cluster import Actor, Share, absolute, connect, share_of
from yolodet.detector.tune.search import Deadline, search

SIZE = "--object-store-memory=80000000"


class Cluster:
    """A head and nodes, each the processes below a ``ray start --block``."""

    def __init__(self) -> None:
        self._programs: list[subprocess.Popen[bytes]] = []
        self.nodes: list[subprocess.Popen[bytes]] = []

    def start(self, folder: str) -> None:
        with socket.socket() as meeting:
            meeting.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{meeting.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        head = ("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false",
                "--disable-usage-stats", f"--temp-dir={folder}")  # fmt: skip
        self._programs.append(self._start(*head))
        wait_for(lambda: self._answers(port))
        connect(self.address)
        for count in (1, 2):  # nodes that start at once may take the same ports
            self.nodes.append(self.add_node())
            wait_for(lambda: ray.cluster_resources().get("CPU") == count)  # noqa: B023
        ray.shutdown()

    def add_node(self) -> subprocess.Popen[bytes]:
        node = self._start(f"--address={self.address}", "--num-cpus=1")
        self._programs.append(node)
        return node

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        rigs = Path(__file__).parents[1] / "rigs"
        paths = [str(rigs), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("ray")), "start", "--block", SIZE, *words],
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )  # fmt: skip

    @staticmethod
    def _answers(port: str) -> bool:
        with socket.socket() as meeting:
            return meeting.connect_ex(("127.0.0.1", int(port))) == 0

    @staticmethod
    def kill(program: subprocess.Popen[bytes]) -> None:
        """All processes of a node at once, as when its machine is gone."""
        for pid in tree(program.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        program.wait()

    def end(self) -> None:
        for program in self._programs:
            if program.poll() is None:
                self.kill(program)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for process in found:
        for task in Path(f"/proc/{process}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    cluster = Cluster()
    try:
        cluster.start(folder)
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def joined(cluster: Cluster) -> Iterator[Cluster]:
    """This process belongs to the cluster, which has its two cores."""
    connect(cluster.address)
    try:
        yield cluster
    finally:
        ray.shutdown()


def _search(folder: Path, notes: Path) -> list[str]:
    """Five trials by two actors; the warnings."""
    log = quiet()
    share = Share(2, 1, 0)
    crew = Crew(lambda number: Actor(partial(make_slow, 0.3, notes), share), 2, log, ships=True)
    try:
        search(make_study(folder), crew, 5, log, Deadline())
    finally:
        crew.close()
    assert all(trial.state.is_finished() for trial in make_study(folder).trials())
    return log.warnings


@pytest.mark.slow
def test_a_killed_actor_costs_its_trial_only(joined: Cluster, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    kill_once_begun("001", notes)
    warnings = _search(tmp_path, notes)
    runs = Counter(trial for trial, _ in begun(notes))
    assert runs == {"000": 1, "001": 2, "002": 1, "003": 1, "004": 1}
    assert len(warnings) == 1 and "it is run again" in warnings[0]


WORDS = ("model=yolo26n", "pretrained=False", "device=cpu", "imgsz=64", "batch=4", "amp=False",
         "plots=False", "report=False", "epochs=2", "trials=3", "lr0=log:1e-3..1e-1",
         "verbose=False", "threads=1")  # fmt: skip


@pytest.mark.slow
def test_a_cluster_trains_what_this_machine_trains(cluster: Cluster, tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")

    def tune(*words: str) -> None:
        near = f"data={data.relative_to(tmp_path)}"
        command = [sys.executable, "-m", "yolodet.cli", "tune", near, *WORDS, *words]
        subprocess.run(command, check=True, cwd=tmp_path)

    tune("name=local")
    tune("name=one", "engine=ray", f"ray_address={cluster.address}", "workers=1")
    tune("name=two", "engine=ray", f"ray_address={cluster.address}")
    studies = {name: make_study(tmp_path / "runs" / name) for name in ("local", "one", "two")}
    found = {name: [(t.state, t.params, t.value) for t in study.trials()]
             for name, study in studies.items()}  # fmt: skip
    assert found["one"] == found["local"]  # the same order: all is the same
    assert [f[1] for f in found["two"]] == [f[1] for f in found["local"]]  # in any order
    for trial in ("trials/000", "trials/001", "trials/002", "closing/defaults-seed1"):
        local, *others = (learned(tmp_path / "runs" / name / trial) for name in studies)
        assert others[0] == local
        assert others[1] == local or len(others[1]) != len(local)  # stopped early in its order
        weights = [tmp_path / "runs" / name / trial / "weights" for name in ("local", "one")]
        assert all((folder / "last.pt").is_file() for folder in weights)


@pytest.mark.slow
def test_a_lost_node_costs_its_trials_only(joined: Cluster, tmp_path: Path) -> None:
    """The last test: one node is gone after it."""
    notes = tmp_path / "notes"

    def kill() -> None:
        wait_for(lambda: "002" in dict(begun(notes)))
        pid = dict(begun(notes))["002"]
        (node,) = [node for node in joined.nodes if pid in tree(node.pid)]
        joined.kill(node)

    threading.Thread(target=kill, daemon=True).start()
    warnings = _search(tmp_path, notes)
    runs = Counter(trial for trial, _ in begun(notes))
    assert runs.pop("002") == 2 and set(runs.values()) == {1}
    # until Ray has noticed, the trial may be sent to the lost node once more
    assert warnings and all("trials/002" in warning for warning in warnings)


# ---------------------------------------------------------------- without a cluster


def config_of(**words: Any) -> TuneConfig:
    return parse(TuneConfig, {"data": "a.yaml", "engine": "ray", **words})[0]


@pytest.mark.parametrize(
    ("words", "nodes", "share"),
    [
        ({}, [{"CPU": 1}, {"CPU": 1}], Share(2, 1, 0)),
        ({}, [{}, {"CPU": 8}, {"CPU": 4}], Share(3, 4, 0)),
        ({"threads": 2}, [{"CPU": 8}, {"CPU": 5}], Share(6, 2, 0)),
        ({"workers": 4}, [{"CPU": 8}, {"CPU": 8}], Share(4, 4, 0)),
        ({"workers": 99}, [{"CPU": 2}], Share(2, 1, 0)),
        ({}, [{"CPU": 32, "GPU": 4}, {"CPU": 8}], Share(4, 8, 1)),
        ({"workers": 2, "threads": 3}, [{"CPU": 32, "GPU": 4}], Share(2, 3, 1)),
        ({"device": "cpu"}, [{"CPU": 32, "GPU": 4}], Share(1, 32, 0)),
    ],
)
def test_how_a_cluster_is_shared(
    words: dict[str, Any], nodes: list[dict[str, float]], share: Share
) -> None:
    assert share_of(config_of(**words), nodes) == share


def test_a_cluster_without_room_and_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no GPU and no CPU core"):
        share_of(config_of(), [{}])
    with pytest.raises(UsageError, match="threads=4: no node of the Ray cluster has more than 2"):
        share_of(config_of(threads=4), [{"CPU": 2}])

    def absent(**words: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nmore")

    monkeypatch.setattr(ray_cluster.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_cluster.ray, "init", absent)
    with pytest.raises(UsageError, match=r"no Ray cluster on this machine .*ray start --head"):
        connect(None)
    with pytest.raises(UsageError, match=r"no Ray cluster at 10\.0\.0\.1:6379"):
        connect("10.0.0.1:6379")


def test_paths_are_told_in_full(place: Path) -> None:
    Path("my.yaml").write_text("train: images\n")
    assert Path("my.yaml").absolute() != Path("my.yaml")
    fixed = absolute({"data": "my.yaml", "model": "yolo26n", "epochs": 3})
    assert fixed == {"data": str(Path("my.yaml").absolute()), "model": "yolo26n", "epochs": 3}
