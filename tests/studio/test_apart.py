"""Work of the studio in a process of its own: how it fails, and that nothing is left of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from yolodet.detector.studio.apart import apart
from yolodet.files.errors import DetError


def miss(path: Path, progress: Callable[[int, int], None]) -> None:
    path.read_text()


def die(_: None, progress: Callable[[int, int], None]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait(file: Path, progress: Callable[[int, int], None]) -> None:
    file.write_text(str(os.getpid()))
    time.sleep(60)


def quiet(done: int, total: int) -> None:
    """Progress that nobody reads."""


@pytest.mark.parametrize(
    ("work", "given", "message"),
    [
        (miss, Path("gone.txt"), "gone.txt: No such file or directory"),
        (die, None, "ended with exit code -9, perhaps because memory was short"),
    ],
)
def test_a_failure_comes_back_as_its_message(work: Any, given: Any, message: str) -> None:
    with pytest.raises(DetError, match=message):
        apart(work, given, quiet)


def test_a_studio_that_is_closed_ends_the_process(tmp_path: Path) -> None:
    file = tmp_path / "process"

    def until_started(done: int, total: int) -> None:
        if file.exists() and file.read_text():
            raise DetError("closed")

    with pytest.raises(DetError, match="closed"):
        apart(wait, file, until_started)
    with pytest.raises(ProcessLookupError):
        os.kill(int(file.read_text()), 0)
