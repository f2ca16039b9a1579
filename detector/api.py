"""The Python interface: ``YOLO("yolo26n").train(data="coco8.yaml", epochs=5)``.

A method does what the command of its name does: parse, check, run.  Options are keyword arguments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoints.evaluate import val
from .commands.export import check_export, export
from .commands.predict import check_predict
from .commands.val import check_val
from .options.export import ExportConfig
from .options.names import MODELS
from .options.parse import parse
from .options.predict import PredictConfig
from .options.train import TrainConfig
from .options.val import ValConfig
from .predict.pipeline import predict_stream, writing
from .predict.results import Results
from .run.log import Log
from .run.observer import Observer
from .train.check import check_train
from .train.evaluator import Evaluator
from .train.pipeline import train


class YOLO:
    """A detector by name (``yolo26n``: from scratch) or by checkpoint path.

    ``train``, ``val`` and ``predict`` take the words of the command line as keyword arguments.
    """

    def __init__(self, model: str | Path = MODELS[0], *, verbose: bool = True) -> None:
        self.model = str(model)
        self.log = Log(verbose=verbose)

    def train(
        self,
        *,
        observers: Sequence[Observer] = (),
        evaluator: Evaluator | None = None,
        **words: Any,
    ) -> dict[str, Any]:
        """Train; afterwards this object is the best checkpoint, if one was saved.  Returns the
        results (see results.json).  observers, evaluator: see run/observer.py, train/evaluator.py.
        """
        config, given = parse(TrainConfig, {"model": self.model, **words})
        check_train(config, given)
        results = train(config, given, self.log, observers=observers, evaluator=evaluator)
        self.model = results["best"] or self.model
        return results

    def val(self, **words: Any) -> dict[str, Any]:
        """Measure on a data set (default: the one it was trained on).  Returns the results."""
        config, given = parse(ValConfig, {"model": self.model, **words})
        config = check_val(config, given)
        return val(config, given, self.log)

    def predict(
        self, source: str | Path | np.ndarray | Sequence[Any], **words: Any
    ) -> list[Results]:
        """Find objects.  Files are written where asked for: ``save=True``, ``save_txt=True`` ..."""
        return list(self.stream(source, **words))

    def stream(
        self, source: str | Path | np.ndarray | Sequence[Any], *, rgb: bool = False, **words: Any
    ) -> Iterator[Results]:
        """Like predict, one result at a time: memory stays flat on long videos.

        rgb: NumPy arrays are RGB, not BGR as OpenCV reads them.
        """
        config, given = parse(PredictConfig, {"model": self.model, "save": False, **words})
        config = check_predict(config, given)
        results = predict_stream(config, given, source, self.log, rgb)
        if config.save or config.save_txt or config.save_json or config.save_crop:
            results, _ = writing(config, results)
        yield from results

    def export(self, **words: Any) -> dict[str, Any]:
        """Write it for other runtimes.  Returns what was written, and how close its answers are."""
        config, given = parse(ExportConfig, {"model": self.model, **words})
        config = check_export(config, given)
        return export(config, given, self.log)
