"""``det compress``: make a trained detector small and fast, and choose the file to deploy."""

from __future__ import annotations

from typing import Any

from ..compress.check import check_compress
from ..options.catalog import Command
from ..options.compress import CompressConfig
from ..run.log import Log
from .outcome import Outcome
from .show import absolute, join


def execute(command: Command, config: CompressConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, make the files, and show which one to deploy."""
    config = check_compress(config, given)
    log.loading_torch()
    from ..compress.compress import compress

    result = compress(config, given, log)
    return Outcome(result, show_compression(result))


def show_compression(result: dict[str, Any]) -> str:
    """The chosen file in one line, and where it is."""
    chosen = next(row for row in result["rows"] if row["name"] == result["chosen"])
    base = result["rows"][0]
    deploy = absolute(result["deploy"])
    lines = [
        f"fastest file that loses at most {result['max_drop']:g} AP: {chosen['name']}, "
        f"AP {chosen['ap'] or 0:.3f} ({base['name']}: {base['ap'] or 0:.3f}), "
        f"{chosen['speedup']:.2f}x the images/s, {chosen['size']:.2f}x the size",
        f"deploy: {deploy}",
        f"next: det predict model={deploy}",
    ]
    return join(lines)
