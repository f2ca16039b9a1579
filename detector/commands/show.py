"""Results as lines of text: what the command line prints on stdout at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...files.counted import counted
from ...files.text import one_line


def join(lines: Iterable[str]) -> str:
    """Lines for stdout; a line break in a name does not begin another one."""
    return "\n".join(map(one_line, lines))

MOST_CLASSES = 20
"""Classes whose boxes are shown."""


def show_metrics(metrics: Mapping[str, Any]) -> list[str]:
    """AP in words, and at which confidence precision and recall hold.

    Without a box to find there is no AP; an evaluator of the caller's may give none either."""
    if metrics.get("map") is None:
        return []
    ap, conf = metrics["map"], metrics["best_conf"]
    words = next(text for limit, text in GRADES if ap < limit)
    lines = [f"AP {ap:.3f}, AP50 {metrics['map_50']:.3f}: {words}"]
    if metrics["recall"] and ap >= GRADES[0][0]:
        lines.append(
            f"at confidence {conf:.2f}, {metrics['precision']:.0%} of the boxes found are right "
            f"(precision) and {metrics['recall']:.0%} of the objects are found (recall)"
        )
    return lines


GRADES = (
    (0.01, "nothing is found yet"),
    (0.1, "very little is found"),
    (0.3, "weak"),
    (0.5, "fair"),
    (0.7, "good"),
    (1.1, "very good"),
)
"""AP below a limit, in words.  Good detectors of COCO's 80 classes have 0.4 to 0.55."""


def show_validation(result: Mapping[str, Any]) -> str:
    """The last lines of ``det val``."""
    lines = [*show_metrics(result["metrics"]), result["confidence_line"]]
    return join([*lines, f"results: {absolute(result['folder'])}"])


def absolute(path: str) -> str:
    """The whole path, which can be opened from any folder."""
    return str(Path(path).resolve())


def show_predictions(result: Mapping[str, Any]) -> str:
    """The last lines of ``det predict``; where nothing was found, the confidence to try."""
    lines = [f"{counted(result['images'], 'image')}, {counted(result['detections'], 'detection')}"]
    best = result["best_score"]
    if best is not None:
        lower = next((conf for conf in CONFIDENCES if conf <= best), None)
        advice = f"try conf={lower:g}" if lower else "this model finds nothing here"
        lines = [f"nothing above {result['conf']}; the best score was {best:.3f}, {advice}"]
    if result["file"]:
        lines.append(f"picture: {absolute(result['file'])}")
    return join([*lines, f"results: {absolute(result['folder'])}"])


CONFIDENCES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
"""What is offered instead of ``conf=`` where nothing reaches it."""


def show_report(report: Any) -> str:
    """The content of a data set and its findings, each with its first examples."""
    stand_in = f", standing in for {report.stand_in}" if report.stand_in else ""
    lines = [
        f"{report.name}: {group.examples[0].partition(': ')[2]}"
        for group in report.groups
        if group.id.startswith("wrong-") or group.id in ("split-missing", "split-empty")
    ][:1]
    classes = counted(len(report.class_names), "class")
    lines += [f"{report.name}{stand_in}: {classes}, {report.yaml}"]
    for name, split in report.splits.items():
        lines.append(
            f"  {name}: {split.usable} of {counted(split.images, 'image')} usable, "
            f"{counted(split.boxes, 'box')}, {counted(split.backgrounds, 'background')}"
        )
        lines.append(f"    {_per_class(split.per_class)}")
    for group in report.groups:
        lines.append(f"{group.severity}: {group.id} x {group.count}")
        lines += [f"  {example}" for example in group.examples]
    unseen = [name for name, split in report.splits.items() if split.usable and not split.decoded]
    if unseen:
        images = counted(sum(report.splits[name].usable for name in unseen), "image")
        lines.append(
            f"not decoded: {images} of {', '.join(unseen)}; deep=True decodes them too and finds "
            "damage in the middle of a file"
        )
    counts = [counted(report.count(severity), severity) for severity in ("error", "warning")]
    return join([*lines, ", ".join(counts)])


def show_stats(numbers: dict[str, Any]) -> str:
    """Per split: counts, sizes of boxes, and a line per class."""
    lines = []
    for name, split in numbers["splits"].items():
        per_image = split["boxes_per_image"]
        lines.append(
            f"{name}: {counted(split['images'], 'image')}, {counted(split['boxes'], 'box')}, "
            f"{counted(split['backgrounds'], 'background')}; per image {per_image['mean']:.1f} "
            f"boxes, at most {per_image['most']}"
        )
        sides = ", ".join(f"{side:.0f}" for side in split["side"].values())
        lines.append(
            f"  sides at imgsz={numbers['imgsz']}: {sides} pixels (5, 25, 50, 75, 95 %);"
            f" {split['small']} small, {split['medium']} medium, {split['large']} large"
        )
        width = max(map(len, split["per_class"]), default=0)
        lines += [
            f"  {one_line(label):{width}}  {row['boxes']:7} boxes in {row['images']:6} images"
            for label, row in split["per_class"].items()
        ]
    return join(lines)


def _per_class(boxes: dict[str, int]) -> str:
    """``cat 12, dog 3``: the largest classes first."""
    ordered = sorted(boxes.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{name} {number}" for name, number in ordered[:MOST_CLASSES])
    rest = len(ordered) - MOST_CLASSES
    return shown + (f" and {rest} more (--json shows all)" if rest > 0 else "")


def as_lines(value: Any, indent: str = "") -> list[str]:
    """Nested plain data as ``key: value`` lines."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{key}:", *as_lines(item, indent + "  ")]
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            lines += [f"{indent}{key}:"]
            lines += [f"{indent}  {', '.join(as_lines(entry))}" for entry in item]
        else:
            shown = ", ".join(map(str, item)) if isinstance(item, list | tuple) else item
            lines.append(f"{indent}{key}: {shown}")
    return lines


def show_measured(result: dict[str, Any]) -> str:
    """The verdict of a measurement, and where its report is."""
    return join([result["line"], f"results: {result['folder']}"])


def show_exports(result: dict[str, Any]) -> str:
    """The files of an export, and which of them give other detections than their checkpoint."""
    return join(
        ("exported: " if each["passed"] else "MISMATCH: ") + each["file"]
        for each in result["exports"]
    )
