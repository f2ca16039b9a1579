"""How many threads compute, and how they wait for each other."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rows import each
from yolodet.detector.run import device
from yolodet.detector.run.device import use_threads
from yolodet.files.threads import SHORT_SPIN, shorten_spinning, thread_limit

WORDS = (*SHORT_SPIN, "OMP_WAIT_POLICY", "OMP_NUM_THREADS", "TORCHELASTIC_RUN_ID")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing of threads, four usable cores and eight in the machine."""
    for word in WORDS:
        monkeypatch.setenv(word, "")  # so that it is put back whatever happens in between
        monkeypatch.delenv(word)
    monkeypatch.setattr(device, "usable_cores", lambda: 4)
    monkeypatch.setattr(device, "_physical_cores", lambda: 8)
    monkeypatch.setattr(device, "_chosen", None)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def threads_after(
    before: int, wanted: int | None = None, neighbors: int = 1
) -> int:  # fmt: skip
    torch.set_num_threads(before)
    use_threads(wanted, neighbors)
    return torch.get_num_threads()


def test_torch_computes_on_the_cores_that_a_container_grants() -> None:
    assert threads_after(8) == 4
    assert threads_after(8, neighbors=2) == 2
    assert threads_after(8, neighbors=9) == 1
    assert threads_after(1, neighbors=2) == 2  # ranks share, whatever torchrun has set


def test_what_the_caller_or_the_environment_says_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads_after(2) == 2  # torch.set_num_threads(2) of the caller
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert threads_after(8) == 3
    assert threads_after(8, neighbors=4) == 3
    assert threads_after(8, wanted=1) == 1


def test_a_number_of_our_own_is_not_taken_for_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert threads_after(8, neighbors=4) == 1
    use_threads()
    assert torch.get_num_threads() == 4


@each(
    ("words", "expected"),
    [
        ({}, None),
        ({"OMP_NUM_THREADS": "1"}, 1),
        ({"OMP_NUM_THREADS": "many"}, None),
        ({"OMP_NUM_THREADS": "0"}, None),
        ({"OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "x"}, None),
        ({"OMP_NUM_THREADS": "2", "TORCHELASTIC_RUN_ID": "x"}, 2),
    ],
)
def test_an_explicit_limit_of_threads_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, words: dict[str, str], expected: int | None
) -> None:
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    assert thread_limit() == expected


def test_what_the_user_has_set_about_waiting_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    shorten_spinning()
    assert os.environ["GOMP_SPINCOUNT"] == "7"
    assert os.environ["KMP_BLOCKTIME"] == SHORT_SPIN["KMP_BLOCKTIME"]
    monkeypatch.delenv("KMP_BLOCKTIME")
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    shorten_spinning()
    assert "KMP_BLOCKTIME" not in os.environ


@each("module", ["yolodet", "yolodet.cli", "yolodet.detector.api"])
def test_spinning_is_shortened_before_torch_is_loaded(module: str, tmp_path: Path) -> None:
    """A process started from there (a rank, a loader) inherits the words."""
    told = "import os\nraise SystemExit(f\"at torch: {os.environ.get('GOMP_SPINCOUNT')}\")"
    (tmp_path / "torch.py").write_text(told)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import {module}; import torch"
    bare = {name: value for name, value in os.environ.items() if name not in WORDS}
    said = subprocess.run([sys.executable, "-c", program], env=bare, capture_output=True, text=True)
    assert said.stderr == "at torch: 1000\n"
