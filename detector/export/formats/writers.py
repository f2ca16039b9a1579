"""Name of a format -> the module that writes, reads and runs it.

The modules import their packages when they are called, so this table costs nothing but torch.
"""

from __future__ import annotations

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
