"""Trainings that wait for one another, and that outlive the studio."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_client import Client, opened
from tiny import write_tiny_data
from yolodet.detector.studio import run_queue
from yolodet.detector.studio.run_queue import Entry, RunQueue, life_of

OPTIONS = {"data": "own/data.yaml", "model": "yolo26n"}


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Each training notes when it begins and ends, and fails where its epochs are 13."""
    noted = tmp_path / "noted.txt"
    code = (
        "import sys, time\n"
        "def note(text):\n"
        f"    open({str(noted)!r}, 'a').write(text + '\\n')\n"
        "name = [w for w in sys.argv if w.startswith('epochs=')][0]\n"
        "note('begin ' + name)\n"
        "time.sleep(0.05)\n"
        "note('end ' + name)\n"
        "if name == 'epochs=13':\n"
        "    print('det: error: no luck \\x1b[31m')\n"
        "    sys.exit(2)\n"
    )

    def run(root: Path, command: str, words: tuple[str, ...], printed: Path) -> Any:
        assert command == "train"
        line = [sys.executable, "-S", "-c", code, *words]
        return subprocess.Popen(line, cwd=root, stdout=printed.open("wb"))

    monkeypatch.setattr(run_queue, "run", run)
    return noted


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The process of the queue is not started; where it would have been."""
    started: list[Path] = []
    monkeypatch.setattr(RunQueue, "go_on", lambda queue: started.append(queue.root))
    return started


@pytest.fixture
def client(tmp_path: Path, idle: list[Path]) -> Iterator[Client]:
    write_tiny_data(tmp_path / "own", train=2, val=2)
    with opened(tmp_path) as client:
        yield client


def add(client: Client, epochs: int) -> int:
    reply = client.post("/api/runs/queue", options={**OPTIONS, "epochs": str(epochs)})
    assert reply.status == 200, reply.body
    return int(reply.json["number"])


def states(client: Client) -> list[tuple[int, str]]:
    return [(one["number"], one["state"]) for one in client.get("/api/runs/list")["queue"]]


def test_trainings_run_one_after_the_other(
    client: Client, tmp_path: Path, commands: Path, idle: list[Path]
) -> None:
    numbers = [add(client, epochs) for epochs in (1, 13, 2, 3)]
    assert numbers == [1, 2, 3, 4] and tmp_path.resolve() in idle
    assert states(client) == [(n, "waiting") for n in numbers]
    assert client.post("/api/runs/unqueue", number=3).status == 200
    assert client.post("/api/runs/unqueue", number=3).status == 404
    RunQueue(tmp_path).take_all()
    lines = commands.read_text().split("\n")[:-1]
    assert lines == [f"{w} epochs={n}" for n in (1, 13, 3) for w in ("begin", "end")]
    (failed,) = client.get("/api/runs/list")["queue"]
    assert failed["state"] == "failed" and failed["message"] == "det: error: no luck \\x1b[31m"
    assert client.post("/api/runs/unqueue", number=2).status == 200
    assert states(client) == []


def test_two_processes_do_not_run_the_same_training(
    client: Client, tmp_path: Path, commands: Path
) -> None:
    for epochs in range(1, 5):
        add(client, epochs)
    takers = [threading.Thread(target=RunQueue(tmp_path).take_all) for _ in range(3)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    lines = commands.read_text().split("\n")[:-1]
    assert lines == [f"{w} epochs={n}" for n in (1, 2, 3, 4) for w in ("begin", "end")]


def test_a_training_whose_taker_was_killed_is_waited_for(
    client: Client, tmp_path: Path, commands: Path
) -> None:
    """The training goes on in its own session; the next one begins after it."""
    queue = RunQueue(tmp_path)
    add(client, 1)
    add(client, 2)
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as alive:
        os.rename(queue._file(1, "waiting"), queue._file(1, "running"))
        queue._write(Entry(1, ("epochs=1",), "running", alive.pid, "", life_of(alive.pid)))
        assert client.post("/api/runs/unqueue", number=1).status == 400
        taker = threading.Thread(target=queue.take_all)
        taker.start()
        time.sleep(0.1)
        assert not commands.exists()
        assert alive.stdin is not None
        alive.stdin.close()
        alive.wait()
    taker.join()
    assert commands.read_text() == "begin epochs=2\nend epochs=2\n"
    assert states(client) == []


def test_one_that_was_taken_and_never_began_begins(
    client: Client, tmp_path: Path, commands: Path
) -> None:
    queue = RunQueue(tmp_path)
    add(client, 1)
    os.rename(queue._file(1, "waiting"), queue._file(1, "running"))
    queue.take_all()
    assert commands.read_text() == "begin epochs=1\nend epochs=1\n"


def test_a_later_process_of_the_same_number_is_not_waited_for(
    client: Client, tmp_path: Path, commands: Path
) -> None:
    """After a restart of the machine the number may belong to anybody."""
    queue = RunQueue(tmp_path)
    add(client, 1)
    os.rename(queue._file(1, "waiting"), queue._file(1, "running"))
    queue._write(Entry(1, ("epochs=1",), "running", os.getpid(), "", "another"))
    queue.take_all()
    assert states(client) == [] and not commands.exists()


def test_a_new_studio_goes_on_with_the_queue(
    client: Client, tmp_path: Path, idle: list[Path]
) -> None:
    add(client, 1)
    idle.clear()
    with opened(tmp_path) as other:
        assert idle == [tmp_path.resolve()]
        assert states(other) == [(1, "waiting")]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_process_of_the_queue_is_one_of_its_own(tmp_path: Path) -> None:
    """The real one, with a training that ends at once because its words are wrong."""
    queue = RunQueue(tmp_path)
    queue.add(("no-such-option=1",))
    until(lambda: [one.state for one in queue.entries()] == ["failed"])
    assert "no_such_option" in queue.entries()[0].message


@pytest.mark.parametrize(
    "options", [{"data": "../x.yaml"}, {"epochs": "-1"}, {"project": "/tmp"}, {"resume": "x"}]
)
def test_what_is_queued_is_checked_as_the_command_line_does(
    client: Client, options: dict[str, str]
) -> None:
    reply = client.post("/api/runs/queue", options={**OPTIONS, **options})
    assert reply.status in (400, 403) and states(client) == []


@pytest.mark.parametrize("number", [None, "1", 1.5, True, -1, 10**9])
def test_numbers_that_are_not_in_the_queue_are_refused(client: Client, number: Any) -> None:
    assert client.post("/api/runs/unqueue", number=number).status in (400, 404)
