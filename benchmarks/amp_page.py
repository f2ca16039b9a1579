"""A run folder of ``det bench amp`` -> docs/benchmarks/amp-<model>-<hardware>-<date>.{md,json,png}.

    python benchmarks/amp_page.py runs/bench_amp docs/benchmarks

The date is that of the measurement.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
from pathlib import Path


def page_name(source: Path) -> str:
    """Name of the page for a bench_amp.json, without its suffix."""
    result = json.loads(source.read_text())
    hardware = re.sub(r"[^a-z0-9]+", "-", result["hardware"].lower()).strip("-")
    date = datetime.date.fromtimestamp(source.stat().st_mtime)
    return f"amp-{result['model']}-{hardware}-{date:%Y-%m-%d}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="run folder of det bench amp")
    parser.add_argument("pages", type=Path, help="folder to write into")
    options = parser.parse_args()
    copy_page(options.folder, options.pages)


def copy_page(folder: Path, pages: Path) -> None:
    """Copy what the run left to its place among the pages."""
    name = page_name(folder / "bench_amp.json")
    pages.mkdir(parents=True, exist_ok=True)
    for suffix in (".md", ".json", ".png"):
        source = folder / f"bench_amp{suffix}"
        if source.exists():
            shutil.copyfile(source, pages / f"{name}{suffix}")
    print(pages / f"{name}.md")


if __name__ == "__main__":
    main()
