"""What det val, det predict and det export work on: a checkpoint or an exported file, found and
loaded.

An exported file answers like a detector (``export/exported.py``); what differs is said here, once:
which runtime and precision it has, and which sizes it takes.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ...datasets.images.input_size import InputSize
from ...datasets.sets.source import DataSource
from ...files.yaml_text import YamlError, read_yaml
from ...weights.checkpoint import Meta
from ...weights.zoo import license_notice
from ..evaluate.postprocess import head_in_use, uses_nms
from ..export.exported import ExportedDetector, SizeError, about_file, open_exported
from ..export.formats.about import About
from ..models.detector import Detector
from ..models.detector_like import ForwardOptions, fitted
from ..options.errors import UsageError
from ..options.export import BenchExportConfig, ExportConfig
from ..options.formats import FORMATS, format_of
from ..options.predict import PredictConfig
from ..options.val import ValConfig
from ..precision.precision import Precision, use_precision
from ..run.data_place import DataPlace, read_place
from ..run.device import describe_device, pick_device, use_threads
from ..run.log import Log
from .check import idle_nms, models_in
from .fetch import obtain
from .restore import restore

DECIDED = "it was decided when the file was exported"


class OwnPrecision(Precision):
    """Of an exported file: it computes as it was written, and there is nothing to choose."""

    def autocast(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class Loaded:
    """A model ready to be used.  path: its file.  meta: what its checkpoint says about itself.
    others: models whose detections are fused with those of this one."""

    path: Path
    meta: Meta
    model: Detector | ExportedDetector
    device: torch.device
    precision: Precision
    others: tuple[Loaded, ...] = ()

    @property
    def members(self) -> tuple[Loaded, ...]:
        """The model itself, and the others."""
        return self, *self.others

    @property
    def files(self) -> str:
        """The files of all members, as ``model=`` names them."""
        return ",".join(str(member.path) for member in self.members)

    def input_size(self, config: ValConfig | PredictConfig) -> InputSize:
        """The input for ``imgsz=`` and ``rect=``; each is the checkpoint's where it is not given.
        Raises SizeError for an exported file that does not have it."""
        rect = self.meta.rect if config.rect is None else config.rect
        if not isinstance(self.model, ExportedDetector):
            wanted = config.imgsz or self.meta.image_size
            size = fitted(wanted, self.model.max_stride, rect=rect)
            return replace(size, pixels=self.meta.pixels)
        if rect and not self.model.about.dynamic:
            if config.rect:
                raise SizeError(
                    f"rect=True: {self.path} takes images of one size; export with dynamic=True"
                )
            rect = False
        size = self.model.input_size(config.imgsz, rect=rect)
        return replace(size, pixels=self.meta.pixels)

    def forward_options(self, channels_last: bool) -> ForwardOptions:
        return ForwardOptions(self.device, self.precision.autocast, channels_last)

    def head(self, nms: bool) -> str:
        """Where detections come from, as results and logs say it."""
        if isinstance(self.model, ExportedDetector) and self.model.about.finished:
            return head_in_use(self.model.about.nms, (self.model.about.head,))
        return head_in_use(nms, self.model.branches)

    def idle_nms(self, config: ValConfig | PredictConfig, given: frozenset[str]) -> list[str]:
        """A line per option of NMS that was given and has no effect here."""
        if isinstance(self.model, ExportedDetector) and self.model.about.finished:
            idle = sorted(given & {"iou", "agnostic_nms"})
            return [f"{name}= has no effect on {self.path}: {DECIDED}" for name in idle]
        lines = idle_nms(config, given, used=uses_nms(config.nms, self.model.branches))
        if isinstance(self.model, ExportedDetector):
            fix = f" of {self.path}: export with nms=True"
            return [f"{line.partition(':')[0]}{fix}" for line in lines]
        return lines

    def line(self, nms: bool) -> str:
        """What is used, in one line."""
        where = describe_device(self.device)
        if isinstance(self.model, ExportedDetector):
            where = f"{FORMATS[self.model.about.format].runtime}, {where}"
        return f"{self.path}: {self.meta.model}, {self.head(nms)}, {where}, {self.precision.label}"


def find_weights(
    config: ValConfig | PredictConfig | ExportConfig | BenchExportConfig, log: Log
) -> Path:
    """The file that ``model=`` names, or weights of the zoo, downloaded where needed.  The config
    has been through ``find_trained``."""
    assert config.model is not None
    if format_of(config.model) is not None:
        return Path(config.model)
    with log.progress("weights", 0) as update:
        return obtain(
            config.model,
            offline=config.offline,
            accept_license=config.accept_license,
            on_message=log.message,
            on_progress=update,
        )


def load_checkpoint(path: Path, device: torch.device, log: Log) -> tuple[Detector, Meta]:
    """The detector of a checkpoint on ``device``, in evaluation mode."""
    model, meta = restore(path)
    notify(path, meta, log)
    return model.to(device).eval(), meta


def notify(path: Path, meta: Meta, log: Log) -> None:
    """Say it where a license asks for something."""
    if notice := license_notice(path.name, meta.license, meta.provenance):
        log.warn(notice)


class OpenModel:
    """A checkpoint or exported file that is read once and used many times, also by many threads.

    path: the file.  meta: what it says about itself.  detector: on the CPU; None for an exported
    file, whose runtime opens it at the first use on a device.
    """

    def __init__(self, path: Path, log: Log, *others: Path) -> None:
        """others: files of models whose detections are fused with those of this one."""
        self.path = path
        self.others = [OpenModel(other, log) for other in others]
        self.files = ",".join(map(str, (path, *others)))
        self.detector: Detector | None = None
        self.about: About | None = None
        if format_of(path) is not None:
            self.about = about_file(path)
            self.meta = self.about.meta
        else:
            self.detector, self.meta = restore(path)
            self.detector.eval()
        notify(path, self.meta, log)
        self._ready: dict[torch.device, Detector | ExportedDetector] = {}
        self._lock = threading.Lock()

    def use(self, config: ValConfig | PredictConfig, given: frozenset[str]) -> Loaded:
        """The model on the device of ``config``, or on the one that a file was exported for."""
        use_threads(config.threads)
        if self.about is not None:
            device = pick_device(config.device or self.about.written_on)
            _refuse_decided(self.path, self.about, config, given)
            precision: Precision = OwnPrecision(self.about.precision, device.type, "as exported")
        else:
            device = pick_device(config.device)
            precision = use_precision(config.amp, self.meta, device)
        model = self._on(device)
        if config.channels_last:
            model.to(memory_format=torch.channels_last)
        others = tuple(other.use(config, given) for other in self.others)
        return Loaded(self.path, self.meta, model, device, precision, others)

    def _on(self, device: torch.device) -> Detector | ExportedDetector:
        """The model on a device; made once per device."""
        with self._lock:
            if device not in self._ready:
                if self.detector is None:
                    self._ready[device] = open_exported(self.path, device)
                elif device.type == "cpu":
                    self._ready[device] = self.detector
                else:
                    self._ready[device] = copy.deepcopy(self.detector).to(device)
            return self._ready[device]

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in vars(self).items() if name not in ("_ready", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _ready={}, _lock=threading.Lock())


def load_for_use(config: ValConfig | PredictConfig, given: frozenset[str], log: Log) -> Loaded:
    """What ``model=`` names, ready on its device."""
    words = models_in(config.model) or (config.model,)
    files = [find_weights(replace(config, model=word), log) for word in words]
    return OpenModel(files[0], log, *files[1:]).use(config, given)


def _refuse_decided(
    path: Path, about: About, config: ValConfig | PredictConfig, given: frozenset[str]
) -> None:
    """Raise UsageError for options that were decided when the file was exported."""
    for name in sorted(given & ({"amp", "nms"} if about.finished else {"amp"})):
        raise UsageError(f"{name}= has no effect on {path}: {DECIDED}")
    if about.finished and "max_det" in given and about.max_det < config.max_det:
        raise UsageError(f"max_det={config.max_det}: {path} returns at most {about.max_det}")


def trained_on(path: Path, meta: Meta) -> tuple[DataSource | None, DataPlace | None]:
    """The data a checkpoint was trained on: where its run folder says the data are, else as the
    run's args.yaml or its own header has it; and what the run folder knows of the data."""
    folder = path.parents[1] if len(path.parents) > 1 else None
    place = read_place(folder) if folder is not None else None
    config: Mapping[str, Any] = meta.config
    name = meta.data.get("yaml")
    if folder is not None and (folder / "args.yaml").is_file():
        config = read_yaml(folder / "args.yaml")
        if not isinstance(config, dict) or not isinstance(config.get("data"), str):
            raise YamlError(
                f"{folder / 'args.yaml'}: has no line 'data: ...'; name the data with data="
            )
        name = config["data"]
    if place is not None:
        config = {**config, **place.options(())}
        name = config["data"]
    val, seed = config.get("val"), config.get("seed", 0)
    held = val if isinstance(val, str) else None
    source = DataSource(str(name), config.get("images"), held, int(seed)) if name else None
    return source, place
