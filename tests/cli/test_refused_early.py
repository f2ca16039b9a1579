"""What cannot work is refused before data are fetched, a model is built or processes are started;
and a write that fails names its file."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest
import torch
from exports import make_image, make_run
from rows import each
from yolodet.cli import main
from yolodet.detector.run import launch
from yolodet.detector.run.hardware import objection, traits_of
from yolodet.detector.train import assemble


@contextlib.contextmanager
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


def refused(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    """The only line that begins with ``det: error:``."""
    assert main(words) == code
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("det: error:")]
    assert len(lines) == 1 and "bug in det" not in lines[0]
    return lines[0]


@pytest.mark.skipif(
    objection(traits_of(torch.device("cpu")), "fp16") is None, reason="this CPU computes in fp16"
)
def test_a_precision_that_the_device_lacks_is_refused_first(
    squares: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_late(*_: object) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr(assemble, "load_data", too_late)
    words = ("train", f"data={squares}", "amp=fp16", "device=cpu")
    assert "amp=fp16: " in refused(capsys, *words)


def test_gpus_that_are_not_there_are_refused_before_processes_are_started(
    squares: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def too_late(*_: object) -> int:
        raise AssertionError("processes were started")

    monkeypatch.setattr(launch, "launch", too_late)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    words = ("train", f"data={squares}", "device=0,1", "batch=4")
    assert "this machine has" in refused(capsys, *words)


@pytest.mark.parametrize("stages", ["foo", "model.foo", "backbone.nothing"])
def test_a_stage_that_does_not_exist_is_refused_with_those_there_are(
    stages: str, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tiny_models: None,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = ("train", f"data={squares}", "device=cpu", "imgsz=64", "amp=False", f"freeze={stages}")
    assert "backbone.stem" in refused(capsys, *words)


@each(
    ("word", "said"),
    [
        ("amp_fp32=hed", "amp_fp32: yolo26n has no stage 'hed'; did you mean 'head'?"),
        ("checkpointing=haed", "checkpointing: yolo26n has no stage 'haed'; did you mean 'head'?"),
        ("freeze=heda", "freeze=heda: yolo26n has no stage 'heda'; did you mean 'head'?"),
    ],
)
def test_a_stage_is_looked_for_before_the_data(
    word: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The data are not there, and it is the stage that is named."""
    weights = make_run(tmp_path, monkeypatch) / "best.safetensors"
    data = f"data={tmp_path}/none.yaml"
    for model in ("model=yolo26n", f"model={weights}"):
        assert said in refused(capsys, "train", model, data, word)
        if word.startswith("amp_fp32"):
            assert said in refused(capsys, "amp", model, data, word)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("export", "model=runs/train", "format=torchscript"), "best.torchscript"),
        (("export", "model=runs/train", "format=torch_export"), "best.pt2"),
        (("predict", "a.png", "model=runs/train", "device=cpu"), "a.png"),
        (("data", "shapes", "n=5", "out=drawn"), "drawn"),
    ],
)
def test_a_full_disk_names_the_file(
    words: tuple[str, ...], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make_run(tmp_path, monkeypatch)
    assert cv2.imwrite("a.png", make_image((200, 200), 0))
    with quota(2000):
        said = refused(capsys, *words, code=1)
    assert f"{name}: File too large" in said
