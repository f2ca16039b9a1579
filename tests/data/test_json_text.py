"""JSON that det keeps for itself, and files that it appends to: damage is told, nothing waits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from alarms import alarm
from rows import each
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.run.log import Log
from yolodet.detector.train.resume import refuse_finished
from yolodet.files.atomic import append_whole
from yolodet.files.json_text import read_json, read_note

DAMAGED = ("", "{", "[" * 200_000, '{"a":' * 200_000, "\x00", "nothing")


@each("text", DAMAGED)
def test_damaged_json_is_a_value_error_and_no_note(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r".+"):
        read_json(path)
    assert read_note(path) == {}


@each("text", [*DAMAGED, "[]", "5"])
def test_results_that_are_damaged_do_not_say_that_a_run_has_finished(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "results.json").write_text(text)
    refuse_finished(tmp_path, {"epoch": 1, "batch": 0}, TrainConfig(epochs=1), {})


def test_nothing_waits_for_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with alarm():
        assert read_note(path) == {}
        with pytest.raises(OSError, match=r"not a regular file.*pipe"):
            append_whole(path, b"x")
        log = Log(verbose=False)
        log.info("early")
        with pytest.raises(OSError, match=r"not a regular file.*pipe"):
            log.to_file(path)
    append_whole(Path("/dev/null"), b"x")
