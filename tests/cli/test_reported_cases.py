"""Bug reports of other trainers, acted out with the smallest inputs (``../shared/faults/cases``).

One table: the number of the case, what is done with its files, and what has to come out.
"""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import resource
import shlex
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import pytest
import torch
from exports import make_image, save_checkpoint
from forked_runs import Killer
from made_data import add_image, describe
from rows import each
from yolodet import YOLO
from yolodet.cli import main
from yolodet.detector.run import device

CASES = Path(__file__).parents[3] / "shared" / "faults" / "cases"
BRIEF = ("imgsz=64", "epochs=1", "batch=4", "amp=False", "plots=False", "workers=0", "device=cpu")
Det = Callable[..., tuple[int, str]]
"""A command in the current folder: its exit code, and all that it printed."""


def weights() -> str:
    """``model=`` and a detector that has learned nothing."""
    return f"model={save_checkpoint(Path('own'))}"


@contextlib.contextmanager
def full_after(size: int) -> Iterator[None]:
    """No file can grow beyond ``size`` bytes inside."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def case02_a_video_on_a_full_disk_is_an_error(det: Det, monkeypatch: pytest.MonkeyPatch) -> None:
    model = weights()
    with full_after(65_536):
        code, said = det("predict", "noise.avi", model, "project=small", "conf=0.5", "device=cpu")
    assert code == 1 and "noise.mp4" in said.splitlines()[-1] and "results: " not in said
    assert [path for path in Path("small").rglob("*") if path.is_file()] == []


def case03_more_than_100_objects_are_said_to_be_so(
    det: Det, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"0 {(x + 0.5) / 20} {(y + 0.5) / 15} 0.04 0.06" for x in range(20) for y in range(15)]
    for name in ("train/1", "val/2"):
        add_image(Path(f"set/images/{name}.jpg"), (390, 590), "\n".join(rows) + "\n")
    code, said = det("train", f"data={describe(Path('set'))}", *BRIEF)
    assert code == 0 and "1 image to validate with more than 100 boxes of a class" in said
    code, said = det("val", "model=runs/train/weights/best.safetensors", "imgsz=64", "workers=0")
    assert code == 0 and "of all detections (map_all)" in said


def case04_an_image_damaged_in_the_middle_is_left_out_and_named(
    det: Det, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = det("data", "check", "data=d")
    assert code == 1 and "error: image-damaged x 1" in said and "val2.png" in said
    code, said = det("data", "check", "data=d", "deep=False")
    assert code == 0 and "not decoded: 8 images of train, val; deep=True decodes them" in said
    model = "model=runs/train/weights/best.safetensors"
    for words in (("train", "data=d", *BRIEF), ("val", "data=d", model, "imgsz=64", *BRIEF[-2:])):
        code, said = det(*words)
        assert code == 0 and "val2.png: " in said and "skipped from now on" in said


def case05_a_run_goes_on_with_its_own_data_from_any_folder(
    det: Det, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path.cwd()
    monkeypatch.chdir(here / "A")
    assert det("train", "data=data.yaml", *BRIEF)[0] == 0
    for folder, epochs in ((here / "B", 2), (here, 3)):
        monkeypatch.chdir(folder)
        assert det("train", f"resume={here / 'A/runs/train'}", f"epochs={epochs}")[0] == 0
        result = json.loads((here / "A/runs/train/results.json").read_text())
        assert result["metrics"]["num_boxes"] == 6, "B has 18"
    (here / "A/data.yaml").unlink()
    code, said = det("train", f"resume={here / 'A/runs/train'}", "epochs=4")
    assert code == 2 and "A/data.yaml" in said and "data=" in said


def case06_key_points_are_no_polygon(det: Det, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in ("pose2", "pose3"):
        assert det("data", "check", f"data={data}")[0] == 0
        assert det("data", "convert", f"data={data}", f"out={data}-coco", "format=coco")[0] == 0
        (file,) = Path(f"{data}-coco").rglob("*train*.json")
        boxes = [row["bbox"] for row in json.loads(file.read_text())["annotations"]]
        assert boxes == [pytest.approx([28.8, 22.4, 67.2 - 28.8, 41.6 - 22.4])] * 3


def case09_what_is_passed_over_is_named(det: Det, monkeypatch: pytest.MonkeyPatch) -> None:
    model = weights()
    code, said = det("predict", "mixed", model, "imgsz=32")
    names = {path.name for path in Path("runs/predict").iterdir()}
    for name in ("b.jfif", "c.HEIC", "d.avif", "e.jpe"):
        assert name in said or Path(name).with_suffix(".jpg").name in names
    code, said = det("predict", *map(str, sorted(Path("pat").iterdir())), model, "imgsz=32")
    assert code == 0 and "notes.json" in said


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
    with full_after(100_000):
        code, said = det("train", "data=tiny", *BRIEF, "cache=none")
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
        (case02_a_video_on_a_full_disk_is_an_error, "case02"),
        (case03_more_than_100_objects_are_said_to_be_so, "case03"),
        (case04_an_image_damaged_in_the_middle_is_left_out_and_named, "case04"),
        (case05_a_run_goes_on_with_its_own_data_from_any_folder, "case05"),
        (case06_key_points_are_no_polygon, "case06"),
        (case09_what_is_passed_over_is_named, "case09"),
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


@pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/faults/cases")
def test_a_signal_to_the_whole_job_saves_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """case01: schedulers and ``timeout`` send a SIGTERM to the loader's processes too."""
    shutil.copytree(CASES / "case01" / "tiny", tmp_path / "tiny", copy_function=shutil.copyfile)
    monkeypatch.chdir(tmp_path)
    killer = Killer()
    for workers in (2, 0):
        log = tmp_path / f"{workers}.txt"
        words = (
            *("data=tiny", "imgsz=64", "epochs=4", "batch=1", "nbs=1", "amp=False"),
            *("plots=False", "val=False", "device=cpu", f"workers={workers}", "exist_ok=True"),
        )
        end = killer.run(
            "train", *words, log=log, group=True, step=5, signal=int(signal.SIGTERM)
        )  # fmt: skip
        said = log.read_text()
        assert (end["code"], end["left"]) == (143, False), said
        last = said.splitlines()[-1]
        assert last.startswith("det: stopped at epoch 2, batch 2; continue with: det train resume=")
        assert not any(word in said for word in ("Traceback", "bug in det", "Terminated", "DataLo"))
        again = shlex.split(last.partition("continue with: det ")[2])
        assert killer.run(*again, log=log)["code"] == 0
        assert len(Path("runs/train/results.csv").read_text().splitlines()) == 5
    killer.close()
