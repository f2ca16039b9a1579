"""Results as lines of text: what the command line prints on stdout at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...files.counted import counted
from ...files.text import one_line


def join(lines: Iterable[str]) -> str:
    """Lines for stdout; a line break in a name does not begin another one."""
    return "\n".join(map(one_line, lines))


def show_run(result: dict[str, Any]) -> str:
    """The last lines of a run: its metrics and where its files are."""
    lines = []
    metrics = result.get("metrics") or {}
    shown = [("AP", "map"), ("AP50", "map_50"), ("precision", "precision"), ("recall", "recall")]
    numbers = [f"{name} {metrics[key]:.3f}" for name, key in shown if metrics.get(key) is not None]
    if numbers:
        lines.append(", ".join(numbers))
    lines += [f"{key} weights: {result[key]}" for key in ("best",) if result.get(key)]
    if result.get("folder"):
        lines.append(f"results: {result['folder']}")
    return join(lines)


def show_report(report: Any) -> str:
    """The content of a data set and its findings, each with its first examples."""
    stand_in = f", standing in for {report.stand_in}" if report.stand_in else ""
    lines = [f"{report.name}{stand_in}: {counted(len(report.class_names), 'class')}, {report.yaml}"]
    for name, split in report.splits.items():
        lines.append(
            f"  {name}: {split.usable} of {counted(split.images, 'image')} usable, "
            f"{counted(split.boxes, 'box')}, {counted(split.backgrounds, 'background')}"
        )
    for group in report.groups:
        lines.append(f"{group.severity}: {group.id} x {group.count}")
        lines += [f"  {example}" for example in group.examples]
    counts = [counted(report.count(severity), severity) for severity in ("error", "warning")]
    return join([*lines, ", ".join(counts)])


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
