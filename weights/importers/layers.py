"""The numbers that the originals give their layers, for what users say by number."""

from __future__ import annotations

from . import ultralytics_names, yolov9


def layers_of(model: str) -> dict[int, str]:
    """Number -> our module, of a model by its name; layers without weights are left out, and a
    family without numbers has none."""
    if model.startswith("yolov9"):
        return {int(number): path for number, path in yolov9.BODY.items()}
    if model.endswith("-p2"):
        return {}
    for family, layout in ultralytics_names.LAYOUTS.items():
        if model.startswith(family):
            return {int(n): path for n, path in layout.layers.items()} | {int(layout.head): "head"}
    return {}
