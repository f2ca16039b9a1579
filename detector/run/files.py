"""Files of a run folder: text, JSON, YAML and CSV, each written atomically."""

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
from ...files.text import one_line
from ..options.shared import CommonConfig


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda file: file.write(text.encode("utf-8", "surrogateescape")))


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically; numbers that are not finite become null."""
    write_text(path, json.dumps(plain(data), indent=2) + "\n")


def write_args(folder: Path, config: CommonConfig) -> None:
    """Write args.yaml: every option of the run, which ``cfg=`` of a new run can read."""
    values = asdict(config) | ({"resume": None} if hasattr(config, "resume") else {})
    write_text(folder / "args.yaml", yaml.safe_dump(values, sort_keys=False))


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write one line per row, with the columns of all rows: those of a run that was begun by an
    older version have fewer."""
    text = StringIO()
    columns = dict.fromkeys(name for row in reversed(rows) for name in row)
    writer = csv.DictWriter(text, fieldnames=list(columns), lineterminator="\n")
    writer.writerow({name: one_line(str(name)) for name in columns})
    for row in rows:
        writer.writerow({key: cell(value) for key, value in row.items()})
    write_text(path, text.getvalue())


def plain(value: Any) -> Any:
    """The same as JSON can hold it: tuples as lists, paths as text, non-finite numbers as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def cell(value: Any) -> str:
    """A value as it stands in a CSV file; "" for None."""
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else one_line(str(value))
