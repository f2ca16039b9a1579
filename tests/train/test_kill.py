"""Runs that are killed at any moment, and go on: the same to the last bit as one that never was.

Every run is a process of its own (forked_runs.py).  Half of the moments are of the wall clock,
half are steps of writing a checkpoint: in the middle of its bytes, before and after a flush, before
and after a rename.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from forked_runs import Killer
from tiny import rows_of, same, saved, write_tiny_data
from yolodet.detector.run.folder import BEST, LAST
from yolodet.weights.checkpoint import load_state, load_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked"),
]

KILLS, BATCHES = 30, 6
WORDS = (
    *("imgsz=64", "batch=3", "nbs=6", "workers=0", "device=cpu", "plots=False", "cache=none"),
    *("mixup=0.3", "patience=2", "exist_ok=True", "name=run"),
)
SHORT = ("epochs=3", "amp=False")
TIMES = ("time", "images_per_s")


@dataclass
class Ground:
    """Where runs take place, and one that was not interrupted."""

    killer: Killer
    data: Path
    folder: Path
    words: tuple[str, ...] = ()
    seconds: float = 0.0
    events: int = 0

    def start(self, project: Path, **job: Any) -> dict[str, Any]:
        """``det train`` from the beginning."""
        project.mkdir(exist_ok=True)
        typed = (f"data={self.data}", f"project={project}", *WORDS, *self.words)
        return self.killer.run("train", *typed, log=project / "talk.txt", **job)

    def go_on(self, project: Path, **job: Any) -> dict[str, Any]:
        """``det train resume=``, or again from the beginning where nothing had been saved."""
        if not (project / "run" / LAST).exists():
            return self.start(project, **job)
        word = f"resume={project / 'run'}"
        return self.killer.run("train", word, log=project / "talk.txt", **job)


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killer]:
    os.environ["DET_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    killer = Killer()
    yield killer
    killer.close()
    del os.environ["DET_CACHE"]


@pytest.fixture(scope="module", params=["save_steps=0", "save_steps=2"])
def ground(request, killer: Killer, tmp_path_factory: pytest.TempPathFactory) -> Ground:
    folder = tmp_path_factory.mktemp("ground")
    data = write_tiny_data(folder / "data", train=18, val=3)
    ground = Ground(killer, data, folder, (request.param, *SHORT))
    ground.start(folder / "warm")  # what is made once (the scan of the data) is made
    end = ground.start(folder / "whole")
    assert end["code"] == 0, (folder / "whole" / "talk.txt").read_text()
    ground.seconds, ground.events = end["seconds"], end["events"]
    return ground


def assert_equal_to_the_whole_run(ground: Ground, project: Path) -> None:
    whole, run = ground.folder / "whole" / "run", project / "run"
    assert same(saved(run), saved(whole))
    tensors, meta = load_weights(run / BEST)
    expected, expected_meta = load_weights(whole / BEST)
    assert same(tensors, expected) and meta == expected_meta
    rows, expected_rows = rows_of(run), rows_of(whole)
    for row in (*rows, *expected_rows):
        for name in TIMES:
            row.pop(name)
    assert rows == expected_rows and (run / "results.json").exists()
    assert not list(run.rglob("*.partial")), "remains of a killed write"


def assert_loadable(run: Path) -> bool:
    """Whatever has its name is whole; returns whether there is something to go on from."""
    if (run / BEST).exists():
        load_weights(run / BEST)
    if (run / LAST).exists():
        load_state(run / LAST)
    return (run / LAST).exists()


def moments(ground: Ground, seed: int) -> list[dict[str, Any]]:
    """Half of the clock, half of writing."""
    draw = random.Random(seed)
    clock = [{"after": draw.uniform(0.02, ground.seconds)} for _ in range(KILLS // 4)]
    events = draw.sample(range(ground.events), KILLS // 2 - len(clock))
    return clock + [{"event": event, "share": draw.random()} for event in events]


def test_a_killed_run_goes_on_as_if_nothing_had_been(ground: Ground, tmp_path: Path) -> None:
    from_state = killed = 0
    for number, moment in enumerate(moments(ground, seed=len(ground.words[0]))):
        project = tmp_path / str(number)
        end = ground.start(project, **moment)
        killed += end["code"] == -signal.SIGKILL
        from_state += assert_loadable(project / "run")
        if end["code"] != 0:
            assert ground.go_on(project)["code"] == 0, (project / "talk.txt").read_text()
        assert_equal_to_the_whole_run(ground, project)
    assert killed >= KILLS // 2 - 2 and from_state >= KILLS // 6  # the moments were good ones


def test_a_run_that_is_killed_over_and_over_arrives(ground: Ground, tmp_path: Path) -> None:
    draw, project = random.Random(1), tmp_path / "often"
    ends = [ground.start(project, event=ground.events // 3, share=0.5)]
    for _ in range(4):
        ends.append(ground.go_on(project, event=draw.randrange(8, 16), share=draw.random()))
        assert_loadable(project / "run")
    assert [end["code"] for end in ends] == [-signal.SIGKILL] * 5
    assert ground.go_on(project)["code"] == 0
    assert_equal_to_the_whole_run(ground, project)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("step", [1, 6, 11, 16])
def test_a_signal_in_mid_epoch_saves_and_says_how_to_go_on(
    ground: Ground, tmp_path: Path, step: int, kind: int
) -> None:
    project = tmp_path / "stopped"
    end = ground.start(project, step=step, signal=int(kind))
    assert end["code"] == 128 + kind
    said = " ".join((project / "talk.txt").read_text().split())
    position = load_state(project / "run" / LAST)["position"]
    done = step // 2 * 2 + 2  # two batches make an update: the second is waited for
    assert position["epoch"] * BATCHES + position["batch"] == done
    where = f"stopped at epoch {position['epoch'] + 1}, batch {position['batch']}"
    assert f"{where}; continue with: det train resume={project / 'run'}" in said
    assert ground.go_on(project)["code"] == 0
    assert_equal_to_the_whole_run(ground, project)


@pytest.mark.parametrize("share", [0.4, 0.6, 0.8])
def test_a_run_whose_disk_is_full_stops_and_goes_on_when_there_is_room(
    ground: Ground, tmp_path: Path, share: float
) -> None:
    project = tmp_path / "full"
    end = ground.start(project, event=int(share * ground.events), full=True)
    assert end["code"] == 1
    last_words = (project / "talk.txt").read_text().splitlines()[-1]
    assert last_words.startswith(f"det: error: {project / 'run'}"), last_words
    assert last_words.endswith(": File too large")
    assert assert_loadable(project / "run")
    assert not list(project.rglob("*.partial"))
    assert ground.go_on(project)["code"] == 0
    assert_equal_to_the_whole_run(ground, project)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_yolo26n_goes_on_alike_with_other_loader_processes(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real model, in mixed precision too: killed half-way, resumed with two."""
    monkeypatch.setenv("DET_CACHE", str(tmp_path / "cache"))
    words = ("save_steps=2", "epochs=2", f"amp={precision}", "amp_check=False", "amp_force=True")
    data = write_tiny_data(tmp_path / "data", train=18, val=3)
    killer = Killer(tiny=False)
    ground = Ground(killer, data, tmp_path, words)
    whole, project = ground.start(tmp_path / "whole"), tmp_path / "killed"
    assert whole["code"] == 0, (tmp_path / "whole" / "talk.txt").read_text()
    assert ground.start(project, event=whole["events"] // 2)["code"] == -signal.SIGKILL
    assert assert_loadable(project / "run")
    typed = (f"resume={project / 'run'}", "workers=2")
    assert killer.run("train", *typed, log=project / "talk.txt")["code"] == 0
    killer.close()
    assert_equal_to_the_whole_run(ground, project)
