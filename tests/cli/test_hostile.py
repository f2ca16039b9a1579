"""Hostile files, names, addresses and places: one line says what is wrong, and nothing that was not
written by det reaches a terminal or a file as it is.

``tests/rigs/hostile_attacks.py`` holds all attacks; here are one or two of each kind, and all of
them among the slow tests.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import hostile_exports
import hostile_formats
import hostile_names
import hostile_options
import hostile_places
import hostile_tools
import hostile_tracks
import pytest
from exports import needs_onnx
from hostile_attacks import Attack, carry_out
from yolodet.cli import main
from yolodet.files.errors import InputError
from yolodet.files.text import LONGEST, NAME_BYTES, fitting_name, one_line, without_secrets

ROOMS = (
    *(hostile_formats, hostile_options, hostile_exports, hostile_names),
    *(hostile_places, hostile_tools, hostile_tracks),
)
ALL = {f"{a.group}: {a.name}": a for room in ROOMS for a in room.attacks()}
QUICK = [
    *("options file: 400 digits", "options file: escape in a quoted key"),
    *("last.pt: without model", "last.pt: batch 0", "last.pt: epoch -5", "last.pt: rows is text"),
    *("last.pt: optimizer without groups", "last.pt: another shape"),
    *("last.pt: batch of the position 999", "last.pt: precision unknown"),
    *("header, predict: image_size 10^9", "header, predict: precision unknown"),
    *("header, info: escape in the provenance", "header, info: surrogate"),
    *("weights, info: 60 MB of [", "weights, info: metadata of numbers"),
    *("scan cache: labels 999", "scan cache: boxes NaN", "scan cache: sizes 0"),
    *("image name, predict: 250 characters", "image name, predict: escape"),
    *("image name, train: line break", "image name, val: 250 bytes of umlauts"),
    *("class name, train: escape", "class name, train: mathematics that is wrong"),
    *("class name, predict: 300 characters", "class name, train: CJK"),
    *("address: 404 with escapes", "address: slash in the password", "address: a script"),
    *("address: predict, 401", "address: predict, port of text", "address: redirect to plain"),
    *("places: name with an escape", "places: current folder is gone", "places: NUL in data"),
    *("det.yaml: link to nothing", "det.yaml, train: model with a secret", "det.yaml: bomb"),
    *("tasks: '\\udcff.jpg'", "tasks: 'a#b?c%41.jpg'", "compare: the second is a pipe"),
    *("images and val: val has a secret", "images and val: val list of pipes"),
    *("labels, CreateML: numbers of 400 digits", "labels, makesense, CSV: numbers are NaN"),
    *("labels, Label Studio, JSON-MIN: numbers of 400 digits", "labels, VOC: entities"),
    *("labels, COCO: class of 5,000 characters", "labels, KITTI: a pipe"),
    *("labels, CVAT: image above the folder", "labels, labelme, splits: a loop of links"),
    *("places: imgsz of the moon", "places: report of an export is nested"),
]
WITH_ONNX = [
    *("ONNX metadata: escape in the names", "ONNX metadata: fewer names of the checkpoint"),
    *("ONNX metadata: not square", "ONNX metadata: raw, but it is not"),
]


def held(attack: Attack, folder: Path) -> None:
    ended, reasons = carry_out(attack, folder)
    assert not reasons, ended.err[-2000:]


@pytest.mark.parametrize("name", QUICK)
def test_a_hostile_thing_is_answered_in_one_line(
    name: str, tmp_path: Path, tiny_models: None
) -> None:
    held(ALL[name], tmp_path)


@needs_onnx
@pytest.mark.parametrize("name", WITH_ONNX)
def test_metadata_that_do_not_fit_the_graph_are_refused(
    name: str, tmp_path: Path, tiny_models: None
) -> None:
    held(ALL[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_every_attack_is_held(room, tmp_path: Path, tiny_models: None) -> None:
    fell = {}
    for attack in room.attacks():
        if reasons := carry_out(attack, tmp_path)[1]:
            fell[f"{attack.group}: {attack.name}"] = reasons
    assert not fell


# ---------------------------------------------------------------- the function that cleans


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb\x07\x9b\x7f", r"a\x1b[31mb\x07\x9b\x7f"),
        ("a\r\n  b\u2028c", "a b c"),
        ("a\u202eb\ufeff \udcff", r"a\u202eb\ufeff \udcff"),
        ("x  y\u00a0z \u732b", "x  y\u00a0z \u732b"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\u200d\U0001f469"),
        ("get 'https://u:p@h:9/x.zip?t=1' now", "get 'https://h:9/x.zip' now"),
        ("rtsp://u:p@[::1]:554/a#b", "rtsp://[::1]:554/a"),
        ("https://u:s3/cr@t@h/x", "https://..."),
    ],
)  # fmt: skip
def test_foreign_text_becomes_one_safe_line(text: str, shown: str) -> None:
    assert one_line(text) == shown == one_line(shown) == str(InputError(text))


def test_an_address_is_shown_without_what_may_be_secret() -> None:
    assert without_secrets("https://bob:s3cret@h/a/b.zip?token=1#x") == "https://h/a/b.zip"


def test_a_message_has_an_end() -> None:
    assert len(str(InputError("9" * 3_000_000))) < LONGEST + 100


@pytest.mark.parametrize(
    "name", ["a.jpg", "n" * 255, "\u00e4" * 127, "\U0001f468" * 63, "\udcff" * 255]
)
def test_a_name_leaves_room_for_what_is_added(name: str, tmp_path: Path) -> None:
    short = fitting_name(name)
    assert name.startswith(short) and (name == short) == (len(os.fsencode(name)) < 200)
    assert len(os.fsencode(f".{short}-99999_9999999999-999.jpg.0123abcd.partial")) <= NAME_BYTES


def test_a_stdout_of_ascii_gets_names_as_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d\u732b").mkdir()
    (tmp_path / "d\u732b" / "data.yaml").write_text("train: a\nval: a\nnames: [\u732b]\n", "utf-8")
    (tmp_path / "d\u732b" / "a").mkdir()
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["data", "check", f"data={tmp_path}/d\u732b"]) in (0, 1)
    stream.flush()
    assert rb"d\u732b" in stream.buffer.getvalue()  # type: ignore[attr-defined]
