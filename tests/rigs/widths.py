"""Models whose class towers are not as wide as their family builds them."""

from __future__ import annotations

from unittest.mock import patch

from yolodet.detector.models import yolo26, yolov9
from yolodet.detector.models.build import FAMILIES, NAMES, build
from yolodet.detector.models.detector import Detector


def build_wide(name: str, num_classes: int, width: int) -> Detector:
    """``name`` with class towers of ``width`` channels, as other projects' files may have them."""
    family = FAMILIES[NAMES[name][0]]
    home = family if family is yolov9 else yolo26  # the others use yolo26.make_branch
    with patch.object(home, "default_class_width", lambda *_: width):
        return build(name, num_classes)
