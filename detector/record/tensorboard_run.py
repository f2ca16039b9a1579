"""``log=tensorboard``: event files in the run folder; ``tensorboard --logdir runs`` shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ...datasets.images.image import image_size
from ..run.files import plain
from ..run.observer import Started
from .tracker import Tracker


class TensorBoard(Tracker):
    """Scalars, pictures as they lie in the run folder, and the config as text.

    TensorBoard keeps a scalar as a float32.  A run that continues writes another event file; what
    the first one has after the epoch from which it continues is marked as outdated.
    """

    tool = "tensorboard"

    def begin(self, run: Started, facts: Mapping[str, Any], identity: str | None) -> str:
        from torch.utils.tensorboard import SummaryWriter

        purge = run.epoch + 1 if identity else 0  # 0: what another run has left in the folder
        self._writer = SummaryWriter(str(run.folder), purge_step=purge)
        if identity is None:
            about = {"options": dict(run.config), "origin": dict(facts)}
            text = yaml.safe_dump(plain(about), sort_keys=False)
            self._writer.add_text("run", "".join(f"    {line}\n" for line in text.splitlines()), 0)
            self.say(f"TensorBoard: tensorboard --logdir {run.folder.parent}")
        self._writer.flush()
        return str(run.folder.name)

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def picture(self, name: str, path: Path, epoch: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = image_size(path)
        image = Summary.Image(
            encoded_image_string=path.read_bytes(), height=height, width=width, colorspace=3
        )
        writer = self._writer._get_file_writer()
        writer.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), epoch)

    def end(self, results: Mapping[str, Any] | None, best: Path | None) -> None:
        self._writer.close()
