"""Times as people say them."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """A time for people: ``40 s``, ``12 min``, ``2 h 5 min``, ``3 d 4 h``."""
    minutes = round(seconds / 60)
    if seconds < 180:
        return f"{math.ceil(seconds)} s"
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
