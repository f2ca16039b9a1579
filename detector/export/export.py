"""det export: write files from a checkpoint and compare each with the checkpoint.

A file is written to a hidden folder beside its target, run there, and moved to its name if it
matches; otherwise it is kept as NAME.failed.  NAME.json holds the comparison.  So a file under its
own name is always complete and proven.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ...datasets.images.image import FILL
from ...datasets.images.input_size import InputSize
from ...files.atomic import sync
from ...files.counted import counted
from ...files.json_text import read_json
from ...files.staging import staging
from ...files.version import __version__
from ...weights.checkpoint import Meta
from ..models.detector import Detector
from ..options.errors import UsageError
from ..options.export import ExportConfig
from ..options.formats import DYNAMIC, FULL, MINMAX, WEIGHTS, ExportError, Format
from ..quantization.simulate import plain_copy, ranges_of
from ..run.files import plain, write_json
from ..run.folder import check_writable
from ..run.hardware import traits_of
from ..run.log import Log
from .exported import open_exported
from .formats.about import MARK, About
from .formats.checksum import seal
from .formats.foreign import METADATA, metadata_of
from .formats.interface import Settings
from .formats.writers import WRITERS
from .graph import ExportGraph, Shape
from .int8.quantizer import Quantizer, expected_gain
from .int8.ranges import calibration_images
from .proof.examiner import Examiner, examiner_for
from .proof.parity import TOLERANCES
from .targets import formats_of, precision_of, size_of, target_path

FULL_BYTES = 1 << 16
"""A disk with less space is full."""
FAILED = ".failed"
"""Appended to the name of a file that does not match its checkpoint."""
COLUMNS = ("file", "MB", "matched", "missed", "extra", "box px", "score", "AP before", "AP of file",
           "verdict")  # fmt: skip


def export(
    config: ExportConfig,
    path: Path,
    meta: Meta,
    model: Detector,
    *,
    fetched: bool,
    log: Log,
    examiner: Examiner | None = None,
    images: np.ndarray | None = None,
) -> dict[str, Any]:
    """Write the checkpoint ``path``, whose detector is ``model``, in every format of ``format=``.

    fetched: the checkpoint lies in the cache of downloaded weights.  examiner, images: to reuse
    those of earlier files.  Returns plain data: one entry per file under ``exports``, and whether
    all ``passed``.  Raises UsageError for options that contradict, ExportError where a format
    cannot hold the model, OSError where a file cannot be written.
    """
    device = next(model.parameters()).device
    size = size_of(config.imgsz, meta.image_size, model.max_stride)
    shape = Shape(size, config.batch, config.dynamic)
    trained = model if ranges_of(model) is not None else None
    if trained is not None:
        refuse_float(config, path)
    graph = ExportGraph(
        model if trained is None else plain_copy(model),
        nms=config.nms,
        iou=config.iou,
        agnostic=config.agnostic_nms,
        max_det=config.max_det,
        raw=config.raw,
        uint8=config.uint8,
    )
    if config.dynamic and min(size) < graph.smallest_side:
        raise UsageError(
            f"imgsz={size[0]},{size[1]}: a dynamic file of this kind takes sides from "
            f"{graph.smallest_side} on; use a larger imgsz= or a smaller max_det="
        )
    if config.half and device.type == "cuda":
        graph.halve()
    settings = Settings(shape, precision_of(config), config.opset)
    rows = formats_of(config)
    targets = [target_path(config, row, path, fetched=fetched) for row in rows]
    for row, target in zip(rows, targets, strict=True):
        check_writable(target.parent, "output")
        check_place(row, target)
    cut = InputSize(*size, model.max_stride, graph.smallest_side, meta.pixels)
    if meta.rect and not config.dynamic:
        log.info(f"the file takes images of {cut}; rect=True, as in training, needs dynamic=True")
    examined = cut if meta.rect and config.dynamic else InputSize(*size, pixels=meta.pixels)
    examiner = examiner or examiner_for(config, model, meta, examined, device, log)
    if settings.precision == FULL:
        log.info(expected_gain(traits_of(device)))
    if settings.precision == FULL and images is None and trained is None:
        images = calibration_images(config, examined, model.letterbox, log)
    quantizer = Quantizer(config, images, examiner, log, trained)
    results = []
    for row, target in zip(rows, targets, strict=True):
        log.info(f"writing {target} ({row.runtime}, {settings.precision})")
        results.append(write_one(row, graph, settings, about_of(row, graph, settings, meta),
                                 target, examiner, quantizer))  # fmt: skip
    show(log, path, results)
    passed = all(result["passed"] for result in results)
    return plain({"checkpoint": path, "exports": results, "passed": passed})


def refuse_float(config: ExportConfig, path: Path) -> None:
    """Raise UsageError for options that a checkpoint of quantization-aware training has not."""
    if precision_of(config) != FULL:
        raise UsageError(
            f"{path} was trained for 8 bits (qat=int8): add int8=True, or export the float "
            "checkpoint that it was trained from"
        )
    if config.calibration != MINMAX:
        raise UsageError(
            f"calibration={config.calibration} has no effect on {path}, which keeps its ranges "
            "(qat=int8): leave it out"
        )


def about_of(row: Format, graph: ExportGraph, settings: Settings, meta: Meta) -> About:
    """The metadata of a file."""
    shape, model = settings.shape, graph.model
    return About(
        format=row.name,
        precision=settings.precision,
        model=meta.model,
        names=meta.class_names,
        image_size=shape.size,
        batch=shape.batch,
        dynamic=shape.dynamic,
        stride=model.max_stride,
        smallest_side=graph.smallest_side if shape.dynamic else model.max_stride,
        input="uint8" if graph.uint8 else "float32",
        letterbox=model.letterbox,
        pad=FILL,
        output="output0" if graph.joined else "raw" if graph.raw else "detections",
        head=graph.branch,
        nms=graph.nms,
        max_det=graph.max_det,
        written_on=graph.device.type,
        license=meta.license,
        provenance=meta.provenance,
        det_version=__version__,
        checkpoint=plain(asdict(meta)),
    )


def write_one(
    row: Format,
    graph: ExportGraph,
    settings: Settings,
    about: About,
    target: Path,
    examiner: Examiner,
    quantizer: Quantizer,
) -> dict[str, Any]:
    """Write, run, compare and place one file; returns its entry of the result."""
    with naming_full(target), staging(target) as folder:
        started = time.perf_counter()
        draft = folder / file_name(row, target)
        report = {}
        if settings.precision in (FULL, WEIGHTS, DYNAMIC):
            quantized = quantizer.write(row, graph, draft, settings, about.texts())
            parity, report = quantized.parity, {"quantization": quantized.report}
            seconds = time.perf_counter() - started
        else:
            WRITERS[row.name].write(graph, draft, settings, about.texts())
            seconds = time.perf_counter() - started
            exported = open_exported(draft, graph.device)
            parity = examiner.compare(exported, TOLERANCES[settings.precision])
        seal(row.files(draft))
        if draft.name != target.name:
            draft = packed(row.files(draft), folder / target.name, about)
        drafts = row.files(draft)
        size = sum(size_on_disk(file) for file in drafts)
        passed = not parity.faults
        ending = "" if passed else FAILED
        for file in drafts:
            move(file, target.with_name(file.name + ending))
    placed = target.with_name(target.name + ending)
    if passed:
        remove_failed(row, target)
    result = {
        "format": row.name,
        "file": str(placed),
        "bytes": size,
        "seconds": seconds,
        "passed": passed,
        "parity": parity.to_dict(),
        "about": {k: v for k, v in asdict(about).items() if k != "checkpoint"},
        **report,
    }
    write_json(report_of(placed), result)
    return result


def file_name(row: Format, target: Path) -> str:
    """Name of the file that is written for ``target``, which may be the folder around it."""
    if row.folder is not None and target.name.endswith(row.folder):
        return f"{target.name.removesuffix(row.folder) or 'model'}{row.suffix}"
    return target.name


def packed(files: Sequence[Path], folder: Path, about: About) -> Path:
    """A new folder with the files, and metadata.yaml for other readers of such folders."""
    folder.mkdir()
    for file in files:
        move(file, folder / file.name)
    text = yaml.safe_dump(metadata_of(about), sort_keys=False, allow_unicode=True)
    (folder / METADATA).write_text(text, encoding="utf-8")
    return folder


@contextlib.contextmanager
def naming_full(target: Path) -> Iterator[None]:
    """An OSError without a file, such as that of a full disk, names ``target``; so does what a
    runtime's own writer raises while the disk is full."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and error.errno != errno.ENOSPC:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(target)) from error
    except RuntimeError as error:
        if shutil.disk_usage(target.parent).free >= FULL_BYTES:
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target)) from error


def check_place(row: Format, target: Path) -> None:
    """Raise UsageError where the file, or its name after a mismatch, would replace a file that det
    export has not written."""
    for ending in ("", FAILED):
        *parts, main = (file.with_name(file.name + ending) for file in row.files(target))
        ours = main.exists() and _is_ours(row, main)
        for file in (main, *parts):  # a part belongs to the file that it lies beside
            if file.exists() and not ours:
                raise UsageError(
                    f"{file} exists and was not written by det export: remove it, or use output="
                )
        _check_report(report_of(main))


def _is_ours(row: Format, path: Path) -> bool:
    """Whether a file has the metadata of det export."""
    try:
        return MARK in WRITERS[row.name].read_about(row.main_file(path))
    except ExportError:
        return False


def _check_report(report: Path) -> None:
    if report.exists():
        try:
            ours = "parity" in read_json(report)
        except (OSError, ValueError, TypeError):
            ours = False
        if not ours:
            raise UsageError(f"{report} exists and is not a report of det export: remove it")


def remove_failed(row: Format, target: Path) -> None:
    """Remove the files of earlier exports that did not match (ours: see ``check_place``)."""
    for file in row.files(target):
        failed = file.with_name(file.name + FAILED)
        if failed.is_dir():
            shutil.rmtree(failed)
        failed.unlink(missing_ok=True)
    report_of(target.with_name(target.name + FAILED)).unlink(missing_ok=True)


def report_of(target: Path) -> Path:
    """Path of the comparison."""
    return target.with_name(target.name + ".json")


def move(draft: Path, target: Path) -> None:
    """Move a file, flushed to the disk, or a folder to its place."""
    if target.is_dir():  # a rename replaces no folder; the old one goes with the staging folder
        os.replace(target, draft.with_name(f"{draft.name}.old"))
    if not draft.is_dir():
        with draft.open("rb") as file:
            sync(file.fileno())
    os.replace(draft, target)


def size_on_disk(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def show(log: Log, checkpoint: Path, results: Sequence[dict[str, Any]]) -> None:
    """Log the comparison as a table, and the differences in words."""
    rows = []
    for result in results:
        parity = result["parity"]
        ap = ["-", "-"] if parity["ap"] is None else [f"{value:.4f}" for value in parity["ap"]]
        rows.append(
            (
                Path(result["file"]).name,
                f"{result['bytes'] / 1e6:.2f}",
                *(parity[name] for name in ("matched", "missed", "extra")),
                *(f"{parity[name]:.2g}" for name in ("pixels", "score")),
                *ap,
                "same" if result["passed"] else "MISMATCH",
            )
        )
    parity = results[0]["parity"]
    images, conf = parity["images"], parity["conf"]
    title = f"compared with {checkpoint.name}: {counted(images, 'image')}, scores from {conf:.3g}"
    log.table(title, COLUMNS, rows)
    for result in results:
        if not result["passed"]:
            log.warn(f"{result['file']}: {'; '.join(result['parity']['faults'])}")
