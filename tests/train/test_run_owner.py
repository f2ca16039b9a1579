"""A run folder belongs to one living process, remembers where its data were, and says at the start
what has changed since."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from alarms import alarm
from tiny import train, train_config, val
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.evaluate import metrics
from yolodet.detector.options.errors import UsageError
from yolodet.detector.run import owner, signals
from yolodet.detector.run.data_place import DATA
from yolodet.detector.run.folder import BEST, LAST, new_run_folder
from yolodet.detector.run.log import Log
from yolodet.detector.run.owner import FolderInUse, owned
from yolodet.detector.run.signals import sigterm_raises, stop_request
from yolodet.detector.train import pipeline
from yolodet.files.errors import DetError
from yolodet.weights.checkpoint import (
    CheckpointError,
    load_state,
    load_weights,
    save_state,
    save_weights,
)

HOLD = """
import sys, time
from pathlib import Path
from yolodet.detector.run.owner import owned
with owned(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


# ---------------------------------------------------------------- one owner


def test_the_second_process_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    process = hold(tmp_path)
    try:
        with pytest.raises(FolderInUse, match=rf"in use by process {process.pid} on \S+ since 20"):
            owned(tmp_path).__enter__()
    finally:
        process.kill()
        process.wait()
    with owned(tmp_path):  # a killed owner holds nothing
        assert json.loads((tmp_path / owner.NOTE).read_text())["pid"] == os.getpid()
    assert not (tmp_path / owner.NOTE).exists()


@pytest.mark.usefixtures("tiny_models")
def test_a_run_that_lives_is_neither_resumed_nor_written_into(shapes: Path, tmp_path: Path) -> None:
    train(shapes, tmp_path, epochs=1)
    before = (tmp_path / "train" / LAST).read_bytes()
    process = hold(tmp_path / "train")
    try:
        with pytest.raises(FolderInUse):
            train(shapes, tmp_path, resume=tmp_path / "train", epochs=2)
        with pytest.raises(FolderInUse):
            train(shapes, tmp_path, exist_ok=True, epochs=1)
        config, _ = train_config(shapes, tmp_path, exist_ok=True)
        with pytest.raises(FolderInUse):
            new_run_folder(config, "train")
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "train" / LAST).read_bytes() == before
    train(shapes, tmp_path, resume=tmp_path / "train", epochs=2)


@pytest.mark.parametrize("note", ["", "[]", "{", '{"pid": "x"}', '{"pid": -1, "host": "a"}'])
def test_a_broken_note_about_the_owner_is_no_trouble(tmp_path: Path, note: str) -> None:
    process = hold(tmp_path)
    try:
        (tmp_path / owner.NOTE).write_text(note)
        with pytest.raises(FolderInUse, match="is in use by"):
            owned(tmp_path).__enter__()
    finally:
        process.kill()
        process.wait()


# ---------------------------------------------------------------- where the data were


@pytest.fixture
def project(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_models: None
) -> Path:
    """A folder with ``data.yaml``, a run of one epoch, and another folder with other data under
    the same name, which is the current one."""
    for name in ("ours", "theirs"):
        shutil.copytree(shapes.parent, tmp_path / name)
    for kind in ("images", "labels"):
        for file in sorted((tmp_path / "theirs" / kind / "train").iterdir())[:9]:
            file.unlink()
    monkeypatch.chdir(tmp_path / "ours")
    train(Path("data.yaml"), tmp_path, epochs=1, save_period=1)
    monkeypatch.chdir(tmp_path / "theirs")
    return tmp_path


def test_a_run_uses_its_own_data_from_any_folder(project: Path) -> None:
    run = project / "train"
    result = train(Path("ignored"), project, resume=run, epochs=2)
    assert result["data"]["train_images"] == 12
    assert Path(json.loads((run / DATA).read_text())["yaml"]) == project / "ours" / "data.yaml"
    assert str(project) not in json.dumps(load_weights(run / BEST)[1].data)
    images = val(model=str(run / BEST), project=str(project))["metrics"]
    assert (
        images
        == val(
            model=str(run / BEST), project=str(project), data=str(project / "ours" / "data.yaml")
        )["metrics"]
    )


def test_data_that_are_gone_are_asked_for(project: Path) -> None:
    (project / "ours").rename(project / "moved")
    for call in (
        lambda: train(Path("ignored"), project, resume=project / "train", epochs=2),
        lambda: val(model=str(project / "train" / BEST), project=str(project)),
    ):
        with pytest.raises(UsageError, match=r"ours/data\.yaml.*data="):
            call()
    moved = project / "moved" / "data.yaml"
    go_on(project / "train", moved)


def go_on(run: Path, data: Path) -> None:
    """As ``det train resume=RUN epochs=2 data=DATA``."""
    config, _ = train_config(data, run.parent, resume=run, epochs=2)
    pipeline.train(config, frozenset(("resume", "epochs", "data")), Log(verbose=False))


def change_label(data: Path) -> None:
    file = next(f for f in sorted((data / "labels" / "train").iterdir()) if f.read_text())
    first, rest = file.read_text().split(" ", 1)
    file.write_text(f"{(int(first) + 1) % 10} {rest}")


@pytest.mark.parametrize("what", ["label", "image gone"])
def test_changed_data_are_refused_until_they_are_named(project: Path, what: str) -> None:
    ours = project / "ours"
    if what == "label":
        change_label(ours)
    else:
        next((ours / "images" / "train").iterdir()).unlink()
    run = project / "train"
    said = "has other images or labels" if what == "label" else "train had 12 images, now 11"
    with pytest.raises(UsageError, match=rf"{said}.*data="):
        train(Path("ignored"), project, resume=run, epochs=2)
    go_on(run, ours / "data.yaml")
    assert said in (run / "log.txt").read_text()
    train(Path("ignored"), project, resume=run, epochs=3)  # they are the run's data now


def test_copied_data_are_the_same_data(project: Path) -> None:
    for file in (project / "ours").rglob("*.*"):
        os.utime(file, (1, 1))
    train(Path("ignored"), project, resume=project / "train", epochs=2)
    warnings = re.findall("WARNING: .*", (project / "train" / "log.txt").read_text())
    assert [line for line in warnings if "less than 8 pixels" not in line] == []


def test_a_checkpoint_alone_refuses_another_data_set_of_that_name(project: Path) -> None:
    alone = project / "alone.safetensors"
    shutil.copy(project / "train" / BEST, alone)
    next((project / "theirs" / "images" / "val").iterdir()).unlink()
    with pytest.raises(UsageError, match=r"trained beside 3 images of val.*data="):
        val(model=str(alone), project=str(project))
    val(model=str(alone), project=str(project), data="data.yaml")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"data": 1, "yaml": 2, "splits": {}}'])
def test_a_broken_data_json_counts_as_none(project: Path, text: str) -> None:
    (project / "train" / DATA).write_text(text)
    with pytest.raises(UsageError, match=r"another number of images.*data="):
        train(Path("ignored"), project, resume=project / "train", epochs=2)


# ---------------------------------------------------------------- what the start of a resume says


@pytest.mark.usefixtures("tiny_models")
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_lost_best_weights_are_known_at_the_start(
    shapes: Path, tmp_path: Path, damage: str
) -> None:
    train(shapes, tmp_path, epochs=1)
    best = tmp_path / "train" / BEST
    best.unlink() if damage == "missing" else best.write_bytes(best.read_bytes()[:-1])
    result = train(shapes, tmp_path, resume=tmp_path / "train", epochs=2)
    assert result["best_epoch"] == 2 and load_weights(best)[1].epoch == 2
    log = (tmp_path / "train" / "log.txt").read_text()
    assert "are lost; the best of the epochs from here on are kept" in log


@pytest.mark.usefixtures("tiny_models")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(
    shapes: Path, tmp_path: Path, value: float
) -> None:
    train(shapes, tmp_path, epochs=1)
    best, last = tmp_path / "train" / BEST, tmp_path / "train" / LAST
    tensors, meta = load_weights(best)
    name = next(name for name in tensors if name.endswith("weight"))
    first = (0,) * tensors[name].ndim
    tensors[name][first] = value
    save_weights(best, tensors, meta)
    state = load_state(last)
    state["model"][name][first] = value
    save_state(last, {k: v for k, v in state.items() if k != "schema"})
    with pytest.raises(CheckpointError, match=f"1 value of {name} are NaN or infinite"):
        restore(best)
    with pytest.raises(CheckpointError, match=f"1 value of {name} are NaN or infinite"):
        train(shapes, tmp_path, resume=tmp_path / "train", epochs=2)


def test_half_precision_weights_beyond_its_range_stay_float32() -> None:
    from yolodet.detector.train.checkpoint_writer import _halved

    assert _halved(torch.tensor([[1.0]])).dtype == torch.float16
    assert _halved(torch.tensor([[70_000.0]])).dtype == torch.float32


# ---------------------------------------------------------------- signals


def test_a_closed_terminal_saves_and_never_counts_as_a_second_signal() -> None:
    with stop_request() as stop:
        for signum in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(signum)
        assert stop.signum == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_a_closed_terminal_ends_other_commands_with_129() -> None:
    with pytest.raises(signals.Terminated, match="stopped by SIGHUP") as caught, sigterm_raises():
        signal.raise_signal(signal.SIGHUP)
    assert caught.value.exit_code == 129


def test_nohup_stays_in_force() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_request() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.signum is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


CTRL_C = """
import os, signal, sys, time
class Finder:
    def find_spec(self, name, *rest):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs of the background
from yolodet.__main__ import main
name, sys.argv[1:] = sys.argv[1], ["config"]
sys.argv[1:1] = [name]
sys.exit(main())
"""


@pytest.mark.parametrize("module", ["yolodet.cli", "yolodet.detector.options.parse", "math_absent"])
def test_ctrl_c_while_loading_is_one_line(module: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", CTRL_C, module], capture_output=True, text=True, timeout=120
    )
    if module == "math_absent":  # nobody pressed Ctrl-C
        assert "Traceback" not in run.stderr and run.returncode != 130
        return
    assert (run.returncode, run.stderr) == (130, "det: stopped by Ctrl-C\n")


def coco_json(folder: Path, split: str) -> None:
    """``SPLIT.json`` about the images of a split, a box in each."""
    names = [path.name for path in sorted((folder / "images" / split).iterdir())]
    sizes = [cv2.imread(str(folder / "images" / split / name)).shape for name in names]
    images = [
        {"id": i, "file_name": name, "height": size[0], "width": size[1]}
        for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    boxes = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [4, 4, 20, 20], "iscrowd": 0}
        for i in range(len(names))
    ]
    document = {"images": images, "annotations": boxes}
    document["categories"] = [{"id": 1, "name": "square"}]
    (folder / f"{split}.json").write_text(json.dumps(document))


@pytest.mark.usefixtures("tiny_models")
def test_images_and_val_beside_data_are_those_of_the_start(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``images=`` and ``val=`` as typed mean other folders where the run is continued."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder in (ours, theirs):
        shutil.copytree(shapes.parent, folder)
        for split in ("train", "val"):
            if folder == theirs:
                next((folder / "images" / split).iterdir()).unlink()
            for file in (folder / "images" / split).iterdir():
                file.rename(file.with_name(f"{split}_{file.name}"))
            coco_json(folder, split)
            shutil.copytree(folder / "images" / split, folder / "pictures", dirs_exist_ok=True)
    monkeypatch.chdir(ours)
    beside = {"images": "pictures", "val": "val.json"}
    train(Path("train.json"), tmp_path, epochs=1, **beside)
    wanted = val(model=str(tmp_path / "train" / BEST), project=str(tmp_path))["metrics"]
    for folder in (theirs, tmp_path):
        monkeypatch.chdir(folder)
        found = val(model=str(tmp_path / "train" / BEST), project=str(tmp_path))["metrics"]
        assert found == wanted
    result = train(Path("ignored"), tmp_path, resume=tmp_path / "train", epochs=2)
    assert result["data"]["train_images"] == 12
    place = json.loads((tmp_path / "train" / DATA).read_text())
    assert (place["images"], place["val"]) == (str(ours / "pictures"), str(ours / "val.json"))


@pytest.mark.usefixtures("tiny_models")
def test_a_pipe_in_a_run_folder_is_not_waited_for(shapes: Path, tmp_path: Path) -> None:
    train(shapes, tmp_path, epochs=1)
    for name in (DATA, owner.NOTE, "results.json", "args.yaml", BEST, LAST):
        run = Path(shutil.copytree(tmp_path / "train", tmp_path / Path(name).name))
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
        with alarm():
            with contextlib.suppress(DetError):
                train(Path("ignored"), tmp_path, resume=run, epochs=2)
            for model in (run, run / BEST, run / LAST):
                with contextlib.suppress(DetError, OSError):
                    val(model=str(model), project=str(tmp_path), data=str(shapes))


@pytest.mark.usefixtures("tiny_models")
def test_crowded_data_choose_the_best_weights_by_all_detections(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = metrics.precision_and_recall

    def tables(truth: dict[str, Any], found: list[Any], most: int = 0) -> Any:
        precision, recall = real(truth, found)
        return np.where(np.isnan(precision) | (most == 0), precision, 0.5), recall

    monkeypatch.setattr(metrics, "precision_and_recall", tables)
    monkeypatch.setattr(metrics, "_crowded", lambda truth: 2)
    train(shapes, tmp_path, epochs=2)
    run = tmp_path / "train"
    assert load_state(run / LAST)["position"]["best_map"] == 0.5
    assert load_weights(run / BEST)[1].metrics["map"] < 0.5
    said = "2 images to validate with more than 100 boxes of a class: the best weights are those"
    assert (run / "log.txt").read_text().count(said) == 1
