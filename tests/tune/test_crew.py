"""Several trials at once: the conversation with their processes, here threads that can be lost."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the search needs the extra [tune]")

from optuna.trial import TrialState
from stand_in import fake, make_study, quiet
from yolodet.detector.options.parse import parse
from yolodet.detector.options.tune import TuneConfig
from yolodet.detector.run.folder import RunError
from yolodet.detector.run.log import Log
from yolodet.detector.run.signals import Interrupted
from yolodet.detector.tune import process
from yolodet.detector.tune.crew import TRIES, Crew
from yolodet.detector.tune.link import Lost as LostError
from yolodet.detector.tune.link import News, Order, serve
from yolodet.detector.tune.search import Deadline, search
from yolodet.detector.tune.training import Objective, Result, Watch
from yolodet.files.errors import InputError

TRIALS = 5
"""As many as are drawn without looking at the others, so in any order they are the same."""


class ThreadLink:
    """A link to a thread.  dies: whether the process is gone when it is to send this answer."""

    def __init__(self, objective: Objective, dies: Callable[[Order, Any], bool]) -> None:
        self._orders: SimpleQueue[Any] = SimpleQueue()
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._dies = dies
        self._order: Any = None
        ends = (self._orders.get, self._answers.put, lambda log: objective)
        threading.Thread(target=serve, args=ends, daemon=True).start()

    def talk(self, message: object) -> Any:
        self._order = message if isinstance(message, Order) else self._order
        self._orders.put(message)
        answer = self._answers.get()
        if answer is None or self._dies(self._order, answer):
            raise LostError("its process is gone")
        return answer

    def stop(self) -> None:
        self._answers.put(None)

    close = stop


def crew_of(
    objective: Objective,
    dies: Callable[[Order, Any], bool] = lambda order, answer: False,
    log: Log | None = None,
    ships: bool = True,
) -> Crew:
    return Crew(lambda number: ThreadLink(objective, dies), 2, log or quiet(), ships=ships)


def trains(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
    """``fake``, with a checkpoint after each epoch that says how often it was begun."""
    last = folder / "weights" / "last.pt"
    last.parent.mkdir(parents=True, exist_ok=True)
    begun = last.read_text() if last.is_file() else ""
    last.write_text(begun + "begun ")
    return fake(values, folder, watch)


def test_a_crew_finds_what_one_worker_finds_and_gathers_the_files(tmp_path: Path) -> None:
    alone, shared = make_study(tmp_path / "alone"), make_study(tmp_path / "crew")
    search(alone, fake, TRIALS, quiet(), Deadline())
    search(shared, crew_of(trains), TRIALS, quiet(), Deadline())
    whole = {t.number: (t.params, t.value) for t in alone.trials(TrialState.COMPLETE)}
    for trial in shared.trials():
        assert trial.state.is_finished() and trial.params == alone.trials()[trial.number].params
        if trial.state == TrialState.COMPLETE and trial.number in whole:
            assert (trial.params, trial.value) == whole[trial.number]
    for number in range(TRIALS):
        last = shared.folder / "trials" / f"{number:03d}" / "weights" / "last.pt"
        assert last.read_text() == "begun "


def test_a_lost_process_costs_its_trial_only_which_goes_on_from_its_checkpoint(
    tmp_path: Path,
) -> None:
    lost: list[str] = []

    def dies(order: Order, answer: Any) -> bool:
        late = isinstance(answer, News) and answer.epoch == 3
        if late and order.folder.name == "001" and not lost:
            lost.append(order.folder.name)
            return True
        return False

    log = quiet()
    study = make_study(tmp_path)
    search(study, crew_of(trains, dies, log), TRIALS, log, Deadline())
    assert lost == ["001"] and all(trial.state.is_finished() for trial in study.trials())
    begun = Counter({
        folder.name: len((folder / "weights" / "last.pt").read_text().split())
        for folder in (tmp_path / "trials").iterdir()
    })  # fmt: skip
    assert begun == {f"{number:03d}": 1 + (number == 1) for number in range(TRIALS)}
    assert log.warnings == ["trials/001: its process is gone; it is run again"]


def test_a_trial_that_kills_its_process_has_failed_and_the_search_goes_on(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    crew = crew_of(trains, lambda order, answer: order.folder.name == "002")
    search(study, crew, TRIALS, quiet(), Deadline())
    failed = study.trials(TrialState.FAIL)
    assert [trial.number for trial in failed] == [2] and len(study.trials()) == TRIALS
    assert f"died {TRIES} times" in failed[0].user_attrs["reason"]


def test_a_cluster_with_less_room_than_workers_still_ends_the_search(tmp_path: Path) -> None:
    room = threading.Semaphore(1)

    class Placed(ThreadLink):
        def __init__(self) -> None:
            room.acquire()
            super().__init__(trains, lambda order, answer: False)

        def close(self) -> None:
            room.release()

    study = make_study(tmp_path)
    search(
        study, Crew(lambda number: Placed(), 2, quiet(), ships=True), TRIALS, quiet(), Deadline()
    )
    assert len([trial for trial in study.trials() if trial.state.is_finished()]) == TRIALS


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (KeyError("a bug"), RuntimeError, "KeyError: 'a bug'"),
        (InputError("no image in my.yaml"), InputError, "no image in my.yaml"),
    ],
)
def test_what_concerns_the_whole_search_ends_it(
    tmp_path: Path, error: Exception, raised: type[Exception], said: str
) -> None:
    def fails(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        if folder.name == "000":
            raise error
        return fake(values, folder, watch)

    with pytest.raises(raised, match=said):
        search(make_study(tmp_path), crew_of(fails), TRIALS, quiet(), Deadline())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RunError("training has diverged"), "training has diverged"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "can't allocate"),
    ],
)
def test_what_concerns_one_trial_is_recorded(tmp_path: Path, error: Exception, reason: str) -> None:
    def fails(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        if folder.name == "001":
            raise error
        return fake(values, folder, watch)

    for name, objective in (("alone", fails), ("crew", crew_of(fails))):
        study = make_study(tmp_path / name)
        search(study, objective, 3, quiet(), Deadline())
        (failed,) = study.trials(TrialState.FAIL)
        assert failed.number == 1 and reason in failed.user_attrs["reason"]


def test_ctrl_c_stops_all_trainings_and_leaves_the_trials_for_later(tmp_path: Path) -> None:
    began = threading.Event()

    def waits(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        watch(1, 0.1)
        began.set()
        time.sleep(60)
        return Result(0.5)

    threading.Thread(
        target=lambda: (began.wait(), os.kill(os.getpid(), signal.SIGINT)), daemon=True
    ).start()
    study = make_study(tmp_path)
    with pytest.raises(Interrupted) as caught:
        search(study, crew_of(waits), 9, quiet(), Deadline())
    assert caught.value.exit_code == 130
    assert {trial.state for trial in study.trials()} == {TrialState.RUNNING}
    search(study, fake, 2, quiet(), Deadline())
    assert all(trial.state.is_finished() for trial in study.trials())


def test_the_machine_is_shared_fairly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "usable_cores", lambda: 8)
    monkeypatch.setattr(process, "thread_limit", lambda: None)

    def shares(**words: Any) -> list[dict[str, Any]]:
        config, _ = parse(TuneConfig, {"data": "a.yaml", **words})
        return [
            process.share_of(config, n, config.workers or 1) for n in range(config.workers or 1)
        ]

    assert shares(device="cpu", workers=2) == 2 * [{"threads": 4}]
    assert shares(device="cpu", workers=16) == 16 * [{"threads": 1}]
    assert shares(device="cpu", workers=2, threads=3) == 2 * [{"threads": 3}]
    gpus = shares(device="0,1", workers=4)
    assert [share["device"] for share in gpus] == ["0", "1", "0", "1"]
    assert {share["workers"] for share in gpus} == {1}


def test_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    until = Deadline(closing=6)
    assert math.isnan(until.left(9, 100.0, 1))
    until.began, until.ended = time.monotonic() - 50.0, 10
    assert until.left(9, 10.0, 2) == pytest.approx(9 * 5 + 6 * 10 / 2, abs=1)
    until.seconds = 60.0
    assert until.left(9, 10.0, 2) == pytest.approx(10, abs=1)


def test_the_time_that_is_left_is_said(tmp_path: Path) -> None:
    log = quiet()
    said: list[str] = []
    log.info = said.append  # type: ignore[method-assign]
    search(make_study(tmp_path), fake, 3, log, Deadline())
    left = [line for line in said if "left" in line]
    assert [line.split(" done")[0] for line in left] == ["1 of 3 trials", "2 of 3 trials"]
