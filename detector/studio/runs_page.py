"""What the Runs page asks for: run folders, their curves, the queue, and starting, stopping and
resuming."""

from __future__ import annotations

import csv
import io
import os
import signal
import socket
from pathlib import Path
from typing import Any

from ...files.regular import read_regular
from ...files.text import one_line
from ...files.yaml_text import YamlError, read_yaml
from ..options.parse import show
from ..run.folder import LAST, PAGE, is_finished
from ..run.owner import owner_of
from .asked import Answer, Asked, BadRequest, NotThere, as_json, text_of
from .place import OPTIONS, Place
from .run_queue import RunQueue
from .server import Handler
from .start import Started, form, start, words_of

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""report.html has its style and pictures inside, and no script."""
SHOWN = ("model", "data", "epochs", "imgsz", "batch", "seed", "lr0", "optimizer", "amp")
"""Options that the list of runs can show."""
MOST_COMPARED = 8


class RunsPage:
    """The answers of the Runs page."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._started: list[Started] = []
        self._queue = RunQueue(place.root)
        self._queue.go_on()

    def routes(self) -> dict[tuple[str, str], Handler]:
        """(method, path) -> what answers it."""
        return {
            ("GET", "/api/runs/list"): self.list,
            ("GET", "/api/runs/curves"): self.curves,
            ("GET", "/api/runs/report"): self.report,
            ("GET", "/api/runs/form"): lambda asked: as_json(form()),
            ("POST", "/api/runs/check"): self.check,
            ("POST", "/api/runs/start"): self.start,
            ("POST", "/api/runs/queue"): self.queue,
            ("POST", "/api/runs/unqueue"): self.unqueue,
            ("POST", "/api/runs/stop"): self.stop,
            ("POST", "/api/runs/resume"): self.resume,
        }

    def list(self, asked: Asked) -> Answer:
        """Every run of the folder, the newest first, and trainings that ended before they had a
        run folder."""
        runs = [_about(self.place.root / name, name) for name in self.place.runs()]
        failed = [{"words": s.words, "message": s.failed} for s in self._started if s.failed]
        queue = [
            {"number": e.number, "words": [one_line(word) for word in e.words], "state": e.state,
             "message": e.message}
            for e in self._queue.entries()
        ]  # fmt: skip
        told = {"runs": [run for run in runs if run], "failed": failed[-5:], "queue": queue}
        return as_json(told)

    def curves(self, asked: Asked) -> Answer:
        """The columns of results.csv of some runs."""
        names = asked.query.get("run", ())[:MOST_COMPARED]
        return as_json({name: _columns(self.place.inside(name)) for name in names})

    def report(self, asked: Asked) -> Answer:
        """report.html of a run, which may run no script."""
        page = self._run(asked.text("run")) / PAGE
        if not page.is_file():
            raise NotThere("this run has no report yet: det report writes it")
        return Answer(read_regular(page), "text/html; charset=utf-8", policy=REPORT_POLICY)

    def check(self, asked: Asked) -> Answer:
        """The command that a form stands for, checked as on the command line."""
        return as_json({"command": self._words(asked)})

    def start(self, asked: Asked) -> Answer:
        """Start a training."""
        words = self._words(asked)
        self._started.append(start(self.place, words))
        return as_json({"command": words})

    def queue(self, asked: Asked) -> Answer:
        """Let a training wait for those that are in the queue already."""
        entry = self._queue.add(self._words(asked))
        return as_json({"command": entry.words, "number": entry.number})

    def unqueue(self, asked: Asked) -> Answer:
        """Take a training out of the queue that has not begun."""
        number = asked.sent().get("number")
        if type(number) is not int:
            raise BadRequest("number: expected a whole number")
        self._queue.remove(number)
        return as_json({"removed": number})

    def stop(self, asked: Asked) -> Answer:
        """Ask a run to save and end after its step, as Ctrl-C does."""
        note = owner_of(self._run(text_of(asked.sent(), "run")))
        if not note or note.get("host") != socket.gethostname():
            raise BadRequest("no process of this machine trains in this run folder")
        os.kill(int(note["pid"]), signal.SIGTERM)
        return as_json({"stopping": note["pid"]})

    def resume(self, asked: Asked) -> Answer:
        """Go on with a run that was stopped."""
        folder = self._run(text_of(asked.sent(), "run"))
        if owner_of(folder) or not (folder / LAST).is_file():
            raise BadRequest("this run is going on, or has nothing to go on from")
        self._started.append(start(self.place, (f"resume={folder}",)))
        return as_json({"command": [f"resume={folder}"]})

    def _words(self, asked: Asked) -> tuple[str, ...]:
        options = asked.sent().get("options")
        if not isinstance(options, dict):
            raise BadRequest("options: expected an object of names and texts")
        return words_of(self.place, options)

    def _run(self, name: str) -> Path:
        folder = self.place.inside(name)
        if not (folder / OPTIONS).is_file():
            raise NotThere(f"{name}: is no run folder")
        return folder


def _about(folder: Path, name: str) -> dict[str, Any] | None:
    """A line of the list; None for a run of another command than det train."""
    try:
        options = read_yaml(folder / OPTIONS)
    except (OSError, YamlError):
        return None
    if not isinstance(options, dict) or "epochs" not in options:
        return None
    columns = _columns(folder)
    scores = [value for value in columns.get("metrics/map", []) if value is not None]
    owner = owner_of(folder)
    state = "running" if owner else "finished" if is_finished(folder) else "stopped"
    shown = {key: one_line(show(options[key])) for key in SHOWN if options.get(key) is not None}
    return {
        "name": name,
        "state": state,
        "since": one_line(str(owner.get("since", ""))),
        "epoch": len(columns.get("epoch", [])),
        "best": max(scores, default=None),
        "options": shown,
        "report": (folder / PAGE).is_file(),
        "resumes": not owner and state != "finished" and (folder / LAST).is_file(),
    }


def _columns(folder: Path) -> dict[str, list[float | None]]:
    """The numbers of results.csv by column; {} where there is none yet."""
    try:
        text = read_regular(folder / "results.csv").decode("utf-8", "replace")
    except OSError:
        return {}
    rows = list(csv.DictReader(io.StringIO(text)))
    names = [name for name in (rows[0] if rows else {}) if name]
    columns = {one_line(name): [_number(row.get(name)) for row in rows] for name in names}
    return {name: column for name, column in columns.items() if any(v is not None for v in column)}


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
