"""Bug reports of other trainers, acted out with the smallest inputs (``../shared/faults/cases``).

One table: the number of the case, what is done with its files, and what has to come out.
"""

from __future__ import annotations

import copy
import pickle
import resource
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch
from exports import make_image
from rows import each
from yolodet import YOLO
from yolodet.cli import main
from yolodet.detector.run import device

CASES = Path(__file__).parents[3] / "shared" / "faults" / "cases"
BRIEF = ("imgsz=64", "epochs=1", "batch=4", "amp=False", "plots=False", "workers=0", "device=cpu")
Det = Callable[..., tuple[int, str]]
"""A command in the current folder: its exit code, and all that it printed."""


def case07_one_object_reads_its_file_once(det: Det, monkeypatch: pytest.MonkeyPatch) -> None:
    assert det("train", "data=tiny", *BRIEF)[0] == 0
    model = YOLO("runs/train/weights/best.safetensors", verbose=False)
    image = make_image((64, 64), 0)
    (want,) = model.predict(image, imgsz=64, conf=0.0, device="cpu")
    Path("runs/train/weights/best.safetensors").write_bytes(b"another")
    (got,) = model.predict(image, imgsz=64, conf=0.0, device="cpu")
    assert got.names == want.names and torch.equal(got.boxes.data, want.boxes.data)


def case08_one_thread_of_the_caller_stays_one(det: Det, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        monkeypatch.setattr(device, "usable_cores", lambda: 2)
        monkeypatch.setattr(device, "_physical_cores", lambda: 2)
        device.use_threads()
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def case10_a_full_disk_is_called_so(det: Det, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        code, said = det("train", "data=tiny", *BRIEF, "cache=none")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert code == 1 and "last.pt: File too large" in said and "bug in det" not in said


def case12_what_the_caller_had_set_is_there_again(
    det: Det, monkeypatch: pytest.MonkeyPatch
) -> None:
    cv2.setNumThreads(2)
    torch.manual_seed(123)
    torch.use_deterministic_algorithms(False)
    model = YOLO("yolo26n", verbose=False)
    model.train(data="tiny", imgsz=64, epochs=1, batch=4, amp=False, plots=False, val=False)
    found = torch.are_deterministic_algorithms_enabled(), torch.initial_seed(), cv2.getNumThreads()
    assert found == (False, 123, 2)


def case13_an_object_can_be_copied_and_pickled(det: Det, monkeypatch: pytest.MonkeyPatch) -> None:
    assert copy.deepcopy(YOLO("yolo26n")).name == pickle.loads(pickle.dumps(YOLO("yolo26n"))).name


def case14_an_unknown_stage_is_refused(det: Det, monkeypatch: pytest.MonkeyPatch) -> None:
    for stages in ("foo", "99"):
        code, said = det("train", "data=tiny", *BRIEF, f"freeze={stages}")
        assert code == 2 and f"freeze={stages}: " in said and "bug in det" not in said


def case15_chinese_names_are_drawn_without_warnings(
    det: Det, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code, said = det("train", "data=uni", *BRIEF[:-3], *BRIEF[-2:])
    assert code == 0 and "Warning" not in said and "\u732b" in said
    assert Path("runs/train/confusion_matrix.png").stat().st_size > 10_000


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/faults/cases")
@pytest.mark.usefixtures("tiny_models")
@each(
    ("act", "files"),
    [
        (case07_one_object_reads_its_file_once, "case12"),
        (case08_one_thread_of_the_caller_stays_one, "case08"),
        (case10_a_full_disk_is_called_so, "case10"),
        (case12_what_the_caller_had_set_is_there_again, "case12"),
        (case13_an_object_can_be_copied_and_pickled, "case13"),
        (case14_an_unknown_stage_is_refused, "case14"),
        (case15_chinese_names_are_drawn_without_warnings, "case15"),
    ],
)
def test_what_was_reported_of_other_trainers_does_not_happen(
    act: Callable[[Det, pytest.MonkeyPatch], None],
    files: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(CASES / files, tmp_path, dirs_exist_ok=True, copy_function=shutil.copyfile)
    monkeypatch.chdir(tmp_path)

    def det(*words: str) -> tuple[int, str]:
        code = main(words)
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    act(det, monkeypatch)
