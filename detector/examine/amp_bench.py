"""``det bench amp``: what each precision costs and gives, side by side in one program.

All train the same model from the same weights on the same batches.  Steps are split into
interleaved rounds, every second one in reverse order, so that other load on the machine affects all
precisions equally; speed is the median over the rounds, with the slowest and the fastest.  Memory
is measured before, energy and the largest batch after.

Left out: the loader, validation, and the AP after a full training (docs/mixed-precision.md).
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ...datasets.nouns import Batch
from ..options.amp import BenchAmpConfig
from ..options.errors import UsageError
from ..options.names import PRECISIONS
from ..options.parse import show
from ..run.device import describe_device, pick_device
from ..run.files import plain, write_args, write_json, write_text
from ..run.folder import new_run_folder
from ..run.hardware import DeviceTraits, objection, traits_of
from ..run.log import Log
from ..run.machine import describe_machine
from ..train.assemble import Run, assemble
from .amp_plots import plot_bench_amp
from .contest import Contender, largest_batch, measure_memory, training_config
from .energy import EnergyMeter, find_meter
from .page import as_page

DISTINCT = 8
"""Different batches, held on the device and used in turn."""
NO_LARGEST = "not measured on a CPU"


def bench_amp(config: BenchAmpConfig, log: Log) -> dict[str, Any]:
    """Compare the precisions and leave a run folder with bench_amp.json, .md and .png.

    Returns what bench_amp.json holds, and the folder.  Raises UsageError for a precision that the
    device does not have, and what assembling a run raises.
    """
    device = pick_device(config.device)
    names, without = choose_names(config.precisions, traits_of(device))
    for name in names:
        if (against := objection(traits_of(device), name)) is not None:
            log.warn(f"{against}; measured anyway, which may take long")
    run = assemble(training_config(config), log)
    steps = min(config.steps, DISTINCT)
    with contextlib.closing(run):
        batches = [batch.to(device) for batch, _ in zip(_batches(run), range(steps), strict=False)]
    meter, source = find_meter(device)
    rows = _measure(config, run, batches, names, meter, log)
    folder = new_run_folder(config, "bench_amp")
    log.to_file(folder / "log.txt")
    write_args(folder, config)
    result = _result(config, run, rows, without) | {"energy": source}
    log.table(*_table(result))
    for line in remarks(result):
        log.info(line)
    write_json(folder / "bench_amp.json", result)
    write_text(folder / "bench_amp.md", as_markdown(result))
    if config.plots:
        plot_bench_amp(result, folder / "bench_amp.png")
    return plain(result) | {"folder": str(folder)}


def choose_names(wanted: str | None, traits: DeviceTraits) -> tuple[list[str], dict[str, str]]:
    """The precisions to measure, fp32 first, and why others are not.  wanted: names separated by
    commas; None: all that are native.  Raises UsageError for TF32 on a device without it."""
    # TF32 came with the same generation as bf16 (Ampere)
    has_tf32 = traits.type == "cuda" and traits.bf16_native
    no_tf32 = "this device has no TF32, which CUDA devices have from compute 8.0"
    against = {name: objection(traits, name) for name in PRECISIONS if name != "tf32"}
    against["tf32"] = None if has_tf32 else no_tf32
    if wanted is None:
        names = [name for name in PRECISIONS if against[name] is None]
        return names, {name: text for name, text in against.items() if text is not None}
    told = {part.strip() for part in wanted.split(",")}
    if "tf32" in told and not has_tf32:
        raise UsageError(f"precisions={wanted}: {no_tf32}; leave tf32 out")
    return [name for name in PRECISIONS if name in told | {"fp32"}], {}


def _batches(run: Run) -> Iterator[Batch]:
    """Training batches of all epochs, without end."""
    epoch = 0
    while True:
        yield from run.train_loader.epoch(epoch)
        epoch += 1


def _measure(
    config: BenchAmpConfig,
    run: Run,
    batches: Sequence[Batch],
    names: Sequence[str],
    meter: EnergyMeter | None,
    log: Log,
) -> list[dict[str, Any]]:
    """One row per precision."""
    rows: dict[str, dict[str, Any]] = {name: {"precision": name} for name in names}
    with log.progress("measuring memory", len(names)) as update:
        for done, name in enumerate(names, 1):
            peak, saved = measure_memory(run, name, batches)
            rows[name] |= {"peak_bytes": peak, "saved_bytes": saved}
            update(done, len(names), name)
    contenders = [Contender(run, name, batches, config.steps) for name in names]
    with log.progress("training", 0) as update:
        rates = train_interleaved(contenders, config.steps, config.rounds, update)
    for contender in contenders:
        row, mine = rows[contender.name], rates[contender.name]
        row |= {"images_per_s": statistics.median(mine), "spread": (min(mine), max(mine))}
        row |= {"rounds": mine, "final_loss": contender.loss, "skipped": contender.skipped}
    for contender in contenders:
        row = rows[contender.name]
        row["joules_per_image"] = (
            contender.joules_per_image(meter, row["images_per_s"]) if meter else None
        )
    wanted = config.largest_batch and run.device.type == "cuda"
    contenders.clear()
    for name in names:
        rows[name]["largest_batch"] = largest_batch(run, name, batches[0]) if wanted else None
    return [_compare(row, rows["fp32"]) for row in rows.values()]


def train_interleaved(
    contenders: Sequence[Contender], steps: int, rounds: int, on_progress: Callable[..., None]
) -> dict[str, list[float]]:
    """Images per second of each round, per precision; every contender trains ``steps`` steps."""
    rounds = min(rounds, steps)
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for turn in range(rounds):
        share = (turn + 1) * steps // rounds - turn * steps // rounds
        for contender in contenders if turn % 2 == 0 else reversed(contenders):
            first = contender.steps
            seconds = contender.train(share)
            count = len(contender.batches)
            images = sum(len(contender.batches[i % count]) for i in range(first, first + share))
            rates[contender.name].append(images / seconds)
        on_progress(turn + 1, rounds)
    return rates


def _compare(row: dict[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its ratios to float32; of speed, the median of the ratios within each round."""
    ratios = [mine / its for mine, its in zip(row["rounds"], base["rounds"], strict=True)]
    peak = row["peak_bytes"] / base["peak_bytes"] if row["peak_bytes"] else None
    return row | {
        "speedup": statistics.median(ratios),
        "peak_share": peak,
        "saved_share": row["saved_bytes"] / base["saved_bytes"],
        "loss_error": abs(row["final_loss"] - base["final_loss"]) / abs(base["final_loss"]),
    }


def _result(
    config: BenchAmpConfig, run: Run, rows: list[dict[str, Any]], without: Mapping[str, str]
) -> dict[str, Any]:
    best = max(rows, key=lambda row: row["images_per_s"])
    memory = best["saved_share"] if best["peak_share"] is None else best["peak_share"]
    line = (
        f"fastest: {best['precision']}, {best['images_per_s']:.1f} images/s, "
        f"{best['speedup']:.2f}x fp32's, {memory:.2f}x its memory"
    )
    return {
        "line": line,
        "model": run.model.name,
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "image_size": run.image_size.plain,
        "batch": config.batch,
        "steps": config.steps,
        "hardware": hardware_name(run.device),
        "device": describe_device(run.device),
        "data": run.dataset.name,
        "machine": {name: text for name, text in describe_machine().items() if name != "devices"},
        "results": rows,
        "not_measured": dict(without),
        "largest_batch": None if run.device.type == "cuda" else NO_LARGEST,
    }


def hardware_name(device: torch.device) -> str:
    """Short name of a device: ``NVIDIA H200``, ``CPU AVX512 2 threads``."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).name
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"CPU {traits_of(device).name} {threads} thread{'s' * (threads > 1)}"
    return device.type


COLUMNS = (
    "precision", "images/s", "spread", "speed", "peak GB", "saved MB", "memory", "J/image",
    "loss", "differs", "skipped", "max batch",
)  # fmt: skip


def _table(result: Mapping[str, Any]) -> tuple[str, Sequence[str], list[list[str]]]:
    """Title, columns and cells."""
    title = (
        f"{result['model']} at {show(result['image_size'])} px, batch {result['batch']}, "
        f"{result['steps']} steps in each precision on {result['hardware']}"
    )
    return title, COLUMNS, [_cells(row) for row in result["results"]]


def _cells(row: Mapping[str, Any]) -> list[str]:
    low, high = row["spread"]
    share = row["saved_share"] if row["peak_share"] is None else row["peak_share"]
    return [
        row["precision"],
        f"{row['images_per_s']:.1f}",
        f"{(high - low) / row['images_per_s']:.0%}",
        f"{row['speedup']:.2f}x",
        _or_dash(row["peak_bytes"] and row["peak_bytes"] / 1e9, ".2f"),
        f"{row['saved_bytes'] / 1e6:.0f}",
        f"{share:.2f}x",
        _or_dash(row["joules_per_image"], ".3g"),
        f"{row['final_loss']:.3f}",
        f"{row['loss_error']:.2%}",
        str(row["skipped"]),
        _or_dash(row["largest_batch"], "d"),
    ]


def _or_dash(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def remarks(result: Mapping[str, Any]) -> list[str]:
    """Source of the energy figures and what was not measured, one line each."""
    lines = [f"energy: {result['energy']}"]
    if result["largest_batch"]:
        lines.append(f"largest batch: {result['largest_batch']}")
    lines += [f"{name} was not measured: {why}" for name, why in result["not_measured"].items()]
    return lines


def as_markdown(result: Mapping[str, Any]) -> str:
    """The table as a page."""
    machine = result["machine"]
    used = ", ".join(f"{name} {machine[name]}" for name in ("torch", "cuda", "python"))
    return as_page(
        *_table(result),
        "images/s: median over the rounds; spread: (fastest - slowest round) / median.  speed: "
        "median ratio to fp32 within a round.  peak GB: peak device memory of training, weights "
        "and optimizer included.  saved MB: tensors that autograd saves for the backward pass.  "
        "memory: peak (saved where unknown) relative to fp32.  loss: per image, last step; "
        "differs: relative to fp32.",
        [result["line"], *remarks(result), f"data: {result['data']}; {used}"],
    )
