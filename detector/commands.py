"""The catalogue of commands: each one's words on the command line, its knobs and an example.

The knobs of train, val and predict live in ``config.py``; the small commands that run no model keep
theirs here.  The parser, the help, ``det config`` and the docs page all read this table; a new
command is one row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .config import AmpConfig, BenchAmpConfig, PredictConfig, TrainConfig, ValConfig, knob
from .config_export import BenchExportConfig, ExportConfig
from .knobs import CFG, Knob, knobs


@dataclass(frozen=True, kw_only=True)
class FlagsConfig:
    """Switches that every command understands."""

    json: bool = knob(False, "Terminal")
    """Print one JSON object on stdout and nothing else there."""
    quiet: bool = knob(False, "Terminal")
    """Print only warnings and the result (the same as verbose=False)."""
    debug: bool = knob(False, "Terminal")
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class DataCheckConfig:
    """det data check: look through a data set and list what is wrong with it."""

    data: str = knob("coco8.yaml", "Data")
    """Data set YAML, or the name of a built-in one (coco8.yaml, shapes.yaml)."""
    download: bool = knob(True, "Data")
    """Allow a built-in data set to be downloaded where it is not on disk."""


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """det data shapes: draw a data set of synthetic scenes with exact boxes."""

    out: str = knob("shapes", "Data")
    """Folder to write; it must not exist or be empty."""
    n: int = knob(2000, "Data", low=2)
    """Images in all; one in five is for validation unless val or test is given."""
    val: int | None = knob(None, "Data", low=1)
    """Validation images among the n. Default: a fifth."""
    test: int = knob(0, "Data", low=0)
    """Test images among the n."""
    seed: int = knob(0, "Data", low=0)
    """The same seed draws the same bytes."""
    imgsz: int = knob(640, "Data", low=64, high=4096)
    """Longer side of the images in pixels."""


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """det info: versions and devices, or what a model or checkpoint is."""

    model: str | None = knob(None, "Run")
    """A model name or a checkpoint. Default: describe this machine instead."""


@dataclass(frozen=True, kw_only=True)
class WeightsListConfig:
    """det weights list: show the pretrained weights that can be downloaded."""


@dataclass(frozen=True, kw_only=True)
class WeightsInfoConfig:
    """det weights info: show what a checkpoint says about itself; nothing in it is run."""

    model: str | None = knob(None, "Run")
    """A checkpoint, of det or of another project, or a name of det weights list."""


@dataclass(frozen=True, kw_only=True)
class WeightsConvertConfig:
    """det weights convert: make a checkpoint of det from one of another project."""

    file: str | None = knob(None, "Run")
    """The .pt or .pth to read; nothing in it is run."""
    out: str | None = knob(None, "Output")
    """The .safetensors to write; it must not exist."""


@dataclass(frozen=True, kw_only=True)
class WeightsDownloadConfig:
    """det weights download: fetch pretrained weights into the weights folder."""

    model: str | None = knob(None, "Run")
    """A name of det weights list."""
    offline: bool = knob(False, "Run")
    """Ask no network: convert what was put into the folder by hand."""
    accept_license: str | None = knob(None, "Run")
    """Name of the licence to agree to, where the weights ask for it."""


@dataclass(frozen=True, kw_only=True)
class ConfigConfig:
    """det config: print every knob with its default as YAML."""

    markdown: bool = knob(False, "Output")
    """Print the page docs/configuration.md instead."""
    options: bool = knob(False, "Output")
    """Print the list of all options, one a line, instead."""


@dataclass(frozen=True)
class Command:
    """One command.

    path: its words.  config: its knobs.  bare: suffixes of a lone word and the knob it stands for;
    the suffix "" takes any word, a suffix that is there twice takes two words in turn.  cfg:
    whether ``cfg=file.yaml`` is understood.
    """

    path: tuple[str, ...]
    config: type[Any]
    example: str
    bare: tuple[tuple[str, str], ...] = ()
    cfg: bool = False

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
    def options(self) -> dict[str, Knob]:
        """Everything that may be typed after it: its knobs, ``cfg`` and the common switches."""
        cfg = {CFG.name: CFG} if self.cfg else {}
        return {**knobs(self.config), **cfg, **knobs(FlagsConfig)}


_DATA = ((".yaml", "data"), (".yml", "data"))
_SOURCE = (("", "source"),)
_MODEL = (("", "model"),)
_PROBE = (*_DATA, *_MODEL)
_TRAIN = "det train data=coco8.yaml amp=True epochs=50"

COMMANDS: tuple[Command, ...] = (
    Command(("train",), TrainConfig, _TRAIN, _DATA, cfg=True),
    Command(("val",), ValConfig, "det val data=coco8.yaml split=val", _DATA, cfg=True),
    Command(("predict",), PredictConfig, "det predict image.jpg conf=0.3", _SOURCE, cfg=True),
    Command(("export",), ExportConfig, "det export model=best.safetensors format=onnx", _MODEL),
    Command(("data", "check"), DataCheckConfig, "det data check data=coco8.yaml", _DATA),
    Command(("data", "shapes"), ShapesConfig, "det data shapes n=2000 out=shapes"),
    Command(("info",), InfoConfig, "det info yolo26n", _MODEL),
    Command(("weights", "list"), WeightsListConfig, "det weights list"),
    Command(("weights", "info"), WeightsInfoConfig, "det weights info best.safetensors", _MODEL),
    Command(
        ("weights", "convert"), WeightsConvertConfig,
        "det weights convert theirs.pt ours.safetensors", (("", "file"), ("", "out")),
    ),
    Command(("weights", "download"), WeightsDownloadConfig, "det weights download yolov9s", _MODEL),
    Command(("config",), ConfigConfig, "det config train epochs=3 > my.yaml"),
    Command(("config", "train"), TrainConfig, "det config train epochs=3", _DATA, cfg=True),
    Command(("config", "val"), ValConfig, "det config val", _DATA, cfg=True),
    Command(("config", "predict"), PredictConfig, "det config predict", _SOURCE, cfg=True),
    Command(("amp",), AmpConfig, "det amp yolo26n data=shapes.yaml", _PROBE),
    Command(("bench", "amp"), BenchAmpConfig, "det bench amp yolo26n imgsz=320", _PROBE),
    Command(
        ("bench", "export"), BenchExportConfig,
        "det bench export best.safetensors data=coco8.yaml", _PROBE,
    ),
)
"""Every command, in the order of the help."""

MODEL_COMMANDS: tuple[Command, ...] = COMMANDS[:3]
"""The commands that run a model: they are what ``det config`` prints and what ``cfg=`` reads."""


def command_of(config_class: type[Any]) -> Command | None:
    """The first command whose knobs are ``config_class``; None where there is none."""
    return next((command for command in COMMANDS if command.config is config_class), None)
