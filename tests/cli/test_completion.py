"""The completion script, asked as bash asks it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from yolodet.cli import main


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("det tra", {"train", "track"}),
        ("det train epo", {"epochs="}),
        ("det train optimizer=Ad", {"AdamW", "Adam", "Adamax"}),
        ("det train epochs=3 amp=b", {"bf16"}),
        ("det val sa", {"save_json=", "save_txt="}),
        ("det train model=yolov9", {"yolov9t", "yolov9s", "yolov9m", "yolov9c"}),
        ("det bench ex", {"export"}),
        ("det bench export plots=F", {"False"}),
    ],
)
def test_tab_offers_commands_options_and_values(
    tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, typed: str, wanted: set[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "--completion"]) == 0
    script = capsys.readouterr().out
    asks = f"COMP_LINE='{typed}' COMP_POINT={len(typed)}; _det; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{script}\n{asks}"], capture_output=True, text=True)
    assert set(done.stdout.split()) == wanted, done.stderr
    assert "python" not in script and Path(sys.executable).name not in script
