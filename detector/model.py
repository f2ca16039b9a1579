"""A detector in Python: what it is, where it runs, its weights, and who is told of what it does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch

from ..files.counted import counted
from ..files.text import one_line
from ..weights.checkpoint import Meta, is_state, save_weights
from ..weights.zoo import ZOO
from .checkpoints.check import find_trained, models_in, named_model
from .checkpoints.load import Loaded, OpenModel, find_weights
from .commands.predict import check_predict
from .commands.python_values import as_typed
from .models.build import build
from .models.detector import Detector
from .options.errors import UsageError
from .options.names import AUTO, MODELS
from .options.parse import ConfigT, parse
from .options.predict import PredictConfig
from .options.shared import RunsConfig
from .options.val import ValConfig
from .run.callbacks import Callbacks
from .run.device import pick_device
from .run.log import Log
from .track.tracking import Tracking

DETECT = "detect"
COCO_CLASSES = 80


class Model:
    """What a YOLO object holds; ``api.py`` adds what it does."""

    def __init__(
        self, model: str | Path = MODELS[0], task: str | None = None, *, verbose: bool = True
    ) -> None:
        if task not in (None, DETECT):
            raise UsageError(f"task={task}: det has one task, {DETECT}")
        self.task = DETECT
        self.log = Log(verbose=verbose)
        self._verbose = verbose
        self._lock = threading.Lock()
        self._device: str | None = None
        self._precision: dict[str, Any] = {}  # of prediction and validation
        self._callbacks = Callbacks()
        self._words: dict[str, Any] = {}  # options of every training
        self._state: str | None = None  # of a run that was stopped, for resume=True
        self._fresh: Detector | None = None
        self._open: OpenModel | None = None
        self._tracking: Tracking | None = None
        self.name, self._warning = named_model(str(model))
        if self.name not in (*MODELS, AUTO):
            self._open_file(self.name)

    def _open_file(self, text: str) -> None:
        """Read a checkpoint or exported file.  Raises UsageError if there is none."""
        found = find_trained(parse(PredictConfig, {"model": text})[0])
        path, *others = [Path(w).absolute() for w in models_in(found.model) or (str(found.model),)]
        if is_state(path):
            self._state = str(path)
        self._open = OpenModel(path, self.log, *others)
        self.name = self._open.meta.model

    # -- what it is ------------------------------------------------------------------------------

    @property
    def ckpt_path(self) -> str | None:
        """The file that was read, or the files that are fused; None for a name."""
        return self._open.files if self._open else None

    @property
    def meta(self) -> Meta | None:
        """What the checkpoint says about itself; None for a name."""
        opened = self._opened()
        return opened.meta if opened else None

    @property
    def model(self) -> Detector:
        """The torch module.  Raises UsageError for an exported file, which has none."""
        opened = self._opened()
        if opened is not None:
            if opened.detector is None:
                raise UsageError(f"{opened.path} is an exported file: it has no torch module")
            return opened.detector
        if self.name == AUTO:
            raise UsageError("YOLO('auto') is chosen when train() begins: train it first")
        self._fresh = self._fresh or build(self.name, COCO_CLASSES)
        return self._fresh

    @property
    def names(self) -> dict[int, str]:
        """Class names by id; numbers for an untrained model."""
        opened = self._opened()
        if opened is None:
            return {i: str(i) for i in range(COCO_CLASSES)}
        return dict(enumerate(opened.meta.class_names))

    @property
    def device(self) -> torch.device:
        """Where it runs unless ``device=`` is given."""
        return pick_device(self._device)

    def info(self, detailed: bool = False, verbose: bool = True) -> tuple[int, int, int, float]:
        """Layers, parameters, gradients, GFLOPs for one image of the model's size.

        detailed: also log every layer.  verbose: log one line.
        """
        size = self.meta.image_size if self.meta else 640
        counts = self.model.counts(size)
        if detailed:
            for line in str(self.model).splitlines():
                self.log.info(line)
        if verbose:
            self.log.info(
                f"{self.name}: {counts[0]} layers, {counts[1]:,} parameters, "
                f"{counts[2]:,} gradients, {counts[3]:.1f} GFLOPs at {size} px"
            )
        return counts

    def __repr__(self) -> str:
        if self._open is None:
            return f"YOLO({self.name!r})"
        classes = counted(len(self.names), "class")
        return one_line(f"YOLO({self.ckpt_path!r}: {self.name}, {classes})")

    # -- where it runs, and its weights ----------------------------------------------------------

    def to(self, device: str | int | torch.device) -> Self:
        """Run on ``device`` from now on.  Raises DeviceError if this machine does not have it."""
        text = str(as_typed("device", device))
        pick_device(text)
        self._device = text
        return self

    def cpu(self) -> Self:
        return self.to("cpu")

    def cuda(self, index: int = 0) -> Self:
        return self.to(f"cuda:{index}")

    def half(self) -> Self:
        """Predict and validate in float16 from now on."""
        self._precision = {"amp": "fp16"}
        return self

    def float(self) -> Self:
        """Predict and validate in float32 from now on."""
        self._precision = {"amp": False}
        return self

    def eval(self) -> Self:
        """Nothing to do: prediction never changes the model."""
        return self

    def fuse(self) -> Self:
        """Nothing to do: norms are folded where it is faster, in exported files."""
        return self

    def load(self, weights: str | Path) -> Self:
        """Take the weights of a checkpoint.

        Of the same model they replace the own ones; of another model, training starts from the
        tensors that fit.
        """
        other = type(self)(weights, verbose=self._verbose)
        if other._open is not None and other.name == self.name:
            self._open = other._open
        elif self._open is None:
            self._words["pretrained"] = other.ckpt_path or other.name
        else:
            raise UsageError(
                f"{weights} holds {other.name}, not {self.name}: use YOLO({weights!r})"
            )
        return self

    def save(self, filename: str | Path = "saved_model.safetensors") -> str:
        """Write the weights as a checkpoint and return the file."""
        path = Path(filename)
        meta = self.meta
        if meta is None:
            raise UsageError(f"{self.name} has not been trained: there is nothing to save")
        if path.suffix != ".safetensors":
            raise UsageError(f"{path}: expected a file that ends in .safetensors")
        save_weights(path, self.model.state_dict(), meta)
        return str(path)

    # -- callbacks -------------------------------------------------------------------------------

    def add_callback(self, event: str, func: Callable[[Any], Any]) -> None:
        """Call ``func`` at an event of later runs (``run/callbacks.py``).  Raises UsageError for an
        event that det does not have."""
        self._callbacks.add(event, func)

    def clear_callback(self, event: str) -> None:
        """Forget the functions of an event."""
        self._callbacks.clear(event)

    def reset_callbacks(self) -> None:
        """Forget all functions."""
        self._callbacks = Callbacks()

    @property
    def _loaded(self) -> str | None:
        """Name of the model whose file has been read."""
        return self._open.meta.model if self._open else None

    def _use(self, config: ValConfig | PredictConfig, given: frozenset[str], log: Log) -> Loaded:
        """The model on the device of ``config``; weights of the zoo are read at the first call."""
        with self._lock:
            if self._open is None:
                self._open = OpenModel(find_weights(config, log), log)
            opened = self._open
        return opened.use(config, given)

    def _opened(self) -> OpenModel | None:
        """The file that was read; of the zoo, downloaded if needed.  None without weights."""
        if self._open is None and self.name in ZOO:
            config, given = parse(PredictConfig, self._given({}))
            self._use(check_predict(config, given), given, self.log)
        return self._open

    def _parse(
        self, config_class: type[ConfigT], words: Mapping[str, Any]
    ) -> tuple[ConfigT, frozenset[str]]:
        """``parse``; what has no effect is said once per object."""
        notes: list[str] = []
        parsed = parse(config_class, words, notes)
        self.log.once(notes)
        return parsed

    def _given(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call, with the model (a resumed run has its own) and device."""
        own: dict[str, Any] = {} if words.get("resume") else {"model": self.ckpt_path or self.name}
        if self._device is not None:
            own["device"] = self._device
        return {**own, **{name: as_typed(name, value) for name, value in words.items()}}

    def _log(self, config: RunsConfig) -> Log:
        if config.verbose:
            return self.log
        quiet = Log(verbose=False)
        quiet.warnings = self.log.warnings  # what has been said once is not said again
        return quiet

    def __getstate__(self) -> dict[str, Any]:
        own = ("log", "_lock", "_callbacks")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        log = Log(verbose=state["_verbose"])
        vars(self).update(state, log=log, _lock=threading.Lock(), _callbacks=Callbacks())
