"""The real tools: what they kept of a run is what results.csv says."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from record_checks import Rows, Series, assert_same_weights, check
from tiny import train

pytestmark = pytest.mark.usefixtures("tiny_models")

def run_twice(squares: Path, project: Path, tool: str) -> tuple[Path, list[dict[str, Any]]]:
    """Two epochs, then two more of the same run, recorded by ``tool``."""
    rows = Rows()
    train(squares, project, epochs=2, plots=True, log=tool, observers=[rows])
    train(squares, project, resume=str(project / "train"), epochs=4, observers=[rows])
    return project / "train", rows.rows


def test_tensorboard_has_every_number_and_the_pictures(squares: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder, rows = run_twice(squares, tmp_path, "tensorboard")
    kept = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
    series = {n: {e.step: e.value for e in kept.Scalars(n)} for n in kept.Tags()["scalars"]}
    check(series, folder, rows, np.float32)
    assert "ap/square" in series and {"labels", "confusion_matrix"} <= set(kept.Tags()["images"])
    picture = kept.Images("confusion_matrix")[-1]
    assert picture.encoded_image_string == (folder / "confusion_matrix.png").read_bytes()
    text = kept.Tensors("run/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "data_train_sha256" in text and "imgsz: 64" in text


def test_mlflow_has_every_number_the_options_the_pictures_and_the_weights_in_one_run(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy", reason="MLflow keeps a SQLite file with SQLAlchemy only")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.set_tracking_uri(None)
    folder, rows = run_twice(squares, tmp_path / "runs", "mlflow")
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("det")
    (run,) = client.search_runs([experiment.experiment_id])
    names = run.data.metrics
    series = {
        n: {m.step: m.value for m in client.get_metric_history(run.info.run_id, n)} for n in names
    }
    check(series, folder, rows)
    assert run.info.status == "FINISHED" and run.data.params["imgsz"] == "64"
    assert len(run.data.params["data_train_sha256"]) == 64
    found = {f.path for f in client.list_artifacts(run.info.run_id, "pictures")}
    assert {"pictures/train_batch.jpg", "pictures/val_batch.jpg"} <= found
    weights = client.download_artifacts(run.info.run_id, "weights/best.safetensors")
    assert Path(weights).read_bytes() == (folder / "weights" / "best.safetensors").read_bytes()


def test_an_mlflow_server_that_is_away_costs_a_warning(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(None)
    train(squares, tmp_path / "without", epochs=2)
    train(squares, tmp_path / "with", epochs=2, log="mlflow")
    assert_same_weights(tmp_path)
    text = (tmp_path / "with" / "train" / "log.txt").read_text()
    assert text.count("observer MLflow failed") == 1


def test_a_full_disk_under_tensorboard_costs_a_warning(squares: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from yolodet.detector.record import tensorboard_run

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    train(squares, tmp_path / "without", epochs=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard_run, "append_whole", full)
        train(squares, tmp_path / "with", epochs=3, log="tensorboard")
    assert_same_weights(tmp_path)
    text = (tmp_path / "with" / "train" / "log.txt").read_text()
    assert text.count("observer TensorBoard failed") == 1 and "No space left" in text


def wandb_records(content: bytes) -> Iterator[bytes]:
    """The records of a W&B file: 7 bytes of its own, then LevelDB's log format, in which a record
    is one piece (1) or a first (2), middle (3) and last (4) one, none over a border of 32 KiB."""
    at, parts = 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack_from("<HB", content, at + 4)
        parts += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield parts
            parts = b""


def wandb_history(folder: Path) -> tuple[Series, dict[str, Any], list[str]]:
    """Numbers, options and the files of all offline records of a run folder."""
    from wandb.proto import wandb_internal_pb2

    series: Series = {}
    config: dict[str, Any] = {}
    kinds: list[str] = []
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        for data in wandb_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            kinds.append(record.WhichOneof("record_type"))
            if record.HasField("history"):
                step = record.history.step.num
                for item in record.history.item:
                    name = item.key or "/".join(item.nested_key)
                    value = json.loads(item.value_json)
                    if isinstance(value, int | float):
                        series.setdefault(name, {})[step] = value
            for update in (*record.run.config.update, *record.config.update):
                config[update.key] = json.loads(update.value_json)
    return series, config, kinds


def test_wandb_offline_has_every_number_the_options_and_the_weights(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder, rows = run_twice(squares, tmp_path, "wandb")
    series, config, kinds = wandb_history(folder)
    check(series, folder, rows)
    assert config["imgsz"] == 64 and len(config["data_train_sha256"]) == 64
    assert "artifact" in kinds or "request" in kinds
    names = {path.name.rpartition("-")[2] for path in folder.glob("wandb/offline-run-*")}
    assert names == {json.loads((folder / "trackers.json").read_text())["wandb"]}
