"""Formats, input size and target paths of det export, from its options.  Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..options.errors import UsageError, nearest
from ..options.export import ExportConfig
from ..options.formats import (
    DYNAMIC,
    FORMATS,
    FULL,
    MINMAX,
    WEIGHTS,
    Format,
    missing_packages,
)
from ..options.parse import show


def precision_of(config: ExportConfig) -> str:
    """The precision of the files: fp32, fp16, int8, int8-weights or int8-dynamic."""
    if config.half:
        return "fp16"
    kinds = {False: "fp32", True: FULL, "weights": WEIGHTS, "dynamic": DYNAMIC}
    return kinds[config.int8]


def formats_of(config: ExportConfig) -> list[Format]:
    """The formats of ``format=``, in order.  Raises UsageError for an unknown one."""
    rows = []
    for name in (part.strip().lower() for part in config.format.split(",")):
        if name not in FORMATS:
            near = nearest(name, FORMATS)
            hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(FORMATS)}"
            raise UsageError(f"format={config.format}: there is no format {name!r}; {hint}")
        if FORMATS[name] not in rows:
            rows.append(FORMATS[name])
    return rows


def size_of(
    size: int | tuple[int, ...] | None, usual: int | tuple[int, int], stride: int
) -> tuple[int, int]:
    """(height, width) of ``imgsz=``; None: the usual side or size, rounded up.

    Raises UsageError where it is not a size or a side is not a multiple of the stride."""
    if size is None:
        height, width = (usual, usual) if isinstance(usual, int) else usual
        return -(-height // stride) * stride, -(-width // stride) * stride
    sides = (size, size) if isinstance(size, int) else size
    if len(sides) != 2:
        raise UsageError(
            f"imgsz={show(size)}: expected a side or height,width, e.g. imgsz=640,512"
        )
    height, width = sides
    for side in (height, width):
        if side < stride or side % stride:
            near = max(1, round(side / stride)) * stride
            raise UsageError(
                f"imgsz={show(size)}: expected multiples of the stride {stride}, such as {near}"
            )
    return height, width


def target_path(config: ExportConfig, row: Format, checkpoint: Path, *, fetched: bool) -> Path:
    """Path of the file: ``output=``, or beside the checkpoint under its name.  fetched: the
    checkpoint lies in the cache, so the file goes to the current folder.  Raises UsageError."""
    precision = precision_of(config)
    ending = row.folder or row.suffix
    usual = f"{checkpoint.stem}{'' if precision == 'fp32' else f'-{precision}'}{ending}"
    if config.output is None:
        return (Path() if fetched else checkpoint.parent) / usual
    output = Path(config.output)
    if row.folder is not None and output.name.endswith(row.folder):
        return output
    if output.is_dir() or len(formats_of(config)) > 1:
        if output.exists() and not output.is_dir():
            raise UsageError(f"output={output} is a file: several formats need a folder")
        return output / usual
    if output.suffix != row.suffix:
        raise UsageError(
            f"output={output}: a file of format={row.name} ends in {row.suffix}"
            f"{f' (a folder in {row.folder})' if row.folder else ''}, or name a folder that exists"
        )
    return output


PRECISION_OPTIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp16": {"half": True},
    FULL: {"int8": True},
    WEIGHTS: {"int8": "weights"},
    DYNAMIC: {"int8": "dynamic"},
}
"""Precision -> options of det export."""


def name_of(row: Format, precision: str) -> str:
    """Name of a format and precision in ``formats=``: ``onnx``, ``onnx-int8``."""
    return row.name if precision == "fp32" else f"{row.name}-{precision}"


def choose(
    wanted: str | None, *, data: bool, calibration: str = MINMAX
) -> tuple[list[tuple[Format, str]], dict[str, str]]:
    """Formats and precisions to measure, and the reason for each that is not.  data: whether there
    are calibration images.  Raises UsageError for a name that is unknown or cannot be measured."""
    chosen, against = [], {}
    for row in FORMATS.values():
        for precision in PRECISION_OPTIONS:
            name, why = name_of(row, precision), _objection(row, precision, data, calibration)
            if why is None:
                chosen.append((row, precision))
            elif why:
                against[name] = why
    if wanted is None:
        return chosen, against
    known = {name_of(row, precision): (row, precision) for row, precision in chosen}
    told = [part.strip() for part in wanted.split(",")]
    for name in told:
        if name not in known:
            why = against.get(name, f"there is no such file; known: {', '.join(known)}")
            raise UsageError(f"formats={wanted}: {name}: {why}")
    return [pair for name, pair in known.items() if name in told], {}


def _objection(row: Format, precision: str, data: bool, calibration: str) -> str | None:
    """Why a file cannot be measured; None: it can; empty: det does not write such a file."""
    written = {"fp32": True, "fp16": "cpu" in row.half_on}.get(precision, precision in row.int8)
    if not written:
        return ""
    if missing := missing_packages(row):
        return f"{', '.join(missing)} is not installed: pip install 'yolodet[{row.extra}]'"
    if not row.run_here:
        return "det does not run it on a CPU"
    if precision == FULL and not data:
        return "int8 is calibrated with images: name the data with data="
    if precision == FULL and calibration not in row.calibrations:
        return f"it is calibrated by {' or '.join(row.calibrations)}, not by {calibration}"
    return None
