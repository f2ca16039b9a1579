"""Whether weights reach the AP that was published with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...files.errors import DetError
from ...weights.zoo import ZooEntry

COCO_VAL = 5000
"""Images of COCO val2017, on which AP is published."""
PROTOCOL = 0.015
"""Publishers do not measure as det does: with the best class of a box only, AP reads 0.007 to 0.010
lower."""
SPREAD = 0.63
"""Three times the deviation of AP over samples of images, times the square root of their number
(about 0.003 with 5000)."""


class OtherThanPublished(DetError):
    """The AP is not the published one."""


def compare(entry: ZooEntry, measured: Mapping[str, Any]) -> dict[str, Any]:
    """AP measured and published, and the range that counts as equal.

    With fewer images than COCO val2017 has, AP can be much higher, because few classes are shown;
    so only the lower end counts there.  measured: what ``det val`` returns.  Raises
    OtherThanPublished outside of the range.
    """
    images, published = measured["metrics"]["num_images"], entry.ap / 100
    ap = measured["metrics"]["map"]
    whole = images >= COCO_VAL
    lowest = max(published - PROTOCOL - (0.0 if whole else SPREAD / images**0.5), 0.0)
    highest = published + PROTOCOL if whole else None
    if ap is None or ap <= lowest or (highest is not None and ap > highest):
        reached = "no AP" if ap is None else f"AP {ap:.3f}"
        raise OtherThanPublished(
            f"{entry.name} reaches {reached} on {images} images, published are {published:.3f}: "
            "the data are not those of COCO val2017, or the weights are others; see "
            f"det weights info {entry.name}"
        )
    return {
        "model": entry.name,
        "license": entry.license,
        "images": images,
        "ap": ap,
        "ap_published": published,
        "ap_lowest": lowest,
        "ap_highest": highest,
        "note": "" if whole else f"only a loss can be seen with fewer than {COCO_VAL} images",
    }
