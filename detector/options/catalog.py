"""The catalog of commands: the words of each one, its options and an example.

The parser, the help, ``det config`` and the docs page all read this table; a new command is one
row, a config class in this folder and a file in ``detector/commands``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .active import DataErrorsConfig, LabelConfig, PickConfig
from .amp import AmpConfig, BenchAmpConfig
from .compare import CompareConfig
from .compress import CompressConfig
from .data import (
    ConvertConfig,
    DataCheckConfig,
    MergeConfig,
    ShapesConfig,
    ShowConfig,
    SplitConfig,
    StatsConfig,
    VideosConfig,
)
from .export import BenchExportConfig, ExportConfig
from .fields import CFG, Option, option, options_of
from .predict import PredictConfig
from .prune import PruneConfig
from .report import ReportConfig
from .shared import FlagsConfig
from .studio import StudioConfig
from .track import TrackConfig
from .train import TrainConfig
from .tune import TuneConfig
from .val import ValConfig
from .verify import VerifyConfig
from .weights import (
    InfoConfig,
    WeightsCheckConfig,
    WeightsConvertConfig,
    WeightsDownloadConfig,
    WeightsInfoConfig,
    WeightsListConfig,
)


@dataclass(frozen=True, kw_only=True)
class ConfigConfig:
    """det config: print options as YAML: all defaults, or the values of one command."""

    markdown: bool = option(False, "Output", "Print the page docs/configuration.md instead.")
    options: bool = option(False, "Output", "Print a list of all options instead, one per line.")
    completion: bool | str = option(
        False, "Output", "Print the completion script for a shell instead. True: bash.",
        choices=(False, True, "bash", "zsh", "fish"))


@dataclass(frozen=True)
class Command:
    """One command.

    path: its words.  config: its options.  bare: suffixes of a word without ``=``, and the option
    it stands for; the suffix "" takes any word, a suffix that is listed twice takes two words in
    turn.  cfg: whether ``cfg=options.yaml`` is understood.
    """

    path: tuple[str, ...]
    config: type[Any]
    example: str
    bare: tuple[tuple[str, str], ...] = ()
    cfg: bool = False

    @property
    def module(self) -> str:
        """The file in ``detector/commands`` that runs it."""
        homes = {"info": "weights", "bench": self.path[-1]}
        return homes.get(self.path[0], self.path[0])

    @property
    def name(self) -> str:
        """The command as typed after ``det``."""
        return " ".join(self.path)

    @property
    def summary(self) -> str:
        """What it does, in one sentence: the docstring of its config after ``det name:``."""
        text = (self.config.__doc__ or "").partition(": ")[2].partition("\n")[0]
        return text[:1].upper() + text[1:]

    @property
    def options(self) -> dict[str, Option]:
        """Everything that may be typed after it: its options, ``cfg`` and the common switches."""
        cfg = {CFG.name: CFG} if self.cfg else {}
        return {**options_of(self.config), **cfg, **options_of(FlagsConfig)}


_DATA = ((".yaml", "data"), (".yml", "data"))
_SOURCE = (("", "source"),)
_MODEL = (("", "model"),)
_PROBE = (*_DATA, *_MODEL)
_TRAIN = "det train data=coco8.yaml amp=True epochs=50"

COMMANDS: tuple[Command, ...] = (
    Command(("train",), TrainConfig, _TRAIN, _DATA, cfg=True),
    Command(("val",), ValConfig, "det val data=coco8.yaml split=val", _DATA, cfg=True),
    Command(("predict",), PredictConfig, "det predict image.jpg conf=0.3", _SOURCE, cfg=True),
    Command(("track",), TrackConfig, "det track source=street.mp4", _SOURCE, cfg=True),
    Command(("export",), ExportConfig, "det export model=best.safetensors format=onnx", _MODEL),
    Command(
        ("tune",), TuneConfig, "det tune data=my.yaml epochs=30 trials=30 seeds=3", _DATA, cfg=True
    ),
    Command(
        ("prune",), PruneConfig,
        "det prune model=runs/train data=my.yaml keep=0.5", _PROBE, cfg=True,
    ),
    Command(
        ("compress",), CompressConfig,
        "det compress model=runs/train data=my.yaml max_drop=0.01 target=onnx", _PROBE, cfg=True,
    ),
    Command(
        ("compare",), CompareConfig, "det compare runs/a runs/b data=my.yaml",
        (*_DATA, ("", "a"), ("", "b")),
    ),
    Command(("verify",), VerifyConfig, "det verify runs/train", (("", "run"),)),
    Command(("label",), LabelConfig, "det label data=photos model=runs/train", _DATA),
    Command(("pick",), PickConfig, "det pick data=photos n=100 model=runs/train", _DATA),
    Command(("data", "check"), DataCheckConfig, "det data check data=coco8.yaml", _DATA),
    Command(
        ("data", "convert"), ConvertConfig, "det data convert data=my.yaml out=as-coco format=coco",
        _DATA,
    ),
    Command(("data", "split"), SplitConfig, "det data split data=my.yaml val=0.2", _DATA),
    Command(("data", "merge"), MergeConfig, "det data merge data=a.yaml,b.yaml out=both"),
    Command(("data", "stats"), StatsConfig, "det data stats data=my.yaml", _DATA),
    Command(("data", "show"), ShowConfig, "det data show data=my.yaml cls=cat", _DATA),
    Command(
        ("data", "errors"), DataErrorsConfig, "det data errors model=runs/folds data=my.yaml", _DATA
    ),
    Command(("data", "shapes"), ShapesConfig, "det data shapes n=2000 out=shapes"),
    Command(
        ("report",), ReportConfig, "det report runs/a runs/b", (("", "run"), ("", "b"), ("", "c"))
    ),
    Command(("studio",), StudioConfig, "det studio my-data", (("", "folder"),)),
    Command(("data", "videos"), VideosConfig, "det data videos n=3 out=videos"),
    Command(("info",), InfoConfig, "det info yolo26n", _MODEL),
    Command(("weights", "list"), WeightsListConfig, "det weights list"),
    Command(("weights", "info"), WeightsInfoConfig, "det weights info best.safetensors", _MODEL),
    Command(
        ("weights", "convert"), WeightsConvertConfig,
        "det weights convert theirs.pt ours.safetensors", (("", "file"), ("", "out")),
    ),
    Command(("weights", "download"), WeightsDownloadConfig, "det weights download yolov9s", _MODEL),
    Command(
        ("weights", "check"), WeightsCheckConfig, "det weights check yolov9s data=coco.yaml", _MODEL
    ),
    Command(("config",), ConfigConfig, "det config train epochs=3 > options.yaml"),
    Command(("config", "train"), TrainConfig, "det config train epochs=3", _DATA, cfg=True),
    Command(("config", "val"), ValConfig, "det config val", _DATA, cfg=True),
    Command(("config", "predict"), PredictConfig, "det config predict", _SOURCE, cfg=True),
    Command(("config", "track"), TrackConfig, "det config track", _SOURCE, cfg=True),
    Command(("amp",), AmpConfig, "det amp yolo26n data=shapes.yaml", _PROBE),
    Command(("bench", "amp"), BenchAmpConfig, "det bench amp yolo26n imgsz=320", _PROBE),
    Command(
        ("bench", "export"), BenchExportConfig,
        "det bench export best.safetensors data=coco8.yaml", _PROBE,
    ),
)  # fmt: skip
"""Every command, in the order of the help."""

GROUPS = {
    "data": "Check, convert, split, merge and show data sets, or draw one.",
    "weights": "List, describe, convert and download pretrained weights.",
    "config": "Print options as YAML: all defaults, or the values of one command.",
    "bench": "Measure choices side by side on this machine.",
}
"""First words that several commands share, and what those commands do."""

MODEL_COMMANDS: tuple[Command, ...] = COMMANDS[:4]
"""The commands that run a model: ``det config`` prints their options and ``cfg=`` reads them."""


def command_of(config_class: type[Any]) -> Command | None:
    """The first command whose options are ``config_class``; None where there is none."""
    return next((command for command in COMMANDS if command.config is config_class), None)
