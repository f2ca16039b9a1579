"""The loop: train an epoch, validate the averaged weights with the head that will be deployed, keep
the best.

Four levels, each a screen: ``fit`` (epochs), ``_train_epoch`` (batches), ``_train_batch`` (one
batch and its bookkeeping) and step.py (the mathematics).  State that a run needs to go on lives in
``state_dict``; everything else is a function of the config, the epoch and the step.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from ...datasets.sample import Batch
from ...weights.checkpoint import Meta, save_state, save_weights
from ..device import memory_in_use
from ..evaluate.evaluator import Evaluation, evaluate
from ..log import Log
from ..models.detector import Detector
from ..runs import BEST, LAST, write_csv
from .assemble import Run
from .optim import set_learning_rate
from .precision import Precision
from .report import describe_data, versions
from .schedule import RunLength, lr_factor
from .signals import Interrupted, StopRequest, stop_request
from .step import TrainStep

PARTS = ("box", "cls", "dfl")
COLUMNS = ("epoch", "box", "cls", "dfl", "lr", "img/s", "GiB", "AP50", "AP")


class Trainer:
    """One run from its parts to its best checkpoint."""

    def __init__(self, run: Run, precision: Precision, folder: Path, log: Log) -> None:
        self.run, self.precision, self.folder, self.log = run, precision, folder, log
        self.config = run.config
        self.length = run.length
        self.step = TrainStep(
            torch.compile(run.model) if self.config.compile else run.model,  # type: ignore[arg-type]
            run.criterion,
            run.optimizer,
            precision,
            ema=run.ema,
            clip=self.config.clip,
        )
        self.epoch = 0
        self.batch = 0
        """The next batch of ``epoch``: where a run goes on."""
        self.updates = 0
        self.skipped = 0
        self.seconds = 0.0
        self.best_map = -1.0
        self.best_epoch = -1
        self.rows: list[dict[str, Any]] = []
        self.sums: dict[str, Any] = {}
        """Of the epoch so far: loss parts (tensors on the device), images, seconds."""

    # -- the levels of the loop
    # ------------------------------------------------------------------------------------

    def fit(self) -> dict[str, Any]:
        """Train until the epochs, the time or the patience end.  Returns the last row.  Raises
        Interrupted."""
        self.log.epoch_header(COLUMNS)
        with stop_request() as stop:
            while self.epoch < self.length.epochs:
                self._train_epoch(stop)
                self._finish_epoch()
                if stop.signum is not None:
                    self._interrupt(stop.signum)
                if self._should_stop():
                    break
        return self.rows[-1]

    def _train_epoch(self, stop: StopRequest) -> None:
        """All batches of ``self.epoch`` from ``self.batch`` on."""
        started = time.perf_counter() - self.sums.get("seconds", 0.0)
        steps = len(self.run.train_loader)
        self.run.model.train()
        for part in self.run.model.stages.values():
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()  # frozen: its batch-norm statistics stay too
        with self.log.progress(f"epoch {self.epoch + 1}/{self.length.epochs}", steps) as update:
            for batch in self.run.train_loader.epoch(self.epoch, start_step=self.batch):
                self._train_batch(batch, steps)
                self.batch += 1
                update(self.batch, steps)
                self.sums["seconds"] = time.perf_counter() - started
                last = self.batch == steps
                if stop.signum is not None and not last:
                    self._interrupt(stop.signum)
                if self.config.save_steps and self.batch % self.config.save_steps == 0 and not last:
                    self._save_last()

    def _train_batch(self, batch: Batch, steps: int) -> None:
        """Set what depends on the step, learn from the batch, add to the sums of the epoch."""
        accumulate = self.run.accumulate
        position = self.batch % accumulate
        window = min(accumulate, steps - (self.batch - position))
        self.run.criterion.progress = self.epoch / max(self.length.epochs - 1, 1)
        factor = lr_factor(
            self.updates,
            steps=self.length.steps,
            warmup=self.run.warmup,
            final=self.config.lrf,
            shape="cosine" if self.config.cos_lr else self.config.schedule,
        )
        set_learning_rate(self.run.optimizer, factor)
        batch = self._resize(batch.to(self.run.device))
        output = self.step(batch, share=1.0 / window, update=position + 1 == window)
        if output.grad_norm is not None and not output.skipped:
            self.updates += 1
        self.skipped += output.skipped
        for name, value in output.loss.parts.items():
            self.sums[name] = self.sums.get(name, 0.0) + value  # stays on the device: no wait here
        self.sums["images"] = self.sums.get("images", 0.0) + len(batch)

    def _finish_epoch(self) -> None:
        """Validate, write the row, keep last and best."""
        steps = len(self.run.train_loader)
        self.seconds += self.sums["seconds"]
        row: dict[str, Any] = {"epoch": self.epoch + 1, "time": self.seconds}
        row |= {f"train/{name}_loss": float(self.sums[name]) / steps for name in PARTS}
        row["lr"] = max(group["lr"] for group in self.run.optimizer.param_groups)
        row["images_per_s"] = self.sums["images"] / self.sums["seconds"]
        row |= {
            "precision": self.precision.name,
            "scale": self.step.scaler.get_scale(),
            "skipped": self.skipped,
        }
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, {}
        self._fit_time(row)
        last = self.epoch == self.length.epochs
        evaluation = self.evaluate(self.deployed) if self.config.val or last else None
        for name in ("map", "map_50", "map_75", "precision", "recall"):
            row[f"metrics/{name}"] = getattr(evaluation.metrics, name) if evaluation else math.nan
        self.rows.append(row)
        self._show(row)
        write_csv(self.folder / "results.csv", self.rows)
        if evaluation and evaluation.metrics.map > self.best_map:
            self.best_map, self.best_epoch = evaluation.metrics.map, self.epoch
            self._save_best(evaluation)
        self._save_last()

    # -- parts -----------------------------------------------------------------------------------------------------

    @property
    def deployed(self) -> Detector:
        """The weights that are validated and saved as best: the average, where there is one."""
        return self.run.ema.average if self.run.ema else self.run.model  # type: ignore[return-value]

    def evaluate(self, model: Detector) -> Evaluation:
        """Measure ``model`` on the validation split, in the precision of the run."""
        config = self.config
        with self.log.progress("validating", len(self.run.val_loader)) as update:
            return evaluate(
                model,
                self.run.val_loader,
                self.run.val.records,
                self.run.class_names,
                device=self.run.device,
                nms=config.nms,
                conf=0.001,
                iou=config.iou,
                max_det=config.max_det,
                agnostic_nms=config.agnostic_nms,
                autocast=self.precision.autocast,
                channels_last=config.channels_last,
                on_progress=update,
            )

    def _resize(self, batch: Batch) -> Batch:
        """Multi-scale: the whole batch at a size drawn for this step around imgsz."""
        if not self.config.multi_scale:
            return batch
        stride, size = self.run.model.max_stride, self.run.image_size
        generator = torch.Generator().manual_seed(
            hash((self.config.seed, self.epoch, self.batch)) % 2**63
        )
        share = 1.0 + self.config.multi_scale * (
            2.0 * torch.rand((), generator=generator).item() - 1.0
        )
        new = max(round(size * share / stride), 1) * stride
        if new == size:
            return batch
        images = F.interpolate(
            batch.images.float(), size=(new, new), mode="bilinear", antialias=new < size
        )
        images = images.round().to(torch.uint8).contiguous(memory_format=torch.channels_last)
        return replace(batch, images=images, boxes=batch.boxes * (new / size))

    def _fit_time(self, row: dict[str, Any]) -> None:
        """With a time budget, the number of epochs is what fits into it."""
        if self.config.time is None:
            return
        left = self.config.time * 3600 - self.seconds
        epochs = self.epoch + max(math.floor(left / (self.seconds / self.epoch)), 0)
        self.length = RunLength(self.length.steps_per_epoch, max(epochs, self.epoch))

    def _should_stop(self) -> bool:
        patience = self.config.patience
        if patience and self.best_epoch >= 0 and self.epoch - self.best_epoch >= patience:
            self.log.info(
                f"stopping: no better AP for {patience} epochs (best {self.best_map:.3f} at {self.best_epoch})"
            )
            return True
        return False

    def _show(self, row: dict[str, Any]) -> None:
        values = [f"{row['epoch']}/{self.length.epochs}"]
        values += [f"{row[f'train/{name}_loss']:.3f}" for name in PARTS]
        values += [
            f"{row['lr']:.2g}",
            f"{row['images_per_s']:.1f}",
            f"{memory_in_use(self.run.device):.1f}",
        ]
        values += [f"{row['metrics/map_50']:.3f}", f"{row['metrics/map']:.3f}"]
        self.log.epoch_row(values)

    # -- saving and going on
    # ---------------------------------------------------------------------------------------

    def _interrupt(self, signum: int) -> None:
        if self.config.save:
            self._save_last()
        raise Interrupted(
            signum,
            f"stopped after epoch {self.epoch}, batch {self.batch}; go on with: "
            f"det train resume={self.folder}",
        )

    def _save_best(self, evaluation: Evaluation) -> None:
        if self.config.save:
            metrics = evaluation.metrics.to_dict()
            save_weights(self.folder / BEST, self.deployed.state_dict(), self.meta(metrics))

    def _save_last(self) -> None:
        if not self.config.save:
            return
        save_state(self.folder / LAST, self.state_dict())
        if (
            self.config.save_period > 0
            and self.batch == 0
            and self.epoch % self.config.save_period == 0
        ):
            save_weights(
                self.folder / BEST.parent / f"epoch{self.epoch}.safetensors",
                self.deployed.state_dict(),
                self.meta({}),
            )

    def meta(self, metrics: dict[str, Any]) -> Meta:
        """What a checkpoint written now says about itself."""
        keep = {key: value for key, value in metrics.items() if not isinstance(value, list | dict)}
        return Meta(
            model=self.run.model.name,
            class_names=self.run.class_names,
            image_size=self.run.image_size,
            strides=self.run.model.strides,
            precision=self.precision.name,
            epoch=self.epoch,
            step=self.updates,
            data=describe_data(self.run),
            metrics=keep,
            config=portable(asdict(self.config)),
            versions=versions(),
            **self.run.provenance,
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to go on as if the run had never stopped."""
        return {
            "meta": asdict(self.meta({})) | {"class_names": list(self.run.class_names)},
            "model": self.run.model.state_dict(),
            "ema": self.run.ema.state_dict() if self.run.ema else None,
            "optimizer": self.run.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "position": {name: getattr(self, name) for name in POSITION},
            "config": asdict(self.config),
            "torch_random_state": torch.get_rng_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``: weights, average, moments, scale and place in the data, as they
        were."""
        self.run.model.load_state_dict(state["model"])
        if self.run.ema:
            self.run.ema.load_state_dict(state["ema"])
        self.run.optimizer.load_state_dict(state["optimizer"])
        self.step.scaler.load_state_dict(state["scaler"])
        for name in POSITION:
            setattr(self, name, state["position"][name])
        torch.set_rng_state(state["torch_random_state"])


POSITION = (
    "epoch",
    "batch",
    "updates",
    "skipped",
    "seconds",
    "best_map",
    "best_epoch",
    "rows",
    "sums",
)
"""Attributes of the trainer that say where it is."""

MACHINE = (
    "project",
    "name",
    "device",
    "workers",
    "resume",
    "exist_ok",
    "verbose",
    "data",
    "model",
    "pretrained",
    "cache",
)
"""Knobs that speak of a machine or its paths; a checkpoint that travels leaves them out."""


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """The config without what belongs to one machine."""
    return {key: value for key, value in config.items() if key not in MACHINE}
