"""The style of every plot; classes have the same colors as in drawn images.

Figures use matplotlib's objects and the Agg renderer.  The user's pyplot, backend and settings are
not touched.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from ...files.atomic import write_atomically
from .draw import class_color
from .fonts import use_fonts

INK = "#23262f"
SOFT = "#6b7180"
LINE = "#e3e5ea"
ACCENT = "#1d84db"
HEAT = LinearSegmentedColormap.from_list(
    "paper to ink", ["#ffffff", "#cfe6f7", "#6cb4e8", "#1d84db", "#153f7a", "#0c1f44"]
)
DPI = 150
PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.8}
"""Behind a name that may stand on a line."""


def new_figure(width: float, height: float, square: bool = False) -> Figure:
    """An empty figure in inches with automatic layout.  square: its axes have a fixed ratio."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    pads = {"w_pad": 0.12, "h_pad": 0.12, "wspace": 0.03, "hspace": 0.04}
    figure.set_layout_engine("compressed" if square else "constrained", **pads)
    return figure


def style(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Title at the left, quiet axes, a light grid behind the data."""
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, fontweight="bold", pad=8)
    axes.set_xlabel(x, fontsize=9, color=SOFT)
    axes.set_ylabel(y, fontsize=9, color=SOFT)
    axes.tick_params(colors=SOFT, labelsize=8, length=0)
    axes.grid(True, color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(LINE)


def unit_square(axes: Axes) -> None:
    """Both axes from 0 to 1, with a little room for lines that run along the edge."""
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.02)


def plot_color(label: int) -> tuple[float, float, float]:
    """The class color in 0..1, as matplotlib expects it."""
    red, green, blue = class_color(label)
    return red / 255, green / 255, blue / 255


def legend(axes: Axes, **options: Any) -> None:
    """A legend without a frame; none if no line has a name."""
    if axes.get_legend_handles_labels()[1]:
        box = axes.legend(frameon=False, fontsize=8, labelcolor=INK, alignment="left", **options)
        box.get_title().set(fontsize=8, color=SOFT)


def name_points(axes: Axes, names: Sequence[str], points: Sequence[tuple[float, float]]) -> None:
    """Write a name at each point, as near as names and other points leave room.

    Call it when the limits of the axes are set."""
    figure = axes.figure
    figure.canvas.draw()  # the layout decides where points lie
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    places = axes.transData.transform(points)
    taken = [Bbox.from_extents(x - 8, y - 8, x + 8, y + 8) for x, y in places]
    for name, point in zip(names, points, strict=True):
        text = axes.annotate(name, point, (0, 8), textcoords="offset points", ha="center",
                             va="center", fontsize=8, color=INK, bbox=PAPER)  # fmt: skip
        width = text.get_window_extent(renderer).width / 2 * 72 / figure.dpi + 8
        tries = [(x, y) for far in (12, 24, 36, 48)
                 for x, y in ((0, far), (0, -far), (width, far - 12), (-width, far - 12),
                              (width, 12 - far), (-width, 12 - far))]  # fmt: skip
        for offset in tries:
            text.set_position(offset)
            box = text.get_window_extent(renderer)
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def say_nothing_to_show(axes: Axes, text: str) -> None:
    """A text in the middle of empty axes."""
    axes.text(
        0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, fontsize=10, color=SOFT
    )


def save_figure(figure: Figure, path: Path, names: Sequence[str] = ()) -> None:
    """Write the figure; the suffix of ``path`` sets the format.  names: of the classes in it."""
    use_fonts(figure, names)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:] or "png", dpi=DPI)
    write_atomically(path, lambda file: file.write(buffer.getvalue()))


def save_picture(image: np.ndarray, path: Path) -> None:
    """Write [H,W,3] uint8 RGB; the suffix (.jpg, .png) sets the format."""
    _, encoded = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    write_atomically(path, lambda file: file.write(encoded.tobytes()))
