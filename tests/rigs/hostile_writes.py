"""Attacks on writing, loading and owning, counted: ``python tests/rigs/hostile_writes.py [WORD]``.

Each attack is a function that raises Fell where det loses or hides something.  Full disks are acted
out with RLIMIT_FSIZE: writes fail or stop halfway as they do there, with another number.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hostile_loads import (
    TEXTS,
    Calls,
    Fell,
    broken_note,
    cut,
    expect,
    flipped,
    hostile_pickle,
    hostile_yaml,
    not_finite,
)
from tiny import train, use_tiny_detector, write_tiny_data
from yolodet import cli
from yolodet.datasets.drawn.shapes import write_shapes
from yolodet.detector.evaluate.figure import save_picture
from yolodet.detector.evaluate.postprocess import Detections
from yolodet.detector.predict.results import Results
from yolodet.detector.predict.sources import Frame
from yolodet.detector.predict.writer import Outputs, ResultWriter
from yolodet.detector.run.files import write_csv, write_json
from yolodet.detector.run.folder import BEST, LAST
from yolodet.detector.run.owner import LOCK, NOTE, owned
from yolodet.detector.run.signals import stop_request
from yolodet.files.archive import extract_zip
from yolodet.files.atomic import append_whole, write_bytes
from yolodet.files.errors import DetError
from yolodet.weights.checkpoint import load_state, load_weights, save_state, save_weights

NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
SECONDS = 60.0
"""Of computing, on a machine that others use too."""
Attack = Callable[[Path], None]


@contextlib.contextmanager
def full_after(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left_over(folder: Path) -> list[str]:
    """Names of unfinished files and folders."""
    endings = (".partial", ".part", ".writing")
    return [p.name for p in folder.rglob("*") if any(end in p.name for end in endings)]


# ---------------------------------------------------------------- writers on a disk that fills


def _result(name: str, frame: int | None = None) -> Results:
    box = torch.tensor([[4.0, 4.0, 60.0, 60.0]])
    found = Detections(box, torch.tensor([0.5]), torch.tensor([0]))
    return Results(Frame(NOISE, Path(name), frame, 10.0), found, {0: "cat"}, {})


def _predicted(path: Path, source: str, frames: int, **outputs: bool) -> None:
    with ResultWriter(path.parent, Outputs(**{"save": False, **outputs})) as writer:
        for frame in range(frames):
            writer.write(_result(source, None if source.endswith(("g", "x")) else frame))


def _weights(path: Path) -> None:
    tensors, meta = load_weights(RUN / BEST)
    save_weights(path, tensors, meta)


def _state(path: Path) -> None:
    save_state(path, {"a": torch.zeros(3000), "b": list(range(500))})


def _unzip(path: Path) -> None:
    extract_zip(BASE / "archive.zip", path.with_name("unpacked"), limit_bytes=1 << 20)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: write_bytes(path, os.urandom(5000)),
    "json": lambda path: write_json(path, list(range(3000))),
    "csv": lambda path: write_csv(path, [{"a": 1.0}] * 3000),
    "plot": lambda path: save_picture(NOISE, path.with_suffix(".png")),
    "append": lambda path: append_whole(path, b"x" * 5000),
    "weights": _weights,
    "state": _state,
    "picture": lambda path: _predicted(path, "a.jpg", 3, save=True),
    "png": lambda path: _predicted(path, "a.png", 2, save=True),
    "crops": lambda path: _predicted(path, "a.jpg", 3, save_crop=True),
    "labels": lambda path: _predicted(path, "a.jpg", 30, save_txt=True),
    "detections": lambda path: _predicted(path, "a.jpg", 60, save_json=True),
    "video": lambda path: _predicted(path, "v.mov", 12, save=True),
    "video of one frame": lambda path: _predicted(path, "v.mov", 1, save=True),
    "save": lambda path: _result("a").save(path.with_suffix(".jpg")),
    "save_txt": lambda path: [_result("a").save_txt(path) for _ in range(200)],
    "drawn set": lambda path: write_shapes(path.with_name("set"), train=2, val=1, size=96),
    "archive": _unzip,
}
LIMITS = (0, 1, 37, 500, 1500, 4096, 20_000)


def full_disk(writer: str, size: int, folder: Path) -> None:
    path = folder / "file"
    path.write_bytes(b"old\n")
    try:
        with full_after(size):
            WRITERS[writer](path)
        _readable(folder)
    except (OSError, DetError) as error:
        message, code = cli._explain(error)
        expect(code == 1, f"exit code {code}")
        expect(str(folder) in message or "archive.zip" in message, f"no file named: {message}")
    expect(not left_over(folder), f"left {left_over(folder)}")
    expect(path.read_bytes().startswith(b"old\n") or writer in ("bytes", "json", "csv", "weights",
           "state"), "the old file is gone")  # fmt: skip
    _readable(folder)


def _readable(folder: Path) -> None:
    """Every file under its final name is whole."""
    for path in folder.rglob("*"):
        if path.suffix in (".jpg", ".png"):
            expect(cv2.imread(str(path)) is not None, f"{path.name} cannot be read")
        elif path.suffix in (".mp4", ".avi"):
            expect(cv2.VideoCapture(str(path)).read()[0], f"{path.name} cannot be opened")
        elif path.suffix == ".json":
            json.loads(path.read_text())


def full_disk_in_training(size: int, folder: Path) -> None:
    """The run ends badly and names a file, or every file of it is whole."""
    try:
        with full_after(size):
            train(SET, folder, epochs=1)
    except (OSError, DetError) as error:
        message, code = cli._explain(error)
        expect(code == 1 and str(folder) in message, f"{code}: {message}")
    else:
        load_weights(folder / "train" / BEST), load_state(folder / "train" / LAST)
    expect(not left_over(folder), f"left {left_over(folder)}")


# ---------------------------------------------------------------- signals and owners


def signals_in_turn(numbers: tuple[int, ...], folder: Path) -> None:
    """Two signals: never lost; only a second Ctrl-C or SIGTERM stops at once."""
    at_once = False
    with stop_request() as stop:
        try:
            for number in numbers:
                signal.raise_signal(number)
        except KeyboardInterrupt:
            at_once = True
    hard = [n for n in numbers if n != signal.SIGHUP]
    expect(at_once == (len(hard) > 1), f"at once: {at_once}")
    expect(stop.signum is not None, "lost")


def ctrl_c_at(module: str, folder: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "class F:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, F())\n"
        "sys.argv = ['det', 'train', 'data=shapes', 'epochs=0']\n"
        "from yolodet.__main__ import main\n"
        "sys.exit(main())\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    expect("Traceback" not in run.stderr, run.stderr[-300:])
    expect(run.returncode in (0, 1, 2, 130), f"exit code {run.returncode}")


HOLDER = (
    "import sys, time\nfrom pathlib import Path\nfrom yolodet.detector.run.owner import owned\n"
    "with owned(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
)


def held_by(note: str | None, number: int, folder: Path) -> None:
    """A run that lives, with a note about it that is damaged; then it is ended by a signal."""
    holder = [sys.executable, "-c", HOLDER, str(folder)]
    process = subprocess.Popen(holder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    if note is not None:
        (folder / NOTE).write_text(note)
    try:
        with owned(folder):
            raise Fell("it has two owners")
    except DetError as error:
        expect("in use" in str(error), str(error))
    finally:
        process.send_signal(number)
        process.wait()
    with owned(folder):
        pass


def odd_lock(make: Callable[[Path], Any], folder: Path) -> None:
    make(folder / LOCK)
    with contextlib.suppress(DetError), owned(folder):
        pass


# ---------------------------------------------------------------- all of them


def attacks() -> Iterator[tuple[str, Attack]]:
    for writer, size in itertools.product(WRITERS, LIMITS):
        yield f"full disk: {writer}, {size} bytes", partial(full_disk, writer, size)
    for size in (0, 100, 1000, 5000, 20_000, 60_000, 200_000):
        yield f"full disk: training, {size} bytes", partial(full_disk_in_training, size)
    for name, text in TEXTS.items():
        yield f"yaml: {name}", partial(hostile_yaml, text)
    random = np.random.default_rng(1)
    for name, _ in itertools.product((BEST, LAST), range(12)):
        place, bit = float(random.random()), int(random.integers(8))
        yield f"bit: {name.name} at {place:.2f}", partial(flipped, RUN, name, place, bit)
    for name, share in itertools.product((BEST, LAST), (0.0, 0.001, 0.3, 0.999)):
        yield f"cut: {name.name} to {share}", partial(cut, RUN, name, share)
    for value in (float("nan"), float("inf"), float("-inf")):
        yield f"weights: {value}", partial(not_finite, RUN, value)
    nested: list[Any] = [1]
    for _ in range(50):
        nested = [nested, nested]
    values = {
        "bytearray": Calls(bytearray, 10**10), "bytes": Calls(bytes, 10**10), "set": {1},
        "system": Calls(os.system, "true"), "storage": Calls(torch.UntypedStorage, 10**10),
        "tensor": Calls(torch.zeros, 10**10), "range": Calls(list, range(9)), "nested": nested,
        "complex": 1j, "eval": Calls(eval, "1"), "array": np.zeros(3),
    }  # fmt: skip
    for (name, value), protocol in itertools.product(values.items(), (2, 4)):
        yield f"pickle: {name}, protocol {protocol}", partial(hostile_pickle, value, protocol)
    for text in ("", "{", "[]", "null", '{"data": 5}', '{"pid": 1e400}', "\0", "[" * 50_000):
        yield f"note: {text[:12]!r}", partial(broken_note, RUN, SET, text)
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for numbers in (*itertools.product(kinds, repeat=1), *itertools.product(kinds, repeat=2)):
        names = ", ".join(signal.Signals(n).name for n in numbers)
        yield f"signals: {names}", partial(signals_in_turn, numbers)
    for module in ("yolodet.cli", "yolodet.detector.options.argv", "yolodet.detector.options.parse",
                   "yolodet.detector.run.log", "yolodet.detector.train.check", "yaml",
                   "yolodet.detector.commands.train", "numpy", "json"):  # fmt: skip
        yield f"ctrl-c: {module}", partial(ctrl_c_at, module)
    notes = (None, "", '{"pid": 0}')
    for note, number in itertools.product(notes, (signal.SIGKILL, signal.SIGTERM)):
        yield f"owner: note {note!r}, signal {number}", partial(held_by, note, number)
    yield "owner: the lock is a folder", partial(odd_lock, Path.mkdir)
    yield "owner: the lock is a pipe", partial(odd_lock, os.mkfifo)
    yield "owner: the lock is a link", partial(odd_lock, lambda path: path.symlink_to("/nowhere/x"))
    yield "owner: the lock is read-only", partial(odd_lock, lambda path: path.touch(0o400))


BASE = Path(tempfile.mkdtemp(prefix="hostile-"))
SET, RUN = Path(), Path()


def main() -> int:
    """Run every attack, or those whose name has the word in argv; print those that fell."""
    global SET, RUN
    os.environ["DET_CACHE"] = str(BASE / "cache")
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    fallen = tried = 0
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_detector(patch)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        SET = write_tiny_data(BASE / "shapes")
        train(SET, BASE, epochs=1)
        with zipfile.ZipFile(BASE / "archive.zip", "w") as file:
            for number in range(5):
                file.writestr(f"d/{number}", os.urandom(1500 * number))
        RUN = BASE / "train"
        for number, (name, attack) in enumerate(attacks()):
            if word not in name:
                continue
            tried += 1
            folder = BASE / str(number)
            folder.mkdir()
            started = time.process_time()
            try:
                with open(os.devnull, "w") as quiet, contextlib.redirect_stderr(quiet):
                    attack(folder)
                reason = ""
            except Fell as error:
                reason = str(error)
            except BaseException:  # noqa: BLE001  an escape is a fall
                reason = traceback.format_exc().strip().replace("\n", " | ")[-400:]
            if not reason and time.process_time() - started > SECONDS:
                reason = f"{time.process_time() - started:.0f} s"
            if reason:
                fallen += 1
                print(f"FELL  {name}: {reason}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(BASE, ignore_errors=True)
    print(f"{tried} attacks, {tried - fallen} held, {fallen} fell")
    return int(fallen > 0)


if __name__ == "__main__":
    sys.exit(main())
