"""Going on: a run that was stopped anywhere ends as the one that was not, bit for bit."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rows import each
from tiny import STEPS, assert_all_finite, finished, rows_of, same, saved, train
from yolodet import cli
from yolodet.detector import api
from yolodet.detector.options.errors import UsageError
from yolodet.detector.run import hardware
from yolodet.detector.run.folder import BEST, LAST, RunFinished, RunNotFound
from yolodet.detector.run.signals import Interrupted, stop_request
from yolodet.detector.train.evaluator import CocoEvaluator
from yolodet.detector.train.trainer import Trainer
from yolodet.weights.checkpoint import load_state, load_weights

EPOCHS = 3
CODES = [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
USUAL = {"epochs": EPOCHS, "nbs": 3}

pytestmark = pytest.mark.usefixtures("tiny_models")


@contextlib.contextmanager
def in_batch(number: int, do: Callable[[], Any]) -> Iterator[None]:
    """Do something in the middle of the n-th batch of a run."""
    count = itertools.count()
    learn = Trainer._train_batch

    def watched(self: Trainer, *arguments: Any) -> None:
        if next(count) == number:
            do()
        learn(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_batch", watched)
        yield


def stop(signum: int = signal.SIGTERM) -> Callable[[], None]:
    return lambda: signal.raise_signal(signum)


class Crash(Exception):
    """Something that nobody expected."""


def crash() -> None:
    raise Crash


def assert_same_run(a: Path, b: Path) -> None:
    """Equal weights, average, optimizer, scale, place and rows; equal best and results."""
    one, other = saved(a), saved(b)
    assert [key for key in one if not same(one[key], other[key])] == []
    assert same(load_weights(a / BEST)[0], load_weights(b / BEST)[0])
    rows = [rows_of(folder) for folder in (a, b)]
    for row in itertools.chain(*rows):
        row.pop("time"), row.pop("images_per_s")
    assert rows[0] == rows[1] and len(rows[0]) > 0
    results = [json.loads((folder / "results.json").read_text()) for folder in (a, b)]
    for result in results:
        for name in ("speed_ms", "train_seconds", "precision", "memory"):
            result.pop(name)
    assert results[0] == results[1]


@pytest.fixture(scope="module")
def whole(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Options -> the folder of a run with them that was not stopped; trained once."""
    folders: dict[str, Path] = {}

    def trained(**words: Any) -> Path:
        key = repr(sorted(words.items()))
        if key not in folders:
            project = tmp_path_factory.mktemp("whole")
            train(shapes, project, **words)
            folders[key] = project / "train"
        return folders[key]

    return trained


# ---------------------------------------------------------------- exactly as if never stopped

FP16 = {"amp": "fp16", "amp_force": True, "amp_check": False}
BF16 = {"amp": "bf16", "amp_force": True, "amp_check": False}


@each(
    ("batch", "words"),
    [
        (STEPS - 1, {}),  # the end of epoch 1
        (STEPS + 1, {}),
        (0, {}),
        (STEPS, {"optimizer": "AdamW"}),
        (2 * STEPS + 2, {"optimizer": "SGD", "ema": False}),
        (STEPS + 2, BF16),
        (STEPS + 2, FP16),
        (STEPS, {"nbs": 6, "multi_scale": 0.5}),  # in the middle of a nominal batch
    ],
)
def test_a_stopped_run_ends_as_the_one_that_was_not(
    shapes: Path, whole: Callable[..., Path], tmp_path: Path, batch: int, words: dict[str, Any]
) -> None:
    words = {**USUAL, **words}
    with in_batch(batch, stop()), pytest.raises(Interrupted):
        train(shapes, tmp_path / "parts", **words)
    folder = tmp_path / "parts" / "train"
    at = load_state(folder / LAST)["position"]
    done = STEPS * at["epoch"] + at["batch"]
    assert done == batch + 1 + (words["nbs"] == 6)  # no gradient is lost
    assert finished(folder) is (False if at["epoch"] else None)
    train(shapes, tmp_path / "parts", resume=folder)
    assert finished(folder)
    assert_same_run(whole(**words), folder)
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == ["train"]


@pytest.mark.parametrize(("nbs", "kept"), [(3, 2), (6, 2), (9, 3)])
def test_a_crash_loses_no_more_than_save_steps(
    shapes: Path, whole: Callable[..., Path], tmp_path: Path, nbs: int, kept: int
) -> None:
    words = {**USUAL, "nbs": nbs, "save_steps": 2}
    with in_batch(STEPS + 3, crash), pytest.raises(Crash):
        train(shapes, tmp_path / "parts", **words)
    folder = tmp_path / "parts" / "train"
    at = load_state(folder / LAST)["position"]
    assert (at["epoch"], at["batch"]) == (1, kept)
    train(shapes, tmp_path / "parts", resume=folder)
    assert_same_run(whole(**words), folder)


def test_a_crash_in_validation_loses_nothing(
    shapes: Path, whole: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that continues does not learn the epoch again."""
    uninterrupted = whole(**USUAL)
    measure, learn = CocoEvaluator.__call__, Trainer._train_batch
    epochs = itertools.count(1)
    learned: list[tuple[int, int]] = []

    def fail(self: CocoEvaluator, *arguments: Any) -> Any:
        if next(epochs) == 2:
            crash()
        return measure(self, *arguments)

    def watched(self: Trainer, *arguments: Any) -> None:
        learned.append((self.at.epoch, self.at.batch))
        learn(self, *arguments)

    monkeypatch.setattr(CocoEvaluator, "__call__", fail)
    with pytest.raises(Crash):
        train(shapes, tmp_path / "parts", **USUAL)
    folder = tmp_path / "parts" / "train"
    at = load_state(folder / LAST)["position"]
    assert (at["epoch"], at["batch"], len(at["rows"])) == (1, STEPS, 1)
    monkeypatch.setattr(CocoEvaluator, "__call__", measure)
    monkeypatch.setattr(Trainer, "_train_batch", watched)
    train(shapes, tmp_path / "parts", resume=folder)
    assert learned == [(2, batch) for batch in range(STEPS)]
    assert_same_run(uninterrupted, folder)


def test_a_run_can_be_stopped_again_and_again(
    shapes: Path, whole: Callable[..., Path], tmp_path: Path
) -> None:
    with in_batch(0, stop()), pytest.raises(Interrupted):
        train(shapes, tmp_path / "parts", **USUAL)
    folder = tmp_path / "parts" / "train"
    stops = 0
    while not finished(folder):
        with in_batch(2, stop()), contextlib.suppress(Interrupted):
            train(shapes, tmp_path / "parts", resume=folder)
        stops += 1
    assert stops == 4  # 1 + 3 + 3 + 3 batches, then the last two
    assert_same_run(whole(**USUAL), folder)


def test_an_fp16_run_keeps_its_loss_scale(shapes: Path, tmp_path: Path) -> None:
    with in_batch(STEPS + 2, stop()), pytest.raises(Interrupted):
        train(shapes, tmp_path, **USUAL, **FP16)
    state = load_state(tmp_path / "train" / LAST)
    assert state["precision"] == "fp16" and 0 < state["scaler"]["scale"] < 2.0**16
    seen = []
    with in_batch(0, lambda: None), pytest.MonkeyPatch.context() as patch:
        after = Trainer.load_state_dict

        def look(self: Trainer, state: Any) -> None:
            after(self, state)
            seen.append((self.step.scaler.get_scale(), self.precision.name))

        patch.setattr(Trainer, "load_state_dict", look)
        train(shapes, tmp_path, resume=tmp_path / "train")
    assert seen == [(state["scaler"]["scale"], "fp16")]
    assert_all_finite(tmp_path / "train")


def test_a_run_that_ended_before_its_results_were_written_can_be_finished(
    shapes: Path, whole: Callable[..., Path], tmp_path: Path
) -> None:
    with in_batch(EPOCHS * STEPS - 1, stop()), pytest.raises(Interrupted):
        train(shapes, tmp_path / "parts", **USUAL)
    train(shapes, tmp_path / "parts", resume=tmp_path / "parts" / "train")
    assert_same_run(whole(**USUAL), tmp_path / "parts" / "train")


# ---------------------------------------------------------------- signals


def words_of(shapes: Path, project: Path, *more: str, epochs: int = EPOCHS) -> list[str]:
    return [
        "train", f"data={shapes}", f"project={project}", "device=cpu", "imgsz=64", "batch=3",
        "workers=0", "plots=False", "amp=False", f"epochs={epochs}", "nbs=3", *more,
    ]  # fmt: skip


@pytest.mark.parametrize(("signum", "code"), CODES)
def test_a_signal_saves_says_how_to_go_on_and_ends_with_its_code(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], signum: int, code: int
) -> None:
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    project = tmp_path / "a project"
    with in_batch(STEPS + 1, stop(signum)):
        assert cli.main(words_of(shapes, project)) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("det: stopped at epoch 2, batch 2; continue with: det train resume=")
    command = shlex.split(error.partition("continue with: det ")[2])
    assert cli.main(command) == 0
    assert (project / "train" / "results.json").exists()
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_second_signal_stops_at_once(shapes: Path, tmp_path: Path) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with in_batch(STEPS + 1, twice):
        assert cli.main(words_of(shapes, tmp_path)) == 130
    assert load_state(tmp_path / "train" / LAST)["position"]["batch"] == 0  # of the epoch's end


def test_without_checkpoints_no_command_to_resume_is_printed(shapes: Path, tmp_path: Path) -> None:
    with in_batch(1, stop()), pytest.raises(Interrupted, match=r"nothing was saved \(save=False\)"):
        train(shapes, tmp_path, save=False)
    assert not (tmp_path / "train" / "weights").exists()


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    from threading import Thread

    seen: list[Any] = []

    def work() -> None:
        with stop_request() as request:
            seen.append(request.signum)

    thread = Thread(target=work)
    thread.start(), thread.join()
    assert seen == [None]


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), CODES)
def test_the_process_of_a_run_can_be_stopped_and_goes_on(
    shapes: Path, tmp_path: Path, signum: int, code: int
) -> None:
    det = [sys.executable, "-m", "yolodet"]
    words = words_of(shapes, tmp_path / "runs", "save_steps=1", "val=False", epochs=200)
    process = subprocess.Popen([*det, *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (tmp_path / "runs" / "train" / LAST).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signum)
    _, error = process.communicate(timeout=120)
    assert process.returncode == code
    told = re.search(r"continue with: det (train resume=\S+)", error)
    assert told is not None
    state = load_state(tmp_path / "runs" / "train" / LAST)
    more = state["position"]["epoch"] + 1
    end = subprocess.run(
        [*det, *told[1].split(), f"epochs={more}"], capture_output=True, text=True, timeout=300
    )
    assert end.returncode == 0, end.stderr
    assert json.loads((tmp_path / "runs/train/results.json").read_text())["epochs"] == more


# ---------------------------------------------------------------- extending and changing


def test_a_finished_run_is_extended_in_its_own_folder(shapes: Path, tmp_path: Path) -> None:
    train(shapes, tmp_path, **{**USUAL, "epochs": 1})
    folder = tmp_path / "train"
    with pytest.raises(RunFinished, match=r"has finished its 1 epoch: .* epochs=2 extends it"):
        train(shapes, tmp_path, resume=folder)
    results = train(shapes, tmp_path, resume=folder, epochs=3)
    assert results["epochs"] == 3 and results["folder"] == str(folder)
    assert [row["epoch"] for row in rows_of(folder)] == ["1", "2", "3"]
    assert "changed: epochs=1 -> 3" in (folder / "log.txt").read_text()
    assert load_state(folder / LAST)["config"]["epochs"] == 3


@each(
    ("change", "words"),
    [
        ({"imgsz": 96}, "cannot change imgsz of a run that has started (it has imgsz=64)"),
        ({"seed": 7, "lr0": 0.5}, "cannot change lr0, seed of a run that has started "
                                  "(it has lr0=None, seed=0)"),
        ({"batch": 6, "epochs": 9}, "cannot change batch of a run"),
        ({"model": "yolo26s"}, "cannot change model of a run that has started "
                               "(it has model=yolo26n)"),
    ],
)  # fmt: skip
def test_what_would_make_another_run_of_it_is_refused_by_name(
    shapes: Path, whole: Callable[..., Path], change: dict[str, Any], words: str
) -> None:
    folder = whole(**{**USUAL, "epochs": 1})
    before = (folder / LAST).read_bytes()
    with pytest.raises(UsageError) as refusal:
        train(shapes, folder.parent, resume=folder, **change)
    assert words in str(refusal.value) and refusal.value.exit_code == 2
    assert (folder / LAST).read_bytes() == before


def test_repeating_an_option_of_a_run_is_no_change(shapes: Path, tmp_path: Path) -> None:
    train(shapes, tmp_path, **{**USUAL, "epochs": 1})
    results = train(shapes, tmp_path, resume=tmp_path / "train", epochs=2, imgsz=64, workers=2)
    assert results["epochs"] == 2


@pytest.mark.parametrize("word", ["runs/trian", "train/weights/lost.pt", "train"])
def test_a_mistyped_path_is_an_error_and_no_other_run_is_taken(
    shapes: Path, tmp_path: Path, word: str
) -> None:
    train(shapes, tmp_path, **{**USUAL, "epochs": 1, "name": "other"})
    (tmp_path / "train").mkdir()  # a folder without a checkpoint
    with pytest.raises(RunNotFound) as error:
        train(shapes, tmp_path, resume=tmp_path / word, epochs=2)
    assert str(tmp_path / word) in str(error.value) and error.value.exit_code == 2
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["other", "train"]


def test_resume_true_takes_the_newest_run_of_the_project(shapes: Path, tmp_path: Path) -> None:
    for name in ("older", "newer"):
        train(shapes, tmp_path / "runs", **{**USUAL, "epochs": 1, "name": name})
    results = train(shapes, tmp_path / "runs", resume=True, epochs=2)
    assert results["folder"] == str(tmp_path / "runs" / "newer")
    with pytest.raises(RunNotFound, match="no finished run in"):
        train(shapes, tmp_path / "empty", resume=True)


def test_a_last_checkpoint_may_be_named_itself(shapes: Path, tmp_path: Path) -> None:
    train(shapes, tmp_path, **{**USUAL, "epochs": 1})
    results = train(shapes, tmp_path, resume=tmp_path / "train" / LAST, epochs=2)
    assert results["folder"] == str(tmp_path / "train")


def test_a_run_goes_on_where_its_precision_is_missing_in_fp32_and_says_so(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(hardware, "onednn_computes", lambda name: True)
    with in_batch(STEPS, stop()), pytest.raises(Interrupted):
        train(shapes, tmp_path, **USUAL, amp="bf16", amp_check=False)
    for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, question, lambda: False)
    results = train(shapes, tmp_path, resume=tmp_path / "train")
    assert results["precision"]["name"] == "fp32"
    assert "no bf16 instructions" in results["precision"]["reason"]
    assert [row["precision"] for row in rows_of(tmp_path / "train")] == ["bf16", "fp32", "fp32"]


def test_the_python_interface_resumes_too(shapes: Path, tmp_path: Path) -> None:
    with in_batch(STEPS, stop()), pytest.raises(Interrupted):
        train(shapes, tmp_path, **USUAL)
    detector = api.YOLO(verbose=False)
    results = detector.train(resume=str(tmp_path / "train"))
    assert results["epochs"] == EPOCHS and detector.ckpt_path == str(tmp_path / "train" / BEST)
