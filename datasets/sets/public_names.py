"""Public data sets by their usual names: no misspelled names of what is built in."""

from __future__ import annotations

PUBLIC = (
    "coco", "coco128", "voc", "lvis", "objects365", "visdrone", "xview", "argoverse", "sku-110k",
    "globalwheat2020", "open-images-v7", "homeobjects-3k", "kitti", "crowdhuman",
)  # fmt: skip


def is_public(name: str) -> bool:
    """Whether ``coco.yaml`` or ``coco`` is one of them."""
    return name.removesuffix(".yaml").lower() in PUBLIC
