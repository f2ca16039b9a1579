"""Everything about a command that can be found wrong before torch is imported or a file written.

A mistyped path, a device that can not be one, two options that contradict each other: each is a
UsageError (or an error of the room that was asked) with one line that names the mend.  Options
that would have no effect are refused too: what the user gave is never silently ignored.  What only
the model or the device can tell is checked later, where it is known.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..datasets.config import DatasetError, find_yaml, load_dataset
from ..datasets.description import read_description
from ..weights.checkpoint import CheckpointError, is_state, read_meta
from ..weights.zoo import ZOO
from .config import (
    MODELS,
    NMS_FREE,
    PRECISIONS,
    AmpConfig,
    BenchAmpConfig,
    CommonConfig,
    PredictConfig,
    ProbeConfig,
    TrainConfig,
    ValConfig,
)
from .config_export import BenchExportConfig, ExportConfig
from .export.formats import format_of
from .parse import UsageError, nearest
from .predict.locate import locate
from .pretrained import FETCHED, FOREIGN, FRESH, check_obtainable, start_of
from .runs import BEST, RunNotFound, check_project, newest_run
from .train.distributed import check_batch, place, several
from .train.resume import find_last

DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?|\d+")
SUFFIX = BEST.suffix
"""Of checkpoints that hold a model to use."""

Detecting = TrainConfig | ValConfig | PredictConfig | ExportConfig
Pairs = list[tuple[bool, str]]
"""(is wrong, what to say)."""


def check_train(config: TrainConfig, given: frozenset[str] = frozenset()) -> None:
    """Raise UsageError where this training can not be meant or not start.  given: typed names."""
    ranks = _check_ranks(config)
    check_common(config, writes=config.resume is None)
    if config.resume is not None:  # the other settings are those of the run that goes on
        find_last(config.resume, config.project)
        if "data" in given:
            check_data(config.data, config.split)
        return
    refuse(_train_pairs(config, given) + detect_pairs(config, given))
    check_batch(config.batch, ranks)
    check_model(config.model)
    _check_start(config)
    check_data(config.data, config.split, download=not config.offline)


def check_val(config: ValConfig, given: frozenset[str] = frozenset()) -> None:
    """Raise UsageError where there is nothing to measure, or nothing to measure it on."""
    check_common(config)
    refuse(detect_pairs(config, given))
    check_trained(config)
    if config.data is not None:
        check_data(config.data, config.split, download=not config.offline)


def check_predict(
    config: PredictConfig, given: frozenset[str] = frozenset(), *, source_needed: bool = False
) -> None:
    """Raise UsageError where there is no model or no source to look at.

    source_needed: whether ``config.source`` must be set; Python callers may pass images instead.
    """
    files = config.save or config.save_txt or config.save_json or config.save_crop
    check_common(config, writes=source_needed or files)
    labels = config.save_conf and not config.save_txt
    refuse(
        [
            *detect_pairs(config, given),
            (labels, "save_conf=True adds scores to label files: add save_txt=True"),
            (
                source_needed and config.source is None,
                "say what to look at: det predict image.jpg (or a folder, video, camera, URL)",
            ),
        ]
    )
    if config.source is not None:
        locate(config.source)
    check_trained(config)


def check_amp(config: AmpConfig) -> None:
    """Raise UsageError where there is nothing to examine, or nothing to examine it on."""
    _check_probe(config)
    forced = config.amp_force and config.amp in ("auto", "true", "false")
    refuse([(forced, f"amp_force=True needs a precision by name, not amp={config.amp}")])


def check_bench_amp(config: BenchAmpConfig) -> None:
    """Raise UsageError where there is nothing to measure, or an unknown precision is named."""
    _check_probe(config)
    for name in (part.strip() for part in (config.precisions or "fp32").split(",")):
        hint = f"{name!r} is no precision of these: {', '.join(PRECISIONS)}"
        refuse([(name not in PRECISIONS, f"precisions={config.precisions}: {hint}")])


def _check_probe(config: ProbeConfig) -> None:
    check_common(config)
    check_model(config.model)
    check_data(config.data, download=not config.offline)


def check_model(text: str) -> None:
    """Raise UsageError where ``text`` is neither a model name nor a checkpoint."""
    if text not in MODELS:
        _check_checkpoint("model", text)


def refuse(pairs: Pairs) -> None:
    """Raise UsageError for the first pair that is wrong."""
    for wrong, message in pairs:
        if wrong:
            raise UsageError(message)


def check_common(config: CommonConfig, *, writes: bool = True) -> None:
    """Device, project and name: what every run has.  writes: a run folder will be made."""
    if config.device is not None:
        check_device(config.device, trains=isinstance(config, TrainConfig))
    if writes:
        check_project(Path(config.project))
    name = config.name
    if name is not None and (name in (".", "..") or "/" in name or "\\" in name or "\0" in name):
        mend = "use project= for the folder above it"
        raise UsageError(f"name={name}: expected a plain folder name; {mend}")


def _check_ranks(config: TrainConfig) -> int:
    """Processes that this training is shared by: those that were started, or that will be."""
    started, named = place(), several(config.device)
    if len(set(named)) < len(named):
        raise UsageError(f"device={config.device} names a GPU twice: each rank needs its own")
    return max(started.size, len(named))


def check_device(device: str, *, trains: bool) -> None:
    """Raise UsageError for what is no device, and for several where a command runs on one."""
    if named := several(device):
        if trains:
            return
        mend = f"use device={named[0]} (det train uses several)"
        raise UsageError(f"device={device}: this command runs on one device; {mend}")
    if not DEVICE.fullmatch(device):
        raise UsageError(f"device={device}: expected cpu, mps, cuda, or the number of a GPU (0, 1)")


def detect_pairs(config: Detecting, given: frozenset[str]) -> Pairs:
    """Settings of NMS that would do nothing."""
    mend = "add nms=True, or leave it out"
    touched = "iou" in given or config.agnostic_nms
    free = touched and not config.nms and _is_nms_free(config)
    return [
        (
            "iou" in given and free,
            f"iou={config.iou:g} has no effect on the NMS-free head: {mend}",
        ),
        (
            config.agnostic_nms and free,
            f"agnostic_nms=True has no effect on the NMS-free head: {mend}",
        ),
    ]


def _is_nms_free(config: Detecting) -> bool:
    """Whether the model has a head without NMS; False too where only its file can tell."""
    name = config.model
    try:
        if name not in MODELS:
            path = Path(name) if name else newest_run(config.project) / BEST
            name = read_meta(path).model if path.suffix == SUFFIX and path.is_file() else ""
    except (RunNotFound, CheckpointError):
        return True  # what is wrong with it is said where the model is checked
    return str(name).startswith(NMS_FREE)


def _train_pairs(config: TrainConfig, given: frozenset[str]) -> Pairs:
    return [*_optimizer_pairs(config, given), *_length_pairs(config, given), *_run_pairs(config)]


def _optimizer_pairs(config: TrainConfig, given: frozenset[str]) -> Pairs:
    schedules = {"cos_lr", "schedule"} <= given
    return [
        (
            schedules and config.cos_lr != (config.schedule == "cosine"),
            f"cos_lr={config.cos_lr} contradicts schedule={config.schedule}: give one of them",
        ),
        (config.lr0 == 0, "lr0=0 learns nothing: expected a number above 0, e.g. lr0=0.01"),
        (
            config.ema_decay is not None and not config.ema,
            "ema_decay has no effect with ema=False: leave one of them out",
        ),
        (
            config.nbs is not None and config.nbs < config.batch,
            f"nbs={config.nbs} is less than batch={config.batch}: smaller batches are accumulated "
            "up to nbs; leave it out",
        ),
        (
            config.amp_force and config.amp in ("auto", "true", "false"),
            f"amp_force=True needs a precision by name, not amp={config.amp}: e.g. amp=fp16",
        ),
    ]


def _length_pairs(config: TrainConfig, given: frozenset[str]) -> Pairs:
    close, warmup, epochs = config.close_mosaic, config.warmup_epochs, config.epochs
    fixed = config.time is None
    return [
        (config.time == 0, "time=0 leaves no time: expected hours above 0, e.g. time=0.5"),
        (
            not fixed and "epochs" in given,
            "time= chooses the number of epochs: give time= or epochs=, not both",
        ),
        (
            fixed and close is not None and close >= epochs > 0,
            f"close_mosaic={close} leaves no epoch of {epochs} with mosaic: "
            "use mosaic=0 if that is meant",
        ),
        (
            close is not None and config.mosaic == 0 and config.mixup == 0,
            f"close_mosaic={close} has nothing to close with mosaic=0 and mixup=0: leave it out",
        ),
        (
            fixed and warmup is not None and warmup >= epochs,
            f"warmup_epochs={warmup} is no part of a run of epochs={epochs}: use less",
        ),
        (
            "patience" in given and config.patience > 0 and not config.val,
            "patience needs an AP after every epoch: leave val=False out, or say patience=0",
        ),
    ]


def _run_pairs(config: TrainConfig) -> Pairs:
    checkpoint = config.model not in MODELS
    weights = checkpoint and config.pretrained not in (None, FRESH)
    return [
        (config.fraction == 0, "fraction=0 leaves no image: expected a share above 0"),
        (
            not config.save and config.save_period > 0,
            f"save_period={config.save_period} has no effect with save=False: leave one out",
        ),
        (
            not config.save and config.save_steps > 0,
            f"save_steps={config.save_steps} has no effect with save=False: leave one out",
        ),
        (
            config.augment_device == "cuda" and config.device in ("cpu", "mps"),
            f"augment_device=cuda draws on a card, but device={config.device}: leave one out",
        ),
        (
            weights,
            f"model={config.model} and pretrained={config.pretrained} are two sources of weights: "
            "give one checkpoint",
        ),
        (
            checkpoint and config.pretrained == FRESH,
            f"model={config.model} is a checkpoint, and pretrained=False wants none: "
            "name a model, e.g. model=yolo26n",
        ),
    ]


def _check_start(config: TrainConfig) -> None:
    """The weights that a training starts from: on disk, or in the zoo and to be had."""
    if config.pretrained == FETCHED and config.model in MODELS and config.model not in ZOO:
        raise UsageError(
            f"pretrained=True: no permissive pretrained weights of {config.model} exist; "
            f"there are some of {', '.join(ZOO)}"
        )
    word = start_of(config)
    if word in ZOO:
        check_obtainable(str(word), offline=config.offline, accept_license=config.accept_license)
    elif word in MODELS:
        raise UsageError(f"pretrained={word} is a model without weights: {_mend_names(str(word))}")
    elif config.pretrained not in (None, FRESH, FETCHED):
        _check_checkpoint("pretrained", str(word))


def check_trained(config: ValConfig | PredictConfig | ExportConfig | BenchExportConfig) -> None:
    """val and predict need weights: a checkpoint, a name of the zoo, or the newest run's."""
    model = config.model
    if model is None:
        newest_run(config.project)
    elif format_of(model) is not None:
        if not Path(model).exists():
            raise UsageError(_no_model("model", Path(model)))
    elif model in ZOO:
        check_obtainable(model, offline=config.offline, accept_license=config.accept_license)
    elif model in MODELS:
        mend = f"name a checkpoint such as runs/train/{BEST}, or leave model= out for the newest"
        raise UsageError(f"model={model} has not been trained: {mend}")
    else:
        _check_checkpoint("model", model)


def _mend_names(word: str) -> str:
    return f"leave it out to train {word} from scratch, or take one of {', '.join(ZOO)}"


def _check_checkpoint(knob: str, text: str) -> None:
    """A file that says of itself that it is a checkpoint of ours, or one of another project, which
    is looked at when it is read.  Also raises CheckpointError."""
    path = Path(text)
    if path.is_file():
        if path.suffix in FOREIGN:
            if is_state(path):
                raise UsageError(
                    f"{knob}={text} is the training state of a run: to go on with it use "
                    f"resume={text}, to start from its weights use {knob}={path.parent / BEST.name}"
                )
            return
        if path.suffix != SUFFIX:
            others = f"or a {' or '.join(FOREIGN)} of another project"
            raise UsageError(f"{knob}={text}: expected a {SUFFIX} checkpoint of det, {others}")
        read_meta(path)
        return
    if (path / BEST).is_file():
        raise UsageError(f"{knob}={text} is a run folder: write {knob}={path / BEST}")
    if path.is_dir():
        raise UsageError(f"{knob}={text} is a folder without {BEST}: expected a checkpoint")
    raise UsageError(_no_model(knob, path))


def _no_model(knob: str, path: Path) -> str:
    """Why nothing is called so, and what to type instead."""
    text, stem = str(path), path.stem
    checkpoint = f"a checkpoint such as runs/train/{BEST}"
    if path.suffix in FOREIGN and stem in ZOO:
        return f"{knob}={text}: no such file; {knob}={stem} downloads these weights"
    if path.suffix == ".pt" and stem in MODELS:
        return (
            f"{knob}={text}: no such file, and no permissive pretrained weights of that name "
            f"exist; model={stem} trains from scratch, or name {checkpoint}"
        )
    if stem in MODELS:
        return f"{knob}={text}: no such file; model={stem} trains from scratch"
    if path.suffix or path.parent != Path():
        return f"{knob}={text}: no such file (looked in {path.parent.absolute()})"
    close = nearest(text, MODELS)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{knob}={text}: {hint}known are {', '.join(MODELS)}, or {checkpoint}"


def check_data(data: str, split: str = "val", *, download: bool = True) -> None:
    """Raise DatasetError where the data set's YAML is missing or wrong, lacks ``split``, or where
    its files are not on disk and could not be fetched either.  Nothing is downloaded or drawn.
    download: whether the command itself may."""
    path = find_yaml(data)
    description = read_description(path, _silent)
    if description.entries and split not in description.entries:
        there = ", ".join(description.entries)
        raise DatasetError(f"{path}: there is no split {split!r}; there is {there}")
    drawn = description.shapes is not None or description.stand_in is not None
    if drawn or (download and description.download is not None):
        return  # can be made when the command runs
    load_dataset(path, download=False).sources(split)


def _silent(text: str) -> None:
    """Remarks are made when the data set is loaded."""
