"""``det bench export``: one checkpoint in every format and precision, side by side in one program.

Each file is written and proven by ``det export``, which also gives the AP.  Then the files run in
interleaved rounds: on one thread; on the runtime's default; and with one call per core, each on one
thread, which gives the throughput.  Ratios to ONNX in fp32 are medians of the ratios within rounds,
with the slowest and the fastest round; latencies are of single runs.

Left out: reading and letterboxing images, which is the same for all; GPUs; first runs, where
runtimes still compile (load time is reported instead).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets.drawn.shapes import draw_scene
from ...datasets.images.input_size import InputSize
from ...files.limits import usable_cores
from ...weights.checkpoint import Meta
from ..export.export import export
from ..export.exported import ExportedDetector, open_exported
from ..export.graph import Shape
from ..export.int8.ranges import calibration_images, inputs_of
from ..export.proof.examiner import examiner_for, letterboxed
from ..export.proof.speed import parallel_calls, run_interleaved
from ..export.targets import PRECISION_OPTIONS, choose, name_of, size_of
from ..models.detector import Detector
from ..options.export import BenchExportConfig, ExportConfig
from ..options.formats import FORMATS, FULL
from ..options.parse import show
from ..run.device import describe_device
from ..run.files import plain, write_args, write_json, write_text
from ..run.folder import new_run_folder
from ..run.log import Log
from ..run.machine import describe_machine
from .amp_bench import hardware_name
from .export_plots import plot_bench_export
from .page import as_page

CPU = torch.device("cpu")
BASE = "onnx"
"""The baseline where it has passed: ONNX in fp32."""
SCENES = 4
"""Drawn images, used in turn."""
LOADS = 3
"""Times that a file is loaded; the median is reported."""
THREADS = {"one": 1, "all": None}
"""Name in the results -> threads of the runtime."""
SIDE_BY_SIDE = "side_by_side"
"""Name in the results of one call per core, each on one thread."""


def bench_export(
    config: BenchExportConfig, path: Path, meta: Meta, model: Detector, log: Log
) -> dict[str, Any]:
    """Compare the files of the checkpoint ``path`` and leave a run folder with bench_export.json,
    .md, .png and the files.

    Returns what bench_export.json holds, and the folder.  Raises UsageError for a name that cannot
    be measured, and what det export raises; no folder is left then.
    """
    chosen, without = choose(
        config.formats, data=config.data is not None, calibration=config.calibration
    )
    full = any(precision == FULL for _, precision in chosen)
    options = export_options(config)
    size = size_of(options.imgsz, meta.image_size, model.max_stride)
    strictest = replace(options, **PRECISION_OPTIONS[FULL]) if full else options
    fixed = InputSize(*size, pixels=meta.pixels)
    examiner = examiner_for(strictest, model, meta, fixed, CPU, log)  # one: it measures once
    images = calibration_images(strictest, fixed, model.letterbox, log) if full else None
    folder = new_run_folder(config, "bench_export")
    log.to_file(folder / "log.txt")
    write_args(folder, config)
    rows = []
    for precision in PRECISION_OPTIONS:
        if names := [row.name for row, each in chosen if each == precision]:
            each = replace(options, output=str(folder), format=",".join(names))
            each = replace(each, **PRECISION_OPTIONS[precision])
            result = export(
                each, path, meta, model, fetched=False, log=log, examiner=examiner, images=images
            )
            rows += [row_of(entry, precision) for entry in result["exports"]]
    rows.sort(key=lambda row: [name_of(f, p) for f, p in chosen].index(row["name"]))
    base = baseline_of(rows)
    exported = {row["name"]: Path(row["file"]) for row in rows if row["passed"]}
    measured = measure(config, exported, base["name"], log)
    rows = [row | measured.get(row["name"], {}) for row in rows]
    result = _result(config, meta, rows, base, without)
    title, columns, cells = _table(result, spread=False)
    shown = [columns.index(name) for name in SHOWN]
    log.table(title, SHOWN, [[row[place] for place in shown] for row in cells])
    for line in remarks(result):
        log.info(line)
    write_json(folder / "bench_export.json", result)
    write_text(folder / "bench_export.md", as_markdown(result))
    if config.plots:
        plot_bench_export(result, folder / "bench_export.png")
    return plain(result) | {"folder": str(folder)}


def export_options(config: BenchExportConfig) -> ExportConfig:
    """Options of det export; output, format and precision are set per file."""
    return ExportConfig(
        device="cpu",
        imgsz=config.imgsz,
        batch=config.batch,
        data=config.data,
        split=config.split,
        fraction=config.fraction,
        download=config.download,
        offline=config.offline,
        max_drop=config.max_drop,
        calibration=config.calibration,
        seed=config.seed,
    )


def row_of(entry: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """The result of det export for a file as a row of the comparison."""
    before, after = entry["parity"]["ap"] or (None, None)
    return {
        "name": name_of(FORMATS[entry["format"]], precision),
        "format": entry["format"],
        "precision": precision,
        "file": entry["file"],
        "bytes": entry["bytes"],
        "passed": entry["passed"],
        "ap": after,
        "checkpoint_ap": before,
        "faults": entry["parity"]["faults"],
        "quantization": entry.get("quantization"),
    }


def baseline_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The baseline: BASE where it passed, else the first that passed, else the first."""
    passed = [row for row in rows if row["passed"]]
    return next((row for row in passed if row["name"] == BASE), (passed or rows)[0])


def measure(
    config: BenchExportConfig, files: Mapping[str, Path], base: str, log: Log
) -> dict[str, dict[str, Any]]:
    """Load time of each file; its speed on one thread, on all, and with one call per core.  base:
    name of the baseline."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in files}
    for where, threads in THREADS.items():
        opened: dict[str, ExportedDetector] = {}
        for name, path in files.items():
            seconds = []
            for _ in range(LOADS):
                started = time.perf_counter()
                opened[name] = open_exported(path, CPU, threads)
                seconds.append(time.perf_counter() - started)
            rows[name]["load_s"] = statistics.median(seconds)
        runners = {name: each.runner for name, each in opened.items()}
        inputs = {name: scenes_for(each) for name, each in opened.items()}
        with log.progress(f"{where} thread{'s' * (threads is None)}", config.rounds) as update:
            turns = run_interleaved(runners, inputs, config.rounds, config.runs, update)
        for name, mine in turns.items():
            rows[name][where] = summarize(mine, turns[base], config.batch)
    _measure_calls(config, files, rows, base, log)
    return rows


def _measure_calls(
    config: BenchExportConfig,
    files: Mapping[str, Path],
    rows: dict[str, dict[str, Any]],
    base: str,
    log: Log,
) -> None:
    """Add the speed of one call per core."""
    cores = usable_cores()
    copies = {
        name: [open_exported(path, CPU, 1) for _ in range(cores)] for name, path in files.items()
    }
    inputs = {name: scenes_for(each[0]) for name, each in copies.items()}
    single = {name: [each.runner for each in mine] for name, mine in copies.items()}
    with (
        parallel_calls(single) as runners,
        log.progress(f"{cores} calls at once", config.rounds) as update,
    ):
        turns = run_interleaved(runners, inputs, config.rounds, config.runs, update)
    for name, mine in turns.items():
        rows[name][SIDE_BY_SIDE] = summarize(mine, turns[base], config.batch * cores)


def scenes_for(model: ExportedDetector) -> list[np.ndarray]:
    """Drawn images as batches of a file."""
    about = model.about
    size, count = about.image_size, SCENES * (1 if about.dynamic else about.batch)
    drawn = (draw_scene(0, index, max(64, *size))[0] for index in range(count))
    images = letterboxed(drawn, size, about.letterbox).numpy()
    shape = Shape(size, about.batch, about.dynamic)
    uint8 = about.input == "uint8"
    return list(inputs_of(images, shape, uint8=uint8, channels=about.channels))


def summarize(
    turns: Sequence[Sequence[float]], base: Sequence[Sequence[float]], batch: int
) -> dict[str, Any]:
    """Statistics of seconds per round and run; base: those of the baseline."""
    runs = sorted(seconds for turn in turns for seconds in turn)
    medians = [statistics.median(turn) for turn in turns]
    ratios = [statistics.median(its) / mine for its, mine in zip(base, medians, strict=True)]
    return {
        "p50_ms": 1000 * statistics.median(runs),
        "p95_ms": 1000 * runs[min(len(runs) - 1, int(0.95 * len(runs)))],
        "images_per_s": batch / statistics.median(medians),
        "rounds": [batch / each for each in medians],
        "speedup": statistics.median(ratios),
        "spread": (min(ratios), max(ratios)),
    }


def _result(
    config: BenchExportConfig,
    meta: Meta,
    rows: list[dict[str, Any]],
    base: Mapping[str, Any],
    without: Mapping[str, str],
) -> dict[str, Any]:
    rows = [row | {"size": row["bytes"] / base["bytes"]} for row in rows]
    fast = [row for row in rows if "one" in row]
    line = "no file matches the checkpoint"
    if fast:
        best = max(fast, key=lambda row: row[SIDE_BY_SIDE]["images_per_s"])
        line = (
            f"fastest: {best['name']}, {best[SIDE_BY_SIDE]['images_per_s']:.1f} images/s, "
            f"{best[SIDE_BY_SIDE]['speedup']:.2f}x {base['name']}, {best['size']:.2f}x its size"
        )
    return {
        "line": line,
        "model": meta.model,
        "image_size": config.imgsz or meta.image_size,
        "batch": config.batch,
        "rounds": config.rounds,
        "runs": config.runs,
        "base": base["name"],
        "data": config.data,
        "checkpoint_ap": base["checkpoint_ap"],
        "hardware": hardware_name(CPU),
        "device": describe_device(CPU),
        "machine": {name: text for name, text in describe_machine().items() if name != "devices"},
        "results": rows,
        "not_measured": dict(without),
    }


COLUMNS = (
    "file", "MB", "size", "load s", "p50 ms", "p95 ms", "speed",
    "p50 ms (all)", "p95 ms (all)", "speed (all)", "images/s", "speed (calls)", "AP", "drop",
)  # fmt: skip
SHOWN = ("file", "MB", "p50 ms", "p50 ms (all)", "images/s", "speed (calls)", "AP", "drop")
"""Columns shown in the terminal."""


def _table(
    result: Mapping[str, Any], *, spread: bool
) -> tuple[str, Sequence[str], list[list[str]]]:
    """Title, columns and cells.  spread: add it to each ratio."""
    title = (
        f"{result['model']} at {show(result['image_size'])} px, batch {result['batch']}, on one "
        f"thread, on all, and one call per core ({result['hardware']})"
    )
    return title, COLUMNS, [_cells(row, spread) for row in result["results"]]


def _cells(row: Mapping[str, Any], spread: bool) -> list[str]:
    drop = None if row["ap"] is None else row["checkpoint_ap"] - row["ap"]
    latencies = [cell for where in THREADS for cell in _latency_cells(row.get(where), spread)]
    calls = row.get(SIDE_BY_SIDE)
    return [
        row["name"] if row["passed"] else f"{row['name']} MISMATCH",
        f"{row['bytes'] / 1e6:.2f}",
        f"{row['size']:.2f}x",
        f"{row['load_s']:.2f}" if "load_s" in row else "-",
        *latencies,
        f"{calls['images_per_s']:.1f}" if calls else "-",
        _ratio(calls, spread) if calls else "-",
        "-" if row["ap"] is None else f"{row['ap']:.4f}",
        "-" if drop is None else f"{drop:+.4f}",
    ]


def _latency_cells(speed: Mapping[str, Any] | None, spread: bool) -> list[str]:
    if speed is None:
        return ["-"] * 3
    return [f"{speed['p50_ms']:.1f}", f"{speed['p95_ms']:.1f}", _ratio(speed, spread)]


def _ratio(speed: Mapping[str, Any], spread: bool) -> str:
    low, high = speed["spread"]
    return f"{speed['speedup']:.2f}x" + f" ({low:.2f}-{high:.2f})" * spread


def remarks(result: Mapping[str, Any]) -> list[str]:
    """What was not measured, one line each."""
    lines = [
        f"{row['name']} is not measured: {'; '.join(row['faults'])}"
        for row in result["results"]
        if not row["passed"]
    ]
    return lines + [f"{name}: {why}" for name, why in result["not_measured"].items()]


def as_markdown(result: Mapping[str, Any]) -> str:
    """The table as a page."""
    return as_page(
        *_table(result, spread=True),
        f"p50, p95: over {result['rounds']} interleaved rounds of {result['runs']} runs, on one "
        "thread and on all.  images/s: one call per core, each on one thread, median of the rounds."
        f"  speed: median ratio to {result['base']} within a round (lowest-highest).  drop: AP of "
        "the checkpoint minus AP of the file.",
        [result["line"], *remarks(result)],
    )
