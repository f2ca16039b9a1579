"""The Runs page over HTTP: the list, curves, and starting, stopping and resuming."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_client import Client, opened
from tiny import write_tiny_data
from yolodet.detector.options.fields import options_of
from yolodet.detector.options.train import TrainConfig
from yolodet.detector.run.owner import owned
from yolodet.detector.studio import runs_page, start

CSV = "epoch,precision,metrics/map,<b>\n1,fp32,0.25,1\n2,fp32,0.5,nan\n"


def make_run(folder: Path, finished: bool) -> None:
    (folder / "weights").mkdir(parents=True)
    (folder / "args.yaml").write_text("model: yolo26n\ndata: set.yaml\nepochs: 3\n")
    (folder / "results.csv").write_text(CSV)
    (folder / "weights" / "last.pt").write_bytes(b"")
    (folder / "report.html").write_text("<script>alert(1)</script>")
    results = {"metrics": {"map": 0.5}, "stopped": not finished}  # Ctrl-C leaves some, too
    (folder / "results.json").write_text(json.dumps(results))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    write_tiny_data(tmp_path / "set", train=2, val=2)
    make_run(tmp_path / "runs" / "a", finished=True)
    make_run(tmp_path / "runs" / "b", finished=False)
    with opened(tmp_path) as client:
        yield client


@pytest.fixture
def popen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What would be started."""
    calls: list[dict[str, Any]] = []

    class Fake:
        returncode = 2

        def __init__(self, command: list[str], **words: Any) -> None:
            calls.append({"command": command, **words})
            words["stderr"].write(b"first line\ndet: error: no luck \x1b[31m\n")

        def poll(self) -> int:
            return 2

    monkeypatch.setattr(start.subprocess, "Popen", Fake)
    return calls


def runs(client: Client) -> dict[str, Any]:
    return {run["name"]: run for run in client.get("/api/runs/list")["runs"]}


def test_a_run_is_running_while_its_lock_is_held(client: Client, tmp_path: Path) -> None:
    found = runs(client)
    assert [found[f"runs/{n}"]["state"] for n in "ab"] == ["finished", "stopped"]
    assert found["runs/b"]["resumes"] and found["runs/b"]["best"] == 0.5
    with owned(tmp_path / "runs" / "b"):
        assert runs(client)["runs/b"]["state"] == "running"
        assert client.post("/api/runs/resume", run="runs/b").status == 400
    assert runs(client)["runs/b"]["state"] == "stopped"


def test_stop_asks_the_owner_and_nobody_else(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    assert client.post("/api/runs/stop", run="runs/b").status == 400
    with owned(tmp_path / "runs" / "b"):
        monkeypatch.setattr(runs_page.os, "kill", lambda pid, sign: asked.append((pid, sign)))
        assert client.post("/api/runs/stop", run="runs/b").status == 200
    assert (os.getpid(), signal.SIGTERM) in asked
    assert client.post("/api/runs/stop", run="set").status == 404


def test_curves_are_the_numbers_of_results_csv(client: Client) -> None:
    found = client.get("/api/runs/curves", run=["runs/a", "runs/b"])
    assert found["runs/a"] == {"epoch": [1, 2], "metrics/map": [0.25, 0.5], "<b>": [1, None]}
    assert set(found) == {"runs/a", "runs/b"}


def test_a_report_may_run_no_script(client: Client) -> None:
    reply = client.ask("GET", "/api/runs/report?run=runs/a", headers=client.page_headers)
    policy = reply.headers["Content-Security-Policy"]
    assert reply.status == 200 and "script-src" not in policy
    assert policy.startswith("default-src 'none'") and policy.endswith("sandbox")


def test_a_training_is_started_in_its_own_session(
    client: Client, tmp_path: Path, popen: list[dict[str, Any]]
) -> None:
    options = {"data": "set/data.yaml", "epochs": "2", "model": "yolo26n"}
    assert client.post("/api/runs/start", options=options).status == 200
    (call,) = popen
    assert call["command"][1:4] == ["-m", "yolodet", "train"]
    assert set(call["command"][4:]) == {
        f"data={tmp_path.resolve()}/set/data.yaml", "epochs=2", "model=yolo26n",
        f"project={tmp_path.resolve()}/runs",
    }  # fmt: skip
    assert call["start_new_session"] is True
    failed = client.get("/api/runs/list")["failed"]
    assert failed[0]["message"] == "det: error: no luck \\x1b[31m"
    assert client.post("/api/runs/resume", run="runs/b").status == 200
    assert popen[1]["command"][4:] == [f"resume={tmp_path.resolve()}/runs/b"]


@pytest.mark.parametrize(
    ("options", "status", "word"),
    [
        ({"data": "set/data.yaml", "epochs": "-1"}, 400, "epochs"),
        ({"data": "set/data.yaml", "epoch": "1"}, 400, "epochs"),
        ({"data": "../set/data.yaml"}, 403, "data"),
        ({"data": "set/data.yaml", "model": "/etc/passwd"}, 403, "model"),
        ({"data": "set/data.yaml", "teacher": "~/x.pt"}, 403, "teacher"),
        ({"data": "set/data.yaml", "project": "elsewhere"}, 400, "project"),
        ({"data": "set/data.yaml", "resume": "True"}, 400, "resume"),
        ({"data": "nothing.yaml"}, 404, "nothing"),
        ({"data": ["x"]}, 400, "data"),
    ],
)
def test_a_form_is_checked_as_the_command_line_does(
    client: Client, popen: list[dict[str, Any]], options: dict[str, Any], status: int, word: str
) -> None:
    for path in ("/api/runs/check", "/api/runs/start"):
        reply = client.post(path, options=options)
        assert reply.status == status and word in reply.json["error"]
    assert not popen


def test_the_form_has_every_option_of_det_train(client: Client) -> None:
    names = {one["name"] for group in client.get("/api/runs/form") for one in group["options"]}
    assert names | set(start.FIXED) == set(options_of(TrainConfig))
