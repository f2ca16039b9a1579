"""Run folders: where a command leaves what it made.

``runs/train``, ``runs/train-2``, ...: a taken name is never written into unless told.  A folder
appears when its first file is written, so a command that is refused leaves nothing behind.
"""

from __future__ import annotations

import csv
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from ..weights.checkpoint import write_atomically
from .config import CommonConfig
from .parse import UsageError

BEST = Path("weights") / "best.safetensors"
LAST = Path("weights") / "last.pt"


class RunError(RuntimeError):
    """A run that can not go on, with what to do in its message."""

    exit_code = 1


class RunNotFound(ValueError):
    """No run or checkpoint where the user's words point."""

    exit_code = 2


def check_project(project: Path) -> None:
    """Raise UsageError where no run folder can be made: found out by making one and taking it away,
    before data are read and precisions compared."""
    if project.is_file():
        raise UsageError(f"project={project} is a file: expected a folder for the runs")
    place = project.absolute()
    while not os.path.lexists(place):
        place = place.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".det-", dir=place):
            pass
    except OSError as error:
        raise UsageError(
            f"project={project}: no folder can be made in {place} ({error.strerror}): name another "
            "place for the runs"
        ) from error


def new_run_folder(config: CommonConfig, command: str) -> Path:
    """The free folder ``project/name`` (or name-2, name-3, ...) of a command; made.

    Making it is what finds out whether it is free: two runs that start together get one each.
    """
    base = Path(config.project) / (config.name or command)
    base.parent.mkdir(parents=True, exist_ok=True)
    folder, number = base, 1
    while True:
        try:
            folder.mkdir(exist_ok=config.exist_ok)
            return folder
        except FileExistsError:
            if config.exist_ok:  # a file has that name
                raise
            number += 1
            folder = base.with_name(f"{base.name}-{number}")


def newest_run(project: str | Path, wanted: Path = BEST) -> Path:
    """The run folder of ``project`` whose file ``wanted`` is newest.  Raises RunNotFound."""
    found = [path for path in Path(project).glob(f"*/{wanted}") if path.is_file()]
    if not found:
        raise RunNotFound(
            f"no finished run in {Path(project).resolve()}: no */{wanted} there; "
            "train first (det train) or name a checkpoint with model=..."
        )
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return newest.parents[len(wanted.parts) - 1]


def write_text(path: Path, text: str) -> None:
    """Write a text file in one piece."""
    write_atomically(path, lambda file: file.write(text.encode()))


def write_json(path: Path, data: Any) -> None:
    """Write JSON in one piece; numbers that are not finite become null."""
    write_text(path, json.dumps(plain(data), indent=2) + "\n")


def write_args(folder: Path, config: CommonConfig) -> None:
    """args.yaml: every value of the run, usable again as ``cfg=`` of a new one."""
    values = asdict(config) | ({"resume": None} if hasattr(config, "resume") else {})
    write_text(folder / "args.yaml", yaml.safe_dump(values, sort_keys=False))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line a row, columns of the first row."""
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _short(value) for key, value in row.items()})
    write_text(path, text.getvalue())


def plain(value: Any) -> Any:
    """The same with tuples as lists, paths as text and non-finite numbers as None: what JSON can
    hold."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
