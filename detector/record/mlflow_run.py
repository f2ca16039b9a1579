"""``log=mlflow``: a run on the server, or in the files, that MLFLOW_TRACKING_URI names."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..options.parse import show
from ..run.observer import Started
from .environment import set_default, value_of
from .tracker import Tracker, name_of

EXPERIMENT = "det"
FORBIDDEN = re.compile(r"[^\w\-. /:]")
LONGEST = 250
"""Characters of a name or value."""


class MLflow(Tracker):
    """The run is called by its folder, in the experiment of MLFLOW_EXPERIMENT_NAME or ``det``."""

    tool = "mlflow"
    _id = ""

    def begin(self, run: Started, facts: Mapping[str, Any], identity: str | None) -> str:
        set_default("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        set_default("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        import mlflow

        where = mlflow.get_tracking_uri()
        if self._offline and where.startswith(("http:", "https:")):
            raise ConnectionError(f"offline=True, and MLFLOW_TRACKING_URI={where} is a server")
        self._client = mlflow.MlflowClient()
        if identity is not None:
            self._client.update_run(identity, status="RUNNING")
            self._id = identity
            return identity
        name = value_of("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        found = self._client.get_experiment_by_name(name)
        number = found.experiment_id if found else self._client.create_experiment(name)
        if not self._id:  # else the server went away after it had made the run
            made = self._client.create_run(number, run_name=name_of(run.folder))
            self._id = made.info.run_id
        self._write_config(run, facts)
        self.say(f"MLflow: run {self._id} in {where}")
        return self._id

    def _write_config(self, run: Started, facts: Mapping[str, Any]) -> None:
        from mlflow.entities import Param, RunTag

        values = {name: show(value) for name, value in {**run.config, **facts}.items()}
        params = [Param(name, value[:LONGEST]) for name, value in values.items()]
        for start in range(0, len(params), 100):  # MLflow takes no more at once
            self._client.log_batch(self._id, params=params[start : start + 100])
        if "git_revision" in facts:
            tag = RunTag("mlflow.source.git.commit", str(facts["git_revision"]))
            self._client.log_batch(self._id, tags=[tag])

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, epoch) for name, value in values.items()]
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(self._id, metrics=metrics[start : start + 1000])

    def picture(self, name: str, path: Path, epoch: int) -> None:
        self._client.log_artifact(self._id, str(path), "pictures")

    def end(self, results: Mapping[str, Any] | None, best: Path | None) -> None:
        if best is not None:
            self._client.log_artifact(self._id, str(best), "weights")
        self._client.set_terminated(self._id, "FINISHED" if results is not None else "KILLED")


def _name(text: str) -> str:
    """``text`` with the characters that MLflow allows in the name of a metric."""
    return FORBIDDEN.sub("_", text)[:LONGEST]
