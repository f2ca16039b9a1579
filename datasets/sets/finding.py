"""A Finding: one thing that is wrong in a data set, with its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing found in a data set.

    id: a stable word such as ``label-class-range``.  severity: ``error`` (not used), ``warning``
    (used, and worth a look) or ``info`` (good to know).  line: 1-based, 0 for the whole file.
    """

    id: str
    severity: str
    path: Path
    line: int
    message: str

    def located(self, root: Path | None = None) -> str:
        """``file:line: message``; the path is shortened if it is below ``root``."""
        path = self.path
        if root is not None and path != root and path.is_relative_to(root):
            path = path.relative_to(root)
        line = f":{self.line}" if self.line else ""
        return f"{path}{line}: {self.message}"
