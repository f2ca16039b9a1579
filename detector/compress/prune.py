"""A pruning on one page: remove channels, train, remove more, train; then measure.

The folder holds everything: the pruned weights of each step, and a run folder for the training
after it.  A step that is there is not repeated, so a pruning that was stopped goes on where it was,
bit for bit.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ...datasets.images.input_size import InputSize
from ...files.json_text import read_note
from ...weights.checkpoint import Meta, read_meta, save_weights
from ..checkpoints.evaluate import measure as measure_on
from ..checkpoints.load import load_for_use
from ..checkpoints.restore import restore
from ..evaluate.class_names import ClassNames, first_difference
from ..models.build import architecture_of
from ..models.detector import Detector
from ..models.detector_like import fitted, sides_of
from ..options.errors import UsageError
from ..options.fields import options_of
from ..options.parse import parse
from ..options.prune import PruneConfig
from ..options.val import ValConfig
from ..run.device import pick_device
from ..run.files import plain, write_args, write_json
from ..run.folder import BEST, new_run_folder
from ..run.log import Log
from ..train.assemble import load_data, prepare_process
from .begun import Begun, resumed
from .check import MACHINE, PRUNE, training_of
from .cost import deployed
from .latency import seconds_of
from .plots import plot_pruning, plot_sensitivity
from .step import Pruned, prune_step, sample_batches
from .training import train_once

Pruning = Begun[PruneConfig]


def prune(config: PruneConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Prune a checkpoint, or go on; leaves a folder with ``weights/best.safetensors``.

    Returns the content of results.json.  Raises UsageError, CannotPrune, and what a training
    raises."""
    if config.resume is not None:
        begun = resumed(PRUNE, config, given, log)
    else:
        begun = _begin(config, given, log)
    with begun.working():
        current = Path(str(begun.config.model))
        rows = [_measured(begun, current, "whole")]
        for number in range(1, begun.config.steps + 1):
            pruned = _removed(begun, current, number)
            current = _trained(begun, pruned, number)
            rows.append(_measured(begun, current, f"step {number}"))
        return _finish(begun, current, rows)


def _begin(config: PruneConfig, given: frozenset[str], log: Log) -> Pruning:
    """Look at the checkpoint, then make the folder."""
    model, meta = restore(Path(str(config.model)))
    size = fitted(config.imgsz or meta.image_size, model.max_stride).plain
    own: dict[str, Any] = {"imgsz": size, "rect": meta.rect, "pixels": meta.pixels}
    own |= {name: getattr(config, name) for name in given & {"rect", "pixels"}}
    config, given = replace(config, **own), given | own.keys()
    check_data_of(config, given, meta, log)
    folder = new_run_folder(config, "prune")
    config = replace(config, model=str(Path(str(config.model)).absolute()))
    write_args(folder, config)
    write_json(folder / PRUNE.state, {"given": sorted(given)})
    log.to_file(folder / "log.txt")
    return Begun(PRUNE, config, given, folder, log)


def check_data_of(
    config: PruneConfig, given: frozenset[str], meta: Meta, log: Log, *, boxes: bool = False
) -> None:
    """Raise UsageError where the data have other classes than the checkpoint; boxes: or where none
    of the validation images has a box, so that there is no AP."""
    training, _ = training_of(config, given, str(config.model), 1)
    dataset, scans = load_data(training, log)
    ours = ClassNames(f"data={config.data}", dataset.class_names)
    if wrong := first_difference(ours, ClassNames(f"model={config.model}", meta.class_names)):
        raise UsageError(f"{wrong}: use the data that the checkpoint was trained on")
    if boxes and not any(len(record.labels) for record in scans[1].records):
        raise UsageError(
            f"data={config.data}: no image to validate has a box, so there is no AP that files "
            "could be compared by; add images with boxes"
        )


def _removed(begun: Pruning, source: Path, number: int) -> Path:
    """The weights of a step, before its training; made once."""
    config, log = begun.config, begun.log
    path = begun.folder / f"step-{number}.safetensors"
    if path.is_file():
        return path
    device = pick_device(config.device)
    training, _ = training_of(config, begun.given, str(source), 1)
    prepare_process(training, device)
    model, meta = restore(source)
    _, scans = load_data(training, log)
    assert config.imgsz is not None
    model = model.to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    size = InputSize(*sides_of(config.imgsz), pixels=config.pixels)
    batches = sample_batches(scans[0].records, config.samples, size, model)
    share = config.keep ** (1.0 / config.steps)  # of what is left: after all steps, keep
    pruned = prune_step(model, batches, share, config, log)
    if pruned.reached > 1.05 * share:
        log.warn(
            f"step {number} keeps {pruned.reached:.0%} of the {config.of}, not {share:.0%}: no "
            "group may lose more in one step; use more steps="
        )
    _write_sensitivity(begun, pruned, number)
    small = pruned.model.cpu()
    whole = Path(str(config.model))
    about = f"pruned to {config.keep ** (number / config.steps):.3g} of {config.of} from "
    about += f"{whole.name} ({read_meta(whole).provenance})"
    save_weights(path, small.state_dict(), _meta_of(meta, small, about))
    return path


def _meta_of(meta: Meta, model: Detector, about: str) -> Meta:
    return replace(
        meta, architecture=architecture_of(model), provenance=about, metrics={}, epoch=0, step=0
    )


def _write_sensitivity(begun: Pruning, pruned: Pruned, number: int) -> None:
    """What was measured of each group, as JSON and as a picture."""
    rows = [
        {
            "group": each.group.name, "parts": len(each.group.parts), "width": each.group.width,
            "kept": kept, "tried": list(each.kept), "rise": list(each.rise),
        }
        for each, kept in zip(pruned.found, pruned.kept, strict=True)
    ]  # fmt: skip
    write_json(begun.folder / f"sensitivity-{number}.json", rows)
    if begun.config.plots:
        plot_sensitivity(rows, begun.folder / f"sensitivity-{number}.png")


def _trained(begun: Pruning, pruned: Path, number: int) -> Path:
    """The best weights of the training after a step; the pruned ones where there is none."""
    config = begun.config
    if not config.epochs:
        return pruned
    folder = begun.folder / f"step-{number}"
    place = {"project": str(begun.folder), "name": folder.name, "exist_ok": True}
    options = training_of(config, begun.given, str(pruned), config.epochs, **place)
    machine = {name: getattr(config, name) for name in MACHINE & begun.given}
    return train_once(folder, options, machine)


def _measured(begun: Pruning, path: Path, name: str) -> dict[str, Any]:
    """AP on ``split=``, parameters and GFLOPs of a checkpoint; measured once."""
    note = begun.folder / f"measured-{name.replace(' ', '-')}.json"
    if known := read_note(note):
        return dict(known)
    config, log = begun.config, begun.log
    assert config.imgsz is not None
    known = options_of(ValConfig)
    values = asdict(config)
    names = {"data", "imgsz", "split", "device", "threads", "workers", "batch", "images", "names",
             "classes", "allow", "nms", "iou", "max_det", "channels_last"}  # fmt: skip
    if config.memory_share is not None:  # batch=auto is a question of training
        names.remove("batch")
    words = {n: values[n] for n in names & begun.given if n in known}
    usual = {"model": str(path), "data": config.data, "imgsz": config.imgsz}
    options, given = parse(ValConfig, {**usual, **words})
    evaluation, _, _ = measure_on(options, given, log, load_for_use(options, given, log))
    model, _ = restore(path)
    row = {"name": name, "ap": evaluation.metrics.map, **deployed(model, sides_of(config.imgsz))}
    write_json(note, row)
    return dict(plain(row))


def _finish(begun: Pruning, last: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Time the files, write the weights, the table and the picture."""
    config, folder = begun.config, begun.folder
    assert config.imgsz is not None
    if find_spec("onnxruntime") and find_spec("onnx"):
        models = {"whole": restore(Path(str(config.model)))[0], "last": restore(last)[0]}
        taken = seconds_of(models, sides_of(config.imgsz), config.threads)
        rows[0]["seconds"], rows[-1]["seconds"] = taken["whole"], taken["last"]
    (folder / BEST).parent.mkdir(exist_ok=True)
    shutil.copyfile(last, folder / BEST)
    show(rows, begun.log)
    results = plain({
        "folder": str(folder), "best": str(folder / BEST), "keep": config.keep, "of": config.of,
        "criterion": config.criterion, "rows": rows,
    })  # fmt: skip
    write_json(folder / "results.json", results)
    if config.plots:
        plot_pruning(rows, folder / "prune.png")
    return dict(results)


def show(rows: list[dict[str, Any]], log: Log) -> None:
    """The table in the terminal."""
    cells = []
    for row in rows:
        speed = f"{1 / row['seconds']:.1f}" if row.get("seconds") else ""
        ap = "" if row["ap"] is None else f"{row['ap']:.4f}"
        cells.append((row["name"], ap, f"{row['gflops']:.2f}", f"{row['parameters']:,}", speed))
    log.table("pruned", ("detector", "AP", "GFLOPs", "parameters", "images/s (ONNX)"), cells)
