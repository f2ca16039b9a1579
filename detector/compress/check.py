"""The checks of ``det prune`` and ``det compress`` before torch is loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..checkpoints.check import check_start, is_quantized
from ..options.compress import CompressConfig
from ..options.errors import UsageError
from ..options.fields import options_of
from ..options.formats import FORMATS, require
from ..options.names import AUTO, FOREIGN, MODELS
from ..options.parse import parse
from ..options.prune import PRUNING, PruneConfig
from ..options.train import TrainConfig
from ..record.tools import JSON, tools_of
from ..run.check import check_data, refuse
from ..run.folder import BEST, find_state, newest_run
from ..run.rank_info import gpus_of
from ..train.check import check_train


@dataclass(frozen=True)
class Kind:
    """What a folder holds.  noun: in messages.  state: the file that says that it has begun."""

    command: str
    noun: str

    @property
    def state(self) -> str:
        return f"{self.command}.json"


PRUNE, COMPRESS = Kind("prune", "pruning"), Kind("compress", "compression")
MACHINE = frozenset(("device", "threads", "workers"))
MAY_CHANGE = MACHINE | {"verbose", "resume", "project"}
"""Options that may be typed beside ``resume=``."""
NOT_OF_TRAINING = frozenset((*PRUNING, "project", "name", "exist_ok", "model", "epochs"))


def check_prune(config: PruneConfig, given: frozenset[str]) -> PruneConfig:
    """The config with its ``model=`` found.  Raises UsageError where a pruning cannot begin."""
    if config.resume is not None:
        _check_resumed(PRUNE, config, given)
        return config
    refuse(
        [
            (
                not 0 < config.keep < 1,
                f"keep={config.keep:g}: expected a share between 0 and 1, e.g. keep=0.5",
            ),
            ("data" not in given, "det prune needs the training images: name them with data="),
            (
                len(gpus_of(config.device)) > 1,
                f"device={config.device}: pruning runs on one device; name one",
            ),
            (not config.save, "save=False: pruning goes on from checkpoints; leave it out"),
            (
                config.of == "latency" and find_spec("onnxruntime") is None,
                "of=latency needs ONNX Runtime: pip install 'yolodet[export]'",
            ),
            (
                JSON in tools_of(config.log),
                "log=json belongs to det train; det prune --json prints the result",
            ),
        ]
    )
    config = replace(config, model=find_model(config))
    if is_quantized(str(config.model)):
        raise UsageError(
            f"model={config.model} was trained with qat=: prune the float checkpoint that it was "
            "made from, and quantize after that"
        )
    check_train(*training_of(config, given, str(config.model), max(config.epochs, 1)))
    return config


def _check_resumed(kind: Kind, config: PruneConfig, given: frozenset[str]) -> None:
    find_state(config.resume, config.project, kind.state, kind.noun)
    if wrong := sorted(given - MAY_CHANGE):
        raise UsageError(
            f"cannot change {', '.join(wrong)} of a {kind.noun} that has begun: start a new one"
        )


def check_compress(config: CompressConfig, given: frozenset[str]) -> CompressConfig:
    """The config with its ``model=`` found.  Raises UsageError where a compression cannot begin,
    MissingPackage where the packages of the target are not installed."""
    if config.resume is not None:
        _check_resumed(COMPRESS, config, given)
        return config
    refuse([(config.epochs == 0, "epochs=0: what is pruned has to be trained; leave it out")])
    require(FORMATS[config.target])
    config = replace(config, model=check_prune(config, given).model)
    for split in (config.split, "train"):
        check_data(config.data_source, split, online=config.online)
    return config


def find_model(config: PruneConfig) -> str:
    """The checkpoint that is pruned.  Raises UsageError, RunNotFound."""
    model = config.model
    if model is None:
        return str(newest_run(config.project) / BEST)
    if model in MODELS or model == AUTO:
        raise UsageError(
            f"model={model} has not been trained: det prune needs a trained checkpoint, such as "
            f"runs/train/{BEST}"
        )
    if (Path(model) / BEST).is_file():
        return str(Path(model) / BEST)
    check_start("model", model)
    if Path(model).suffix in FOREIGN:
        raise UsageError(
            f"model={model}: convert it first: det weights convert {model} "
            f"{Path(model).with_suffix(BEST.suffix).name}"
        )
    return model


def training_of(
    config: PruneConfig, given: frozenset[str], model: str, epochs: int, **place: Any
) -> tuple[TrainConfig, frozenset[str]]:
    """The training after a step.  place: its folder."""
    known, values = options_of(TrainConfig), asdict(config)
    words = {n: values[n] for n in sorted(given - NOT_OF_TRAINING) if n in known}
    usual = {"data": config.data, "project": config.project}
    return parse(TrainConfig, {**usual, **words, "model": model, "epochs": epochs, **place})
