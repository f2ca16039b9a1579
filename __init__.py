"""det: a YOLO-style object detection trainer.  In Python: ``from yolodet import YOLO``.

``YOLO`` is imported when it is first used, so that ``import yolodet`` and ``det --help`` do not
import torch.
"""

from typing import TYPE_CHECKING, Any

from .files.telemetry import refuse_telemetry
from .files.threads import shorten_spinning
from .files.version import __version__

shorten_spinning()  # before torch is imported
refuse_telemetry()  # before ONNX Runtime is

if TYPE_CHECKING:
    from .detector.api import YOLO

__all__ = ["YOLO", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "YOLO":
        from .detector.api import YOLO

        return YOLO
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
