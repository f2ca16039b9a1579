"""``det amp``: the precision check of a training run, with measurements of every layer.

It reports the ladder's table and decision, which layers take the most time, and where fp16 would
overflow or lose gradients.  Everything is measured anew, never taken from the ladder's cache.  A
precision that the user names is measured even where it fails the check.

Left out: effects over many training steps, which ``det bench amp`` measures.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, replace
from typing import Any

from ...datasets.nouns import Batch
from ..options.amp import AmpConfig
from ..options.train import TrainConfig
from ..precision.by_stage import try_precisions
from ..precision.ladder import (
    Decision,
    choose_precision,
    conclude,
    halve_until_it_fits,
    images_to_check,
)
from ..precision.ladder import report as print_trials
from ..precision.precision import DTYPES
from ..precision.sanity import SanityCheck, stage_problem
from ..run.device import describe_device
from ..run.files import plain, write_args, write_json
from ..run.folder import new_run_folder
from ..run.hardware import candidates, traits_of
from ..run.log import Log
from ..train.assemble import Run, assemble
from ..train.describe import versions
from .amp_plots import plot_amp
from .contest import training_config
from .layers import LayerProbe, LayerReport, LayerStats

LAYER_IMAGES = 8
"""Images that layers are measured on: each layer runs some ten times."""
SHOWN = 5
"""Layers named per summary line."""
SMALL = 1e-4
"""Smaller shares of lost gradients are not reported."""


def examine(config: AmpConfig, log: Log) -> dict[str, Any]:
    """Run the check, print the report and leave a run folder with amp.json and amp.png.

    Returns what amp.json holds, and the folder.  ``passed`` is False if a named precision failed.
    Raises UsageError where the device does not have it, and what assembling a run raises.
    """
    train = training_config(config)
    run = assemble(train, log)
    outline, names = _outline(train, run, log)
    with contextlib.closing(run):
        decision, layers, batch = _measure(train, run, outline, names)
    folder = new_run_folder(config, "amp")
    log.to_file(folder / "log.txt")
    write_args(folder, config)
    result = _result(run, batch, decision, layers)
    _print(result, decision, layers, log)
    write_json(folder / "amp.json", result)
    if config.plots:
        plot_amp(layers, result["line"], folder / "amp.png")
    return plain(result) | {"folder": str(folder)}


def _outline(train: TrainConfig, run: Run, log: Log) -> tuple[Decision, tuple[str, ...]]:
    """The ladder's decision without measuring, and the precisions to measure."""
    unchecked = replace(train, amp_check=False)
    outline = choose_precision(
        unchecked, run.model, run.criterion, lambda: (), run.device, Log(verbose=False)
    )
    if train.amp in (False, "fp32"):
        return outline, ()
    if train.amp not in DTYPES:
        return outline, candidates(traits_of(run.device))
    name = str(train.amp)
    if name in outline.objections:
        log.warn(f"{outline.objections[name]}; it is measured anyway, which may take long")
    return outline, (name,)


def _measure(
    train: TrainConfig, run: Run, outline: Decision, names: tuple[str, ...]
) -> tuple[Decision, LayerReport, Batch]:
    """The measured decision, the layers, and the batch, reduced where memory is short."""
    batch = images_to_check(next(iter(run.train_loader.epoch(0))).to(run.device))

    def measure(part: Batch) -> tuple[Decision, LayerReport, Batch]:
        decision = _decide(train, run, part, outline, names)
        scales = {trial.precision: trial.scale for trial in decision.trials}
        few = part.first(LAYER_IMAGES)
        layers = LayerProbe(run.model, run.criterion, few, names, scales).run()
        return decision, layers, part

    return halve_until_it_fits(batch, measure)


def _decide(
    train: TrainConfig, run: Run, batch: Batch, outline: Decision, names: tuple[str, ...]
) -> Decision:
    if not names:
        return outline
    started = time.perf_counter()
    check = SanityCheck(run.model, run.criterion, batch)
    kept = outline.precision.fp32_stages
    trials = try_precisions(check.run, names, tuple(run.model.stages), kept)
    seconds = time.perf_counter() - started
    tolerant = replace(train, amp_force=True)  # a failure is to be reported, not raised
    found = conclude(tolerant, trials, traits_of(run.device), outline.objections)
    return replace(found, seconds=seconds)


def _result(run: Run, batch: Batch, decision: Decision, report: LayerReport) -> dict[str, Any]:
    """amp.json: what a training run writes there, and the layers."""
    return {
        "line": verdict_line(decision),
        "passed": failure(decision) is None,
        **asdict(decision),
        "model": run.model.name,
        "data": run.dataset.name,
        "image_size": run.image_size.plain,
        "batch": len(batch),
        "layer_batch": len(batch.first(LAYER_IMAGES)),
        "hardware": {"device": describe_device(run.device), **asdict(traits_of(run.device))},
        "versions": versions(),
        "fp16_scale": report.fp16_scale,
        "stages": [_row(layer) for layer in report.stages],
        "layers": [_row(layer) for layer in report.layers],
        "costliest": [_.name for _ in costliest(report, decision.precision.name)],
        "overflow": [layer.name for layer in report.layers if layer.fp16_share > 1],
        "underflow": [layer.name for layer in underflowing(report)],
    }


def failure(decision: Decision) -> str | None:
    """Why the chosen precision failed; None if it passed."""
    name = decision.precision.name
    return next((t.problem for t in decision.trials if t.precision == name), None)


def verdict_line(decision: Decision) -> str:
    """The line that a run would print, or how a named precision failed."""
    problem = failure(decision)
    if problem is None:
        return decision.line()
    return f"AMP: {decision.precision.name} fails the sanity check: {problem}"


def _row(layer: LayerStats) -> dict[str, Any]:
    return asdict(layer) | {"fp16_share": layer.fp16_share}


def costliest(report: LayerReport, precision: str) -> list[LayerStats]:
    """The slowest layers in ``precision``, slowest first."""
    return sorted(report.layers, key=lambda layer: -layer.ms[precision])[:SHOWN]


def underflowing(report: LayerReport) -> list[LayerStats]:
    """The layers that lose the most gradient in fp16 without scaling, worst first."""
    losing = [layer for layer in report.layers if layer.lost > SMALL]
    return sorted(losing, key=lambda layer: -layer.lost)[:SHOWN]


def _print(result: dict[str, Any], decision: Decision, layers: LayerReport, log: Log) -> None:
    hardware = result["hardware"]
    native = [name for name in ("bf16", "fp16") if hardware[f"{name}_native"]]
    log.info(f"{hardware['device']}: computes {' and '.join(native) or 'only fp32'} natively")
    if decision.trials:
        print_trials(decision, log)
    else:
        for name, reason in decision.objections.items():
            log.info(f"{name} was not tried: {reason}")
    names = [trial.precision for trial in decision.trials[1:]]
    _print_stages(layers, names, log)
    for name in names:
        _print_by_stage(layers, decision, name, log)
    _print_layers(layers, names, log)
    for line in summary_lines(layers, decision.precision.name):
        log.info(line)


def _print_stages(report: LayerReport, names: list[str], log: Log) -> None:
    columns = ["stage", "share of fp32", "fp32 ms"]
    for name in names:
        columns += [f"{name} ms", f"{name} speed", f"{name} output", f"{name} cosine"]
    whole = sum(stage.ms["fp32"] for stage in report.stages)
    rows = []
    for stage in report.stages:
        base = stage.ms["fp32"]
        row = [stage.name, f"{base / whole:.1%}", f"{base:.2f}"]
        for name in names:
            error, ms = stage.errors[name], stage.ms[name]
            row += [f"{ms:.2f}", f"{base / ms:.2f}x", f"{error.output:.2%}", f"{error.cosine:.4f}"]
        rows.append(row)
    log.table("Stages by themselves, forward and backward, on equal inputs", columns, rows)


def _print_by_stage(report: LayerReport, decision: Decision, name: str, log: Log) -> None:
    """What each stage would gain and cost in float32, while the others are in ``name``."""
    kept = next((t.fp32_stages for t in reversed(decision.trials) if t.precision == name), ())
    rows = []
    for stage in report.stages:
        error, more = stage.errors[name], stage.ms["fp32"] - stage.ms[name]
        whole = sum(other.ms[name] for other in report.stages)
        bytes_more = stage.saved.get("fp32", 0) - stage.saved.get(name, 0)
        rows.append(
            (
                stage.name, f"{error.output:.2%}", f"{1 - error.cosine:.4f}", f"{error.lost:.2%}",
                f"{more:+.2f}", f"{more / whole:+.1%}", f"{bytes_more / 1e6:+.1f}",
                "in fp32" if stage.name in kept else stage_problem(stage.name, error) or "passes",
            )
        )  # fmt: skip
    columns = (
        "stage", "output error", "1 - cosine", "lost", "ms", "of the step", "saved MB", f"in {name}"
    )  # fmt: skip
    title = f"Each stage in fp32, the others in {name}: errors it avoids, and what it costs"
    log.table(title, columns, rows)


def _print_layers(report: LayerReport, names: list[str], log: Log) -> None:
    columns = ["layer", "share", "largest", "of 65504", "lost", "scaled"]
    columns += [f"{name} {what}" for name in names for what in ("output", "cosine")]
    whole = sum(layer.ms["fp32"] for layer in report.layers)
    rows = []
    for layer in report.layers:
        row = [
            layer.name, f"{layer.ms['fp32'] / whole:.1%}", f"{layer.peak:.3g}",
            f"{layer.fp16_share:.2%}", f"{layer.lost:.1%}", f"{layer.lost_scaled:.1%}",
        ]  # fmt: skip
        for error in (layer.errors[name] for name in names):
            row += [f"{error.output:.2%}", f"{error.cosine:.4f}"]
        rows.append(row)
    title = f"Layers; lost: gradients rounded to fp16, scaled by {report.fp16_scale:g} beside it"
    log.table(title, columns, rows)


def summary_lines(report: LayerReport, precision: str) -> list[str]:
    """One line each: the slowest layers, fp16 overflow, lost fp16 gradients, largest loss scale."""
    whole = sum(layer.ms[precision] for layer in report.layers) or 1.0
    cost = [f"{_.name} {_.ms[precision] / whole:.1%}" for _ in costliest(report, precision)]
    top = max(report.layers, key=lambda layer: layer.peak)
    over = [layer.name for layer in report.layers if layer.fp16_share > 1]
    share = f"{top.peak:.3g} in {top.name}, {top.fp16_share:.2%} of fp16's largest value"
    lost = [f"{_.name} {_.lost:.1%} ({_.lost_scaled:.1%} scaled)" for _ in underflowing(report)]
    steep = max(report.layers, key=lambda layer: layer.gradient_peak)
    return [
        f"cost most in {precision}: {', '.join(cost)}",
        f"fp16 overflows in {', '.join(over)}" if over else f"fp16 overflows nowhere: {share}",
        f"fp16 loses gradients most in {', '.join(lost)}"
        if lost
        else f"fp16 loses less than {SMALL:.0e} of the gradients in every layer",
        f"the largest loss scale is {report.fp16_scale:g}, for gradients up to "
        f"{steep.gradient_peak:.3g} in {steep.name}",
    ]
