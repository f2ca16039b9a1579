"""A wheel has what it should, and building it leaves the checkout as it was."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from page_commands import hashes

ROOT = Path(__file__).parents[2]
ROOMS = ("datasets", "detector", "files", "weights", ".ci")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a wheel is made of, and a module that an earlier build left behind."""
    folder = tmp_path / "checkout"
    for room in ROOMS:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, folder / room, ignore=skip)
    for file in ROOT.iterdir():
        if file.suffix in (".py", ".toml", ".md", ".typed", ".in") or file.name == "LICENSE":
            shutil.copy(file, folder)
    left = folder / "build" / "lib" / "yolodet" / "old.py"
    left.parent.mkdir(parents=True)
    left.write_text("")
    return folder


def test_a_wheel_has_every_module_and_the_checkout_nothing_more(
    checkout: Path, tmp_path: Path
) -> None:
    pytest.importorskip("setuptools", minversion="77")
    before = hashes(checkout)
    code = f"import build_backend; build_backend.build_wheel({str(tmp_path)!r})"
    subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=checkout, env={"PYTHONPATH": ".ci"}, check=True,
        capture_output=True,
    )  # fmt: skip
    assert hashes(checkout) == before
    names = set(zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist())
    modules = {f"yolodet/{name}" for name in before if name.endswith(".py") and name[0] not in ".b"}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "yolodet/py.typed" in names and "yolodet/datasets/sets/coco8.yaml" in names
