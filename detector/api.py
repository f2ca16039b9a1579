"""The Python interface: ``YOLO("yolo26n").train(data="coco8.yaml", epochs=5)``.

A method does what the command of its name does: parse, check, run.  Options are keyword arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, overload

from .checkpoints.check import named_start
from .checkpoints.evaluate import val
from .commands.export import bench_export, check_bench_export, check_export, export
from .commands.predict import check_predict, writes_files
from .commands.python_values import Exported
from .commands.track import NO_FILES, check_track
from .commands.tune import search
from .commands.val import check_val
from .commands.verify import prove, run_of
from .evaluate.measured import MeasuredResults
from .examine.verify import Verification
from .model import Model
from .options.export import BenchExportConfig, ExportConfig
from .options.predict import PredictConfig
from .options.spans import as_words
from .options.track import TrackConfig
from .options.train import TrainConfig
from .options.tune import TuneConfig
from .options.val import ValConfig
from .options.verify import VerifyConfig
from .predict.pipeline import displayed, predict_stream, writing
from .predict.results import Results
from .repeat.check import check_trainings
from .repeat.pipeline import train_all
from .run.callbacks import CallbackObserver
from .run.observer import Observer
from .run.process import settings_kept
from .track.tracking import continued
from .train.evaluator import Evaluator


class YOLO(Model):
    """A detector: a name (``yolo26n``), a checkpoint or an exported file.

    A file is read once, here; later changes of the file or of the current folder have no effect on
    answers.  A name stands for weights of the zoo (``det weights list``) or for an untrained model.
    ``yolo26n.pt`` without such a file is the model of that name; ``yolo26n.yaml`` always is.
    One object may predict in many threads.  Raises UsageError for what is neither file nor name.
    """

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

    def verify(self, run: str | Path | None = None, **words: Any) -> Verification:
        """Replay steps and the validation of a run (docs/verify.md): ``equal``, ``verdict`` and the
        ``checks``; true where all is equal.  run: its folder; default: that of this checkpoint.
        Raises UsageError for what was not trained, RunNotFound where there is no run."""
        own = {} if self._device is None else {"device": self._device}
        folder = run_of(self.ckpt_path, self.name) if run is None else run
        config, _ = self._parse(VerifyConfig, {**own, **words, "run": str(folder)})
        with settings_kept():
            return prove(config, self._log(config))
