"""The options of ``det studio``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option

PORT = 8642
"""Where the studio listens if nothing is said and the port is free."""


@dataclass(frozen=True, kw_only=True)
class StudioConfig:
    """det studio: look at data sets and runs in the browser, on this machine only."""

    folder: str | None = option(
        None, "Data", "Folder whose data sets and runs are shown; no other folder can be named in "
        "the browser. Default: the current folder.")
    port: int | None = option(
        None, "Run", f"Port on 127.0.0.1. Default: {PORT}, or a free one where it is taken.",
        low=1, high=65535)
