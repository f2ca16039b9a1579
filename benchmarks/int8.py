"""INT8 beside fp32 in each runtime, with VNNI and as on a processor that has AVX2 alone.

    python benchmarks/int8.py [--models yolo26n yolox_nano --imgsz 320 --rounds 8]

Files are made from fresh weights: time and size do not depend on their values.  Each pair of
runtime and model is measured in interleaved rounds on one thread, once as the processor is and once
with its newer instructions hidden (tests/rigs/avx2_only.c; needs a C compiler, Linux and CPUID
faulting).  Runtimes that are not installed are left out.  Writes a page for docs/benchmarks/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from pages import add_out, hardware, ratios, shown, spread, table, write_page
from yolodet.detector.export.formats.interface import Settings
from yolodet.detector.export.formats.writers import WRITERS
from yolodet.detector.export.graph import ExportGraph, Shape
from yolodet.detector.export.int8.quantizer import NETWORKS
from yolodet.detector.export.proof.speed import run_interleaved
from yolodet.detector.models.build import build
from yolodet.detector.options.formats import FORMATS, missing_packages
from yolodet.detector.run.hardware import traits_of

CPU = torch.device("cpu")
RIG = Path(__file__).parents[1] / "tests" / "rigs" / "avx2_only.c"
HIDDEN = "AVX2 alone (newer instructions hidden)"


def main() -> None:
    options = read_options()
    if options.measure:
        print(json.dumps(measure(options.measure, options.imgsz, options.rounds, options.each)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make(options, Path(folder))
        library = Path(folder) / "avx2_only.so"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", RIG, "-o", library, "-ldl"], check=True)
        facts = {
            name: child(Path(folder), {"LD_PRELOAD": preload})
            for name, preload in (("as it is", ""), (HIDDEN, str(library)))
        }
    rows = [
        [f"{row['model']}, {row['format']}, {where}", f"{row['mb'][0]:.2f}", f"{row['mb'][1]:.2f}",
         shown(spread(row["ms"][0]), 1), shown(spread(row["ms"][1]), 1),
         shown(ratios(*row["ms"]), 2, "x")]
        for where, found in facts.items() for row in found["rows"]
    ]  # fmt: skip
    said = (
        f"{options.rounds} interleaved rounds of {options.each} runs of one image on one thread: "
        "median (least-most) of the rounds. Speed: time of fp32 over that of INT8 within a round."
    )
    columns = ("model, format, processor", "fp32 MB", "int8 MB", "fp32 ms", "int8 ms", "speed")
    title = f"# INT8 beside fp32, {options.imgsz} px"
    write_page(options.out, "int8", "", hardware(), [title, said, table(columns, rows)], facts)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["yolo26n", "yolox_nano"])
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    add_out(parser)
    return parser.parse_args()


def make(options: argparse.Namespace, folder: Path) -> None:
    """``MODEL/FORMAT/fp32.*`` and ``int8.*`` of every model and installed format."""
    shape = (1, 3, options.imgsz, options.imgsz)
    images = [np.random.default_rng(0).random(shape, np.float32)]
    for model in options.models:
        graph = ExportGraph(build(model, 80).eval())
        settings = Settings(Shape((options.imgsz, options.imgsz)))
        for name in (name for name in NETWORKS if not missing_packages(FORMATS[name])):
            place = folder / model / name
            place.mkdir(parents=True)
            network = NETWORKS[name].from_graph(graph, place / "float", settings, {})
            network.float_copy().rename(place / f"fp32{FORMATS[name].suffix}")
            for part in FORMATS[name].parts:
                (place / f"float{part}").rename(place / f"fp32{part}")
            network = NETWORKS[name].from_graph(graph, place / "float", settings, {})
            ranges = network.find_ranges(images, "minmax")
            network.save(ranges, network.layers, place / f"int8{FORMATS[name].suffix}", {})


def child(folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """``measure`` in a new process, because a library detects the processor only once."""
    done = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], "--measure", str(folder)],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path, imgsz: int, rounds: int, each: int) -> dict[str, Any]:
    """Sizes and milliseconds of every pair of files below ``folder``."""
    rows = []
    images = [np.random.default_rng(0).random((1, 3, imgsz, imgsz), np.float32)]
    for place in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        row = FORMATS[place.name]
        files = {name: place / f"{name}{row.suffix}" for name in ("fp32", "int8")}
        runners = {name: WRITERS[row.name].open_file(f, CPU, 1) for name, f in files.items()}
        turns = run_interleaved(runners, dict.fromkeys(runners, images), rounds, each)
        sizes = [sum(f.stat().st_size for f in row.files(path)) / 1e6 for path in files.values()]
        ms = [[1000 * median(one) for one in turns[name]] for name in files]
        rows.append({"model": place.parent.name, "format": row.name, "mb": sizes, "ms": ms})
    return {"processor": traits_of(CPU).name, "rows": rows}


if __name__ == "__main__":
    main()
