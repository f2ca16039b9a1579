"""Two detectors on the same images: the difference of their AP, and how sure it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ...files.counted import counted
from ..evaluate.bootstrap import Comparison, Difference, Ranked, compare, rank, samples
from ..evaluate.evaluator import Evaluation
from ..evaluate.tables import BoxTable, join_tables
from ..options.compare import CompareConfig
from ..options.errors import UsageError
from ..options.fields import options_of
from ..options.val import ValConfig
from ..run.files import plain
from ..run.log import Log
from .evaluate import measure
from .load import load_for_use


def compare_models(config: CompareConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Measure both on the data and compare.  Returns the numbers and a verdict in a sentence."""
    first, data = measured(config, str(config.a), given, log)
    second, _ = measured(config, str(config.b), given, log)
    return compare_evaluations(config, first, second, data)


def measured(
    config: CompareConfig, model: str, given: frozenset[str], log: Log
) -> tuple[Evaluation, str]:
    """One of the detectors on the data, and the name of the data."""
    one = val_config(config, model)
    evaluation, data, _ = measure(one, given, log, load_for_use(one, given, log))
    return evaluation, data


def compare_evaluations(
    config: CompareConfig, first: Evaluation, second: Evaluation, data: str
) -> dict[str, Any]:
    """The difference of two measurements on the same images.  Raises UsageError where the classes
    differ."""
    pairs = [list(each.collector.tables()) for each in (first, second)]
    names = [each.metrics.class_names for each in (first, second)]
    ranked = [_ranked(p, len(n)) for p, n in zip(pairs, names, strict=True)]
    images = len(pairs[0])
    weights = samples(images, config.samples, config.seed)
    found = compare(ranked[0], _same_order(ranked[1], names), weights, config.level)
    return _as_result(config, found, names[0], images, data)


def val_config(config: CompareConfig, model: str) -> ValConfig:
    """The validation of one of the two."""
    shared = options_of(ValConfig).keys() & options_of(CompareConfig).keys()
    values = {name: value for name, value in asdict(config).items() if name in shared}
    return ValConfig(**values, model=model, plots=False)


def _ranked(pairs: list[tuple[BoxTable, BoxTable]], num_classes: int) -> list[Ranked]:
    found = join_tables([pair[0] for pair in pairs])
    truth = join_tables([pair[1] for pair in pairs])
    return rank(found, truth, len(pairs), num_classes)


def _same_order(ranked: list[Ranked], names: list[list[str]]) -> list[Ranked]:
    """The classes of the second detector in the order of the first.  Raises UsageError where they
    are others."""
    first, second = names
    if sorted(first) != sorted(second):
        odd = sorted(set(first) ^ set(second))
        raise UsageError(f"the two detectors have different classes ({', '.join(odd[:5])})")
    return [ranked[second.index(name)] for name in first]


def _as_result(
    config: CompareConfig, found: Comparison, names: list[str], images: int, data: str
) -> dict[str, Any]:
    rows = [{"name": n, **_row(d)} for n, d in zip(names, found.classes, strict=True)]
    result: Mapping[str, Any] = {
        "a": config.a, "b": config.b, "data": data, "split": config.split, "images": images,
        "samples": config.samples, "level": config.level, **_row(found.overall),
        "per_class": rows, "verdict": verdict(found.overall, config, images),
    }  # fmt: skip
    answer: dict[str, Any] = plain(result)
    return answer


def _row(difference: Difference) -> dict[str, Any]:
    return {
        "ap_a": difference.a, "ap_b": difference.b, "difference": difference.value,
        "low": difference.low, "high": difference.high, "clear": difference.clear,
    }  # fmt: skip


def verdict(found: Difference, config: CompareConfig, images: int) -> str:
    """The comparison in one sentence."""
    if np.isnan(found.value):
        return "nothing can be compared: the images have no box"
    sure = f"{100 * config.level:g} % interval {found.low:+.3f} to {found.high:+.3f}"
    where = f"on {counted(images, 'image')}"
    if not found.clear:
        return f"no clear difference {where}: b - a is {found.value:+.3f} AP, {sure}"
    better, gain = ("b", found.value) if found.low > 0 else ("a", -found.value)
    return f"{better} is better {where} by {gain:.3f} AP (b - a: {sure})"
