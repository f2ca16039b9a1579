"""Workers that are real processes of this machine: one is killed, the search is killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="the search needs the extra [tune]")

from optuna.trial import TrialState
from stand_in import (
    begun,
    kill_once_begun,
    make_slow,
    make_study,
    quiet,
    wait_for,
)
from tiny import learned, write_squares
from yolodet.detector.tune.crew import Crew
from yolodet.detector.tune.process import Process
from yolodet.detector.tune.search import Deadline, search

pytestmark = pytest.mark.slow

WORDS = ("model=yolo26n", "pretrained=False", "device=cpu", "threads=1", "imgsz=64", "batch=4",
         "amp=False", "plots=False", "report=False", "verbose=False")  # fmt: skip


def test_a_worker_that_is_killed_costs_its_trial_only(tmp_path: Path) -> None:
    study, log, notes = make_study(tmp_path), quiet(), tmp_path / "notes"
    crew = Crew(lambda number: Process(partial(make_slow, 0.2, notes)), 2, log)
    kill_once_begun("001", notes)
    try:
        search(study, crew, 5, log, Deadline())
    finally:
        crew.close()
    runs = Counter(trial for trial, _ in begun(notes))
    assert runs == {"000": 1, "001": 2, "002": 1, "003": 1, "004": 1}
    assert all(trial.state.is_finished() for trial in study.trials())
    assert ["killed by signal 9" in text for text in log.warnings] == [True]


def _search_with_two(folder: Path, notes: Path) -> None:
    crew = Crew(lambda number: Process(partial(make_slow, 5.0, notes)), 2, quiet())
    search(make_study(folder), crew, 5, quiet(), Deadline())


def test_workers_end_with_a_search_that_is_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    parent = get_context("spawn").Process(target=_search_with_two, args=(tmp_path, notes))
    parent.start()
    wait_for(lambda: len(begun(notes)) == 2)
    parent.kill()
    parent.join()
    wait_for(lambda: not any(_runs(pid) for _, pid in begun(notes)), 20.0)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def det_tune(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "yolodet.cli", "tune", *words])


def test_workers_train_what_one_process_trains(tmp_path: Path) -> None:
    data = write_squares(tmp_path / "data")
    words = (f"data={data}", f"project={tmp_path}", "epochs=2", "trials=3", "seeds=1",
             "lr0=log:1e-3..1e-1", *WORDS)  # fmt: skip
    assert det_tune("name=one", *words).wait() == 0
    assert det_tune("name=two", "workers=2", *words).wait() == 0
    for trial in ("trials/000", "trials/001", "trials/002", "closing/defaults-seed1"):
        one, two = (learned(tmp_path / name / trial) for name in ("one", "two"))
        if len(one) == len(two):  # not stopped early, which depends on the order
            assert one == two
    assert not (tmp_path / "two" / "trials" / "003").exists()


def test_kill_9_of_det_tune_at_ten_random_moments(tmp_path: Path) -> None:
    data, draw = write_squares(tmp_path / "data"), random.Random(0)
    folder, known = tmp_path / "tune", {}
    words = (f"data={data}", f"project={tmp_path}", "epochs=3", "lr0=log:1e-3..1e-1", *WORDS)
    ends = ("trials=4", "seeds=0")
    for _ in range(10):
        resumes = (folder / "study.db").is_file()
        child = det_tune(*((f"resume={folder}",) if resumes else words), *ends)
        wait_for(lambda: (folder / "study.db").is_file() or child.poll() is not None)  # noqa: B023
        time.sleep(draw.uniform(0.5, 15.0))
        child.kill()
        child.wait()
        now = {t.number: t.value for t in make_study(folder).trials(TrialState.COMPLETE)}
        assert known.items() <= now.items()
        known = now
    assert det_tune(f"resume={folder}", *ends).wait() == 0
    trials = make_study(folder).trials()
    assert len(trials) == 4 and all(trial.state.is_finished() for trial in trials)
    # every epoch is there once, and is what it is in a search that nobody killed
    assert det_tune("name=whole", *words, *ends).wait() == 0
    for trial in trials:
        name = f"trials/{trial.number:03d}"
        assert learned(folder / name) == learned(tmp_path / "whole" / name)
