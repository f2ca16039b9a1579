"""Every command of README and the pages runs as it is printed, and leaves the user's files alone.

The commands of a page run in order, in one folder that holds what the pages take for granted
(tests/rigs/page_commands.py).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from page_commands import (
    OTHER_LANGUAGES,
    ROOT,
    SHELLS,
    commands_of,
    hashes,
    languages_of,
    make_user_folder,
    reason_not_to_run,
    smaller,
    use_tiny_detectors,
)
from yolodet.cli import main

FIRST = [ROOT / "README.md", ROOT / "docs" / "first-detector.md"]
OTHERS = [page for page in sorted((ROOT / "docs").glob("*.md")) if page not in FIRST]
SEVERAL = re.compile(
    r"(?<![\w.])1 (training )?"
    r"(classes|images|boxes|epochs|steps|threads|tensors|errors|warnings|columns)\b"
)
"""A noun that does not follow its number."""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, which is the current one; nothing outside of it is read or written."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "user"
    folder.mkdir()
    use_tiny_detectors(monkeypatch)
    make_user_folder(folder)
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DET_DATASETS", str(folder / "elsewhere"))
    monkeypatch.setenv("DET_WEIGHTS", str(folder / "weights"))
    monkeypatch.chdir(folder)
    return folder


def run_commands(pages: list[Path], capsys: pytest.CaptureFixture[str]) -> int:
    """Run the commands of the pages; returns how many.  Each must end with exit code 0."""
    ran = 0
    for page in pages:
        for line in commands_of(page):
            if reason_not_to_run(line):
                continue
            words, target = smaller(line)
            code = main(words)
            printed = capsys.readouterr()
            assert code == 0, f"{page.name}: {line} ({words}): {printed.err}"
            assert not SEVERAL.search(printed.out + printed.err), f"{page.name}: {line}"
            if target:
                Path(target).write_text(printed.out)
            ran += 1
    return ran


def check_pages(pages: list[Path], user: Path, capsys: pytest.CaptureFixture[str]) -> int:
    before = hashes(user)
    ran = run_commands(pages, capsys)
    after = hashes(user)
    kept = {name: digest for name, digest in before.items() if not name.startswith("runs/")}
    assert {name: after.get(name) for name in kept} == kept  # a run may be continued
    return ran


def test_every_command_of_readme_and_the_first_page_runs(
    user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_pages(FIRST, user, capsys) > 9


@pytest.mark.slow
def test_every_command_of_the_other_pages_runs(
    user: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each page begins after a training on the user's data."""
    ran = 0
    for page in OTHERS:
        assert main(smaller("det train data=my.yaml")[0]) == 0
        ran += check_pages([page], user, capsys)
    assert ran > 25


@pytest.mark.parametrize("page", [*FIRST, *OTHERS], ids=lambda page: page.name)
def test_what_is_not_run_is_listed_with_its_reason(page: Path) -> None:
    assert languages_of(page) <= {*SHELLS, *OTHER_LANGUAGES}
    others = [line for line in commands_of(page) if not line.startswith("det ")]
    assert [line for line in others if not reason_not_to_run(line)] == []
