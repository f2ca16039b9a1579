"""The commands of the pages, and a folder of a user in which they can run.

Commands run as they are printed, in the process of the test, only made smaller: ``SMALLER`` sets
options that decide how long a command takes.  What cannot run in a test is in ``NOT_RUN``, by the
words it begins with and with the reason.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from foreign_files import pickled_model, renamed, save
from tiny import tiny_detector, use_tiny_detector, write_squares, write_tiny_data
from yolodet.detector.models import yolov9, yolox
from yolodet.detector.models.build import architecture_of, build
from yolodet.detector.models.detector import Detector
from yolodet.weights.checkpoint import Meta, save_weights

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELLS = ("sh", "powershell")
OTHER_LANGUAGES = ("", "text", "yaml", "python", "cpp", "mermaid")

MACHINE = {"device": "cpu", "workers": "0", "plots": "False"}
SMALL = {"imgsz": "64", "batch": "2", "epochs": "1"}
SMALLER = {
    "train": {**MACHINE, **SMALL, "amp_check": "False"},
    "val": {**MACHINE, "batch": "2"},
    "predict": {"device": "cpu"},
    "track": {"device": "cpu"},
    "export": {"imgsz": "128"},
    "data shapes": {"n": "10", "imgsz": "64"},
    "data videos": {"frames": "4", "imgsz": "96"},
    "amp": {"imgsz": "64", "batch": "2", "plots": "False", "device": "cpu"},
    "bench amp": {"imgsz": "64", "batch": "2", "plots": "False", "device": "cpu", "steps": "2",
                  "rounds": "1"},
    "bench export": {"imgsz": "128", "plots": "False", "rounds": "1", "runs": "1",
                     "formats": "onnx,onnx-int8"},
}  # fmt: skip
"""Command -> options that are set, whatever the page says."""

NOT_RUN = {
    "make ": "sets up an environment from the network; tests/house checks that the targets exist",
    "git clone ": "network",
    "cd ": "moves to another folder, which a command in this process must not do",
    "python3 -m venv ": "makes an environment",
    ". det/.venv/bin/activate": "enters that environment",
    "py -m venv ": "Windows",
    r"det\.venv\Scripts\activate": "Windows",
    "pip install ": "network",
    "det train data=my.yaml device=0,1 ": "two GPUs",
    "det train data=my.yaml log=": "trackers; tests/record runs them",
    "det weights check ": "COCO; tests/weights checks",
    "det weights convert yolox_nano.onnx ": "a published ONNX file; tests/weights converts some",
    "det train model=yolox_nano data=kangaroos.yaml keep_classes=True ": "another data set; "
    "tests/train/test_kept_classes.py trains so",
    "det pick ": "a folder of photos and a run; tests/predict/test_prelabel.py picks",
    "det label ": "the same",
    "det data errors ": "trained folds; tests/evaluate/test_label_errors.py runs it",
    "det train data=my.yaml folds=5 name=folds": "five trainings",
    "det predict model=runs/a,runs/b ": "two runs; tests/predict/test_fused_models.py has some",
    "det verify ": "a run; tests/train/test_verify.py verifies some",
    "det compare ": "two runs; tests/evaluate compares",
    "det studio": "a server; tests/studio asks it",
    "det prune ": "trainings; tests/compress prunes",
    "det compress ": "trainings; tests/compress compresses",
    "det tune ": "many trainings; tests/tune runs them",
    "det train cfg=runs/tune/best.yaml": "of a search",
    "torchrun ": "two processes; tests/train/test_distributed.py runs them",
    "det export int8=True data=my.yaml format=tflite": "the extra tflite",
    "g++ ": "tests/export/test_export_docs.py compiles and runs it",
    "fit=": "the same",
    "ffmpeg ": "the same",
    "./detect ": "the same",
}
"""Beginning of a line -> why it is not run here."""


SIZES = re.compile(r"\b(train|val): \d+")
"""Numbers of scenes of a drawn data set."""


def commands_of(page: Path) -> list[str]:
    """The lines of the shell blocks of a page, comments off."""
    text = page.read_text(encoding="utf-8")
    blocks = [block for language, block in FENCE.findall(text) if language in SHELLS]
    lines = [re.sub(r"\s+#.*$", "", line) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.strip() and not line.startswith("#")]


def languages_of(page: Path) -> set[str]:
    return {language for language, _ in FENCE.findall(page.read_text(encoding="utf-8"))}


def reason_not_to_run(line: str) -> str | None:
    if "openvino" in line and importlib.util.find_spec("openvino") is None:
        return "the extra openvino is not installed"
    if line.startswith("det track") and importlib.util.find_spec("trackers") is None:
        return "the extra track is not installed"
    return next((reason for start, reason in NOT_RUN.items() if line.startswith(start)), None)


def smaller(line: str) -> tuple[list[str], str | None]:
    """The words of a ``det`` command made smaller, and the file behind ``>``."""
    words = shlex.split(line)[1:]
    target = None
    if ">" in words:
        words, target = words[: words.index(">")], words[-1]
    if any(word.startswith("resume=") for word in words):
        return [re.sub(r"^epochs=\d+$", "epochs=2", word) for word in words], target
    name = next((n for n in SMALLER if words[: len(n.split())] == n.split()), None)
    changes = SMALLER[name] if name else {}
    kept = [word for word in words if word.partition("=")[0] not in changes]
    return kept + [f"{option}={value}" for option, value in changes.items()], target


def use_tiny_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever builds a YOLO26, YOLOX or YOLOv9 gets a tiny detector of that name."""
    use_tiny_detector(monkeypatch)
    for module, name in ((yolox, "yolox_"), (yolov9, "yolov9")):
        tiny = functools.partial(_tiny, name)
        monkeypatch.setattr(module, "build", tiny)


def _tiny(family: str, size: str, classes: int) -> Detector:
    return tiny_detector(classes, f"{family}{size}")


def make_user_folder(folder: Path) -> None:
    """Everything that the pages take for granted: data sets, photographs, a video, weights."""
    data = write_squares(folder / "mine")
    text = "names: [dog, horse]\n".join(data.read_text().split("names:\n  0: square\n"))
    data.unlink()
    described = f"{text}test: images/val\n"
    (folder / "my.yaml").write_text(f"path: mine\n{described}")
    shutil.copytree(folder / "mine", folder / "cells")
    (folder / "cells" / "data.yaml").write_text(described)
    write_tiny_data(folder / "elsewhere" / "coco8", train=32)  # found by DET_DATASETS
    easy = (ROOT / "datasets" / "sets" / "shapes-easy.yaml").read_text()
    (folder / "shapes-easy.yaml").write_text(SIZES.sub(r"\1: 8", easy))  # goes before det's own
    images = folder / "mine" / "images" / "val"
    for name in ("photos", "new"):
        shutil.copytree(images, folder / name)
    (folder / "photos" / "inside").mkdir()
    picture = cv2.imread(str(images / "0.png"))
    for path in ("photo.jpg", "large.jpg", "image.jpg", "image.png", "photos/inside/deep.jpg"):
        assert cv2.imwrite(str(folder / path), picture)
    (folder / "files.txt").write_text("photo.jpg\nphotos/0.png\n")
    write_video(folder / "street.mp4", picture)
    write_weights(folder)


def write_video(path: Path, picture: np.ndarray) -> None:
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5.0, picture.shape[1::-1])
    for _ in range(4):
        video.write(picture)
    video.release()


def write_weights(folder: Path) -> None:
    """``best.safetensors``, a checkpoint of Ultralytics as ``theirs.pt``, and COCO weights of two
    names in the weights folder, as if they had been downloaded."""
    save_checkpoint(folder / "best.safetensors", tiny_detector(2), ("dog", "horse"))
    for name in ("yolov9s", "yolox_nano", "yolox_tiny"):
        names = tuple(f"class {number}" for number in range(80))
        save_checkpoint(folder / "weights" / f"{name}.safetensors", build(name, 80), names)
    theirs = pickled_model(renamed(build("yolov8n", 2)), ["dog", "horse"])
    save(folder / "theirs.pt", model=theirs)


def save_checkpoint(path: Path, model: Detector, names: tuple[str, ...]) -> None:
    meta = Meta(model.name, names, 64, (8, 16, 32), "fp32", architecture=architecture_of(model))
    save_weights(path, model.state_dict(), meta)


def hashes(folder: Path) -> dict[str, str]:
    """Path of every file in a folder -> checksum of its content."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
