"""The cache folder, for files that det can make again."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InputError


def cache_folder() -> Path:
    """The folder for files that det can make again.

    DET_CACHE, else $XDG_CACHE_HOME/det, else ~/.cache/det.  The folder need not exist.
    Raises InputError where there is no home folder to put it into.
    """
    if own := os.environ.get("DET_CACHE"):
        return Path(os.path.abspath(os.path.expanduser(own)))
    shared = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):  # the XDG specification ignores relative paths
        return Path(shared, "det")
    home = os.path.expanduser("~")
    if not os.path.isabs(home):
        raise InputError("there is no home folder for the cache; set DET_CACHE to a folder")
    return Path(home, ".cache", "det")
