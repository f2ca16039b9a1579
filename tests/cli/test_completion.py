"""The completion scripts, asked as each shell asks them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from yolodet.cli import main

ASKS = {
    "bash": "COMP_LINE='{0}' COMP_POINT={1}; _det; echo ${{COMPREPLY[@]}}",
    "zsh": """words=({0} ''); [[ '{0}' == *' ' ]] || words[-1]=()
CURRENT=$#words; at_start=$words[CURRENT]; _det""",
    "fish": "complete -C '{0}' | string split -f 1 \\t",
}
BEFORE = {
    "zsh": """compdef() {{ }}; _files() {{ }}
compset() {{ at_start=${{at_start#*=}} }}
compadd() {{
  while [[ $1 != -- ]] shift; shift
  for w in $@; do [[ $w == $at_start* ]] && print $w; done
}}
"""
}
"""What stands in zsh for its completion system."""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("det tra", {"train", "track"}),
        ("det train epo", {"epochs="}),
        ("det train optimizer=Ad", {"AdamW", "Adam", "Adamax"}),
        ("det train epochs=3 amp=b", {"bf16"}),
        ("det val save_", {"save_conf=", "save_json=", "save_txt="}),
        ("det train model=yolov9", {"yolov9t", "yolov9s", "yolov9m", "yolov9c"}),
        ("det bench ex", {"export"}),
        ("det bench export plots=F", {"False"}),
    ],
)
def test_tab_offers_commands_options_and_values(
    tmp_path: Path,
    capsys,
    monkeypatch: pytest.MonkeyPatch,
    shell: str,
    typed: str,
    wanted: set[str],
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    monkeypatch.chdir(tmp_path)
    assert main(["config", f"completion={shell}"]) == 0
    script = capsys.readouterr().out
    asks = ASKS[shell].format(typed, len(typed))
    before = BEFORE.get(shell, "").replace("{{", "{").replace("}}", "}")
    done = subprocess.run(
        [shell, "-c", f"{before}{script}\n{asks}"], capture_output=True, text=True
    )
    found = {word.rpartition("=")[2] or word for word in done.stdout.split()}
    assert found == wanted, done.stderr
    assert "python" not in script and Path(sys.executable).name not in script


def test_the_script_of_bash_is_the_usual_one(capsys) -> None:
    assert main(["config", "--completion"]) == 0
    usual = capsys.readouterr().out
    assert main(["config", "completion=bash"]) == 0
    assert capsys.readouterr().out == usual
