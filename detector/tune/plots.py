"""Pictures of a search: its course, what mattered, and which values went with which AP."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from optuna.trial import FrozenTrial, TrialState

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
from ..options.ranges import Range
from .study import DEFAULTS, Study, importances


def plot_search(study: Study) -> None:
    """history.png, importance.png and parallel.png in the folder of the study."""
    plot_history(study, study.folder / "history.png")
    plot_importance(importances(study), study.folder / "importance.png")
    plot_parallel(study, study.folder / "parallel.png")


def plot_history(study: Study, path: Path) -> None:
    """AP of each trial, the best so far, and where trials were stopped or failed."""
    figure = new_figure(7.5, 4)
    axes = figure.subplots()
    style(axes, "Trials", "Trial", "AP")
    done, early = study.trials(TrialState.COMPLETE), study.trials(TrialState.PRUNED)
    for trials, label, color, marker in (
        (done, "complete", ACCENT, "o"),
        (early, "stopped early", SOFT, "x"),
    ):
        if trials:
            axes.scatter([t.number for t in trials], [t.value or 0.0 for t in trials],
                         c=color, marker=marker, s=28, label=label, zorder=3)  # fmt: skip
    if done:
        best = np.maximum.accumulate([trial.value or 0.0 for trial in done])
        axes.step(
            [t.number for t in done], best, where="post", color=INK, lw=1, label="best so far"
        )
        defaults = [t.value for t in done if t.user_attrs.get(DEFAULTS)]
        if defaults and defaults[0] is not None:
            axes.axhline(defaults[0], color=SOFT, lw=1, ls=":", label="defaults")
    for trial in study.trials(TrialState.FAIL):
        axes.axvline(trial.number, color="#d64545", lw=0.8, alpha=0.6)
    legend(axes, loc="lower right")
    if not done and not early:
        say_nothing_to_show(axes, "no trial has finished")
    save_figure(figure, path)


def plot_importance(shares: Mapping[str, float], path: Path) -> None:
    """The share of the differences in AP that each option explains."""
    figure = new_figure(6, max(2.0, 0.32 * len(shares) + 1.2))
    axes = figure.subplots()
    style(axes, "What mattered (PED-ANOVA)", "share of the differences in AP")
    if shares:
        names = list(shares)[::-1]
        axes.barh(names, [shares[name] for name in names], color=ACCENT, height=0.6)
        axes.grid(False, axis="y")
    else:
        say_nothing_to_show(axes, "too few trials to tell")
    save_figure(figure, path)


def plot_parallel(study: Study, path: Path) -> None:
    """A line per trial across its options; the darker the line, the higher the AP."""
    trials = sorted(
        (t for t in study.trials(TrialState.COMPLETE, TrialState.PRUNED) if t.params),
        key=lambda trial: trial.value or 0.0,
    )
    names = list(study.space)
    figure = new_figure(max(6.0, 1.1 * len(names) + 2), 4.2)
    axes = figure.subplots()
    style(axes, "Options and AP")
    if not trials or len(names) < 1:
        say_nothing_to_show(axes, "no trial has finished")
        save_figure(figure, path)
        return
    values = [trial.value or 0.0 for trial in trials]
    scale = Normalize(min(values), max(values) if max(values) > min(values) else min(values) + 1)
    places = list(range(len(names) + 1))
    for trial, value in zip(trials, values, strict=True):
        heights = [_height(trial, study.space[name]) for name in names] + [float(scale(value))]
        axes.plot(places, heights, color=HEAT(0.15 + 0.85 * float(scale(value))), lw=1.2)
    for place, name in enumerate(names):
        low, high = _ends(study.space[name])
        axes.text(place, -0.03, low, ha="center", va="top", fontsize=7, color=SOFT)
        axes.text(place, 1.03, high, ha="center", va="bottom", fontsize=7, color=SOFT)
    axes.set_xticks(places, [*names, "AP"], rotation=25, ha="right")
    axes.tick_params(axis="x", pad=14)
    axes.set_yticks([])
    axes.set_ylim(-0.02, 1.02)
    figure.colorbar(ScalarMappable(scale, HEAT), ax=axes, label="AP", pad=0.02)
    save_figure(figure, path)


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


def _ends(span: Range) -> tuple[str, str]:
    if span.choices:
        return str(span.choices[0]), str(span.choices[-1])
    return f"{span.low:.3g}", f"{span.high:.3g}"
