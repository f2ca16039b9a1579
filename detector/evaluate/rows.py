"""Rows of a summary as JSON, CSV or a data frame."""

from __future__ import annotations

import csv
import importlib
import io
import json
from abc import ABC, abstractmethod
from typing import Any

from ...files.errors import DetError

FRAMES = ("pandas", "polars")
"""Packages that make a data frame, in order of preference."""


class MissingFrames(DetError):
    """No package for data frames is installed."""


class Rows(ABC):
    """What has a ``summary``: a list of dicts with the same keys."""

    @abstractmethod
    def summary(self, normalize: bool = False, decimals: int | None = 5) -> list[dict[str, Any]]:
        """JSON-ready rows, numbers rounded to ``decimals`` (None: not rounded)."""

    def to_json(self, normalize: bool = False, decimals: int | None = 5) -> str:
        return json.dumps(self.summary(normalize, decimals), indent=2)

    def to_csv(self, normalize: bool = False, decimals: int | None = 5) -> str:
        """A header and one line per row; empty without rows."""
        rows = self._flat(normalize, decimals)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        if rows:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def to_df(self, normalize: bool = False, decimals: int | None = 5) -> Any:
        """A data frame of pandas or, without it, of polars.  Raises MissingFrames without both."""
        for name in FRAMES:
            try:
                package = importlib.import_module(name)
            except ImportError:
                continue
            return package.DataFrame(self._flat(normalize, decimals))
        raise MissingFrames("to_df needs pandas or polars: pip install pandas (or use to_csv)")

    def _flat(self, normalize: bool, decimals: int | None) -> list[dict[str, Any]]:
        """The summary with the corners of a box as columns of their own."""
        rows = self.summary(normalize, decimals)
        boxes = [row.pop("box", {}) for row in rows]
        return [row | box for row, box in zip(rows, boxes, strict=True)]
