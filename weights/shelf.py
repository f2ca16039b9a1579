"""Where pretrained weights come from: the words after ``model=`` and ``pretrained=``.

A word is a model name, which starts from the zoo's weights where it has some and from scratch where
it has none; or a checkpoint: ours, or a ``.pt``/``.pth`` of another project.  No torch here: this
is what the checks and the help ask, and the only file that reads the environment for the weights
folder (DET_WEIGHTS).
"""

from __future__ import annotations

import os
from pathlib import Path

from .zoo import ZOO, check_license


def weights_folder() -> Path:
    """Where downloaded weights are kept: DET_WEIGHTS, else ``weights`` in the cache folder."""
    if own := os.environ.get("DET_WEIGHTS"):
        return Path(os.path.abspath(os.path.expanduser(own)))
    from ..files.folders import cache_folder  # with the network's modules, which take a while

    return cache_folder() / "weights"


def converted(name: str) -> Path:
    """The checkpoint of the zoo's weights ``name``; it is there once they were fetched."""
    return weights_folder() / f"{name}.safetensors"


def is_here(name: str) -> bool:
    """Whether the zoo's weights ``name`` can be used without the network: converted, or as the
    published file that somebody put into the weights folder."""
    target = converted(name)
    return target.is_file() or target.with_name(ZOO[name].file).is_file()


def check_obtainable(word: str, *, offline: bool, accept_license: str | None) -> None:
    """Raise where a name of the zoo may not be fetched: LicenseError, or DownloadError offline.

    A path, and weights that are on disk already, may always be used.
    """
    entry = ZOO.get(word)
    if entry is None or converted(word).is_file():
        return
    check_license(entry, accept_license)
    if offline and not is_here(word):
        from ..files.download import DownloadError  # the network's modules again

        raise DownloadError(
            f"the weights of {word} are not in {weights_folder()}, and offline=True asks for no "
            f"network: leave it out, put {entry.file} there, or train with pretrained=False"
        )
