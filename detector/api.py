"""The Python face: ``YOLO("yolo26n").train(data="coco8.yaml", epochs=5)``, and the functions behind
the commands.

The command line and ``YOLO`` both go through ``train``, ``val``, ``predict``, ``export`` and
``info``: one config in, one plain result out.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.config import load_dataset
from ..datasets.dataset import DetectionDataset
from ..datasets.loader import Loader
from ..datasets.scan import scan_split, summarise_findings
from ..weights.checkpoint import Meta
from ..weights.describe import describe_file
from ..weights.zoo import ZOO
from .checks import check_predict, check_train, check_val
from .checks_export import check_export
from .classes import class_numbers, relabelled
from .config import MODELS, AmpConfig, PredictConfig, TrainConfig, ValConfig
from .config_export import BenchExportConfig, ExportConfig
from .device import pick_device, use_all_cores
from .evaluate.evaluator import Evaluation, evaluate
from .export.export import export as export_checkpoint
from .loading import Loaded, find_weights, load_checkpoint, load_for_use, trained_on
from .log import Log
from .models.build import build
from .models.restore import restore
from .parse import UsageError, parse
from .precision.ladder import choose_precision, resumed_precision
from .precision.precision import Precision
from .predict.predictor import Predictor
from .predict.results import Result, ResultWriter
from .predict.sources import open_source
from .runs import (
    BEST,
    LAST,
    RunNotFound,
    new_run_folder,
    plain,
    write_json,
)
from .train.assemble import Run, assemble
from .train.distributed import check_batch, join
from .train.report import (
    evaluation_plots,
    metrics_table,
    write_beginning,
    write_plots,
    write_results,
)
from .train.resume import find_last, resume_config
from .train.trainer import Trainer


class YOLO:
    """A detector by name (``yolo26n``: from scratch) or by checkpoint path.

    ``train``, ``val`` and ``predict`` take the words of the command line as keyword arguments.
    """

    def __init__(self, model: str | Path = MODELS[0], *, verbose: bool = True) -> None:
        self.model = str(model)
        self.log = Log(verbose=verbose)

    def train(self, **words: Any) -> dict[str, Any]:
        """Train; afterwards this object is the best checkpoint, where one was saved.  Returns the
        results (see results.json)."""
        config, given = parse(TrainConfig, {"model": self.model, **words})
        check_train(config, given)
        results = train(config, given, self.log)
        self.model = results["best"] or self.model
        return results

    def val(self, **words: Any) -> dict[str, Any]:
        """Measure on a data set (default: the one it was trained on).  Returns the results."""
        config, given = parse(ValConfig, {"model": self.model, **words})
        check_val(config, given)
        return val(config, given, self.log)

    def predict(
        self, source: str | Path | np.ndarray | Sequence[Any], **words: Any
    ) -> list[Result]:
        """Find objects.  Files are written where asked for: ``save=True``, ``save_txt=True`` ..."""
        return list(self.stream(source, **words))

    def stream(
        self, source: str | Path | np.ndarray | Sequence[Any], **words: Any
    ) -> Iterator[Result]:
        """Like predict, one result at a time: memory stays flat on long videos."""
        config, given = parse(PredictConfig, {"model": self.model, "save": False, **words})
        check_predict(config, given)
        results = predict_stream(config, source, self.log)
        if config.save or config.save_txt or config.save_json or config.save_crop:
            results, _ = writing(config, results)
        yield from results

    def export(self, **words: Any) -> dict[str, Any]:
        """Write it for other runtimes.  Returns what was written, and how close its answers are."""
        config, given = parse(ExportConfig, {"model": self.model, **words})
        check_export(config, given)
        return export(config, given, self.log)


def train(config: TrainConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Train a detector, or go on training one, and leave a run folder.

    Returns what results.json holds, and where things are.  A process that torchrun has started is
    one rank of the run: the first one writes and talks, all return the same.
    """
    with join(config.device) as group:
        log.mute = not group.first
        if group.size > 1:
            check_train(config, given)
        state, folder, last = None, None, Path()
        if config.resume is not None:
            last = find_last(config.resume, config.project)
            config, state = resume_config(config, given, last, log)
            folder = last.parents[1]
        check_batch(config.batch, group.size)
        meta = Meta.from_dict(state["meta"], last) if state else None
        transferred = frozenset(state["transferred"] if state else ())
        run = assemble(config, log, meta, transferred, group)
        with contextlib.closing(run):
            return learn(run, state, folder, log)


def learn(
    run: Run, state: Mapping[str, Any] | None, folder: Path | None, log: Log
) -> dict[str, Any]:
    """Choose the precision, train from ``state`` on, measure.  folder: of a run that goes on."""
    config, group = run.config, run.group
    if state is None:
        decision = choose_precision(
            config,
            run.model,
            run.criterion.alone(),
            lambda: run.train_loader.epoch(0),
            run.device,
            log,
            fresh=run.transferred is None,
            group=group,
        )
    else:
        decision = resumed_precision(
            state["precision"], run.device, log, force=config.amp_force, group=group
        )
    if group.first:
        folder = folder or new_run_folder(config, "train")
        write_beginning(folder, run, decision if state is None else None, log)
    folder = group.of_first(folder)
    assert folder is not None
    trainer = Trainer(run, decision, folder, log)
    if state is not None:
        trainer.load_state_dict(state)
    trainer.fit()
    return group.of_first(finish(trainer) if group.first else {})


def finish(trainer: Trainer) -> dict[str, Any]:
    """Measure the best weights of a run in the precision that they were chosen in (the run may have
    fallen back since), and write its results and pictures.  A run that saves none measures its last
    ones, and looks at no file: what lies in the folder is another run's."""
    run, folder = trainer.run, trainer.folder
    model, precision = trainer.deployed, trainer.precision
    best, last = (str(folder / name) if run.config.save else None for name in (BEST, LAST))
    which = f"last weights (epoch {trainer.at.epoch})"
    if best is not None:
        model, meta = restore(Path(best))
        model = model.to(run.device)
        precision = Precision(meta.precision, run.device.type, "as it was chosen")
        which = f"best weights (epoch {meta.epoch})"
    evaluation = trainer.evaluate(model, precision)
    metrics_table(trainer.log, evaluation, f"{run.dataset.name}, {which}")
    results = write_results(trainer, evaluation)
    if run.config.plots:
        write_plots(folder, run, evaluation)
    return results | {"folder": str(folder), "best": best, "last": last}


def val(config: ValConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Measure a checkpoint on a data set and leave a run folder."""
    used = load_for_use(config, log)
    path, meta, model = used.path, used.meta, used.model
    data = config.data or trained_on(path, meta)
    if data is None:
        raise RunNotFound(
            f"{path} does not say what it was trained on: name the data with data=..."
        )
    online = config.download and not config.offline
    dataset = load_dataset(data, download=online, on_message=log.message)
    scan = scan_split(dataset, config.split)
    for line in summarise_findings(scan):
        log.warn(line)
    single = config.single_cls or bool(meta.config.get("single_cls"))
    if single:
        records = [record.single_class() for record in scan.records]
    else:
        names = dataset.class_names, str(path), meta.class_names
        records = relabelled(scan.records, data, *names, log.warn)
    height, width = used.input_size(config.imgsz)
    if height != width:
        raise UsageError(
            f"{path} takes images of {height}x{width}: det val measures on square inputs"
        )
    loader = Loader(
        DetectionDataset(records, height, augment=None, align=model.letterbox),
        config.batch,
        shuffle=False,
        workers=config.workers,
        device_type=used.device.type,
    )
    log.info(f"{used.line(config.nms)}, {dataset.name} {config.split}")
    if loader.cut:
        log.info(loader.cut)
    with contextlib.closing(loader), log.progress("validating", len(loader)) as update:
        evaluation = evaluate(
            model,
            loader,
            records,
            meta.class_names,
            device=used.device,
            nms=config.nms,
            conf=config.conf,
            iou=config.iou,
            max_det=config.max_det,
            agnostic_nms=config.agnostic_nms,
            autocast=used.precision.autocast,
            channels_last=config.channels_last,
            on_progress=update,
        )
    metrics_table(log, evaluation, f"{dataset.name} {config.split}")
    return save_evaluation(config, used, evaluation, dataset.name)


def save_evaluation(
    config: ValConfig, used: Loaded, evaluation: Evaluation, data: str
) -> dict[str, Any]:
    """Write what was measured into a new run folder.  Returns results.json's content and where it
    is."""
    folder = new_run_folder(config, "val")
    results = plain(
        {
            "model": used.meta.model,
            "checkpoint": str(used.path),
            "data": data,
            "split": config.split,
            "head": used.head(config.nms),
            "precision": used.precision.name,
            "metrics": evaluation.metrics.to_dict(),
            "speed_ms": evaluation.speed,
        }
    )
    write_json(folder / "results.json", results)
    if config.save_json:
        write_json(folder / "predictions.json", evaluation.collector.coco_results())
    if config.save_txt:
        evaluation.write_labels(folder / "labels")
    if config.plots:
        evaluation_plots(folder, evaluation, used.meta.class_names)
    return results | {"folder": str(folder)}


def predict(config: PredictConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Find objects in a source and write pictures and files into a run folder."""
    if config.source is None:
        raise UsageError(
            "det predict needs a source: source=image.jpg, a folder, a video, a URL or a webcam"
        )
    results, folder = writing(config, predict_stream(config, config.source, log))
    images = detections = 0
    for result in results:
        log.info(f"{result.path.name}: {result.summary()}")
        images, detections = images + 1, detections + len(result)
    return {"folder": str(folder), "images": images, "detections": detections}


def writing(config: PredictConfig, results: Iterator[Result]) -> tuple[Iterator[Result], Path]:
    """The same results, each written into a new run folder as it passes; and the folder."""
    first = next(results)  # proves that model and source are sound, before a folder is made
    folder = new_run_folder(config, "predict")

    def passing() -> Iterator[Result]:
        with ResultWriter(
            folder,
            save=config.save,
            save_txt=config.save_txt,
            save_conf=config.save_conf,
            save_json=config.save_json,
            save_crop=config.save_crop,
            line_width=config.line_width,
        ) as writer:
            for result in itertools.chain((first,), results):
                writer.write(result)
                yield result

    return passing(), folder


def predict_stream(config: PredictConfig, source: Any, log: Log) -> Iterator[Result]:
    """Results of a source, one at a time."""
    frames = open_source(source, vid_stride=config.vid_stride, on_warning=log.warn)
    used = load_for_use(config, log)
    predictor = Predictor(
        used.model,
        used.meta.class_names,
        image_size=used.input_size(config.imgsz),
        device=used.device,
        nms=config.nms,
        conf=config.conf,
        iou=config.iou,
        max_det=config.max_det,
        agnostic_nms=config.agnostic_nms,
        classes=class_numbers(config.classes, used.meta.class_names),
        autocast=used.precision.autocast,
        channels_last=config.channels_last,
        batch=config.batch,
    )
    log.info(used.line(config.nms))
    yield from predictor.stream(frames)


def export(config: ExportConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Write a checkpoint in other formats and compare each file with it.

    Returns one entry a file under ``exports``; ``passed``: all of them answer the same.
    """
    use_all_cores()
    path = find_weights(config, log)
    model, meta = load_checkpoint(path, pick_device(config.device or "cpu"), log)
    return export_checkpoint(config, path, meta, model, fetched=config.model in ZOO, log=log)


def bench_export(config: BenchExportConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Write a checkpoint in every format and precision that can be run here, and compare the files.

    Leaves a run folder; returns what bench_export.json holds.
    """
    from .examine.export_bench import bench_export as compare  # here, for its plots take a while

    use_all_cores()
    path = find_weights(config, log)
    model, meta = load_checkpoint(path, pick_device("cpu"), log)
    return compare(config, path, meta, model, log)


def amp(config: AmpConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Examine which precision is right and fast on a model, data and device, layer by layer.

    Leaves a run folder; returns what amp.json holds.  ``passed``: no precision by name failed.
    """
    from .examine.amp_report import examine

    return examine(config, log)


def info(name: str) -> dict[str, Any]:
    """What a model name or a checkpoint is: size, classes, provenance, metrics."""
    if name in MODELS:
        return build(name, 80).describe()
    return describe_file(Path(name))
