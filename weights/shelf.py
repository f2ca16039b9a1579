"""The weights folder, and which weights of the zoo are in it or may be downloaded.

Imports no torch, because the checks of the options use it.
"""

from __future__ import annotations

import os
from pathlib import Path

from .zoo import ZOO, check_license


def weights_folder() -> Path:
    """Folder of downloaded weights: DET_WEIGHTS, else ``weights`` in the cache folder."""
    if own := os.environ.get("DET_WEIGHTS"):
        return Path(os.path.abspath(os.path.expanduser(own)))
    from ..files.folders import cache_folder  # with the network's modules, which take a while

    return cache_folder() / "weights"


def converted(name: str) -> Path:
    """Path of the zoo's weights ``name`` as a checkpoint of det; it may not exist yet."""
    return weights_folder() / f"{name}.safetensors"


def is_here(name: str) -> bool:
    """Whether the zoo's weights ``name`` can be used without the network: converted, or as the
    published file that somebody put into the weights folder."""
    target = converted(name)
    return target.is_file() or target.with_name(ZOO[name].file).is_file()


def check_obtainable(word: str, *, offline: bool, accept_license: str | None) -> None:
    """Raise LicenseError or DownloadError if ``word`` names weights that may not be downloaded.

    Paths and weights that are already on disk always pass.
    """
    entry = ZOO.get(word)
    if entry is None or converted(word).is_file():
        return
    check_license(entry, accept_license)
    if offline and not is_here(word):
        from ..files.download import DownloadError  # the network's modules again

        raise DownloadError(
            f"the weights of {word} are not in {weights_folder()}, and offline=True forbids the "
            f"download: leave it out, put {entry.file} there, or train with pretrained=False"
        )
