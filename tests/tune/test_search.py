"""The search: better than chance, shared, interrupted, honest; trials are stand-ins or tiny."""

from __future__ import annotations

import csv
import json
import math
import random
import re
import time
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml

pytest.importorskip("optuna", reason="the search needs the extra [tune]")

from optuna.trial import TrialState
from rows import each
from stand_in import EPOCHS, SPACE, fake, height, make_study, quiet
from tiny import rows_of, use_tiny_detector
from yolodet import YOLO, cli
from yolodet.detector.options.parse import parse
from yolodet.detector.options.tune import TuneConfig
from yolodet.detector.run.folder import RunError
from yolodet.detector.tune.closing import Closing
from yolodet.detector.tune.pipeline import tune
from yolodet.detector.tune.search import Deadline, search
from yolodet.detector.tune.study import PRUNED
from yolodet.detector.tune.training import Result, Watch
from yolodet.files.errors import DetError


def test_a_search_beats_random_search_with_the_same_budget(tmp_path: Path) -> None:
    trials, seeds = 30, 6
    found, chance = [], []
    for seed in range(seeds):
        study = make_study(tmp_path / str(seed), seed)
        spent: list[int] = []

        def counted(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
            result = fake(values, folder, watch)
            spent.append(result.epochs)  # noqa: B023
            return result

        search(study, counted, trials, quiet(), Deadline())
        assert study.best is not None and study.best.value is not None
        found.append(study.best.value)
        draw = random.Random(seed)
        rounds = max(sum(spent) // EPOCHS, 1)  # whole trainings for the same number of epochs
        chance.append(max(height(_drawn(draw)) for _ in range(rounds)))
        assert rounds < trials  # poor trials were stopped
    assert mean(found) > mean(chance) + 0.05


def _drawn(draw: random.Random) -> dict[str, float]:
    return {
        "lr0": 10 ** draw.uniform(-4, 0), "momentum": draw.random(), "mosaic": draw.random(),
        "scale": draw.uniform(0, 0.99),
    }  # fmt: skip


def test_the_first_trial_is_the_defaults_and_is_never_stopped(tmp_path: Path) -> None:
    given: list[Mapping[str, Any]] = []

    def noted(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        given.append(values)
        return fake(values, folder, watch)

    study = make_study(tmp_path)
    search(study, noted, 4, quiet(), Deadline())
    first = study.trials()[0]
    assert given[0] == {} and first.state == TrialState.COMPLETE
    assert first.params["momentum"] == 0.9  # what the defaults stand for
    assert all(values.keys() == SPACE.keys() for values in given[1:])


def test_failed_trials_are_recorded_and_the_search_goes_on(tmp_path: Path) -> None:
    def fails(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        if folder.name == "001":
            raise RunError("training has diverged")
        if folder.name == "002":
            raise MemoryError
        if folder.name == "003":
            return Result(math.nan)
        return fake(values, folder, watch)

    study = make_study(tmp_path)
    search(study, fails, 6, quiet(), Deadline())
    states = [trial.state for trial in study.trials()]
    assert states[1:4] == [TrialState.FAIL] * 3 and len(states) == 6
    reasons = [trial.user_attrs["reason"] for trial in study.trials(TrialState.FAIL)]
    assert reasons == ["training has diverged", "MemoryError", "no AP could be measured"]


class Killed(BaseException):
    """Ends the process of the search."""


def test_a_killed_search_ends_with_the_trials_of_an_uninterrupted_one(tmp_path: Path) -> None:
    search(make_study(tmp_path / "whole"), fake, 8, quiet(), Deadline())
    count, calls = 0, []

    def dies(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        nonlocal count
        count += 1
        if count % 3 == 0:
            raise Killed
        calls.append(folder.name)
        return fake(values, folder, watch)

    for _ in range(9):
        try:
            search(make_study(tmp_path / "cut"), dies, 8, quiet(), Deadline())
            break
        except Killed:
            continue
    whole, cut = (make_study(tmp_path / name).trials() for name in ("whole", "cut"))
    assert [t.params for t in cut] == [t.params for t in whole]
    assert sorted(calls) == [f"{number:03d}" for number in range(8)]  # each trained once to its end


def test_a_trial_that_was_stopped_but_not_recorded_is_not_trained_again(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    search(study, fake, 1, quiet(), Deadline())
    with study.next(2) as job:
        assert job is not None
        study.note(job, **{PRUNED: 1})
    trained: list[str] = []
    search(study, lambda v, folder, w: trained.append(folder.name) or fake(v, folder, w), 2,
           quiet(), Deadline())  # fmt: skip
    assert trained == [] and study.trials()[1].state == TrialState.PRUNED


def test_a_trial_that_ends_while_another_process_looks_for_lost_ones_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = make_study(tmp_path), make_study(tmp_path)
    held = mine.next(5)
    job = held.__enter__()
    assert job is not None
    take = other._take

    def late(number: int) -> Any:
        if not mine.trials(TrialState.COMPLETE):
            mine.finish(job, 0.5)
            held.__exit__(None, None, None)
        return take(number)

    monkeypatch.setattr(other, "_take", late)
    with other.next(5) as found:
        assert found is not None and (job.number, found.number) == (0, 1)


def _work(folder: Path, log: Path) -> None:
    def noted(values: Mapping[str, Any], trial: Path, watch: Watch) -> Result:
        with log.open("a") as file:
            file.write(f"{trial.name}\n")
        return fake(values, trial, watch)

    search(make_study(folder), noted, 12, quiet(), Deadline())


@pytest.mark.slow
def test_two_processes_never_run_one_trial_twice(tmp_path: Path) -> None:
    context = get_context("spawn")
    workers = [
        context.Process(target=_work, args=(tmp_path / "study", tmp_path / "log")) for _ in range(2)
    ]
    (tmp_path / "study").mkdir()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    ran = (tmp_path / "log").read_text().split()
    assert sorted(ran) == [f"{number:03d}" for number in range(12)]


def _work_slowly(folder: Path) -> None:
    def slow(values: Mapping[str, Any], trial: Path, watch: Watch) -> Result:
        time.sleep(0.3)
        return fake(values, trial, watch)

    search(make_study(folder), slow, 12, quiet(), Deadline())


@pytest.mark.slow
def test_kill_9_at_ten_random_moments_loses_no_finished_trial(tmp_path: Path) -> None:
    context, draw = get_context("spawn"), random.Random(0)
    folder = tmp_path / "study"
    known: dict[int, float | None] = {}
    for _ in range(10):
        worker = context.Process(target=_work_slowly, args=(folder,))
        worker.start()
        time.sleep(draw.uniform(1.5, 6.0))
        worker.kill()
        worker.join()
        if (folder / "study.db").exists():
            now = {t.number: t.value for t in make_study(folder).trials(TrialState.COMPLETE)}
            assert known.items() <= now.items()
            known = now
    _work_slowly(folder)
    search(make_study(tmp_path / "whole"), fake, 12, quiet(), Deadline())
    ended, whole = make_study(folder).trials(), make_study(tmp_path / "whole").trials()
    assert len(ended) == len(whole) == 12
    assert all(trial.state != TrialState.RUNNING for trial in ended)


def test_time_that_is_over_leaves_the_trial_for_later(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    until = Deadline(seconds=100.0)

    def slow(values: Mapping[str, Any], folder: Path, watch: Watch) -> Result:
        until.began -= 60.0
        return fake(values, folder, watch)

    search(study, slow, 9, quiet(), until)
    states = [trial.state for trial in study.trials()]
    assert states == [TrialState.COMPLETE, TrialState.RUNNING]
    search(study, fake, 3, quiet(), Deadline())
    assert [t.state == TrialState.RUNNING for t in study.trials()] == [False] * 3


@pytest.mark.parametrize(
    ("best", "defaults", "said"),
    [
        ((0.51,), (0.50,), "+0.010; one seed shows no spread"),
        ((0.51, 0.52, 0.53), (0.50, 0.51, 0.52), "better by 0.010"),
        ((0.50, 0.53, 0.49), (0.51, 0.50, 0.51), "no difference that these seeds can show"),
        ((0.50, 0.51, 0.52), (0.51, 0.52, 0.53), "worse by 0.010"),
        ((0.5, 0.6), (0.5, 0.6), "the same"),
        ((), (), ""),
    ],
)
def test_the_verdict(best: tuple[float, ...], defaults: tuple[float, ...], said: str) -> None:
    assert said in Closing(best, defaults).verdict


# ---------------------------------------------------------------- real, tiny trainings

TINY = ("device=cpu", "imgsz=64", "batch=4", "amp=False", "epochs=3")


def test_det_tune_from_the_command_line(
    squares: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_tiny_detector(monkeypatch)
    words = [f"data={squares}", "trials=3", "lr0=log:1e-3..1e-1", "mosaic=0..1", *TINY]
    assert cli.main(["tune", *words]) == 0
    told = capsys.readouterr()
    assert "trained again with 1 new seed" in told.out.splitlines()[-1]
    folder = Path("runs/tune")
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert [row["trial"] for row in rows] == ["0", "1", "2"] and rows[0]["defaults"] == "True"
    for name in ("history.png", "importance.png", "parallel.png", "tune.json", "space.yaml"):
        assert (folder / name).is_file()
    # the AP of a trial is that of its run
    for row in rows:
        last = rows_of(folder / "trials" / f"{int(row['trial']):03d}")[-1]
        assert float(row["epochs"]) == float(last["epoch"])
    # best.yaml is an options file
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best["epochs"] == 3 and best["data"] == str(squares)
    assert cli.main(["config", "train", f"cfg={folder}/best.yaml"]) == 0
    # more trials in the same study
    assert cli.main(["tune", f"resume={folder}", "trials=4", "seeds=0", "--json"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])["result"]
    assert [row["trial"] for row in result["trials"]] == [0, 1, 2, 3]
    assert cli.main(["tune", f"resume={folder}", "epochs=9"]) == 2
    assert "cannot change epochs of a search" in capsys.readouterr().err


def test_a_trial_that_lost_its_process_goes_on_from_its_checkpoint(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiny_detector(monkeypatch)
    from yolodet.detector.train.trainer import Trainer

    words = {
        "data": str(squares), "project": str(tmp_path), "trials": 1, "seeds": 0, "plots": False,
        "ranges": "lr0=log:1e-3..1e-1", **dict(word.split("=") for word in TINY),
    }  # fmt: skip
    config, given = parse(TuneConfig, words)
    learned: list[int] = []
    train_epoch = Trainer._train_epoch

    def dies(trainer: Trainer, stop: Any) -> None:
        if trainer.at.epoch == 2 and 2 not in learned:
            learned.append(2)
            raise Killed
        learned.append(trainer.at.epoch)
        train_epoch(trainer, stop)

    monkeypatch.setattr(Trainer, "_train_epoch", dies)
    with pytest.raises(Killed):
        tune(config, given, quiet())
    config, given = parse(TuneConfig, {"resume": str(tmp_path / "tune")})
    result = tune(config, given, quiet())
    assert learned == [0, 1, 2, 2]  # never from zero
    assert [row["state"] for row in result["trials"]] == ["complete"]


def test_yolo_tune(squares: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_detector(monkeypatch)
    words = dict(word.split("=") for word in TINY)
    words |= {"epochs": "1", "iterations": "2"}
    space = {"lr0": "log:1e-3..1e-1", "optimizer": ["MuSGD", "SGD"]}
    result = YOLO("yolo26n.yaml", verbose=False).tune(
        data=str(squares), seeds=0, plots=False, space=space, **words
    )
    assert len(result["trials"]) == 2 and result["trials"][1]["optimizer"] in ("MuSGD", "SGD")


def test_every_training_of_a_search_is_recorded(
    squares: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    use_tiny_detector(monkeypatch)
    words = [*TINY[:-1], "epochs=1", "trials=2", "plots=False", "log=tensorboard"]
    assert cli.main(["tune", f"data={squares}", "lr0=log:1e-3..1e-1", *words]) == 0
    folders = {file.parent.relative_to("runs/tune") for file in Path("runs").rglob("events.out*")}
    assert {Path("trials/000"), Path("trials/001"), Path("closing/defaults-seed1")} <= folders


@each(
    ("name", "damage"),
    [
        ("study.db", b"no data base\n" * 99),
        ("study.db", None),
        ("fixed.json", b"["),
        ("fixed.json", b"[" * 200_000),
        ("fixed.json", b"[1]"),
        ("defaults.json", b"[]"),
        ("space.yaml", b"- mosaic\n"),
    ],
)
def test_a_damaged_search_is_named_and_left_as_it_is(
    squares: Path, tmp_path: Path, name: str, damage: bytes | None
) -> None:
    """None: cut in half."""
    words = {"data": str(squares), "project": str(tmp_path), "trials": 1, "seeds": 0,
             "plots": False, "ranges": "lr0=log:1e-3..1e-1"}  # fmt: skip
    config, given = parse(TuneConfig, words)
    tune(config, given, quiet(), lambda values, folder, watch: Result(0.5, 1, 1.0))
    file = tmp_path / "tune" / name
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    before = file.read_bytes()
    config, given = parse(TuneConfig, {"resume": str(tmp_path / "tune"), "trials": 2})
    with pytest.raises(DetError, match=rf"tune/{re.escape(name)}: "):
        tune(config, given, quiet())
    assert file.read_bytes() == before
