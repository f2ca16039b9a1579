"""Get the checkpoint that ``model=`` names; weights of the zoo are downloaded and converted once.

They are kept in the weights folder (``weights/shelf.py``) as checkpoints of det.  A published file
that the user put there is converted without the network.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...files.download import DownloadError, Progress, download_file, sha256_of
from ...weights.checkpoint import CheckpointError
from ...weights.importers import ImportFailed
from ...weights.shelf import check_obtainable, converted, is_here
from ...weights.zoo import ZOO, ZooEntry
from ..options.names import MODELS
from ..run.log import Log
from .adopt import convert
from .choose import SMALL, chosen_line


def obtain(
    word: str,
    *,
    offline: bool = False,
    accept_license: str | None = None,
    on_message: Callable[[str], None] | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """The path of a checkpoint: ``word`` itself, or the weights of the zoo that it names.

    offline: do not use the network.  accept_license: name of a license that the user accepts.
    on_message: receives remarks.  on_progress: receives bytes done and bytes in total.
    Raises LicenseError, DownloadError, ImportFailed or CheckpointError.
    """
    entry = ZOO.get(word)
    if entry is None:
        return Path(word)
    target = converted(word)
    if target.is_file():
        return target
    check_obtainable(word, offline=offline, accept_license=accept_license)
    original = target.with_name(entry.file)
    by_hand = original.is_file()
    if not by_hand:
        if on_message is not None:
            on_message(f"downloading the weights of {word} ({entry.license}) from {entry.url}")
        _fetch(entry, original, on_progress)
    try:
        _convert(entry, original, target, by_hand=by_hand)
    except (ImportFailed, CheckpointError):
        if not by_hand:
            original.unlink(missing_ok=True)  # or the next attempt would use it again
        raise
    if not by_hand:
        original.unlink()
    return target


def settle(
    *, offline: bool, log: Log, on_progress: Progress | None = None
) -> tuple[str, Path | None]:
    """What ``model=auto`` means: the name of a model, and the checkpoint to start from.

    Weights on disk come first, then the smallest that can be downloaded.  Where that fails, and
    with ``offline``, it is the default model without weights.
    """
    name = next((name for name in SMALL if is_here(name)), None)
    where = "are on disk"
    if name is None and not offline:
        name, where = SMALL[0], "are downloaded"
    if name is None:
        log.info(f"no pretrained weights are on disk: model={MODELS[0]} from scratch")
        return MODELS[0], None
    try:
        path = obtain(name, on_message=log.message, on_progress=on_progress)
    except DownloadError as error:
        log.warn(f"the start is from scratch with model={MODELS[0]}: {error}")
        return MODELS[0], None
    log.info(chosen_line(name, where))
    return name, path


def _fetch(entry: ZooEntry, original: Path, on_progress: Progress | None) -> None:
    try:
        download_file(entry.url, original, sha256=entry.sha256, on_progress=on_progress)
    except DownloadError as error:
        fix = f"without the network: put {entry.file} into {original.parent}"
        raise DownloadError(f"{error}; {fix}") from error


def _convert(entry: ZooEntry, original: Path, target: Path, *, by_hand: bool) -> None:
    """by_hand: the user put the file there; only its hash can show that it is the published one."""
    digest = sha256_of(original)
    published = not by_hand or digest == entry.sha256
    source = entry.url if published else f"{original.name}, put into the weights folder by hand"
    origin = f"{entry.project}: {source}, sha256 {digest}"
    about = {
        "image_size": entry.image_size,
        "provenance": origin,
    }
    if published:
        about |= {
            "data": {"name": entry.trained_on},
            "metrics": {"map_published": entry.ap / 100},
        }
    convert(original, target, expected=entry.name, about=about)
