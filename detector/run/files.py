"""Files of a run folder: text, JSON, YAML and CSV, each written in one piece."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from ...files.atomic import write_atomically
from ..options.shared import CommonConfig


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
