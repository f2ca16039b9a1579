"""Times and precisions as people say them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...files.counted import counted

SHOWN = 4
"""Stages that a line names; amp.json has all."""


def duration(seconds: float) -> str:
    """A time for people: ``40 s``, ``12 min``, ``2 h 5 min``, ``3 d 4 h``."""
    minutes = round(seconds / 60)
    if seconds < 180:
        return f"{math.ceil(seconds)} s"
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def labeled(name: str, fp32_stages: Sequence[str]) -> str:
    """``fp16``, or ``fp16 with neck.mix_up5 in fp32``."""
    if not fp32_stages:
        return name
    shown = list(fp32_stages[:SHOWN])
    if len(fp32_stages) > SHOWN:
        shown.append(counted(len(fp32_stages) - SHOWN, "more stage"))
    named = ", ".join(shown[:-1]) + " and " + shown[-1] if len(shown) > 1 else shown[0]
    return f"{name} with {named} in fp32"
