"""Name of a format -> what writes, reads and runs it.

The modules import their packages when they are called, so this table costs nothing but torch.
"""

from __future__ import annotations

from ...options.formats import FORMATS, Format
from . import coreml, onnx, openvino, tensorrt, tflite, torch_export, torchscript
from .interface import Writer

WRITERS: dict[str, Writer] = {
    "onnx": onnx,
    "torchscript": torchscript,
    "torch_export": torch_export,
    "openvino": openvino,
    "tflite": tflite,
    "coreml": coreml,
    "tensorrt": tensorrt,
}


def register(row: Format, writer: Writer) -> None:
    """Add a format: from then on ``format=NAME`` writes it, proves it and can be evaluated.

    Raises ValueError where another format has its name or suffix.
    """
    if row.name in FORMATS or row.suffix in {other.suffix for other in FORMATS.values()}:
        raise ValueError(f"there is already a format {row.name!r} or a suffix {row.suffix!r}")
    FORMATS[row.name] = row
    WRITERS[row.name] = writer
