"""Checks of the options of det export that are made before torch is loaded."""

from __future__ import annotations

import sys

from ..options.errors import UsageError
from ..options.export import ExportConfig
from ..options.formats import FORMATS, Format, require
from .targets import formats_of, precision_of, size_of

CALIBRATING = ("calibration", "seed")
"""Options that are for int8=True alone."""


def check_options(
    config: ExportConfig, given: frozenset[str], *, keeps_ranges: bool = False
) -> None:
    """Raise UsageError for options that contradict each other or would do nothing, and
    MissingPackage for a format whose packages are missing.  keeps_ranges: the checkpoint was
    trained with ``qat=``."""
    rows = formats_of(config)
    names = [row.name for row in rows]
    if config.imgsz is not None:
        size_of(config.imgsz, 640, 32)
    pairs = [
        *_quantizing_pairs(config, given, keeps_ranges=keeps_ranges),
        (
            config.dynamic and "batch" in given,
            f"batch={config.batch} has no effect with dynamic=True, which takes any: leave it out",
        ),
        (
            config.raw and "max_det" in given,
            f"max_det={config.max_det} has no effect with raw={config.raw}: leave one of them out",
        ),
        (
            "opset" in given and not {"onnx", "openvino", "tensorrt"} & set(names),
            f"opset={config.opset} has no effect on format={config.format}: leave it out",
        ),
        (config.fraction == 0, "fraction=0 leaves no image to compare on"),
        *(
            (name in given and config.data is None, f"{name}= has no effect without data=")
            for name in ("split", "fraction")
        ),
    ]
    for wrong, message in pairs:
        if wrong:
            raise UsageError(message)
    for row in rows:
        _check_format(row, config)


def _quantizing_pairs(
    config: ExportConfig, given: frozenset[str], *, keeps_ranges: bool
) -> list[tuple[bool, str]]:
    full, any_kind = config.int8 is True, bool(config.int8)
    unused = next((name for name in CALIBRATING if name in given and not full), None)
    return [
        (unused is not None, f"{unused}= has no effect without int8=True: leave it out"),
        (
            "max_drop" in given and not any_kind,
            "max_drop= has no effect without int8=True: leave it out",
        ),
        (
            full and config.data is None and not keeps_ranges,
            "int8=True is calibrated with images: name the data with data=, or use int8=weights",
        ),
        (config.int8 in ("weights", "dynamic") and "max_drop" in given and config.data is None,
         "max_drop= has no effect without data="),
        (full and config.fraction == 0, "fraction=0 leaves no image to calibrate with"),
        (
            any_kind and config.opset < 13,
            f"opset={config.opset}: int8= needs operator set 13: use opset=13",
        ),
        (any_kind and config.half, "half=True and int8= are two precisions: leave one of them out"),
        (
            any_kind and config.device not in (None, "cpu"),
            f"int8= is written and compared on the CPU: use device=cpu, not {config.device}",
        ),
    ]  # fmt: skip


def _check_format(row: Format, config: ExportConfig) -> None:
    device = config.device or "cpu"
    kind = device if device in ("cpu", "mps") else "cuda"
    if config.half and kind not in row.half_on:
        fix = f"use device={'0' if row.half_on[0] == 'cuda' else 'cpu'}" if row.half_on else (
            "leave it out"
        )  # fmt: skip
        raise UsageError(f"half=True is not for format={row.name} on device={kind}: {fix}")
    if config.int8 and precision_of(config) not in row.int8:
        able = [other.name for other in FORMATS.values() if precision_of(config) in other.int8]
        raise UsageError(
            f"int8={config.int8}: format={row.name} is not quantized so by "
            f"det: use format={' or '.join(able)}"
        )
    if config.int8 is True and config.calibration not in row.calibrations:
        raise UsageError(
            f"calibration={config.calibration}: format={row.name} is calibrated by "
            f"{' or '.join(row.calibrations)}"
        )
    if config.dynamic and not row.dynamic:
        raise UsageError(
            f"dynamic=True: format={row.name} is written for one size and batch; leave it out"
        )
    if row.raw_only and not config.raw:
        raise UsageError(
            f"format={row.name} cannot hold the choice of detections: use raw=True, and choose "
            "among its boxes and scores where you run it"
        )
    if row.system not in (None, sys.platform):
        raise UsageError(
            f"format={row.name} runs on {row.system} only, and det export compares what it writes: "
            "export it there"
        )
    require(row)
