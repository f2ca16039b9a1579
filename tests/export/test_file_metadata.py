"""What exported files say about themselves: for det, for other readers, and in hostile hands."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from exports import CLASS_NAMES, RUN_HERE, make_image, make_run, needs_onnx, run_export
from yolodet.cli import main
from yolodet.detector.export.exported import about_file, open_exported
from yolodet.detector.export.formats import checksum, tflite
from yolodet.detector.export.formats.about import About
from yolodet.detector.options.formats import FORMATS, ExportError
from yolodet.files.staging import staging

CPU = torch.device("cpu")


def exported(folder: Path, name: str) -> Path:
    (entry,) = run_export(folder, format=name)["exports"]
    return Path(entry["file"])


@pytest.mark.parametrize("name", RUN_HERE)
def test_a_flipped_bit_is_noticed(name: str, tmp_path: Path) -> None:
    path = exported(tmp_path, name)
    about_file(path)
    rng = np.random.default_rng(0)
    for file in FORMATS[name].files(path):
        good = file.read_bytes()
        at = weight_of(good)
        for _ in range(20):
            content = bytearray(good)
            content[at + rng.integers(4000)] ^= 1 << rng.integers(8)
            file.write_bytes(content)
            with pytest.raises(ExportError, match=r"checksum|damaged|not a whole"):
                about_file(path)
        file.write_bytes(good)
    about_file(path)


def weight_of(content: bytes) -> int:
    """Where a long stretch of numbers begins: the middle of the file."""
    return len(content) // 2 - 2000


def test_the_model_in_front_of_a_zip_is_covered_too(tmp_path: Path) -> None:
    path = tmp_path / "best.tflite"
    path.write_bytes(b"\0\0\0\0TFL3" + bytes(1000))
    tflite.add_texts(path, {"names": '["kite"]'})
    checksum.check([path], "")
    content = bytearray(path.read_bytes())
    content[500] ^= 4
    path.write_bytes(content)
    with pytest.raises(ExportError, match="does not match its checksum"):
        checksum.check([path], "")


def test_both_files_of_openvino_are_covered(tmp_path: Path) -> None:
    parts = [tmp_path / "best.bin", tmp_path / "best.xml"]
    sealed = '"unsealed' + "." * 56 + '"'
    for broken in (0, 1):
        parts[0].write_bytes(bytes(100))
        parts[1].write_text(f"<net><checksum value={sealed}/></net>")
        checksum.seal(parts)
        digest = parts[1].read_text().split('"')[1]
        assert digest == checksum.digest_of(parts, digest)
        checksum.check(parts, digest)
        content = parts[broken].read_bytes()
        parts[broken].write_bytes(content[:2] + b"?" + content[3:])
        with pytest.raises(ExportError, match="does not match its checksum"):
            checksum.check(parts, digest)


def test_every_part_of_a_folder_is_covered(tmp_path: Path) -> None:
    """As a Core ML package is laid out: the text lies in one of its files."""
    package = tmp_path / "best.mlpackage"
    for name in ("Data/model.mlmodel", "Data/weights/weight.bin", "Manifest.json"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_bytes(name.encode() + bytes(50))
    model = package / "Data/model.mlmodel"
    model.write_bytes(b"about:unsealed" + b"." * 56 + b":end")
    checksum.seal([package])
    digest = model.read_bytes().split(b":")[1].decode()
    assert digest == checksum.digest_of([package], digest)
    copied = tmp_path / "copy.mlpackage"
    shutil.copytree(package, copied)
    checksum.check([copied], digest)
    for part in checksum.parts_of([package]):
        good = part.read_bytes()
        part.write_bytes(good[:3] + bytes([good[3] ^ 1]) + good[4:])
        with pytest.raises(ExportError, match="does not match its checksum"):
            checksum.check([package], digest)
        part.unlink()
        with pytest.raises(ExportError, match="does not match its checksum"):
            checksum.check([package], digest)
        part.write_bytes(good)


@needs_onnx
def test_other_readers_find_the_pairs_that_they_look_for(tmp_path: Path) -> None:
    """Loaders of the field read each of these with int or ast.literal_eval, and set every pair as
    an attribute of theirs, so that one called ``device`` would take the place of theirs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(exported(tmp_path, "onnx"))
    texts = session.get_modelmeta().custom_metadata_map
    assert texts["task"] == "detect" and int(texts["stride"]) == 32 and int(texts["batch"]) == 1
    assert ast.literal_eval(texts["imgsz"]) == [96, 96]
    assert ast.literal_eval(texts["names"]) == dict(enumerate(CLASS_NAMES))
    assert ast.literal_eval(texts["end2end"]) is True
    assert "device" not in texts


def edit_onnx(path: Path, **changes: str | None) -> None:
    """Change pairs of an ONNX file; None takes one away."""
    import onnx

    model = onnx.load(path)
    texts = {pair.key: pair.value for pair in model.metadata_props}
    texts = {**texts, "checksum": json.dumps("unsealed".ljust(64, ".")), **changes}
    kept = {name: text for name, text in texts.items() if text is not None}
    onnx.helper.set_model_props(model, kept)
    path.write_bytes(model.SerializeToString())


@needs_onnx
def test_files_of_the_first_schema_still_open(tmp_path: Path) -> None:
    path = exported(tmp_path, "onnx")
    old = {"det_schema": "1", "device": '"cpu"', "licence": '"MIT"'}
    edit_onnx(path, **old, written_on=None, license=None, checksum=None, task=None)
    assert open_exported(path, CPU).about.written_on == "cpu"


HOSTILE = {
    "names": ["NaN", "{}", "{0: 1}", "{1: 'a'}", "{0: f()}",
              "[1, 2]", "[]", '["a"', "[" * 100_000, '"kite"'],
    "image_size": ["[NaN, 96]", "[1e400, 96]", "[-96, 96]", "[96]", "[99999999, 96]", "true"],
    "batch": ["0", "1.5", '"1"', "1" + "0" * 5000],
    "stride": ["null", "-32", "0"],
    "pad": ["256", '"gray"'],
    "letterbox": ['"middle"', "3"],
    "input": ['"float16"', "[]"],
    "output": ['"boxes"', "{}"],
    "head": ['"auxiliary"'],
    "dynamic": ["1", '"yes"'],
    "written_on": ['"cuda:99"', "7"],
    "checkpoint": ["[]", "{}", '{"schema": "1"}'],
    "checksum": ['"00"', "0", '"' + "0" * 64 + '"'],
    "format": ['"onxx"', "[[]]"],
    "det_schema": ["NaN", '"2"', "[]", "true"],
    "model": ["3"],
}


@needs_onnx
def test_hostile_metadata_are_refused_in_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    run = make_run(tmp_path, monkeypatch)
    cv2.imwrite("image.png", make_image((50, 90), 3))
    path = exported(run, "onnx")
    good = path.read_bytes()
    capsys.readouterr()
    for name, values in HOSTILE.items():
        for value in values:
            path.write_bytes(good)
            edit_onnx(path, **{name: value})
            assert main(["predict", "image.png", f"model={path}"]) == 1, (name, value[:20])
            (line,) = capsys.readouterr().err.strip().splitlines()
            assert line.startswith(f"det: error: {path} ") and "bug" not in line
            assert len(line) < 300


def test_every_field_has_a_rule(tmp_path: Path) -> None:
    path = exported(tmp_path, "torchscript")
    texts = about_file(path).texts()
    for name in ("dynamic", "nms", "max_det", "license", "precision", "smallest_side"):
        with pytest.raises(ExportError, match=f"its metadata {name} has the value"):
            About.from_texts({**texts, name: "[null]"}, path)
        missing = {key: text for key, text in texts.items() if key != name}
        with pytest.raises(ExportError, match=f"its metadata {name} is missing"):
            About.from_texts(missing, path)


KILLED = """
import os, signal, sys
from pathlib import Path
from yolodet.files.staging import staging
with staging(Path(sys.argv[1])) as folder:
    (folder / "half").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and locks of folders")
def test_what_a_killed_export_leaves_is_removed_by_the_next(tmp_path: Path) -> None:
    target, other = tmp_path / "best.onnx", tmp_path / ".best.onnx.mine"
    other.mkdir()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".best.onnx.*.writing")
    with staging(target) as first:
        assert not left.exists()
        with staging(target) as second:
            assert first.exists() and second.exists(), "one that is in use stays"
    assert os.listdir(tmp_path) == [other.name]


def test_a_torch_archive_has_checksums_of_its_entries(tmp_path: Path) -> None:
    path = exported(tmp_path, "torchscript")
    with zipfile.ZipFile(path) as archive:
        assert all(entry.CRC for entry in archive.infolist() if entry.file_size)
