"""A checkpoint or an exported file, measured on a data set; leaves a run folder."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...datasets.batches.dataset import DetectionDataset
from ...datasets.batches.loader import Loader
from ...datasets.batches.tiles import lay
from ...datasets.scan.scan import Scan, scan_split, summarize_findings
from ...datasets.sets.dataset import Dataset
from ...datasets.sets.locate import load_dataset
from ...datasets.sets.rename import as_trained
from ...weights.checkpoint import Meta
from ..evaluate.class_names import (
    ClassNames,
    GroundTruth,
    class_numbers,
    ground_truth,
    same_classes,
)
from ..evaluate.coco import image_numbers
from ..evaluate.confidence import propose
from ..evaluate.evaluator import Detected, Evaluation, detect_images, join_detected
from ..evaluate.fusion import heard
from ..evaluate.report import evaluation_plots, metrics_table
from ..evaluate.tiling import tiling_of
from ..models.detector_like import DetectorLike
from ..options.detect import DetectOptions
from ..options.errors import UsageError
from ..options.val import ValConfig
from ..report.observer import Page
from ..run.data_place import DataPlace, without_place
from ..run.files import plain, write_json
from ..run.folder import RunNotFound, new_run_folder
from ..run.log import Log
from ..run.observer import Finished, Observers
from .augment import augmented
from .confidence import check_keeps, describe, keep
from .ensemble import fused, named_as
from .load import Loaded, load_for_use, trained_on


def val(
    config: ValConfig, given: frozenset[str], log: Log, used: Loaded | None = None
) -> dict[str, Any]:
    """Measure a checkpoint on a data set and leave a run folder.  used: default what ``model=``
    names."""
    used = used or load_for_use(config, given, log)
    if config.save_conf:
        check_keeps(used.path)
    evaluation, name, findings = measure(config, given, log, used)
    metrics_table(log, evaluation, f"{name} {config.split}")
    saved = save_evaluation(config, used, evaluation, name, findings)
    if config.report:
        Observers([Page()], log.warn).finished(Finished(Path(saved["folder"]), saved, evaluation))
    proposed = saved["metrics"]["confidence"]
    if config.save_conf:
        keep(used.path, proposed)
        log.info(f"{used.path}: now holds the confidences that conf=auto uses")
    return saved | {"confidence_line": describe(proposed, evaluation.metrics.class_names)}


def measure(
    config: ValConfig, given: frozenset[str], log: Log, used: Loaded
) -> tuple[Evaluation, str, list[str]]:
    """Measure what was loaded on a data set.  Returns the evaluation, the name of the data, and a
    line per kind of fault that the scan found."""
    path, meta = used.path, used.meta
    source, place = (config.data_source, None) if config.data else trained_on(path, meta)
    if source is None:
        raise RunNotFound(
            f"{path} does not say what it was trained on: name the data with data=..."
        )
    if config.names is not None:
        source = replace(source, names=config.names)
    dataset = load_dataset(source, download=config.online, on_message=log.message)
    if config.names is None:
        dataset = as_trained(dataset, meta.config.get("names"), meta.class_names, log.info)
    scan = scan_split(dataset, config.split, strict=config.allow is None)
    findings = summarize_findings(scan)
    for line in findings:
        log.warn(line)
    if config.data is None:
        compare_data(path, meta, place, dataset, scan, log)
    chosen = class_numbers(config.classes, meta.class_names)
    records = scan.records
    if chosen is not None:
        kept = same_classes(chosen, meta.class_names, dataset.class_names)
        records = [record.only(kept) for record in records]
    truth = ground_truth(
        records,
        ClassNames(source.data, dataset.class_names),
        ClassNames(str(path), meta.class_names),
        single_cls=config.single_cls or bool(meta.config.get("single_cls")),
        warn=log.warn,
    )
    log.once(used.idle_nms(config, given))
    detect, members = config.detect_options(config.conf, chosen), used.members
    for member in members:
        log.info(f"{member.line(config.nms)}, {dataset.name} {config.split}")
    if len(members) == 1:
        found = detected(config, used, used.model, truth, detect, log)
    else:
        log.info(f"{len(members)} models are fused: weighted boxes fusion")
        each = heard(detect, len(members))
        parts = [detected(config, one, named_as(one, used), truth, each, log) for one in members]
        found = fused(parts, truth.records, detect)
    return found.measure(), dataset.name, findings


def detected(
    config: ValConfig,
    used: Loaded,
    model: DetectorLike,
    truth: GroundTruth,
    detect: DetectOptions,
    log: Log,
) -> Detected:
    """What a model detected in the images, whole ones.  model: of ``used``, with the class numbers
    of ``truth``."""
    size = used.input_size(config)
    tiling = tiling_of(used.meta, config)
    if tiling is not None:
        tiles = lay(truth.records, tiling)
        truth = replace(truth, tiles=tiles)
        log.info(tiling.line(len(tiles), len(truth.records)))
    if config.augment:
        model, detect = augmented(model, detect)
    loader = Loader(
        DetectionDataset(truth.seen, size, augment=None, align=model.letterbox, tiles=truth.tiles),
        config.batch,
        shuffle=False,
        workers=config.workers,
        device_type=used.device.type,
    )
    loader.on_lost = log.warn
    if loader.fewer_workers:
        log.info(loader.fewer_workers)
    with contextlib.closing(loader), log.progress("validating", len(loader)) as update:
        forward = used.forward_options(config.channels_last)
        found = detect_images(model, loader, truth, detect, forward, update)
    return join_detected([found]).joined(truth)


def compare_data(
    path: Path,
    meta: Meta,
    place: DataPlace | None,
    dataset: Dataset,
    scan: Scan,
    log: Log,
) -> None:
    """Warn where the data that nobody has named are not those that ``path`` was trained beside.

    place: what its run folder knows of them; without it, they were looked for here by name.
    Raises UsageError where another data set of that name was found.
    """
    if meta.config.get("keep_classes"):
        return  # the run numbered the classes of the data anew
    if place is not None:
        if meta.config.get("single_cls"):
            scan = replace(scan, records=[record.single_class() for record in scan.records])
        if change := place.change(scan.split, dataset, scan):
            log.warn(f"{change}: these are not the data that {path} was trained beside")
        return
    certainly, perhaps = without_place(meta.data, scan.split, scan)
    if certainly:
        raise UsageError(
            f"{path} was trained beside {meta.data.get(f'{scan.split}_images')} images of "
            f"{scan.split}, and {dataset.yaml} has {len(scan.records)}: name the data with data="
        )
    if perhaps:
        log.warn(
            f"{dataset.yaml}, found by its name, may not be what {path} was trained beside: its "
            f"files in {scan.split} have other names, sizes or times; name the data with data="
        )


def save_evaluation(
    config: ValConfig, used: Loaded, evaluation: Evaluation, data: str, findings: Sequence[str]
) -> dict[str, Any]:
    """Write what was measured into a new run folder.  Returns results.json's content and where it
    is."""
    folder = new_run_folder(config, "val")
    results = plain(
        {
            "model": used.meta.model,
            "checkpoint": used.files,
            "augment": config.augment,
            "data": data,
            "split": config.split,
            "head": used.head(config.nms),
            "precision": used.precision.name,
            "tile": tiling.side if (tiling := tiling_of(used.meta, config)) else None,
            "findings": list(findings),
            "metrics": evaluation.metrics.to_dict()
            | {"confidence": propose(evaluation.metrics, config.precision)},
            "speed_ms": evaluation.speed,
        }
    )
    write_json(folder / "results.json", results)
    if config.save_json:
        numbers = image_numbers(evaluation.paths)
        write_json(folder / "predictions.json", evaluation.collector.coco_results(numbers))
    if config.save_txt:
        evaluation.write_labels(folder / "labels")
    if config.plots:
        evaluation_plots(folder, evaluation)
    return results | {"folder": str(folder)}
