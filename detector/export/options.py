"""What was typed after det export, read and checked: formats, size, where the file goes.

No torch here: all that can be refused is refused before it is loaded.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from ..config_export import ExportConfig
from ..parse import UsageError, nearest
from .formats import DYNAMIC, FORMATS, FULL, WEIGHTS, Format, require

CALIBRATING = ("calibration", "seed")
"""Options that are for int8=True alone."""


def precision_of(config: ExportConfig) -> str:
    """What the files compute in, or how they store weights: fp32, fp16, int8 and its kinds."""
    if config.half:
        return "fp16"
    kinds = {"false": "fp32", "true": FULL, "weights": WEIGHTS, "dynamic": DYNAMIC}
    return kinds[config.int8]


def formats_of(config: ExportConfig) -> list[Format]:
    """The formats named, in that order.  Raises UsageError for one that does not exist."""
    rows = []
    for name in (part.strip().lower() for part in config.format.split(",")):
        if name not in FORMATS:
            near = nearest(name, FORMATS)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(FORMATS)}"
            raise UsageError(f"format={config.format}: there is no format {name!r}; {hint}")
        if FORMATS[name] not in rows:
            rows.append(FORMATS[name])
    return rows


def size_of(text: str | None, usual: int, stride: int) -> tuple[int, int]:
    """(height, width) that ``imgsz=`` names; None: a square of the usual side, which must fit.

    Raises UsageError where it is no size or a side is no multiple of the stride.
    """
    if text is None:
        return usual, usual
    sides = re.fullmatch(r"\s*(\d+)(?:\s*[,x]\s*(\d+))?\s*", text)
    if sides is None:
        raise UsageError(f"imgsz={text}: expected a side or height,width, e.g. imgsz=640,512")
    height, width = int(sides[1]), int(sides[2] or sides[1])
    for side in (height, width):
        if side < stride or side % stride:
            near = max(1, round(side / stride)) * stride
            raise UsageError(
                f"imgsz={text}: sides must be multiples of the stride {stride}, such as {near}"
            )
    return height, width


def target_of(config: ExportConfig, row: Format, checkpoint: Path, *, fetched: bool) -> Path:
    """Where the file of a format goes: beside the checkpoint under its name, or as ``output=``
    says.  fetched: weights of the zoo, which lie in a cache, are exported into the current folder.
    Raises UsageError for an ``output`` that can not be."""
    precision = precision_of(config)
    usual = f"{checkpoint.stem}{'' if precision == 'fp32' else f'-{precision}'}{row.suffix}"
    if config.output is None:
        return (Path() if fetched else checkpoint.parent) / usual
    output = Path(config.output)
    if output.is_dir() or len(formats_of(config)) > 1:
        if output.exists() and not output.is_dir():
            raise UsageError(f"output={output} is a file: several formats need a folder")
        return output / usual
    if output.suffix != row.suffix:
        raise UsageError(
            f"output={output}: a file of format={row.name} ends in {row.suffix}, or name a folder "
            "that exists"
        )
    return output


def check_writable(folder: Path) -> None:
    """Raise UsageError where nothing can be written into a folder, or into the nearest one above it
    that exists.  Tried with a file that has no name, so that nothing can be left."""
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(
            f"{folder}: nothing can be written there ({error.strerror}): name another place with "
            "output="
        ) from error


def check_options(config: ExportConfig, given: frozenset[str]) -> None:
    """Raise UsageError for options that can not be meant together or would do nothing, and
    MissingPackage for a format that can not be written here."""
    rows = formats_of(config)
    names = [row.name for row in rows]
    if config.imgsz is not None:
        size_of(config.imgsz, 640, 32)
    pairs = [
        *_quantizing_pairs(config, given),
        (
            config.dynamic and "batch" in given,
            f"batch={config.batch} has no effect with dynamic=True, which takes any: leave it out",
        ),
        (
            config.raw and "max_det" in given,
            f"max_det={config.max_det} has no effect with raw=True: leave one of them out",
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


def _quantizing_pairs(config: ExportConfig, given: frozenset[str]) -> list[tuple[bool, str]]:
    full, any_kind = config.int8 == "true", config.int8 != "false"
    unused = next((name for name in CALIBRATING if name in given and not full), None)
    square = config.imgsz is None or len(set(size_of(config.imgsz, 640, 32))) == 1
    return [
        (unused is not None, f"{unused}= has no effect without int8=True: leave it out"),
        (
            "max_drop" in given and not any_kind,
            "max_drop= has no effect without int8=True: leave it out",
        ),
        (
            full and config.data is None,
            "int8=True is calibrated with images: name the data with data=, or use int8=weights",
        ),
        (config.int8 in ("weights", "dynamic") and "max_drop" in given and config.data is None,
         "max_drop= has no effect without data="),
        (full and config.fraction == 0, "fraction=0 leaves no image to calibrate with"),
        (full and not square, f"int8=True is judged by its AP, which is measured on square inputs: "
         f"use one side instead of imgsz={config.imgsz}"),
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
        mend = f"use device={'0' if row.half_on[0] == 'cuda' else 'cpu'}" if row.half_on else (
            "leave it out"
        )  # fmt: skip
        raise UsageError(f"half=True is not for format={row.name} on device={kind}: {mend}")
    if config.int8 != "false" and precision_of(config) not in row.int8:
        able = [other.name for other in FORMATS.values() if precision_of(config) in other.int8]
        raise UsageError(
            f"int8={config.int8.replace('true', 'True')}: format={row.name} is not quantized so by "
            f"det: use format={' or '.join(able)}"
        )
    if config.int8 == "true" and config.calibration not in row.calibrations:
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
            f"format={row.name} can not hold the choice of detections: use raw=True, and choose "
            "among its boxes and scores where you run it"
        )
    if row.system not in (None, sys.platform):
        raise UsageError(
            f"format={row.name} runs on {row.system} only, and det export compares what it writes: "
            "export it there"
        )
    require(row)
