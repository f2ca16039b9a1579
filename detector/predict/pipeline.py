"""A prediction run: open the source, load the model, predict, write files."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...datasets.images.image import MOST_IN_TILES, MOST_PIXELS
from ..checkpoints.augment import augmented
from ..checkpoints.confidence import detect_options
from ..checkpoints.ensemble import named_as
from ..checkpoints.load import Loaded, load_for_use
from ..evaluate.class_names import class_numbers
from ..evaluate.fusion import fused_detections, heard
from ..evaluate.tiling import tiling_of
from ..options.catalog import command_of
from ..options.detect import DetectOptions
from ..options.errors import UsageError
from ..options.predict import PredictConfig
from ..run.folder import new_run_folder
from ..run.log import Log
from .predictor import Predictor
from .results import Results
from .sources import Frame, open_source
from .writer import Outputs, ResultWriter


def predict(config: PredictConfig, given: frozenset[str], log: Log) -> dict[str, Any]:
    """Find objects in a source and write files into a run folder."""
    if config.source is None:
        raise UsageError(
            "det predict needs a source: source=image.jpg, a folder, a video, a URL or a webcam"
        )
    found = predict_stream(config, given, config.source, log)
    return written(config, displayed(config, found), log)


def written(config: PredictConfig, found: Iterator[Results], log: Log) -> dict[str, Any]:
    """Write the files of results, log a line on each and say what was found."""
    results, folder, files = writing(config, found, log)
    images = detections = 0
    best = 0.0
    for result in results:
        log.info(f"{result.source.path.name}: {result.line()}")
        images, detections = images + 1, detections + len(result)
        best = max(best, result.best_score or 0.0)
    return {
        "folder": str(folder),
        "images": images,
        "detections": detections,
        "conf": config.conf,
        "best_score": None if detections else best,
        "file": str(files[0]) if len(files) == 1 else None,
    }


def writing(
    config: PredictConfig, results: Iterator[Results], log: Log
) -> tuple[Iterator[Results], Path, list[Path]]:
    """The results, each written into a new run folder as it is passed on; the folder; and the files
    that are complete so far."""
    first = next(results)  # fails before the folder is made if model or source are unusable
    command = command_of(type(config))
    folder = new_run_folder(config, command.name if command else "predict")
    files: list[Path] = []

    def passing() -> Iterator[Results]:
        with ResultWriter(folder, outputs_of(config)) as writer:
            for result in itertools.chain((first,), results):
                writer.write(result)
                yield result
        files.extend(writer.paths)
        if writer.frames_left_out:
            log.warn("frames of videos are left out of files for COCO tools and Label Studio")

    return passing(), folder, files


def outputs_of(config: PredictConfig) -> Outputs:
    """What is written and drawn."""
    names = [field.name for field in fields(Outputs) if hasattr(config, field.name)]
    return Outputs(**{name: getattr(config, name) for name in names})


def displayed(config: PredictConfig, results: Iterator[Results]) -> Iterator[Results]:
    """The results, each in a window as it is passed on where ``show=True``."""
    if not config.show:
        return results
    from .window import shown

    return shown(results, outputs_of(config))


def predict_stream(
    config: PredictConfig,
    given: frozenset[str],
    source: Any,
    log: Log,
    used: Loaded | None = None,
    rgb: bool = False,
) -> Iterator[Results]:
    """Results of a source, one at a time.

    used: default what ``model=`` names.  rgb: NumPy arrays are RGB, not BGR.
    """
    used = used or load_for_use(config, given, log)
    members = used.members
    tiled = all(tiling_of(member.meta, config) for member in members)
    frames = open_source(
        source, vid_stride=config.vid_stride, on_warning=log.warn, rgb=rgb, strict=config.strict,
        recursive=config.recursive, at_once=type(config) is PredictConfig,
        most_pixels=MOST_IN_TILES if tiled else MOST_PIXELS, pixels=used.meta.pixels,
    )  # fmt: skip
    detect = detect_options(config, used, class_numbers(config.classes, used.meta.class_names))
    each = detect if len(members) == 1 else heard(detect, len(members))
    predictors = [predictor_of(config, member, used, each, log) for member in members]
    log.once(used.idle_nms(config, given))
    if len(members) == 1:
        return predictors[0].stream(frames)
    log.info(f"{len(members)} models are fused: weighted boxes fusion")
    if len({member.meta.pixels for member in members}) > 1:
        log.info(f"images of more than 8 bits are read with pixels={used.meta.pixels} for all")
    return fused_stream(predictors, frames, detect)


def predictor_of(
    config: PredictConfig, used: Loaded, first: Loaded, detect: DetectOptions, log: Log
) -> Predictor:
    """The predictor of one model, with the class numbers of ``first``."""
    tiling, model = tiling_of(used.meta, config), named_as(used, first)
    if config.augment:
        model, detect = augmented(model, detect)
    log.info(used.line(config.nms))
    if tiling is not None:
        log.info(f"tile={tiling.side} overlap={tiling.overlap:g}: images are seen in tiles")
    return Predictor(
        model,
        first.meta.class_names,
        used.input_size(config),
        detect,
        used.forward_options(config.channels_last),
        config.batch,
        tiling,
    )


def fused_stream(
    predictors: Sequence[Predictor], frames: Iterable[Frame], detect: DetectOptions
) -> Iterator[Results]:
    """What several models found in each frame, fused.  A frame is kept until all have seen it."""
    copies = itertools.tee(frames, len(predictors))
    streams = [one.stream(own) for one, own in zip(predictors, copies, strict=True)]
    for results in zip(*streams, strict=True):
        found = fused_detections([result.detections for result in results], detect)
        speed = {name: sum(one.speed[name] for one in results) for name in results[0].speed}
        tops = [one.detections.scores[:1].tolist() or [one.best_score or 0.0] for one in results]
        best = None if len(found) else max(top for (top,) in tops)
        yield Results(results[0].source, found, results[0].names, speed, best)
