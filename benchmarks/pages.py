"""Shared by the benchmarks: statistics of interleaved rounds, and pages for docs/benchmarks/.

The speed of a machine changes from minute to minute, so only ratios within a round count: every
contender runs once per round, and a ratio is reported as median (least-most) over the rounds.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from yolodet.files.limits import usable_cores

PAGES = Path(__file__).parents[1] / "docs" / "benchmarks"


def add_out(parser: argparse.ArgumentParser) -> None:
    """--out: folder of the page."""
    parser.add_argument("--out", type=Path, default=PAGES, help="folder of the page")


def add_training(parser: argparse.ArgumentParser) -> None:
    """Options of what is trained, and how often."""
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")


def hardware(device: str = "cpu") -> str:
    """``NVIDIA H200``, or ``Intel Xeon Processor, 2 cores``."""
    if device.startswith("cuda"):
        return str(torch.cuda.get_device_properties(device).name)
    name = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (found := re.search(r"model name\s*: (.+)", info.read_text())):
        name = re.sub(r"\((R|TM)\)| CPU| @.*", "", found[1]).strip()
    return f"{name}, {usable_cores()} cores"


def trained_on() -> str:
    """The device that `det train` takes by itself."""
    return "cuda:0" if torch.cuda.is_available() else "cpu"


def versions() -> dict[str, str]:
    """Of what computes."""
    return {"python": platform.python_version(), "torch": str(torch.__version__)}


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """(least, median, most)."""
    return min(values), statistics.median(values), max(values)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Spread of ours / theirs, round by round."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def shown(three: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """A spread in a table: ``2.14 (2.05-2.31)``."""
    low, middle, high = (f"{value:.{digits}f}" for value in three)
    return f"{middle}{unit} ({low}-{high})"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def without_paths(facts: Any) -> Any:
    """The same without the entries of dictionaries that are paths of this machine."""
    if isinstance(facts, dict):
        return {
            key: without_paths(value)
            for key, value in facts.items()
            if not (isinstance(value, str) and Path(value).is_absolute())
        }
    return [without_paths(each) for each in facts] if isinstance(facts, list | tuple) else facts


def write_page(
    folder: Path, benchmark: str, model: str, machine: str, parts: Sequence[str], facts: Any
) -> Path:
    """Write ``parts`` (paragraphs and tables) as Markdown and ``facts`` as JSON, print the former;
    the name says benchmark, model, hardware and date.  Returns the Markdown's path."""
    today = datetime.date.today()
    words = (benchmark, model, machine) if model else (benchmark, machine)
    name = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-") + f"-{today}"
    about = ", ".join(f"{key} {value}" for key, value in versions().items())
    text = "\n\n".join((*parts, f"{machine}; {about}; {today}.")) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.md"
    path.write_text(text)
    everything = {"hardware": machine, "date": str(today), "versions": versions(),
                  "facts": without_paths(facts)}  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(everything, indent=1) + "\n")
    print(text + f"\n{path}")
    return path
