"""README's commands run as they are printed, in order, in one folder; only made smaller."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from tiny import use_tiny_detector, write_squares
from yolodet.cli import main

README = Path(__file__).parents[2] / "README.md"
COMMANDS = re.findall(r"^det .*$", README.read_text(encoding="utf-8"), re.MULTILINE)
SMALLER = {
    "train": "epochs=1 imgsz=64 batch=2 workers=0 device=cpu plots=False amp_check=False",
    "val": "device=cpu workers=0 plots=False",
    "predict": "device=cpu",
    "export": "imgsz=64",
}
"""Added where the command does not say it already."""


def smaller(words: list[str]) -> list[str]:
    if any(word.startswith("resume=") for word in words):
        return words
    typed = {word.partition("=")[0] for word in words}
    added = SMALLER.get(words[0], "").split()
    kept = [word for word in words if word.partition("=")[0] != "epochs"]
    return kept + [word for word in added if word.partition("=")[0] not in typed - {"epochs"}]


def test_every_command_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    pytest.importorskip("onnxruntime")
    use_tiny_detector(monkeypatch)
    data = write_squares(tmp_path / "squares")
    shutil.copytree(data.parent / "images" / "val", tmp_path / "photos")
    mine = f"path: {data.parent}\n" + data.read_text()
    (tmp_path / "my.yaml").write_text(mine)
    few = "shapes: {train: 8, val: 4, size: 64, easy: 1}\n"  # goes before the built-in one
    (tmp_path / "shapes-easy.yaml").write_text(few)
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 7
    for command in COMMANDS:
        words = smaller(shlex.split(command, comments=True)[1:])
        assert main(words) == 0, (words, capsys.readouterr().err)
    assert (tmp_path / "my.yaml").read_text() == mine
