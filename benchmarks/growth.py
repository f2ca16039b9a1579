"""Whether the cost of training grows linearly with the number of images.

    python benchmarks/growth.py [--images 100 1000 10000 --imgsz 160 --rounds 2 --work FOLDER]

Trains ours on drawn data sets (shapes) of each size with a cache that holds every image, and with
one that does not: --short-budget is the share of the largest set's decoded images that may be in
memory, so that cache=ram keeps some and decodes the others, and cache=auto goes to a file on disk.
Images/s should be the same on every row of a kind; memory grows by the cache and no more.  The
processor's time an image is shown too, because other programs hardly affect it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from children import run
from pages import add_out, hardware, shown, spread, table, write_page
from yolodet.datasets.drawn.shapes import write_shapes

HERE = Path(__file__).parent


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        os.environ["DET_CACHE"] = str(Path(temporary) / "caches")
        sets = {count: make_data(work, count, options.imgsz) for count in sorted(options.images)}
        cases = make_cases(options, sets)
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in cases}
        for turn in range(options.rounds):
            for name in cases if turn % 2 == 0 else reversed(cases):
                result = run(cases[name])
                result["cache"] = result["cache"].split(" in /")[0]  # a folder says nothing
                runs[name].append(result)
                print(f"round {turn + 1}: {name}", file=sys.stderr, flush=True)
    facts = {"imgsz": options.imgsz, "batch": options.batch, "runs": runs}
    parts = page(options, runs)
    write_page(options.out, "growth", options.model, hardware(options.device), parts, facts)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--model", default="yolo26n")
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--least", type=int, default=1000, help="least number of images per run")
    parser.add_argument("--short-budget", type=float, default=0.1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--work", type=Path, help="keep the data sets here, and use them again")
    add_out(parser)
    return parser.parse_args()


def make_data(work: Path, count: int, size: int) -> Path:
    """A drawn data set of ``count`` images to train; its YAML."""
    folder = work / f"shapes-{count}-{size}"
    yaml = folder / "data.yaml"
    return yaml if yaml.exists() else write_shapes(folder, train=count, val=16, size=max(size, 64))


def make_cases(options: argparse.Namespace, sets: dict[int, Path]) -> dict[str, list[str]]:
    """A program for each data set, and for the largest with a cache that is too small."""
    words = [sys.executable, str(HERE / "ours_train.py"), "pretrained=False", "val=False"]
    words += [f"{name}={getattr(options, name)}" for name in ("model", "imgsz", "batch", "device")]
    cases = {}
    for count, yaml in sets.items():
        epochs = 1 + -(-options.least // count)
        cases[f"{count:,} images, all cached"] = [*words, f"data={yaml}", f"epochs={epochs}"]
    count, yaml = max(sets.items())
    budget = int(options.short_budget * count * options.imgsz**2 * 3 * 0.8)  # not all are square
    short = [*words, f"data={yaml}", f"epochs={1 + -(-options.least // count)}"]
    for mode in ("ram", "auto"):
        name = f"{count:,} images, {budget / 1e6:.1f} MB to cache them, cache={mode}"
        cases[name] = [*short, "--cache-budget", str(budget), f"cache={mode}"]
    return cases


def page(options: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Title and tables."""
    rates = {
        name: [result["images"] / statistics.median(result["train_s"]) for result in results]
        for name, results in runs.items()
    }
    costs = {
        name: [1000 * statistics.median(r["train_cpu_s"]) / r["images"] for r in results]
        for name, results in runs.items()
    }
    first, first_cost = (statistics.median(next(iter(of.values()))) for of in (rates, costs))
    rows = [
        [
            name,
            shown(spread(rates[name]), 1),
            f"{100 * (statistics.median(rates[name]) / first - 1):+.1f} %",
            shown(spread(costs[name]), 2),
            f"{100 * (statistics.median(costs[name]) / first_cost - 1):+.1f} %",
            f"{max(result['rss'] for result in results) / 2**20:.0f}",
            results[0]["cache"],
        ]
        for name, results in runs.items()
    ]
    against = "against the first"
    cpu = "processor ms per image"
    header = ("data", "images/s", against, cpu, against, "RSS MiB", "images are kept")
    title = f"# Training {options.model} on more images, {options.imgsz} px, batch {options.batch}"
    return [title, table(header, rows)]


if __name__ == "__main__":
    main()
