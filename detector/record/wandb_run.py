"""``log=wandb``: Weights & Biases, online where a key is known, else files for ``wandb sync``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..run.files import plain
from ..run.observer import Started
from .environment import value_of
from .tracker import Tracker, name_of

PROJECT = "det"
SECONDS = 20.0
"""To wait for the server at the beginning."""


class WeightsAndBiases(Tracker):
    """The run is called by its folder, in the project of WANDB_PROJECT or ``det``."""

    tool = "wandb"

    def begin(self, run: Started, facts: Mapping[str, Any], identity: str | None) -> str:
        import wandb

        name = identity or uuid4().hex[:12]
        mode: Any = "offline" if self._offline else value_of("WANDB_MODE")
        if mode is None and not wandb.api.api_key:
            mode = "offline"  # wandb would ask for a key
        settings = wandb.Settings(
            console="off", silent=True, disable_git=True, save_code=False, init_timeout=SECONDS
        )
        self._run_of_tool = wandb.init(
            project=value_of("WANDB_PROJECT") or PROJECT, id=name, name=name_of(run.folder),
            dir=str(run.folder), resume="allow", mode=mode, settings=settings,
            config=plain({**run.config, **facts}), allow_val_change=True,
        )  # fmt: skip
        where = self._run_of_tool.url or f"wandb sync {self._run_of_tool.settings.sync_dir}"
        self.say(f"Weights & Biases: {where}")
        return name

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        self._run_of_tool.log(dict(values), step=epoch)

    def picture(self, name: str, path: Path, epoch: int) -> None:
        import wandb

        self._run_of_tool.log({name: wandb.Image(str(path))}, step=epoch)

    def end(self, results: Mapping[str, Any] | None, best: Path | None) -> None:
        import wandb

        if best is not None:
            artifact = wandb.Artifact(f"{self._run_of_tool.id}-best", type="model")
            artifact.add_file(str(best))
            self._run_of_tool.log_artifact(artifact)
        self._run_of_tool.finish(exit_code=0 if results is not None else 1)
