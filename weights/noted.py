"""What was measured with weights of the zoo on this machine: kept in the weights folder.

``measured.json`` holds, per name, the AP that ``det weights check`` found and the milliseconds of
``det weights list bench=True`` per device.  A damaged file counts as empty: it can be made again.
"""

from __future__ import annotations

import json
from typing import Any

from ..files.atomic import write_atomically
from ..files.regular import read_regular
from .shelf import weights_folder

FILE = "measured.json"
LIMIT = 1 << 20


def read_notes() -> dict[str, dict[str, Any]]:
    """Name -> what was measured: ``ap`` {ap, images} and ``ms`` {device: milliseconds}."""
    try:
        found = json.loads(read_regular(weights_folder() / FILE, LIMIT))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, dict)}


def note(name: str, kind: str, value: Any) -> None:
    """Keep one measurement.  Raises OSError where the weights folder cannot be written."""
    notes = read_notes()
    notes.setdefault(name, {})[kind] = value
    folder = weights_folder()
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(notes, indent=1, sort_keys=True) + "\n"
    write_atomically(folder / FILE, lambda file: file.write(text.encode()))
