"""Fonts for class names in plots: an installed font where matplotlib's own lacks characters.

matplotlib's DejaVu Sans has no Chinese, Japanese or Korean and no emoji.  Other fonts of the system
are searched for what is missing.  A name that no font can draw is shown as ``class 3``, and
the plot says so.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from ...files.text import one_line

OWN = "DejaVu Sans"
HINT = "no installed font has the characters of {}: install one, e.g. Noto Sans CJK"


def axis_names(names: Sequence[str], length: int = 22) -> list[str]:
    """Class names that fit beside an axis, by class id.  No part of them is taken as mathematics or
    left out of a legend."""
    clean = [one_line(name) for name in names]
    drawable = [name if not _missing(name) else f"class {i}" for i, name in enumerate(clean)]
    return [_literal(shorten(name, length)) for name in drawable]


def shorten(name: str, length: int) -> str:
    """A name cut to ``length`` characters."""
    return name if len(name) <= length else name[: length - 1] + "…"


def _literal(name: str) -> str:
    """For matplotlib, which reads mathematics between dollars and hides what begins with ``_``."""
    escaped = name.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def use_fonts(figure: Figure, names: Sequence[str] = ()) -> None:
    """Let a figure use the fonts that its texts need, and say which of ``names`` none can draw."""
    texts = figure.findobj(Text)
    families = _families(frozenset("".join(text.get_text() for text in texts)))
    if len(families) > 1:
        for text in texts:
            text.set_fontfamily(list(families))
    if lost := [f"class {i}" for i, name in enumerate(names) if _missing(one_line(name))]:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        figure.supxlabel(HINT.format(", ".join(lost[:3]) + more), fontsize=7)


def _missing(text: str) -> frozenset[str]:
    """Characters of ``text`` that no font of this machine has."""
    return frozenset(text) - _drawn_by(_families(frozenset(text)))


def _drawn_by(families: Iterable[str]) -> frozenset[str]:
    return frozenset().union(*(_letters(_file_of(family)) for family in families))


@functools.lru_cache(maxsize=64)
def _families(letters: frozenset[str]) -> tuple[str, ...]:
    """matplotlib's own font, and those of the system that have what it lacks."""
    found = [OWN]
    missing = {c for c in letters if c.isprintable()} - _letters(_file_of(OWN))
    for family in _others() if missing else ():
        if has := missing & _letters(_file_of(family)):
            found.append(family)
            missing -= has
        if not missing:
            break
    return tuple(found)


def _others() -> list[str]:
    """Upright fonts of regular weight, those for Chinese, Japanese and Korean first."""
    entries = font_manager.fontManager.ttflist
    names = {e.name for e in entries if e.style == "normal" and e.weight in (400, "normal")}
    names = {name for name in names if not name.startswith("Last Resort")}  # only placeholders
    return sorted(names - {OWN}, key=lambda name: ("CJK" not in name, name))


@functools.cache
def _file_of(family: str) -> str:
    return font_manager.findfont(font_manager.FontProperties(family=[family]))


@functools.cache
def _letters(file: str) -> frozenset[str]:
    """Characters that a font can draw at any size; none of a font that cannot be used."""
    try:
        font = FT2Font(file)
        if not font.scalable:  # bitmaps of emoji
            return frozenset()
        return frozenset(map(chr, font.get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()
