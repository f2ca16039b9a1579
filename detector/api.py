"""The Python interface: ``YOLO("yolo26n").train(data="coco8.yaml", epochs=5)``.

A method does what the command of its name does: parse, check, run.  Options are keyword arguments.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, Self, overload

import torch

from ..files.counted import counted
from ..files.text import one_line
from ..weights.checkpoint import Meta, is_state, save_weights
from ..weights.zoo import ZOO
from .checkpoints.check import find_trained, models_in, named_model, named_start
from .checkpoints.evaluate import val
from .checkpoints.load import Loaded, OpenModel, find_weights
from .commands.export import bench_export, check_bench_export, check_export, export
from .commands.predict import check_predict, writes_files
from .commands.python_values import Exported, as_typed
from .commands.track import NO_FILES, check_track
from .commands.tune import search
from .commands.val import check_val
from .evaluate.measured import MeasuredResults
from .models.build import build
from .models.detector import Detector
from .options.errors import UsageError
from .options.export import BenchExportConfig, ExportConfig
from .options.names import AUTO, MODELS
from .options.parse import ConfigT, parse
from .options.predict import PredictConfig
from .options.spans import as_words
from .options.track import TrackConfig
from .options.train import TrainConfig
from .options.tune import TuneConfig
from .options.val import ValConfig
from .predict.pipeline import displayed, predict_stream, writing
from .predict.results import Results
from .repeat.check import check_trainings
from .repeat.pipeline import train_all
from .run.callbacks import CallbackObserver, Callbacks
from .run.device import pick_device
from .run.log import Log
from .run.observer import Observer
from .run.process import settings_kept
from .track.tracking import Tracking, continued
from .train.evaluator import Evaluator

DETECT = "detect"
COCO_CLASSES = 80


class YOLO:
    """A detector: a name (``yolo26n``), a checkpoint or an exported file.

    A file is read once, here; later changes of the file or of the current folder have no effect on
    answers.  A name stands for weights of the zoo (``det weights list``) or for an untrained model.
    ``yolo26n.pt`` without such a file is the model of that name; ``yolo26n.yaml`` always is.
    One object may predict in many threads.  Raises UsageError for what is neither file nor name.
    """

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
        other = YOLO(weights, verbose=self._verbose)
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

    # -- what it does ----------------------------------------------------------------------------

    def train(
        self,
        *,
        observers: Sequence[Observer] = (),
        evaluator: Evaluator | None = None,
        **words: Any,
    ) -> MeasuredResults:
        """Train; afterwards this object is the best checkpoint, if one was saved.  Returns the
        results (see results.json).  observers, evaluator: see run/observer.py, train/evaluator.py.
        """
        if words.get("resume") is True and self._state is not None:
            words["resume"] = self._state
        config, given = self._parse(TrainConfig, self._given({**self._words, **words}))
        log = self._log(config)
        config, given = named_start(config, given, log)
        log.once([self._warning] * bool(self._warning and not isinstance(config.pretrained, str)))
        check_trainings(config, given)
        with settings_kept():
            told = [*observers, *([CallbackObserver(self._callbacks)] if self._callbacks else [])]
            results = train_all(config, given, log, observers=told, evaluator=evaluator)
            if results["best"] is not None:
                self._words, self._warning, self._state = {}, "", None
                self._open_file(results["best"])
        return MeasuredResults(results)

    def val(self, **words: Any) -> MeasuredResults:
        """Measure on a data set (default: the one it was trained on).  Returns the results."""
        config, given = self._parse(ValConfig, {**self._precision, **self._given(words)})
        config = check_val(config, given, loaded=self._loaded)
        log = self._log(config)
        self._callbacks.tell("on_val_start", SimpleNamespace(args=config, metrics=None))
        with settings_kept():
            measured = MeasuredResults(val(config, given, log, self._use(config, given, log)))
        self._callbacks.tell("on_val_end", SimpleNamespace(args=config, metrics=measured))
        return measured

    @overload
    def predict(
        self, source: Any, stream: Literal[False] = False, *, rgb: bool = False, **words: Any
    ) -> list[Results]: ...

    @overload
    def predict(self, source: Any, stream: Literal[True], **words: Any) -> Iterator[Results]: ...

    def predict(
        self, source: Any, stream: bool = False, *, rgb: bool = False, **words: Any
    ) -> list[Results] | Iterator[Results]:
        """Find objects in a source (docs/prediction.md).  Files are written if options ask for
        them: ``save=True``, ``save_txt=True`` ...

        stream: return an iterator, so that memory stays flat on long videos.  rgb: NumPy arrays are
        RGB, not BGR as OpenCV reads them.
        """
        results = self.stream(source, rgb=rgb, **words)
        return results if stream else list(results)

    __call__ = predict

    def stream(self, source: Any, *, rgb: bool = False, **words: Any) -> Iterator[Results]:
        """``predict`` with ``stream=True``."""
        words = {"save": False} | self._precision | self._given(words)
        config, given = self._parse(PredictConfig, words)
        config = check_predict(config, given, loaded=self._loaded)
        return self._results(config, given, source, rgb)

    def track(self, source: Any, stream: bool = False, persist: bool = False, **words: Any) -> Any:
        """``predict`` with the number of the track of every box in ``boxes.id`` (docs/tracking.md).

        persist: go on with the tracks of the call before, for the single frames of one video.
        """
        rgb = words.pop("rgb", False)
        words = NO_FILES | self._precision | self._given(words)
        config, given = self._parse(TrackConfig, words)
        config = check_track(config, given, loaded=self._loaded)
        self._tracking = continued(self._tracking, config, persist)
        results = self._results(config, given, source, rgb, self._tracking.follow)
        return results if stream else list(results)

    def _results(
        self, config: PredictConfig, given: frozenset[str], source: Any, rgb: bool,
        follow: Callable[[Iterator[Results]], Iterator[Results]] = iter,
    ) -> Iterator[Results]:  # fmt: skip
        log = self._log(config)
        found = predict_stream(config, given, source, log, self._use(config, given, log), rgb)
        results = displayed(config, follow(found))
        if writes_files(config):
            results, _, _ = writing(config, results, log)
        return self._callbacks.follow(results, config) if self._callbacks else results

    def export(self, **words: Any) -> Exported:
        """Write it for other runtimes.  Returns what was written, and how close its answers are;
        it stands for the file where a path is expected."""
        config, given = self._parse(ExportConfig, self._given(words))
        config = check_export(config, given)
        self._callbacks.tell("on_export_start", SimpleNamespace(args=config))
        with settings_kept():
            written = Exported(export(config, given, self.log))
        self._callbacks.tell("on_export_end", SimpleNamespace(args=config, file=str(written)))
        return written

    def benchmark(self, **words: Any) -> dict[str, Any]:
        """Compare the files of every format (``det bench export``).  Returns the comparison."""
        config, given = self._parse(BenchExportConfig, self._given(words))
        config = check_bench_export(config, given)
        with settings_kept():
            return bench_export(config, given, self.log)

    def tune(self, *, space: Any = None, **words: Any) -> dict[str, Any]:
        """Search for better training options (docs/tuning.md) and return what was found.  space: a
        YAML file, or option -> range (``{"lr0": "log:1e-4..1e-1"}``)."""
        words = self._given(self._words | words | as_words(space))
        config, given = self._parse(TuneConfig, words)
        return search(config, given, self._log(config))

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

    def _log(self, config: TrainConfig | ValConfig | PredictConfig) -> Log:
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
