"""The options of ``det data``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option
from .shared import DownloadConfig, built_in_data


@dataclass(frozen=True, kw_only=True)
class DataCheckConfig(DownloadConfig):
    """det data check: check a data set and list what is wrong with it."""

    data: str = built_in_data()


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """det data shapes: draw a data set of synthetic scenes with exact boxes."""

    out: str = option("shapes", "Data", "Folder to write. It must be new or empty.")
    n: int = option(
        2000, "Data", "Total number of images. A fifth is for validation unless val= is given.",
        low=2)
    val: int | None = option(
        None, "Data", "Validation images among the n. Default: a fifth.", low=1)
    test: int = option(0, "Data", "Test images among the n.", low=0)
    seed: int = option(0, "Data", "Random seed. The same seed draws the same bytes.", low=0)
    imgsz: int = option(640, "Data", "Longer side of the images in pixels.", low=64, high=4096)
