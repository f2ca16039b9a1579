"""Plot of det bench export: size, speed and AP of the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from ..evaluate.figure import ACCENT, INK, SOFT, new_figure, save_figure, style
from ..options.parse import show

COLORS = {
    "fp32": "#9aa1ad", "fp16": "#f48c06", "int8": ACCENT, "int8-weights": "#2a9d5a",
    "int8-dynamic": "#7b4bb3",
}  # fmt: skip
"""By precision."""
SPEEDS = {"one": "One thread", "all": "All threads", "side_by_side": "One call per core"}
"""Name in the results -> title."""
BAR = 0.8
"""Share of a row that its bar fills."""


def plot_bench_export(result: Mapping[str, Any], path: Path) -> None:
    """Bars of size, images per second on one thread, on all and with one call per core, load time
    and, where measured, AP.  result: as bench_export.json holds it."""
    rows: Sequence[Mapping[str, Any]] = result["results"]
    measured = any(row["ap"] is not None for row in rows)
    figure = new_figure(17.5 if measured else 15.0, 1.5 + 0.34 * len(rows))
    title = f"{result['model']}, {show(result['image_size'])} px, batch {result['batch']}"
    figure.suptitle(f"{title}, {result['hardware']}", x=0.01, ha="left", fontsize=10.5, color=INK)
    panels = figure.subplots(1, 5 + measured, sharey=True)
    names = [row["name"] for row in rows]
    colors = [COLORS[row["precision"]] for row in rows]
    style(panels[0], "Size", "MB")
    _bars(panels[0], names, [row["bytes"] / 1e6 for row in rows], colors)
    for axes, (where, what) in zip(panels[1:], SPEEDS.items(), strict=False):
        style(axes, what, "Images per second")
        values = [row[where]["images_per_s"] if where in row else None for row in rows]
        ends = [row[where]["rounds"] if where in row else [0.0] for row in rows]
        _bars(axes, names, values, colors, ends)
    style(panels[4], "Load time", "Seconds")
    _bars(panels[4], names, [row.get("load_s") for row in rows], colors)
    if measured:
        style(panels[5], "AP", "0.50:0.95; the line is the checkpoint's")
        panels[5].axvline(result["checkpoint_ap"], color=INK, linewidth=1.0)
        _bars(panels[5], names, [row["ap"] for row in rows], colors, form=".4f")
    panels[0].invert_yaxis()
    save_figure(figure, path)


def _bars(
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float | None],
    colors: Sequence[str],
    rounds: Sequence[Sequence[float]] | None = None,
    form: str = ".3g",
) -> None:
    """One labeled bar per file, a dash where there is no value.  rounds: drawn as a line from the
    lowest to the highest.  form: of the number."""
    behind = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
    known = [value or 0.0 for value in values]
    axes.barh(names, known, BAR, color=colors)
    for place, (value, length) in enumerate(zip(values, known, strict=True)):
        end = length
        if rounds is not None and value is not None:
            axes.plot((min(rounds[place]), max(rounds[place])), (place, place), color=INK, lw=1)
            end = max(length, *rounds[place])
        text = "–" if value is None else format(value, form if value < 1000 else ".0f")
        axes.annotate(
            text, (end, place), (4, 0), textcoords="offset points", va="center", fontsize=8.5,
            color=INK if value is not None else SOFT, bbox=behind,
        )  # fmt: skip
    axes.set_xlim(0, 1.3 * max([*known, 1e-9]))
    axes.grid(False, axis="y")
