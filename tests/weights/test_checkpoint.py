"""Checkpoints: whole or not there, nothing executed, damage noticed."""

import os
import pickle
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.models.build import architecture_of, build
from yolodet.files.atomic import write_atomically
from yolodet.weights.checkpoint import (
    CheckpointError,
    Meta,
    load_state,
    load_weights,
    read_meta,
    save_state,
    save_weights,
)

META = Meta(
    model="yolo26n", class_names=("a", "b"), image_size=320, strides=(8, 16, 32), precision="bf16"
)


@pytest.fixture
def best(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_weights(tmp_path / "best.safetensors", build("yolo26n", 2).state_dict(), META)
    return tmp_path / "best.safetensors"


def test_weights_come_back_bit_for_bit(best: Path) -> None:
    torch.manual_seed(0)
    model, meta = restore(best)
    torch.manual_seed(0)
    expected = build("yolo26n", 2).state_dict()
    assert meta == replace(META, architecture=architecture_of(model))
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_header_is_read_without_torch(best: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from yolodet.weights.checkpoint import read_meta; "
        f"assert read_meta(Path({str(best)!r})).class_names == ('a', 'b'); "
        "assert 'torch' not in sys.modules"
    )
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", code]) == 0


def test_a_flipped_byte_and_a_cut_file_are_noticed(best: Path) -> None:
    data = bytearray(best.read_bytes())
    data[-1000] ^= 1
    best.write_bytes(data)
    with pytest.raises(CheckpointError, match="checksum"):
        load_weights(best)
    best.write_bytes(data[:-5000])
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(best)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        read_meta(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, this is no tensor at all")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_weights(tmp_path / "text.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="not a checkpoint of det"):
        load_weights(tmp_path / "other.safetensors")


def test_a_newer_schema_is_refused_with_what_to_do(tmp_path: Path) -> None:
    save_weights(
        tmp_path / "new.safetensors", {"x": torch.zeros(1)}, Meta(**{**META.__dict__, "schema": 99})
    )
    with pytest.raises(CheckpointError, match=r"schema 99.*update"):
        read_meta(tmp_path / "new.safetensors")
    torch.save({"schema": 99}, tmp_path / "new.pt")
    with pytest.raises(CheckpointError, match=r"schema 99.*update"):
        load_state(tmp_path / "new.pt")


def test_state_round_trip_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"tensor": torch.arange(5000), "position": {"epoch": 3, "rows": [{"a": 1.5}]}})
    state = load_state(path)
    assert torch.equal(state["tensor"], torch.arange(5000)) and state["position"]["epoch"] == 3
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entry = next(i for i in archive.infolist() if i.file_size >= 40_000)
        start = entry.header_offset + 400
    data[start] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_state(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="not a whole training checkpoint"):
        load_state(path)


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (os.system, (f"touch {self.target}",))


def test_nothing_in_a_state_is_executed(tmp_path: Path) -> None:
    target = tmp_path / "executed"
    torch.save({"schema": 1, "evil": Evil(target)}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil(target)))
    with pytest.raises(CheckpointError):
        load_state(tmp_path / "plain.pt")
    assert not target.exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"generation": 1})

    def fail(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, fail)
    assert load_state(path)["generation"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_the_rename_comes_after_the_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(os, "fsync", lambda fd: calls.append("fsync"))
    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: (calls.append("replace"), replace(a, b))
    )
    save_state(tmp_path / "x.pt", {"a": 1})
    assert calls == ["fsync", "replace", "fsync"]
