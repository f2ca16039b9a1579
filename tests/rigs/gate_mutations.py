"""What the accuracy gate catches: det is broken on purpose, one thing at a time, and measured.

    python tests/rigs/gate_mutations.py WORK          what is not in WORK yet, then the tables
    python tests/rigs/gate_mutations.py WORK NAME     one of them, or a seed such as seed3

Each run is a process of its own (gate_breaks.py says what is broken).  A run's measures are kept in
WORK/NAME.json, so the series goes on where it was stopped.  The tables go into
docs/accuracy-gate.md; after a change of the bands they are made again in a moment.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gate
from gate_breaks import MUTATIONS

SEEDS = range(5)
PAGE = Path(__file__).parents[2] / "docs" / "accuracy-gate.md"


def names() -> list[str]:
    """Every run of the series: first what the bands rest on."""
    return [*(f"seed{number}" for number in SEEDS), *MUTATIONS]


def run_one(work: Path, name: str) -> None:
    """Measure one run in this process."""
    data = gate.draw(work / "data")
    if name in MUTATIONS:
        MUTATIONS[name][1]()
    seed = 0 if name in MUTATIONS else int(name.removeprefix("seed"))
    try:
        measures = gate.measure(data, work / "runs" / name, seed)
    except gate.CommandFailed as error:
        measures = {"failed": str(error)}
    (work / f"{name}.json").write_text(json.dumps(measures))
    for weights in (work / "runs" / name).glob("*/weights"):
        shutil.rmtree(weights)


def run_all(work: Path) -> None:
    """Measure what is not measured yet, each in a process of its own."""
    for name in names():
        if not (work / f"{name}.json").exists():
            cache = {"DET_CACHE": str(work / "runs" / name / "cache")}  # what one broke is its own
            command = [sys.executable, __file__, work, name]
            subprocess.run(command, check=True, env={**os.environ, **cache})


def results(work: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Name and measures of the runs that are done."""
    for name in names():
        file = work / f"{name}.json"
        if file.exists():
            yield name, json.loads(file.read_text())


def table(work: Path) -> str:
    """What was broken, which numbers came out, and whether the gate sees it."""
    head = ["what is broken", *gate.BANDS, "caught by"]
    found = dict(results(work))
    rows = [head, ["---"] * len(head)]
    for name, measures in found.items():
        rows.append([described(name), *cells(measures)])
    missing = "; ".join(described(name) for name in names() if name not in found)
    end = f"\nNot measured: {missing}.\n" if missing else ""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + end


def described(name: str) -> str:
    """What is broken in a run of the series, in words."""
    return MUTATIONS[name][0] if name in MUTATIONS else f"nothing (seed {name[4:]})"


def cells(measures: dict[str, Any]) -> list[str]:
    """The measures of one run, and what caught it."""
    if "failed" in measures:
        return [*("" for _ in gate.BANDS), "the run fails"]
    caught = ", ".join(gate.outside(measures)) or "nothing"
    return [*(f"{measures[key]:.4f}" for key in gate.BANDS), caught]


def write_page(text: str) -> None:
    """Put the table into the page that explains it."""
    before, mark, rest = PAGE.read_text().partition(" by tests/rigs/gate_mutations.py -->\n")
    after = rest[rest.index("<!-- end of tables -->") :]
    PAGE.write_text(f"{before}{mark}\n{text}\n{after}")


def bands(work: Path) -> str:
    """What passes, beside what the seeds give."""
    sound = [measures for name, measures in results(work) if name not in MUTATIONS]
    rows = ["| measure | passes | mean of the seeds | standard deviation |", "|---|---|---|---|"]
    for key, (low, high) in gate.BANDS.items():
        values = [measures[key] for measures in sound]
        mean = f"{statistics.mean(values):.4f}" if values else ""
        spread = f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
        rows.append(f"| {key} | {low:g} to {high:g} | {mean} | {spread} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    where = Path(sys.argv[1]).resolve()
    where.mkdir(parents=True, exist_ok=True)
    if len(sys.argv) > 2:
        run_one(where, sys.argv[2])
    else:
        run_all(where)
        write_page(bands(where) + "\n" + table(where))
        print(PAGE.read_text())
