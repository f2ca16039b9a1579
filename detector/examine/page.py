"""The page of a comparison: a table with its explanation, as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def as_page(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    explanation: str,
    remarks: Sequence[str],
) -> str:
    """A table whose first column is text and whose others are numbers; what they mean; remarks."""
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
