"""The loop: train an epoch, validate the averaged weights with the deployed head, keep the best.

Four levels, each a screen: ``fit`` (epochs), ``_train_epoch`` (batches), ``_train_batch`` (one
batch and its bookkeeping) and step.py (the mathematics).  What a run needs to go on is in
``state_dict``; all else is a function of the config, the epoch and the batch.

With several ranks each runs this loop in step with the others; the first one validates and writes.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...datasets.nouns import Batch
from ...weights.checkpoint import Meta, save_state, save_weights
from ..evaluate.class_names import GroundTruth
from ..evaluate.evaluator import Evaluation, evaluate
from ..models.detector import Detector
from ..models.detector_like import ForwardOptions
from ..precision.ladder import Decision
from ..precision.precision import Precision
from ..run.device import gc_frozen, memory_in_use
from ..run.files import write_csv
from ..run.folder import BEST, LAST, RunError
from ..run.log import Log
from ..run.signals import Interrupted, StopRequest, stop_request
from .assemble import Run
from .describe import describe_run
from .feed import on_device
from .guard import Failure, Guard, Rollback, find_failure, worst
from .optim import set_learning_rate
from .position import Position
from .schedule import RunLength, ema_constants, lr_factor, warmup_steps
from .step import TrainStep

PARTS = ("box", "cls", "dfl")
ECHO_SECONDS = 2.0
COLUMNS = ("epoch", "box", "cls", "dfl", "lr", "img/s", "GiB", "AP50", "AP")


class Trainer:
    """One run from its parts to its best checkpoint."""

    def __init__(self, run: Run, decision: Decision, folder: Path, log: Log) -> None:
        self.run, self.folder, self.log = run, folder, log
        self.config, self.ranks = run.config, run.ranks
        self.precision, self.rungs = decision.precision, list(decision.rungs)
        self.length = run.length
        self.at = Position()
        self.step = TrainStep(
            run.model,
            run.criterion,
            run.optimizer,
            self.precision,
            ema=run.ema,
            clip=self.config.clip,
            forward=torch.compile(run.model) if self.config.compile else None,
            ranks=run.ranks,
        )
        self.guard = Guard(self.state_dict, waits=run.device.type == "cuda")

    # -- the levels of the loop ------------------------------------------------------------------

    def fit(self) -> None:
        """Train until the epochs, the time or the patience end.  Raises Interrupted, RunError."""
        self.log.epoch_header(COLUMNS)
        echo = ECHO_SECONDS if self.ranks.size > 1 else 0.0
        with gc_frozen(), stop_request(echo) as stop:
            while self.at.epoch < self.length.epochs and not self._out_of_patience():
                try:
                    self._train_epoch(stop)
                    self.guard.settle()
                except Rollback as rollback:
                    self._go_back(rollback.failure)
                    continue
                self._finish_epoch()
                if (signum := self._signal(stop)) is not None:
                    self._interrupt(signum)

    def _train_epoch(self, stop: StopRequest) -> None:
        """All batches of the epoch from ``at.batch`` on."""
        started = time.perf_counter() - self.at.sums.get("seconds", 0.0)
        loader = self.run.train_loader
        self._training_mode()
        with self.log.progress(f"epoch {self.at.epoch + 1}/{self.length.epochs}", 0) as update:
            batches = loader.epoch(self.at.epoch, start_step=self.at.batch)
            for batch in on_device(batches, self.run.device):
                self._train_batch(batch, len(loader))
                self.at.batch += 1
                self.at.sums["seconds"] = time.perf_counter() - started
                update(self.at.batch, len(loader), self._note())
                if self.at.batch < len(loader):
                    self._save_on_the_way(stop)

    def _train_batch(self, batch: Batch, steps: int) -> None:
        """Set what depends on the step, learn from the batch, add to the sums of the epoch."""
        at, accumulate = self.at, self.run.accumulate
        self.guard.before(boundary=at.batch % accumulate == 0)
        self.run.criterion.progress = at.epoch / max(self.length.epochs - 1, 1)
        set_learning_rate(self.run.optimizer, self._lr_factor())
        batch = self._resize(batch)
        full = (at.batch + 1) % accumulate == 0 or at.batch + 1 == steps
        output = self.step(batch, update=full, eager=self.guard.eager)
        diagnose = partial(self._diagnose, batch, {"epoch": at.epoch, "batch": at.batch})
        failure = self.guard.after(output, self.step.scaler.get_scale(), diagnose)
        if failure is not None:
            self._tolerate(failure)
        at.updates += output.grad_norm is not None and not output.skipped
        at.skipped += bool(output.skipped)
        if not output.skipped:
            finite = output.loss.total.isfinite()  # of one batch among those that are accumulated
            for name, value in output.loss.parts.items():
                at.add(name, torch.where(finite, value, 0.0))
            at.add("learnt", finite.float())
        at.add("images", len(batch) * self.ranks.size)

    def _finish_epoch(self) -> None:
        """Save, validate, write the row, keep best, save; the other ranks wait for the first.

        Two writes of one file, tenths of a second: the first keeps what was learnt whatever happens
        to the validation (who goes on from there validates it), the second its AP and the best.
        """
        self._save_last()
        self.at.sums["seconds"] = self.ranks.broadcast(self.at.sums["seconds"])
        row = self._train_row()
        self.at.epoch, self.at.batch, self.at.sums = self.at.epoch + 1, 0, {}
        self._fit_time()
        if self.ranks.first:
            self._measure(row)
        self.at = self.ranks.broadcast(self.at)

    def _measure(self, row: dict[str, Any]) -> None:
        """Complete the row of the epoch, and save."""
        at = self.at
        evaluation = None
        started = time.perf_counter()
        if self.config.val or at.epoch == self.length.epochs:
            evaluation = self.evaluate(self.deployed)
        at.seconds += time.perf_counter() - started
        row["time"] = at.seconds
        for name in ("map", "map_50", "map_75", "precision", "recall"):
            row[f"metrics/{name}"] = getattr(evaluation.metrics, name) if evaluation else math.nan
        at.rows.append(row)
        self._show(row)
        write_csv(self.folder / "results.csv", at.rows)
        if evaluation:
            self._keep_if_best(evaluation)
        self._save_last()

    def _keep_if_best(self, evaluation: Evaluation) -> None:
        """The highest AP is the best; while there is none (no box to find), the newest is."""
        at, ap = self.at, evaluation.metrics.map
        if ap > at.best_map:
            at.best_map = ap
        elif at.best_map >= 0 or not math.isnan(ap):
            return
        at.best_epoch = at.epoch
        self._save_best(evaluation)

    # -- parts -----------------------------------------------------------------------------------

    @property
    def deployed(self) -> Detector:
        """The weights that are validated and saved as best: the average, where there is one."""
        return self.run.ema.average if self.run.ema else self.run.model  # type: ignore[return-value]

    def evaluate(self, model: Detector, precision: Precision | None = None) -> Evaluation:
        """Measure ``model`` on the validation split, in the precision of the run or another."""
        config = self.config
        autocast = (precision or self.precision).autocast
        with self.log.progress("validating", len(self.run.val_loader)) as update:
            return evaluate(
                model,
                self.run.val_loader,
                GroundTruth(self.run.val.records, self.run.class_names),
                config.detect_options(conf=0.001),
                ForwardOptions(self.run.device, autocast, config.channels_last),
                update,
            )

    def _training_mode(self) -> None:
        self.run.model.train()
        for part in self.run.model.stages.values():
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()  # frozen: its batch-norm statistics stay too

    def _lr_factor(self) -> float:
        return lr_factor(
            self.at.updates,
            steps=self.length.steps,
            warmup=self.run.warmup,
            final=self.config.lrf,
            shape="cosine" if self.config.cos_lr else self.config.schedule,
        )

    def _resize(self, batch: Batch) -> Batch:
        """Multi-scale: the whole batch at a size drawn for this step around imgsz."""
        if not self.config.multi_scale:
            return batch
        stride, size = self.run.model.max_stride, self.run.image_size
        seed = hash((self.config.seed, self.at.epoch, self.at.batch)) % 2**63
        draw = torch.rand((), generator=torch.Generator().manual_seed(seed)).item()
        share = 1.0 + self.config.multi_scale * (2.0 * draw - 1.0)
        new = max(round(size * share / stride), 1) * stride
        if new == size:
            return batch
        images = F.interpolate(
            batch.images.float(), size=(new, new), mode="bilinear", antialias=new < size
        )
        images = images.round().to(torch.uint8).contiguous(memory_format=torch.channels_last)
        return replace(batch, images=images, boxes=batch.boxes * (new / size))

    def _fit_time(self) -> None:
        """With a time budget, the number of epochs is what fits into it."""
        if self.config.time is None:
            return
        left = self.config.time * 3600 - self.at.seconds
        more = max(math.floor(left / (self.at.seconds / self.at.epoch)), 0)
        self.length = RunLength(self.length.steps_per_epoch, self.at.epoch + more)
        self.run.warmup = warmup_steps(self.length, self.config.warmup_epochs)
        if self.run.ema:
            constants = ema_constants(self.length, self.config.ema_decay)
            self.run.ema.decay, self.run.ema.tau = constants

    def _out_of_patience(self) -> bool:
        at, patience = self.at, self.config.patience
        if not patience or at.best_epoch < 0 or at.epoch - at.best_epoch < patience:
            return False
        self.log.info(
            f"stopping: no better AP than {at.best_map:.3f} of epoch {at.best_epoch} "
            f"for {patience} epochs"
        )
        return True

    def _train_row(self) -> dict[str, Any]:
        """What the epoch's training leaves in results.csv."""
        at = self.at
        at.seconds += at.sums["seconds"]
        learnt = float(at.sums.get("learnt", 0))
        row: dict[str, Any] = {"epoch": at.epoch + 1, "time": at.seconds}
        for name in PARTS:
            row[f"train/{name}_loss"] = float(at.sums[name]) / learnt if learnt else math.nan
        row["lr"] = max(group["lr"] for group in self.run.optimizer.param_groups)
        row["images_per_s"] = at.sums["images"] / at.sums["seconds"]
        row["precision"] = self.precision.name
        row["loss_scale"] = self.step.scaler.get_scale()
        row["skipped"] = at.skipped
        return row

    def _show(self, row: dict[str, Any]) -> None:
        values = [f"{row['epoch']}/{self.length.epochs}"]
        values += [f"{row[f'train/{name}_loss']:.3f}" for name in PARTS]
        values += [f"{row['lr']:.2g}", f"{row['images_per_s']:.1f}"]
        values += [f"{memory_in_use(self.run.device):.1f}"]
        values += [f"{row['metrics/map_50']:.3f}", f"{row['metrics/map']:.3f}"]
        self.log.epoch_row(values)

    def _note(self) -> str:
        sums = self.at.sums
        return f"{sums['images'] / sums['seconds']:.1f} images/s" if sums["seconds"] else ""

    # -- when numbers are not finite -------------------------------------------------------------

    def _diagnose(self, batch: Batch, place: dict[str, int], cause: str) -> Failure:
        run = self.run
        found = find_failure(run.model, run.criterion, batch, self.precision, place, cause)
        return worst(self.ranks.gather(found))

    def _tolerate(self, failure: Failure) -> None:
        """A batch that float32 can not handle either: say so, and stop when it does not end."""
        if self.guard.hopeless:
            raise RunError(
                f"training has diverged, also in fp32: {failure}; "
                "check these images and labels, or take a smaller lr0"
            )
        self.log.warn(f"batch skipped: {failure}")

    def _go_back(self, failure: Failure | None) -> None:
        """Restore the last good state; after a failure go on one rung down the ladder."""
        self.load_state_dict(self.guard.state)
        if failure is None:
            return
        if not self.rungs:
            raise RunError(f"no precision is left to fall back to: {failure}")
        name = self.rungs.pop(0)
        self.precision = Precision(name, self.precision.device_type, str(failure))
        self.step.use(self.precision)
        self.log.warn(f"{failure}; going back to batch {self.at.batch}, on in {name}")

    # -- saving and going on ---------------------------------------------------------------------

    def _save_on_the_way(self, stop: StopRequest) -> None:
        """Inside an epoch: when a signal came, or as often as save_steps says; but not while
        gradients are accumulated, for they are not saved."""
        batch, accumulate, every = self.at.batch, self.run.accumulate, self.config.save_steps
        due = every and batch // every > (batch - accumulate) // every
        if batch % accumulate:
            return
        signum = self._signal(stop)
        if signum is None and not due:
            return
        self.guard.settle()
        if signum is not None:
            self._interrupt(signum)
        self._save_last()

    def _signal(self, stop: StopRequest) -> int | None:
        """The signal that any rank has got: they stop together or not at all."""
        return self.ranks.largest(stop.signum or 0) or None

    def _interrupt(self, signum: int) -> None:
        self._save_last()
        self.ranks.wait()
        where = f"epoch {self.at.epoch + 1}, batch {self.at.batch}"
        then = f"go on with: det train resume={shlex.quote(str(self.folder))}"
        lost = "nothing was saved (save=False)"
        raise Interrupted(signum, f"stopped at {where}; {then if self.config.save else lost}")

    def _save_best(self, evaluation: Evaluation) -> None:
        if self.config.save:
            meta = self.meta(evaluation.metrics.to_dict())
            save_weights(self.folder / BEST, self._weights(), meta)

    def _save_last(self) -> None:
        if not self.config.save or not self.ranks.first:
            return
        save_state(self.folder / LAST, self.state_dict())
        period = self.config.save_period
        if period > 0 and self.at.batch == 0 and self.at.epoch % period == 0:
            path = self.folder / BEST.parent / f"epoch{self.at.epoch}.safetensors"
            save_weights(path, self._weights(), self.meta({}))

    def _weights(self) -> dict[str, Tensor]:
        """What is deployed, in the format that was asked for.  Norms and biases are few and stay
        as they are: running variances may leave the range of fp16."""
        tensors = dict(self.deployed.state_dict())
        if self.config.save_dtype == "fp16":
            return {k: v.half() if v.ndim > 1 else v for k, v in tensors.items()}
        return tensors

    def meta(self, metrics: dict[str, Any]) -> Meta:
        """What a checkpoint written now says about itself."""
        return describe_run(self.run, self.at, self.precision.name, metrics)

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to go on as if the run had never stopped."""
        return {
            "meta": asdict(self.meta({})),
            "model": self.run.model.state_dict(),
            "ema": self.run.ema.state_dict() if self.run.ema else None,
            "optimizer": self.run.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "precision": self.precision.name,
            "position": self.at.state_dict(),
            "failures": [asdict(failure) for failure in self.guard.failures],
            "epochs": self.length.epochs,
            "config": asdict(self.config),
            "transferred": sorted(self.run.transferred_names),
            "torch_random_state": torch.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state``: weights, average, moments, scale and place, as they were."""
        self.run.model.load_state_dict(state["model"])
        if self.run.ema:
            self.run.ema.load_state_dict(state["ema"])
        self.run.optimizer.load_state_dict(state["optimizer"])
        self.step.forget()
        self.step.scaler.load_state_dict(state["scaler"])
        self.at = Position(**state["position"])
        if len(state["failures"]) > len(self.guard.failures):  # a rollback forgets none
            self.guard.failures = [Failure(**failure) for failure in state["failures"]]
        if self.at.epoch:
            self._fit_time()
        torch.set_rng_state(state["torch_random_state"])
