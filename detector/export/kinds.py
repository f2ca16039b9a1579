"""Every file that det can write, as a format in a precision: ``onnx``, ``onnx-int8``.  No torch."""

from __future__ import annotations

from typing import Any

from ..parse import UsageError
from .formats import DYNAMIC, FORMATS, FULL, MINMAX, WEIGHTS, Format, missing_packages

WORDS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "fp16": {"half": True},
    FULL: {"int8": "true"},
    WEIGHTS: {"int8": "weights"},
    DYNAMIC: {"int8": "dynamic"},
}
"""Precision -> options of det export."""


def name_of(row: Format, precision: str) -> str:
    """``onnx``, ``onnx-int8``: how a file is called here."""
    return row.name if precision == "fp32" else f"{row.name}-{precision}"


def choose(
    wanted: str | None, *, data: bool, calibration: str = MINMAX
) -> tuple[list[tuple[Format, str]], dict[str, str]]:
    """What to measure, format by format, and why the rest is not.  data: whether there are images
    to calibrate with; calibration: how.  Raises UsageError for a name that does not exist or can
    not be measured."""
    chosen, against = [], {}
    for row in FORMATS.values():
        for precision in WORDS:
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
    """Why a file is not measured; None: it is; empty: det does not write such a file."""
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
