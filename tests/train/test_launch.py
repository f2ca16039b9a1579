"""Who is which rank, what device= and batch= mean to it, and starting the ranks of device=0,1."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from yolodet.detector.options.errors import UsageError
from yolodet.detector.run.folder import RunError
from yolodet.detector.run.launch import launch
from yolodet.detector.run.rank_info import RankInfo, check_batch, device_of_rank, gpus_of, rank_info

# ---------------------------------------------------------------- who is who


def test_the_place_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rank_info() == RankInfo()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert rank_info() == RankInfo()
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="RANK is '': expected a number; start with torchrun"):
        rank_info()
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UsageError, match="MASTER_ADDR: start with torchrun"):
        rank_info()
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29500")
    assert rank_info() == RankInfo(3, 4, 3, 4)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert rank_info() == RankInfo(3, 4, 1, 2)


def test_each_rank_takes_the_gpu_of_its_number() -> None:
    here = RankInfo(3, 4, 1, 2)
    assert device_of_rank("cuda", here, cuda=True) == "cuda:1"
    assert device_of_rank(None, here, cuda=True) == "cuda:1"
    assert device_of_rank(None, here, cuda=False) == device_of_rank("cpu", here, cuda=True) == "cpu"
    assert device_of_rank("4,6", here, cuda=True) == "6"
    assert device_of_rank("cuda:1", RankInfo(), cuda=True) == "cuda:1"
    assert gpus_of("0,1,3") == gpus_of("cuda:0,1,3") == ("0", "1", "3")
    assert gpus_of("0") == gpus_of("cpu") == gpus_of(None) == ()


@pytest.mark.parametrize(
    ("device", "here", "words"),
    [
        ("0", RankInfo(0, 2, 0, 2), "device=0 is one device for 2 ranks: use device=cuda"),
        ("0,1,2", RankInfo(0, 2, 0, 2), "device=0,1,2 names 3 GPUs, but torchrun started 2"),
        ("0,1", RankInfo(), "device=0,1 needs 2 ranks, and this process is one: use det train"),
    ],
)
def test_devices_that_do_not_fit_the_ranks_are_refused(
    device: str, here: RankInfo, words: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        device_of_rank(device, here, cuda=True)
    assert str(refusal.value).startswith(words) and "\n" not in str(refusal.value)


def test_a_batch_is_the_total_and_must_be_shared_equally() -> None:
    check_batch(16, 1), check_batch(16, 4)
    with pytest.raises(UsageError, match=r"batch=15 is the total over 4 ranks .* e\.g\. batch=16"):
        check_batch(15, 4)


# ---------------------------------------------------------------- starting them


def as_rank(tmp_path: Path, what: str) -> list[str]:
    """A command that leaves a file with its place and then does ``what``."""
    code = f"""
import os, signal, sys, time
rank = int(os.environ["RANK"])
names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
open(f"{tmp_path}/{{rank}}", "w").write(" ".join(os.environ[n] for n in names))
{what}
"""
    return [sys.executable, "-S", "-c", code]


def test_each_rank_is_told_its_place_and_the_first_bad_code_counts(tmp_path: Path) -> None:
    assert launch(as_rank(tmp_path, ""), 2) == 0
    assert (tmp_path / "0").read_text() == "0 2 0 2 127.0.0.1"
    assert (tmp_path / "1").read_text() == "1 2 1 2 127.0.0.1"
    assert launch(as_rank(tmp_path, "sys.exit(7 if rank else 0)"), 2) == 7


def test_ranks_that_do_not_end_by_themselves_are_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolodet.detector.run.launch.GRACE_SECONDS", 0.2)
    assert launch(as_rank(tmp_path, "time.sleep(120 * (1 - rank)); sys.exit(3)"), 2) == 3


def test_a_rank_that_is_killed_is_named(tmp_path: Path) -> None:
    """Also where another rank ends first, with an error."""
    with pytest.raises(RunError, match="rank 1 was killed by signal 9: check whether"):
        launch(as_rank(tmp_path, "os.kill(os.getpid(), 9) if rank else sys.exit(1)"), 2)


def test_a_signal_is_passed_on_to_all(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def stop() -> None:
        """As soon as both ranks have said that they listen."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if all((tmp_path / str(rank)).exists() for rank in range(2)):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.02)

    stopper = threading.Thread(target=stop)
    stopper.start()
    assert launch(as_rank(tmp_path, "time.sleep(120)"), 2) == 143
    stopper.join()
    assert signal.getsignal(signal.SIGTERM) is before
