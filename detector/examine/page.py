"""Markdown page of a comparison."""

from __future__ import annotations

from collections.abc import Sequence


def as_page(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    explanation: str,
    remarks: Sequence[str],
) -> str:
    """A table of one text column and numbers, its explanation, and remarks."""
    table = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    lines = [
        f"# {title}",
        "",
        *(f"| {' | '.join(cells)} |" for cells in table),
        "",
        explanation,
        "",
        *(f"- {remark}" for remark in remarks),
    ]
    return "\n".join(lines) + "\n"
