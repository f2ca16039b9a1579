"""The options of ``det data``."""

from __future__ import annotations

from dataclasses import dataclass

from .fields import knob


@dataclass(frozen=True, kw_only=True)
class DataCheckConfig:
    """det data check: look through a data set and list what is wrong with it."""

    data: str = knob("coco8.yaml", "Data")
    """Data set YAML, or the name of a built-in one (coco8.yaml, shapes.yaml)."""
    download: bool = knob(True, "Data")
    """Allow a built-in data set to be downloaded where it is not on disk."""


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """det data shapes: draw a data set of synthetic scenes with exact boxes."""

    out: str = knob("shapes", "Data")
    """Folder to write; it must not exist or be empty."""
    n: int = knob(2000, "Data", low=2)
    """Images in all; one in five is for validation unless val or test is given."""
    val: int | None = knob(None, "Data", low=1)
    """Validation images among the n. Default: a fifth."""
    test: int = knob(0, "Data", low=0)
    """Test images among the n."""
    seed: int = knob(0, "Data", low=0)
    """The same seed draws the same bytes."""
    imgsz: int = knob(640, "Data", low=64, high=4096)
    """Longer side of the images in pixels."""
