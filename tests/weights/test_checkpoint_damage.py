"""Checkpoints on bad days: full disks, read-only folders, damage at any byte, bombs, hostile files.

What is written fails without a trace and leaves the one before; what is read is right or refused.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from rows import each
from test_unpickle import CALLS, PROTO, archive, nothing_runs
from yolodet.files.atomic import remove_partials
from yolodet.weights.checkpoint import (
    CheckpointError,
    Meta,
    is_state,
    load_state,
    load_weights,
    read_meta,
    save_state,
    save_weights,
)

META = Meta("yolo26n", ("cat", "dog"), 320, (8, 16, 32), "bf16")
TENSORS = {"a.weight": torch.arange(600.0).reshape(20, 30), "b": torch.arange(7)}
STATE = {
    "model": dict(TENSORS),
    "position": {"epoch": 3, "rows": [{"epoch": 1, "lr": 0.01}]},
    "config": {"model": "yolo26n", "amp": None},
}


def write_best(path: Path) -> None:
    save_weights(path, TENSORS, META)


def write_last(path: Path) -> None:
    save_state(path, STATE)


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], Any]]] = {
    "best.safetensors": (write_best, load_weights),
    "last.pt": (write_last, load_state),
}


@contextmanager
def quota(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: the kernel refuses the write, as on a full disk."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@each("size", [0, 100, 1500])
@each("name", KINDS)
def test_a_full_disk_leaves_the_file_before_and_nothing_else(
    tmp_path: Path, name: str, size: int
) -> None:
    write, _ = KINDS[name]
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    assert len(whole) > 1500
    with quota(size), pytest.raises(OSError, match=f"File too large: '{path}'"):
        write(path)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]
    write(path)  # and when there is room again, all is well


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    write, _ = KINDS[name]
    path = tmp_path / "runs" / name
    path.parent.mkdir()
    write(path)
    whole = path.read_bytes()
    said = as_somebody_else(path.parent, lambda: write(path))
    assert said == f"PermissionError {path}"
    assert path.read_bytes() == whole and list(path.parent.iterdir()) == [path]


def as_somebody_else(folder: Path, action: Callable[[], None]) -> str:
    """What ``action`` raises in a process that may read but not write ``folder``."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            folder.chmod(0o555)
            if os.getuid() == 0:  # root may write everywhere
                for above in (folder, *list(folder.parents)[:3]):
                    above.chmod(0o755)
                os.setuid(65534)
            action()
        except OSError as error:
            said = f"{type(error).__name__} {error.filename}"
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        folder.chmod(0o755)
        return pipe.read()


@pytest.mark.parametrize("name", KINDS)
def test_a_flipped_bit_anywhere_is_noticed(tmp_path: Path, name: str) -> None:
    """Bytes that say nothing (padding, dates of zip entries) may differ: the content may not."""
    write, load = KINDS[name]
    path = tmp_path / name
    write(path)
    whole, draw = path.read_bytes(), random.Random(0)
    noticed = 0
    for place in draw.sample(range(len(whole)), 600):
        data = bytearray(whole)
        data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        try:
            found = load(path)
        except CheckpointError as error:
            noticed += str(path) in str(error) and "\n" not in str(error)
        else:
            assert same_content(found), f"byte {place} of {len(whole)}"
    assert noticed > 400


def same_content(found: Any) -> bool:
    if isinstance(found, tuple):
        tensors, meta = found
        return meta == META and same_tensors(tensors)
    rest = {key: found[key] for key in ("position", "config")}
    return rest == {key: STATE[key] for key in rest} and same_tensors(found["model"])


def same_tensors(tensors: dict[str, torch.Tensor]) -> bool:
    return tensors.keys() == TENSORS.keys() and all(
        torch.equal(tensors[key], value) for key, value in TENSORS.items()
    )


@pytest.mark.parametrize("name", KINDS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, name: str) -> None:
    write, load = KINDS[name]
    path = tmp_path / name
    write(path)
    whole, draw = path.read_bytes(), random.Random(0)
    for length in [0, 1, 7, 8, 9, len(whole) - 1, *draw.sample(range(len(whole)), 60)]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            load(path)


@each("schema", [4, 99, "1", None, 1.5])
def test_another_schema_is_refused(tmp_path: Path, schema: Any) -> None:
    meta = Meta(**{**META.__dict__, "schema": schema})
    save_weights(tmp_path / "best.safetensors", TENSORS, meta)
    torch.save({**STATE, "schema": schema}, tmp_path / "last.pt")
    newer = type(schema) is int
    said = "this version reads up to 3: update yolodet" if newer else "checkpoint of det"
    for load, name in ((read_meta, "best.safetensors"), (load_state, "last.pt")):
        with pytest.raises(CheckpointError, match=said):
            load(tmp_path / name)


def test_a_file_that_unpacks_to_more_than_it_is_is_refused_unopened(tmp_path: Path) -> None:
    """As torch.save would write it, but compressed: 400 MB of zeros in 400 kB."""
    bomb = tmp_path / "last.pt"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("archive/data.pkl", PROTO + b"}X\x06\x00\x00\x00schemaK\x01s.")
        with file.open("archive/data/0", "w", force_zip64=True) as entry:
            for _ in range(100):
                entry.write(bytes(4_000_000))
    assert bomb.stat().st_size < 4_000_000
    with pytest.raises(CheckpointError, match="zip bomb"):
        load_state(bomb)
    data = bytearray(bomb.read_bytes())  # an entry that only claims to be small
    place = data.rindex(b"PK\x01\x02")
    data[place + 10 : place + 12] = struct.pack("<H", zipfile.ZIP_STORED)
    bomb.write_bytes(data)
    with pytest.raises(CheckpointError):
        load_state(bomb)


def test_a_header_longer_than_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    for size in (2**63, 2**40, 60 * 2**20):
        path.write_bytes(struct.pack("<Q", size) + b"{}")
        with pytest.raises(CheckpointError):
            load_weights(path)


@each("wanted", CALLS)
def test_a_malicious_state_is_refused_and_nothing_of_it_is_run(wanted: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "last.pt", PROTO + CALLS[wanted])
    save_state(tmp_path / "honest.pt", STATE)
    load_state(tmp_path / "honest.pt")  # what reading itself imports is imported now
    with nothing_runs(), pytest.raises(CheckpointError):
        load_state(path)


def test_states_are_told_from_other_files_without_opening_them(tmp_path: Path) -> None:
    write_last(tmp_path / "last.pt")
    assert is_state(tmp_path / "last.pt")
    torch.save({"model": TENSORS}, tmp_path / "theirs.pt")
    (tmp_path / "text.pt").write_text("schema")
    (tmp_path / "empty.pt").write_bytes(b"")
    assert not any(is_state(tmp_path / name) for name in ("theirs.pt", "text.pt", "empty.pt"))


def test_remains_of_killed_writes_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = ["last.pt", ".last.pt.partial", ".notes.partial", "x.0123abcd.partial"]
    for name in (*kept, ".last.pt.0123abcd.partial", "weights/.best.safetensors.00000000.partial"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    remove_partials(tmp_path)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)
