"""``log=tensorboard``: event files in the run folder; ``tensorboard --logdir runs`` shows them."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ...datasets.images.image import image_size
from ...files.atomic import append_whole
from ..run.files import plain
from ..run.observer import Started
from .tracker import Tracker


class TensorBoard(Tracker):
    """Scalars, pictures as they lie in the run folder, and the config as text.

    TensorBoard keeps a scalar as a float32.  A run that continues writes another event file; what
    the first one has after the epoch from which it continues is marked as outdated.

    Events are written at once and whole.  torch's SummaryWriter leaves that to a thread, which a
    full disk ends for good.
    """

    tool = "tensorboard"

    def begin(self, run: Started, facts: Mapping[str, Any], identity: str | None) -> str:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from torch.utils.tensorboard.summary import text

        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._path = run.folder / name
        purge = run.epoch + 1 if identity else 0  # 0: what another run has left in the folder
        self._write(step=purge, file_version="brain.Event:2")
        self._write(step=purge, session_log=SessionLog(status=SessionLog.START))
        if identity is None:
            about = {"options": dict(run.config), "origin": dict(facts)}
            shown = yaml.safe_dump(plain(about), sort_keys=False)
            indented = "".join(f"    {line}\n" for line in shown.splitlines())
            self._write(step=0, summary=text("run", indented))
            self.say(f"TensorBoard: tensorboard --logdir {run.folder.parent}")
        return str(run.folder.name)

    def scalars(self, epoch: int, values: Mapping[str, float]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=name, simple_value=v) for name, v in values.items()]
        self._write(step=epoch, summary=Summary(value=numbers))

    def picture(self, name: str, path: Path, epoch: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = image_size(path)
        image = Summary.Image(
            encoded_image_string=path.read_bytes(), height=height, width=width, colorspace=3
        )
        self._write(step=epoch, summary=Summary(value=[Summary.Value(tag=name, image=image)]))

    def end(self, results: Mapping[str, Any] | None, best: Path | None) -> None:
        """Nothing is open."""

    def _write(self, **facts: Any) -> None:
        """Append an event, or leave the file as it was and raise OSError."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        record = io.BytesIO()
        RecordWriter(record).write(Event(wall_time=time.time(), **facts).SerializeToString())
        append_whole(self._path, record.getvalue())
