"""Whether what ``model=`` and ``pretrained=`` name can be used, found out without torch."""

from __future__ import annotations

from pathlib import Path

from ...weights.checkpoint import CheckpointError, is_state, read_meta
from ...weights.shelf import check_obtainable
from ...weights.zoo import ZOO
from ..options.errors import UsageError, nearest
from ..options.export import BenchExportConfig, ExportConfig
from ..options.formats import format_of
from ..options.names import FOREIGN, MODELS, NMS_FREE
from ..options.predict import PredictConfig
from ..options.train import TrainConfig
from ..options.val import ValConfig
from ..run.check import Pairs
from ..run.folder import BEST, RunNotFound, newest_run

SUFFIX = BEST.suffix
"""Of checkpoints that hold a model to use."""


Detecting = TrainConfig | ValConfig | PredictConfig | ExportConfig


def check_model(text: str) -> None:
    """Raise UsageError where ``text`` is neither a model name nor a checkpoint."""
    if text not in MODELS:
        _check_checkpoint("model", text)


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


def start_of(config: TrainConfig) -> str | None:
    """The weights that a training starts from: a path or a name of the zoo; None for none."""
    if config.model not in MODELS:
        return config.model
    if config.pretrained is False:
        return None
    if isinstance(config.pretrained, str):
        return config.pretrained
    return config.model if config.model in ZOO else None
