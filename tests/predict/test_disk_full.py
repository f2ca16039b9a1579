"""A disk that is full: every writer names the file, and leaves neither a part of it nor a lie."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from yolodet import cli
from yolodet.detector.evaluate.figure import save_picture
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.predict.results import Results
from yolodet.detector.predict.sources import Frame
from yolodet.detector.predict.video import VideoError, VideoWriter
from yolodet.detector.predict.writer import Outputs, ResultWriter
from yolodet.detector.run.files import write_csv, write_json
from yolodet.detector.run.log import Log
from yolodet.files import atomic
from yolodet.files.atomic import append_whole, write_atomically
from yolodet.files.staging import staging

NOISE = np.random.default_rng(0).integers(0, 256, (64, 65, 3), np.uint8)


@contextlib.contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes inside: the writes fail as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def result(name: str, frame: int | None = None) -> Results:
    box = torch.tensor([[4.0, 4.0, 60.0, 60.0]])
    found = Detections(box, torch.tensor([0.5]), torch.tensor([0]))
    return Results(Frame(NOISE, Path(name), frame, 10.0), found, {0: "cat"}, {})


def everything(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("size", "frames"), [(10, 5), (100, 5), (3000, 5), (20_000, 60)])
def test_a_video_that_is_not_whole_is_an_error_and_no_file(
    tmp_path: Path, size: int, frames: int
) -> None:
    writer = VideoWriter(tmp_path / "v", fps=10.0, size=(64, 65))
    with full_after(size), pytest.raises((OSError, VideoError), match=r"v\.(mp4|avi)"):
        for _ in range(frames):
            writer.write(NOISE)
        writer.close()
    writer.discard()
    assert everything(tmp_path) == []


def test_a_whole_video_of_any_length_passes(tmp_path: Path) -> None:
    for frames in (1, 2, 60):
        writer = VideoWriter(tmp_path / f"v{frames}", fps=None, size=(64, 65))
        for _ in range(frames):
            writer.write(NOISE)
        assert writer.close().is_file()


def test_a_full_disk_is_noticed_while_a_long_video_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = VideoWriter(tmp_path / "v", fps=10.0, size=(64, 65))
    monkeypatch.setattr("yolodet.detector.predict.video._is_full", lambda folder: True)
    with pytest.raises(OSError, match=r"No space left on device.*v\.mp4"):
        for _ in range(60):
            writer.write(NOISE)
    writer.discard()
    assert everything(tmp_path) == []


@pytest.mark.parametrize(
    ("outputs", "results", "named"),
    [
        (Outputs(), [result("a.jpg")], "a.jpg"),
        (Outputs(), [result("a.png")], "a.png"),
        (Outputs(), [result("v.avi", frame) for frame in range(5)], "v.mp4"),
        (Outputs(save=False, save_crop=True), [result("a.jpg")], "a-1.jpg"),
        (Outputs(save=False, save_json=True), [result("a.jpg")] * 20, "predictions.json"),
        (Outputs(save=False, save_json=True), [result("a.jpg")] * 200, "predictions.json"),
    ],
    ids=["picture", "png", "video", "crop", "json", "long json"],
)
def test_a_prediction_run_leaves_no_part_of_a_file(
    tmp_path: Path, outputs: Outputs, results: list[Results], named: str
) -> None:
    with (
        full_after(500),
        pytest.raises((OSError, VideoError)) as caught,
        ResultWriter(tmp_path, outputs) as writer,
    ):
        for each in results:
            writer.write(each)
    assert named in cli._explain(caught.value)[0]
    assert everything(tmp_path) == []


def test_ctrl_c_finishes_the_video_of_a_camera(tmp_path: Path) -> None:
    outputs = Outputs(save_json=True)
    with pytest.raises(KeyboardInterrupt), ResultWriter(tmp_path, outputs) as writer:
        for frame in range(3):
            writer.write(result("camera-0", frame))
        raise KeyboardInterrupt
    assert everything(tmp_path) == ["camera-0.mp4", "predictions.json"]


WRITERS: dict[str, Callable[[Path], object]] = {
    "bytes": lambda path: write_atomically(path, lambda file: file.write(bytes(2000))),
    "many small": lambda path: write_atomically(
        path, lambda file: [file.write(b"0123456789") for _ in range(200)]
    ),
    "torch": lambda path: write_atomically(path, lambda f: torch.save(torch.zeros(2000), f)),
    "numpy": lambda path: write_atomically(path, lambda f: np.savez(f, a=np.zeros(2000))),
    "csv": lambda path: write_csv(path, [{"a": 1.0}] * 2000),
    "json": lambda path: write_json(path, list(range(2000))),
    "plot": lambda path: save_picture(NOISE, path.with_suffix(".png")),
    "results": lambda path: result("a.jpg").save(path.with_suffix(".png")),
    "crop": lambda path: result("a.jpg").save_crop(path.parent, path.name),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_the_old_file_stays_and_the_error_names_it(tmp_path: Path, writer: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with full_after(1000), pytest.raises(OSError) as caught:
        WRITERS[writer](path)
    assert caught.value.errno == errno.EFBIG
    assert Path(str(caught.value.filename)).stem == "file"
    assert everything(tmp_path) == ["file"] and path.read_text() == "old"


def test_what_is_appended_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    append_whole(path, b"x" * 900)
    log = Log(verbose=False)
    log.to_file(tmp_path / "log.txt")
    log.info("first")
    with full_after(1000):
        with pytest.raises(OSError, match=r"rows\.txt"):
            append_whole(path, b"y" * 900)
        with pytest.raises(OSError, match=r"rows\.txt"):
            [result("a.jpg").save_txt(path) for _ in range(9)]
        with pytest.raises(OSError, match=r"log\.txt"):
            log.info("y" * 2000)
    assert b"y" not in path.read_bytes() and path.read_bytes().count(b"x") == 900
    assert (tmp_path / "log.txt").read_text() == "first\n"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EIO])
def test_a_file_system_without_fsync_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    path = tmp_path / "file"
    if number == errno.EIO:  # a disk that is broken
        with pytest.raises(OSError, match="file"):
            write_json(path, 1)
        return
    write_json(path, 1)
    assert path.read_text() == "1\n"


def test_a_dead_terminal_does_not_end_a_run(tmp_path: Path) -> None:
    log = Log()
    log.to_file(tmp_path / "log.txt")
    saved = os.dup(2)
    try:
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 2)
        console = log._console
        console.file = open(2, "w", closefd=False)  # noqa: SIM115
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stderr", console.file)
            for number in range(3):
                log.info(f"line {number}")
    finally:
        os.dup2(saved, 2)
    assert (tmp_path / "log.txt").read_text() == "line 0\nline 1\nline 2\n"


def test_what_a_killed_process_left_of_a_folder_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "set"
    left = tmp_path / ".set.abc123.writing"
    (left / "set").mkdir(parents=True)
    with staging(target) as first:
        assert not left.exists()
        with staging(target) as second:
            assert first.exists() and second.exists()
    assert list(tmp_path.iterdir()) == []
