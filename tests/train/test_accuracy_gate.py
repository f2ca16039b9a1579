"""The accuracy gate, and that what is said about it is kept up.

The gate itself takes minutes: it has a mark, and `make gate` runs it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gate
import gate_mutations
import pytest

RIGS = Path(__file__).parents[1] / "rigs"
PAGE = (RIGS.parents[1] / "docs" / "accuracy-gate.md").read_text()


def run_python(*words: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, cwd=RIGS
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.gate
def test_a_small_run_learns_as_much_as_it_should(tmp_path: Path) -> None:
    measures = json.loads(run_python("gate.py", tmp_path, "0"))
    assert not gate.outside(measures), f"{measures}, expected {gate.BANDS}"


def test_everything_that_is_broken_on_purpose_is_still_there_to_be_broken() -> None:
    code = "from gate_breaks import MUTATIONS as m; print([c() for _, c in m.values()])"
    assert run_python("-c", code).count("None") == len(gate_mutations.MUTATIONS) > 20


def test_the_page_shows_the_bands_and_what_every_mutation_came_to() -> None:
    rows = {row[0]: row[1:] for row in map(cells_of, PAGE.split("\n")) if row}
    for name, (low, high) in gate.BANDS.items():
        assert rows[name][0] == f"{low:g} to {high:g}"
    unmeasured = PAGE.partition("\nNot measured: ")[2].partition(".\n")[0].split("; ")
    for words, _ in gate_mutations.MUTATIONS.values():
        assert (words in rows) != (words in unmeasured)
        *numbers, caught = rows.get(words, [""])
        if any(numbers):
            measures = dict(zip(gate.BANDS, map(float, numbers), strict=True))
            assert caught == (", ".join(gate.outside(measures)) or "nothing"), words


def cells_of(line: str) -> list[str]:
    """The cells of a table's row."""
    return [cell.strip() for cell in line.split("|")[1:-1]]
