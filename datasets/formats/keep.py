"""Facts about files that take long to find out, kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...files.atomic import write_atomically
from ...files.errors import InputError
from ...files.folders import cache_folder
from ...files.json_text import read_json
from .reader import stamp_of


def keep(kind: str, files: Sequence[Path], make: Callable[[], Any]) -> Any:
    """The result of ``make`` for the current ``files``, from the cache if they have not changed.

    kind: names the fact.  make: returns plain values (JSON); may raise.
    """
    key = json.dumps([kind, [[os.path.abspath(file), *stamp_of(file)] for file in files]])
    try:
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        path = cache_folder() / "facts" / f"{name}.json"
        return read_json(path)
    except InputError:  # there is no cache folder
        return make()
    except (OSError, ValueError):
        fact = json.loads(json.dumps(make()))
        with contextlib.suppress(OSError):
            write_atomically(path, lambda sink: sink.write(json.dumps(fact).encode()))
        return fact
