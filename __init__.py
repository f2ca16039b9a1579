"""det: a YOLO-style object detection trainer.  ``from yolodet import YOLO`` is the Python face.

Names are looked up lazily, so that importing the package (and ``det --help``) does not import
torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .detector.api import YOLO

__version__ = "0.1.0"
__all__ = ["YOLO", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "YOLO":
        from .detector.api import YOLO

        return YOLO
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
