"""Public data sets by their usual names: no misspelled names of what is built in."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

PUBLIC = (
    "coco", "coco128", "voc", "lvis", "objects365", "visdrone", "xview", "argoverse", "sku-110k",
    "globalwheat2020", "open-images-v7", "homeobjects-3k", "kitti", "crowdhuman",
)  # fmt: skip


def hint_for(name: str, built_in: Sequence[str]) -> str:
    """What to do about ``data=name``, which does not exist: the end of a message, or ""."""
    if name.removesuffix(".yaml").lower() in PUBLIC:
        return "; det does not download this one: write a YAML file with the paths of your copy"
    close = difflib.get_close_matches(name, built_in, n=1)
    return f"; did you mean {close[0]}?" if close else ""
