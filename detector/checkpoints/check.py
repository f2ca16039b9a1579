"""Whether what ``model=`` and ``pretrained=`` name can be used, found out without torch."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from ...weights.checkpoint import is_state, read_meta
from ...weights.shelf import check_obtainable
from ...weights.zoo import ZOO
from ..options.errors import UsageError, nearest
from ..options.export import BenchExportConfig, ExportConfig
from ..options.formats import FORMATS, format_of
from ..options.names import AUTO, FOREIGN, MODELS
from ..options.predict import PredictConfig
from ..options.train import TrainConfig
from ..options.val import ValConfig
from ..run.folder import BEST, LAST, newest_run
from ..run.log import Log
from .choose import TrainT, choose_start

SUFFIX = BEST.suffix
"""Of checkpoints that hold a model to use."""
OTHER_FAMILIES = re.compile(
    r"yolov?(3|4|5|6|7|10|12|13)[a-z_-]*|rt-?detr\S*|yolo_nas\S*", re.IGNORECASE
)
"""Names of models that det does not have: no misspelled names of its own."""
SUGGESTED = ("yolox_nano", "yolov9s")
"""Small models with COCO weights under a permissive license."""

DetectingConfig = TrainConfig | ValConfig | PredictConfig | ExportConfig
UsingT = TypeVar("UsingT", ValConfig, PredictConfig, ExportConfig, BenchExportConfig)


def check_model(text: str) -> None:
    """Raise UsageError where ``text`` is neither a model name nor a checkpoint to start from."""
    if text not in MODELS:
        check_start("model", text)


def idle_nms(config: DetectingConfig, given: frozenset[str], *, used: bool) -> list[str]:
    """A line per option of NMS that was given and has no effect.  used: whether the head of the
    model is read with NMS."""
    asked = given if config.agnostic_nms else given - {"agnostic_nms"}
    options = [name for name in ("iou", "agnostic_nms") if name in asked and not used]
    return [
        f"{name}={getattr(config, name)} has no effect on the NMS-free head: nms=True uses it"
        for name in options
    ]


def find_trained(config: UsingT) -> UsingT:
    """The config with a ``model=`` that can be loaded: a file or a name of the zoo.

    A run folder stands for its best weights, or the last ones where it has no best.  No ``model=``
    stands for the newest run.  Several, as in ``a,b``, are looked up one by one; only det val, det
    predict and det track fuse them.  Raises UsageError, RunNotFound, CheckpointError.
    """
    model = config.model
    if words := models_in(model):
        if not isinstance(config, ValConfig | PredictConfig):
            raise UsageError(
                f"model={model}: only det val, det predict and det track take several models (what "
                "they detect is fused); name one"
            )
        each = [find_trained(replace(config, model=word)).model for word in words]
        return replace(config, model=",".join(map(str, each)))
    if model is None:
        return replace(config, model=str(newest_run(config.project) / BEST))
    if format_of(model) is not None:
        if not Path(model).exists():
            raise UsageError(_no_model("model", Path(model)))
    elif model in ZOO:
        check_obtainable(model, offline=config.offline, accept_license=config.accept_license)
    elif model in MODELS or model == AUTO:
        fix = f"name a checkpoint such as runs/train/{BEST}, or leave out model= for the newest run"
        raise UsageError(f"model={model} has not been trained: {fix}")
    else:
        path = next((p for p in (Path(model) / BEST, Path(model) / LAST) if p.is_file()), None)
        if path is not None:
            return replace(config, model=str(path))
        if not is_state(Path(model)):
            check_start("model", model)
    return config


def models_in(model: str | None) -> tuple[str, ...]:
    """The models that ``model=a,b`` names; empty for a single one, also if its name has a comma.
    Raises UsageError for an empty name."""
    if model is None or "," not in model or Path(model).exists():
        return ()
    words = tuple(word.strip() for word in model.split(","))
    if not all(words):
        raise UsageError(f"model={model}: a name is empty; write model=a.safetensors,b.safetensors")
    return words


def check_fused(config: ValConfig | PredictConfig) -> None:
    """Raise UsageError for options that are about one look of one model, where what is found is
    fused."""
    several = bool(models_in(config.model))
    cause = "augment=True" if config.augment else f"model={config.model}"
    if not (config.augment or several):
        return
    if isinstance(config, PredictConfig):
        if config.conf == AUTO:
            raise UsageError(
                f"conf=auto with {cause}: a checkpoint proposes confidences for what it detects by "
                "itself, and fused scores are others; give a number (det val prints one)"
            )
    elif config.save_conf:
        raise UsageError(
            f"save_conf=True with {cause}: fused scores are not those of a checkpoint; leave it out"
        )


def is_quantized(model: str | None) -> bool:
    """Whether ``model=`` is a checkpoint, or a run folder with one, of quantization-aware training.
    Raises CheckpointError for a damaged one."""
    path = Path(model or "")
    path = path / BEST if (path / BEST).is_file() else path
    return path.suffix == SUFFIX and path.is_file() and read_meta(path).quantization is not None


def named_model(text: str) -> tuple[str, str]:
    """The model that a name means in Python, and a warning for the start of a training.

    ``yolo26n.yaml`` and, if there is no such file, ``yolo26n.pt`` mean ``yolo26n``.  All other
    texts are returned as they are.
    """
    path = Path(text)
    name = path.stem
    plain = path.parent == Path() and name in MODELS
    if plain and path.suffix in (".yaml", ".yml"):
        return name, ""
    if not plain or path.suffix not in FOREIGN or path.exists():
        return text, ""
    if name in ZOO:
        return name, ""
    return name, (
        f"{text}: no such file, and no weights of that name have a permissive license, so training "
        f"starts FROM SCRATCH. To start from COCO weights use {' or '.join(SUGGESTED)}, or name a "
        "checkpoint of your own"
    )


def named_start(
    config: TrainT, given: frozenset[str], log: Log | None = None
) -> tuple[TrainT, frozenset[str]]:
    """The options of a training with what Ultralytics' words for its start mean.

    log: is told what was chosen, and what is doubtful.
    ``model=yolo26n.pt`` without such a file is the model of that name, ``resume=True
    model=last.pt`` continues the run of that file, and ``pretrained=True`` beside a checkpoint asks
    for what it is.  Without ``model=``, and for ``model=auto``, it is chosen (choose.py).
    """
    config, chosen = choose_start(config, given)
    if config.resume is True and config.model not in MODELS:
        resume = config.model if Path(config.model).exists() else config.resume
        return replace(config, resume=resume, model=MODELS[0]), given - {"model"}
    name, warning = named_model(config.model)
    warns = bool(warning) and config.resume is None and not isinstance(config.pretrained, str)
    if config.pretrained is True and (warning or name not in MODELS):
        config = replace(config, pretrained=None)
    if log is not None:
        for line in chosen:
            log.info(line)
        log.once([warning] * warns)
    return replace(config, model=name), given


def say_newest(asked: str | None, found: str | None, log: Log) -> None:
    """Say which weights ``find_trained`` has chosen where none were named."""
    if asked is None:
        log.info(f"using the newest run's best weights: {found}")


def check_start(option: str, text: str) -> None:
    """Raise UsageError or CheckpointError where ``text`` is no checkpoint to start a training from.

    A file of another project is only looked at when it is read.
    """
    path = Path(text)
    if path.is_file():
        if path.suffix in FOREIGN:
            if is_state(path):
                raise UsageError(
                    f"{option}={text} is the training state of a run: write resume={text} to "
                    f"continue the run, or {option}={path.parent / BEST.name} to start from its "
                    "weights"
                )
            return
        if path.suffix == FORMATS["onnx"].suffix:
            raise UsageError(
                f"{option}={text}: an ONNX file becomes a checkpoint to start from with det "
                f"weights convert {text} {path.with_suffix(SUFFIX).name}"
            )
        if path.suffix != SUFFIX:
            others = f"or a {' or '.join(FOREIGN)} of another project"
            raise UsageError(f"{option}={text}: expected a {SUFFIX} checkpoint of det, {others}")
        read_meta(path)
        return
    if (path / BEST).is_file():
        raise UsageError(f"{option}={text} is a run folder: write {option}={path / BEST}")
    if path.is_dir():
        raise UsageError(f"{option}={text} is a folder without {BEST}: expected a checkpoint")
    raise UsageError(_no_model(option, path))


def _no_model(option: str, path: Path) -> str:
    """Why no file has this name, and what to type instead."""
    text, stem = str(path), path.stem
    checkpoint = f"a checkpoint such as runs/train/{BEST}"
    if path.suffix in FOREIGN and stem in ZOO:
        return f"{option}={text}: no such file; {option}={stem} downloads these weights"
    if path.suffix == ".pt" and stem in MODELS:
        return (
            f"{option}={text}: no such file, and no permissive pretrained weights of that name "
            f"exist; model={stem} trains from scratch, or name {checkpoint}"
        )
    if stem in MODELS:
        return f"{option}={text}: no such file; model={stem} trains from scratch"
    if path.suffix or path.parent != Path():
        return f"{option}={text}: no such file (looked in {path.parent.absolute()})"
    close = [] if OTHER_FAMILIES.fullmatch(text) else nearest(text, MODELS)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    return f"{option}={text}: {hint}expected one of {', '.join(MODELS)}, or {checkpoint}"


def start_of(config: TrainConfig) -> str | None:
    """The weights that a training starts from: a path or a name of the zoo; None for none."""
    if config.model not in MODELS:
        return config.model if config.model != AUTO else None
    if config.pretrained is False:
        return None
    if isinstance(config.pretrained, str):
        return config.pretrained
    return config.model if config.model in ZOO else None
