"""Pictures of a search: its course, what mattered, and which values went with which AP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from ...files.counted import counted
from ..evaluate.figure import (
    ACCENT,
    HEAT,
    INK,
    SOFT,
    legend,
    new_figure,
    save_figure,
    say_nothing_to_show,
    style,
)
from ..options.parse import show
from ..options.ranges import Range
from .study import DEFAULTS, Study, importances

FAILED = "#d64545"


def plot_search(study: Study) -> None:
    """history.png, importance.png and parallel.png in the folder of the study."""
    plot_history(study, study.folder / "history.png")
    count = len(study.trials(TrialState.COMPLETE))
    plot_importance(importances(study), count, study.folder / "importance.png")
    plot_parallel(study, study.folder / "parallel.png")


def plot_history(study: Study, path: Path) -> None:
    """AP of each trial, the best so far, and where trials were stopped or failed."""
    figure = new_figure(8.5, 4)
    axes = figure.subplots()
    style(axes, "Trials", "Trial", "AP")
    done, early = study.trials(TrialState.COMPLETE), study.trials(TrialState.PRUNED)
    for trials, label, color, marker in (
        (done, "complete", ACCENT, "o"),
        (early, "stopped early, AP until then", SOFT, "x"),
    ):
        if trials:
            axes.scatter([t.number for t in trials], [t.value or 0.0 for t in trials],
                         c=color, marker=marker, s=28, label=label, zorder=3)  # fmt: skip
    if failed := [trial.number for trial in study.trials(TrialState.FAIL)]:
        bottom = axes.get_xaxis_transform()  # x in trials, y as a share of the height
        axes.scatter(failed, [0.02] * len(failed), c=FAILED, marker="|", s=90, label="failed",
                     transform=bottom, zorder=3)  # fmt: skip
    if done:
        last = max(trial.number for trial in study.trials())
        best = np.maximum.accumulate([trial.value or 0.0 for trial in done])
        axes.step([*(t.number for t in done), last], [*best, best[-1]], where="post",
                  color=INK, lw=1, label="best so far")  # fmt: skip
        defaults = [t.value for t in done if t.user_attrs.get(DEFAULTS)]
        if defaults and defaults[0] is not None:
            axes.axhline(defaults[0], color=SOFT, lw=1, ls=":", label="defaults")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if not done and not early:
        say_nothing_to_show(axes, "no trial has finished")
    save_figure(figure, path)


def plot_importance(shares: Mapping[str, float], count: int, path: Path) -> None:
    """The share of the differences in AP that each option explains.  count: of complete trials."""
    figure = new_figure(6, max(2.0, 0.32 * len(shares) + 1.2))
    axes = figure.subplots()
    style(axes, "What mattered (PED-ANOVA)",
          f"share of the differences in AP, {counted(count, 'complete trial')}")  # fmt: skip
    if shares:
        names = list(shares)[::-1]
        axes.barh(names, [shares[name] for name in names], color=ACCENT, height=0.6)
        axes.grid(False, axis="y")
    else:
        say_nothing_to_show(axes, "too few trials to tell")
    save_figure(figure, path)


def plot_parallel(study: Study, path: Path) -> None:
    """A line per trial across its options: complete ones in the color of their AP, those that were
    stopped early in gray, because the AP of a part of a run cannot be compared."""
    done = sorted((t for t in study.trials(TrialState.COMPLETE) if t.params), key=_ap)
    early = [trial for trial in study.trials(TrialState.PRUNED) if trial.params]
    names = list(study.space)
    figure = new_figure(max(6.0, 0.9 * len(names) + 2), 4.4)
    axes = figure.subplots()
    style(axes, "Options and AP (gray: stopped early)")
    if not done:
        say_nothing_to_show(axes, "no trial has finished")
        save_figure(figure, path)
        return
    low, high = _ap(done[0]), _ap(done[-1])
    scale = Normalize(low, high if high > low else low + 1)
    places = list(range(len(names) + 1))
    for trial in early:
        axes.plot(places[:-1], _heights(trial, study.space), color="#e2e5ea", lw=0.8)
    for trial in done:
        color = HEAT(0.15 + 0.85 * float(scale(_ap(trial))))
        heights = [*_heights(trial, study.space), float(scale(_ap(trial)))]
        axes.plot(places, heights, color=color, lw=2.4 if trial is done[-1] else 1.2)
    for place, name in enumerate(names):
        for height, text in _marks(study.space[name]):
            axes.text(place + 0.04, height, text, va="center", fontsize=7, color=INK,
                      bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none",
                            "alpha": 0.75})  # fmt: skip
    axes.set_xticks(places, [*names, "AP"], rotation=25, ha="right")
    axes.set_yticks([])
    axes.set_ylim(-0.05, 1.05)
    axes.grid(True, axis="x")
    figure.colorbar(ScalarMappable(scale, HEAT), ax=axes, label="AP of complete trials", pad=0.02)
    save_figure(figure, path)


def _ap(trial: FrozenTrial) -> float:
    return trial.value or 0.0


def _heights(trial: FrozenTrial, space: Mapping[str, Range]) -> list[float]:
    return [_height(trial, span) for span in space.values()]


def _height(trial: FrozenTrial, span: Range) -> float:
    """Where the value of a trial lies in its range, 0 to 1; nan where it has none."""
    value = trial.params.get(span.name)
    if value is None:
        return math.nan
    if span.choices:
        return span.choices.index(value) / max(len(span.choices) - 1, 1)
    low, high = span.low, span.high
    if span.log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _marks(span: Range) -> list[tuple[float, str]]:
    """Height and text of the ends of a range, or of each choice."""
    if span.choices:
        last = max(len(span.choices) - 1, 1)
        return [(index / last, show(choice)) for index, choice in enumerate(span.choices)]
    return [(0.0, f"{span.low:.3g}"), (1.0, f"{span.high:.3g}")]
