"""``det data ...``: check, convert, split, merge and show data sets, or draw one."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files.counted import counted
from ..options.catalog import Command
from ..options.data import IMAGE_WORDS
from ..options.errors import UsageError
from ..run.check import refuse_options_file
from ..run.log import Log
from .looking import check_looks
from .outcome import Outcome
from .show import join, show_report, show_stats

if TYPE_CHECKING:
    from ...datasets.edit.convert import NewDataset
    from ...datasets.sets.dataset import Dataset
    from ...datasets.sets.source import DataSource

LEAKS_SHOWN = 5
ERRORS_SHOWN = 10


def execute(command: Command, config: Any, given: frozenset[str], log: Log) -> Outcome:
    """Do what the second word says."""
    if command.path[-1] == "errors":
        return _errors(command, config, log)
    return {
        "check": _check, "convert": _convert, "split": _split, "merge": _merge,
        "stats": _stats, "show": _show, "shapes": _shapes, "videos": _videos,
    }[command.path[-1]](config, log)  # fmt: skip


def _load(data: str | DataSource, config: Any, log: Log) -> Dataset:
    from ...datasets.sets.by_content import open_by_content
    from ...datasets.sets.locate import find_yaml, load_dataset
    from ...datasets.sets.source import as_source

    source = as_source(data)
    if open_by_content(source, lambda text: None) is None:
        refuse_options_file(find_yaml(source.data), source.data)
    with log.progress("downloading", 0) as update:
        return load_dataset(
            source, download=config.download, on_message=log.message, on_progress=update
        )


def _old_and_new(config: Any) -> tuple[DataSource, str]:
    """The data set that ``data=`` names, and what becomes of its images.

    ``images=`` is link, copy or none, or the folder of the old images.  A folder that has the name
    of one of these words is ``images=./link``.  Raises UsageError for two folders.
    """
    from ...datasets.sets.source import DataSource

    images, folder = config.images, config.images_dir
    if images not in IMAGE_WORDS:
        if folder is not None:
            raise UsageError(f"images={images} and images_dir={folder} are two folders: name one")
        default = next(field.default for field in fields(config) if field.name == "images")
        images, folder = str(default), images
    return DataSource(config.data, folder, names=config.names), images


def _check(config: Any, log: Log) -> Outcome:
    from ...datasets.scan.doctor import check_dataset

    dataset = _load(config.data_source, config, log)
    with log.progress("checking", 0) as update:
        report = check_dataset(
            dataset, image_size=config.imgsz, on_progress=update,
            deep=None if config.deep == "auto" else config.deep,
        )  # fmt: skip
    return Outcome(report.to_dict(), show_report(report), 1 if report.count("error") else 0)


def _convert(config: Any, log: Log) -> Outcome:
    from ...datasets.edit.convert import convert

    source, images = _old_and_new(config)
    dataset = _load(source, config, log)
    with log.progress("reading", 0) as update:
        told = convert(
            dataset, Path(config.out), config.format, images=images, on_progress=update,
            dry_run=config.dry_run, allow_errors=config.allow == "errors",
        )  # fmt: skip
    return _written(told, config.dry_run, [])


def _split(config: Any, log: Log) -> Outcome:
    from ...datasets.edit.split import split_dataset

    source, images = _old_and_new(config)
    dataset = _load(source, config, log)
    with log.progress("comparing images", 0) as update:
        told, leaks = split_dataset(
            dataset, Path(config.out), val=config.val, test=config.test, seed=config.seed,
            images=images, dry_run=config.dry_run, on_progress=update,
        )  # fmt: skip
    return _written(told, config.dry_run, leaks)


def _merge(config: Any, log: Log) -> Outcome:
    from ...datasets.edit.merge import merge
    from ...datasets.sets.rename import rename_all

    words = [word.strip() for word in config.data.split(",") if word.strip()]
    if len(words) < 2:
        raise UsageError(f"data={config.data}: name two data sets or more: data=a.yaml,b.yaml")
    datasets = [_load(word, config, log) for word in words]
    if config.names is not None:
        datasets = rename_all(datasets, config.names)
    told, leaks = merge(
        datasets, Path(config.out), format=config.format, images=config.images,
        dry_run=config.dry_run,
    )  # fmt: skip
    return _written(told, config.dry_run, leaks)


def _written(told: NewDataset, dry_run: bool, leaks: list[str]) -> Outcome:
    """What was written; exit code 1 where something was dropped."""
    lines = [
        f"  {split}: {counted(images, 'image')}, {counted(told.boxes[split], 'box')}"
        for split, images in told.images.items()
    ]
    lines += [f"not held by {told.format}: {n} {what}" for what, n in told.not_held.items()]
    if told.dropped:
        lines.append(f"left out because of {counted(told.dropped, 'error')}: see findings.json")
    if leaks:
        lines.append(f"the splits of the old data shared {counted(len(leaks), 'picture')}:")
        lines += [f"  {line}" for line in leaks[:LEAKS_SHOWN]]
    if dry_run:
        lines += [f"  {name} ..." for name in told.first]
    head = f"{'would write' if dry_run else 'written'}: {told.data}"
    next_command = [] if dry_run else [f"next: det data check data={told.data}"]
    result = {**told.to_dict(), "shared_pictures": leaks}
    return Outcome(result, join([head, *lines, *next_command]), 1 if told.dropped else 0)


def _stats(config: Any, log: Log) -> Outcome:
    from ...datasets.scan.scan import scan_split
    from ..examine.data_stats import data_stats, plot_stats

    dataset = _load(config.data_source, config, log)
    with log.progress("reading", 0) as update:
        scans = [
            scan_split(dataset, split, on_progress=update, strict=False) for split in dataset.splits
        ]
    numbers = data_stats(scans, dataset.class_names, config.imgsz)
    records = [record for scan in scans for record in scan.records]
    plot_stats(records, dataset.class_names, config.imgsz, Path(config.out))
    text = join([*show_stats(numbers).splitlines(), f"picture: {config.out}"])
    return Outcome({**numbers, "picture": config.out}, text)


def _show(config: Any, log: Log) -> Outcome:
    from ..examine.data_pictures import write_pictures

    dataset = _load(config.data_source, config, log)
    with log.progress("drawing", 0) as update:
        files = write_pictures(
            dataset, Path(config.out), split=config.split, index=config.index, cls=config.cls,
            finding=config.finding, most=config.max_images, on_progress=update,
        )  # fmt: skip
    result = {"pictures": [str(file) for file in files], "folder": config.out}
    return Outcome(result, f"{counted(len(files), 'picture')}: {config.out}")


def _shapes(config: Any, log: Log) -> Outcome:
    val = max(config.n // 5, 1) if config.val is None else config.val
    train = config.n - val - config.test
    if train < 1:
        held = f"val={val} and test={config.test}"
        raise UsageError(f"n={config.n} with {held} leaves no image for training: use a larger n")
    from ...datasets.drawn.shapes import write_shapes

    with log.progress("drawing", config.n, report=True) as update:
        path = write_shapes(
            Path(config.out), train=train, val=val, test=config.test, seed=config.seed,
            size=config.imgsz, on_progress=update,
        )  # fmt: skip
    result = {"data": str(path), "train": train, "val": val, "test": config.test}
    return Outcome(result, join([f"drawn: {path}", f"next: det train data={path}"]))


def _videos(config: Any, log: Log) -> Outcome:
    from ...datasets.drawn.videos import write_videos

    with log.progress("drawing", config.n * config.frames, report=True) as update:
        path = write_videos(
            Path(config.out), count=config.n, frames=config.frames, seed=config.seed,
            size=config.imgsz, objects=config.objects, on_progress=update,
        )  # fmt: skip
    result = {"data": str(path), "videos": config.n, "frames": config.frames}
    return Outcome(result, join([f"drawn: {path}", f"next: det track data={path} boxes=gt"]))


def _errors(command: Command, config: Any, log: Log) -> Outcome:
    config = check_looks(command, config, log)
    log.loading_torch()
    from ..examine.label_errors import label_errors, write

    errors = label_errors(config, log)
    write(errors, Path(config.out))
    told = errors.to_dict()
    kinds = ", ".join(f"{count} {kind}" for kind, count in told["counts"].items())
    looked = f"{counted(told['boxes'], 'box')} in {counted(told['images'], 'image')}"
    lines = [f"{looked}: {len(errors.suspicions)} look wrong ({kinds})"]
    first = errors.suspicions[:ERRORS_SHOWN]
    lines += [f"  {one.score:.2f} {one.kind}: {one.image.name}" for one in first]
    return Outcome(told, join([*lines, f"all of them, with pictures: {config.out}"]))
