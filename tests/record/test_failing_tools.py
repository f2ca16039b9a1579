"""Real tools that fail: a server stopped in mid-run, a full disk.  The run ends with the same
weights, and what the tool missed comes later."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record_checks import Rows, assert_same_weights, check
from tiny import train
from yolodet.detector.run.observer import Epoch, Observer

pytestmark = [pytest.mark.usefixtures("tiny_models"), pytest.mark.slow]


class At(Observer):
    """Does something after an epoch, when the tools have been told of it."""

    def __init__(self, **todo: Callable[[], None]) -> None:
        self._todo = todo

    def epoch(self, epoch: Epoch) -> None:
        self._todo.get(f"epoch{epoch.epoch}", lambda: None)()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB with a file that fills it."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs a disk that can be full: mounting one is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(folder: Path) -> None:
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"0" * 4096):
                pass
        except OSError:
            pass


def log_of(place: Path) -> str:
    return (place / "with" / "train" / "log.txt").read_text()


# ---------------------------------------------------------------- MLflow


class Server:
    """``mlflow server`` with SQLite, in a group of processes of its own."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as meeting:
            meeting.bind(("127.0.0.1", 0))
            self.port = meeting.getsockname()[1]
        self._folder = folder
        self.start()

    def start(self) -> None:
        words = ("server", "--host=127.0.0.1", f"--port={self.port}", "--workers=1",
                 f"--backend-store-uri=sqlite:///{self._folder}/mlflow.db",
                 f"--artifacts-destination={self._folder}/artifacts")  # fmt: skip
        self._program = subprocess.Popen(
            [str(Path(sys.executable).with_name("mlflow")), *words],
            start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 180
        while not self._answers():
            assert time.monotonic() < until and self._program.poll() is None
            time.sleep(0.2)

    def _answers(self) -> bool:
        with socket.socket() as meeting:
            return meeting.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        os.killpg(self._program.pid, signal.SIGKILL)
        self._program.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("fastapi", reason="a server needs the whole of MLflow")
    server = Server(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(None)
    try:
        yield server
    finally:
        server.stop()


def history() -> tuple[dict[str, dict[int, float]], Any]:
    """What the server has of the one run."""
    import mlflow

    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("det")
    (run,) = client.search_runs([experiment.experiment_id])
    series = {
        name: {m.step: m.value for m in client.get_metric_history(run.info.run_id, name)}
        for name in run.data.metrics
    }
    return series, run


def test_an_mlflow_server_that_is_stopped_in_mid_run(
    server: Server, squares: Path, tmp_path: Path
) -> None:
    train(squares, tmp_path / "without", epochs=4)
    todo = At(epoch2=server.stop)
    rows = Rows()
    train(squares, tmp_path / "with", epochs=4, log="mlflow", observers=[todo, rows])
    assert_same_weights(tmp_path)
    assert log_of(tmp_path).count("observer MLflow failed") == 1
    server.start()
    series, run = history()
    assert run.info.status == "RUNNING"  # nobody could tell the server
    for name, value in rows.rows[0].items():
        if name in series:
            assert series[name][1] == value


def test_an_mlflow_server_that_comes_back_gets_everything(
    server: Server, squares: Path, tmp_path: Path
) -> None:
    train(squares, tmp_path / "without", epochs=4)
    todo = At(epoch2=server.stop, epoch4=server.start)
    rows = Rows()
    train(squares, tmp_path / "with", epochs=4, log="mlflow", plots=True,
          observers=[todo, rows])  # fmt: skip
    assert_same_weights(tmp_path)
    assert log_of(tmp_path).count("observer MLflow failed") == 1
    series, run = history()
    check(series, tmp_path / "with" / "train", rows.rows)
    assert run.info.status == "FINISHED"


def test_a_full_disk_under_mlflow(
    small_disk: Path, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy", reason="MLflow keeps a SQLite file with SQLAlchemy only")
    fill(small_disk)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{small_disk}/mlflow.db")
    mlflow.set_tracking_uri(None)
    train(squares, tmp_path / "without", epochs=3)
    train(squares, tmp_path / "with", epochs=3, log="mlflow")
    assert_same_weights(tmp_path)
    assert log_of(tmp_path).count("observer MLflow failed") == 1


# ---------------------------------------------------------------- files in the run folder


def test_a_full_disk_under_wandb(
    small_disk: Path, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    train(squares, tmp_path / "without", epochs=4)
    (tmp_path / "with" / "train").mkdir(parents=True)
    (tmp_path / "with" / "train" / "wandb").symlink_to(small_disk)
    todo = At(epoch2=lambda: fill(small_disk))
    train(squares, tmp_path / "with", epochs=4, exist_ok=True, log="wandb", observers=[todo])
    assert_same_weights(tmp_path)
    assert list(small_disk.glob("offline-run-*"))
    assert log_of(tmp_path).count("WARNING: observer WeightsAndBiases failed") <= 1


def test_a_disk_that_is_full_for_a_while_under_tensorboard(
    small_disk: Path, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from yolodet.detector.record import tensorboard_run

    append = tensorboard_run.append_whole
    target = small_disk / "events.out.tfevents.1"
    monkeypatch.setattr(tensorboard_run, "append_whole", lambda path, data: append(target, data))
    # the last block of a file that has begun has room for some epochs more
    todo = At(epoch1=lambda: fill(small_disk), epoch9=(small_disk / "filler").unlink)
    train(squares, tmp_path / "without", epochs=9)
    rows = Rows()
    train(squares, tmp_path / "with", epochs=9, log="tensorboard",
          observers=[todo, rows])  # fmt: skip
    assert_same_weights(tmp_path)
    assert log_of(tmp_path).count("observer TensorBoard failed") == 1
    kept = EventAccumulator(str(small_disk), size_guidance={"scalars": 0}).Reload()
    series = {n: {e.step: e.value for e in kept.Scalars(n)} for n in kept.Tags()["scalars"]}
    check(series, tmp_path / "with" / "train", rows.rows, np.float32)
