"""The loop: train an epoch, measure the averaged weights with the deployed head, keep the best.

Four levels, each a screen: ``fit`` (epochs), ``_train_epoch`` (batches), ``_train_batch`` (one
batch and its bookkeeping) and step.py (the mathematics).  What a run needs to continue is in
``state_dict``; all else is a function of the config, the epoch and the batch.

With several ranks each runs this loop in step with the others; rank 0 writes and tells observers.
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

from ...datasets.nouns import Batch
from ...files.counted import counted
from ...weights.checkpoint import Meta
from ..precision.ladder import Decision
from ..run.device import gc_frozen, memory_in_use
from ..run.folder import RunError
from ..run.log import Log
from ..run.memory import drop_unused
from ..run.observer import Epoch, Observers, Started, Step
from ..run.signals import Interrupted, StopRequest, stop_request
from ..run.words import duration
from .assemble import Run
from .budget import PROBE, Budget, first_estimate
from .checkpoint_writer import CheckpointWriter
from .data_parallel import forward_of
from .decide import safer_precision
from .describe import describe_run
from .evaluator import CocoEvaluator, Evaluator, Measured
from .feed import on_device
from .freeze import frozen_parts
from .guard import Failure, Guard, Rollback, find_failure, worst
from .micro_batches import MemoryRanOut, described, fewer_images, noticing_memory
from .multi_scale import resized
from .optim import set_learning_rate
from .position import Position
from .quantize import measured_in, stop_ranges
from .row import mean_losses, train_row, val_row
from .schedule import RunLength, ema_constants, lr_factor, warmup_steps
from .step import TrainStep

ECHO_SECONDS = 2.0


class Trainer:
    """One run from its parts to its best checkpoint.  The precision falls along ``rungs``."""

    def __init__(
        self,
        run: Run,
        decision: Decision,
        folder: Path,
        log: Log,
        observers: Observers | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        self.run, self.folder, self.log = run, folder, log
        self.config, self.ranks = run.config, run.ranks
        self.observers = observers or Observers((), log.warn)
        self.evaluator: Evaluator = evaluator or CocoEvaluator(self.config.best)
        self.writer = CheckpointWriter(run, folder, self.observers)
        self.precision, self.rungs = decision.precision, list(decision.rungs)
        self.length, self.at = run.length, Position()
        self.stop_reason: str | None = None
        self.best_measured: Measured | None = None
        """Of the best epoch, for the report of a run that is stopped."""
        self.budget = None if self.config.time is None else Budget(self.config.time, log.began)
        self._val_seconds = 0.0
        self._training_mode()
        forward = forward_of(
            run.model, run.ranks, compiled=self.config.compile, sync_bn=self.config.sync_bn
        )
        self.step = TrainStep(
            run.model,
            run.criterion,
            run.optimizer,
            self.precision,
            ema=run.ema,
            clip=self.config.clip,
            forward=forward,
            ranks=run.ranks,
        )
        if self.config.micro_batch is not None:
            self.step.micro_batch = self.config.micro_batch // run.ranks.size
        self.guard = Guard(self.state_dict, waits=run.device.type == "cuda")

    # -- the levels of the loop ------------------------------------------------------------------

    def fit(self) -> None:
        """Train until the epochs, the time or the patience end, or an observer asks to stop.

        Raises Interrupted, RunError."""
        self._tell_started()
        echo = ECHO_SECONDS if self.ranks.size > 1 else 0.0
        with gc_frozen(), stop_request(echo) as stop:
            while self.at.epoch < self.length.epochs and not self._stops_early():
                try:
                    with noticing_memory():
                        self._train_epoch(stop)
                    self.guard.check_flag()
                except Rollback as rollback:
                    self._roll_back(rollback.failure)
                    continue
                except MemoryRanOut as ran_out:
                    self._split_batches(ran_out)
                    continue
                self._finish_epoch()
                if (signum := self._signal(stop)) is not None:
                    self._interrupt(signum)

    def _train_epoch(self, stop: StopRequest) -> None:
        """All batches of the epoch from ``at.batch`` on."""
        started = time.perf_counter() - self.at.sums.get("seconds", 0.0)
        loader = self.run.train_loader
        self._training_mode()
        batches = loader.epoch(self.at.epoch, start_step=self.at.batch)
        for batch in on_device(batches, self.run.device):
            self._train_batch(batch, len(loader))
            self.at.batch += 1
            self.at.sums["seconds"] = time.perf_counter() - started
            if self.budget and self.at.epoch == 0 and self.at.batch == PROBE:
                self._estimate(len(loader))
            self._tell_step(len(loader))
            if self.at.batch < len(loader):
                self._save_on_the_way(stop)

    def _train_batch(self, batch: Batch, steps: int) -> None:
        """Set what depends on the step, learn from the batch, add to the sums of the epoch."""
        at, accumulate = self.at, self.run.accumulate
        self.guard.before(boundary=at.batch % accumulate == 0)
        self.run.criterion.progress = at.epoch / max(self.length.epochs - 1, 1)
        set_learning_rate(self.run.optimizer, self._lr_factor())
        if share := self.config.multi_scale:
            key = (self.config.seed, at.epoch, at.batch)
            batch = resized(batch, share, self.run.model.max_stride, key)
        full = (at.batch + 1) % accumulate == 0 or at.batch + 1 == steps
        output = self.step(batch, update=full, eager=self.guard.eager)
        diagnose = partial(self._diagnose, batch, replace(at))
        failure = self.guard.after(output, self.step.scaler.get_scale(), diagnose)
        if failure is not None:
            self._skip_batch(failure)
        at.updates += output.grad_norm is not None and not output.skipped
        at.skipped += bool(output.skipped)
        if not output.skipped:
            finite = output.loss.total.isfinite()  # of one batch among those that are accumulated
            for name, value in output.loss.parts.items():
                at.add(name, torch.where(finite, value, 0.0))
            at.add("learned", finite.float())
        at.add("images", len(batch) * self.ranks.size)

    def _finish_epoch(self) -> None:
        """Save, measure, tell the observers, keep the best, save again.

        The last checkpoint is written twice: what was learned survives a failing validation.
        """
        self._save_last()
        self.at.sums["seconds"] = self.ranks.broadcast(self.at.sums["seconds"])
        self.at.seconds += self.at.sums["seconds"]
        row = train_row(self.at, self.step)
        self.at.epoch, self.at.batch, self.at.sums = self.at.epoch + 1, 0, {}
        self._fit_time()
        precision = measured_in(self.run.model, self.precision)
        measured, started = None, time.perf_counter()
        if self.config.val or self.at.epoch == self.length.epochs:
            measured = self.evaluator(self.run.deployed, precision, self.run, self.log)
        took = time.perf_counter() - started
        self._val_seconds = took if measured else self._val_seconds
        self.at.seconds += took
        if self.ranks.first:
            self._record(row, measured)
        self.at, self.stop_reason = self.ranks.broadcast((self.at, self.stop_reason))

    def _record(self, row: dict[str, Any], measured: Measured | None) -> None:
        """Complete the row of the epoch, tell the observers, and save."""
        at = self.at
        row["time"] = at.seconds
        row |= val_row(measured, self.evaluator.columns)
        at.rows.append(row)
        best = measured is not None and self._is_best(measured.score)
        if measured and best:
            at.best_epoch, self.best_measured = at.epoch, measured
            if self.writer.active:
                self.writer.save_best(self.meta(dict(measured.metrics)))
        rows, memory = [dict(each) for each in at.rows], memory_in_use(self.run.device)
        per_class = measured.metrics.get("per_class", ()) if measured else ()
        done = Epoch(at.epoch, self.length.epochs, dict(row), rows, best, memory, per_class)
        self.stop_reason = self.observers.epoch(done)
        self._save_last()

    def _is_best(self, score: float) -> bool:
        """The epoch with the highest score is the best, the newest one of equals.  While no score
        can be measured (no box to find), the newest epoch is the best."""
        at = self.at
        if score > at.best_map:
            at.best_map, at.improved_epoch = score, at.epoch
        elif at.best_map == -math.inf:
            at.improved_epoch = at.epoch
        return score == at.best_map or at.best_map == -math.inf

    # -- parts -----------------------------------------------------------------------------------

    def _training_mode(self) -> None:
        self.run.model.train()
        for name in frozen_parts(self.run.model):
            self.run.model.get_submodule(name).eval()  # its batch-norm statistics stay too

    def _lr_factor(self) -> float:
        return lr_factor(
            self.at.updates,
            steps=self.length.steps,
            warmup=self.run.warmup,
            final=self.config.lrf,
            shape="cosine" if self.config.cos_lr else self.config.schedule,
        )

    def _fit_time(self) -> None:
        """With a time budget, the number of epochs is what fits into it."""
        if self.budget is None:
            return
        epoch = max(self.at.seconds / self.at.epoch, 1e-3)
        if self.at.epoch == 1:  # its validation is still to come
            epoch, self._val_seconds = first_estimate(epoch, self._images())
        self._use_epochs(self.at.epoch + self.budget.more_epochs(epoch, self._val_seconds))

    def _estimate(self, batches: int) -> None:
        """With a time budget, fit the number of epochs already in the first one."""
        assert self.budget is not None
        took = self.at.sums["seconds"]
        epoch, val = first_estimate(took / self.at.batch * batches, self._images())
        self._use_epochs(max(self.budget.more_epochs(epoch, val), 1))
        if epoch > self.budget.left() + took:
            self.log.warn(f"{self.budget}: an epoch takes about {duration(epoch)}, which is longer")

    def _images(self) -> tuple[int, int]:
        """Images that an epoch trains on and validates."""
        return len(self.run.train.records), len(self.run.val.records) * bool(self.config.val)

    def _use_epochs(self, epochs: int) -> None:
        """Make the run ``epochs`` long, on all ranks alike, and say so where that is new."""
        epochs = self.ranks.broadcast(epochs)
        if epochs != self.length.epochs:
            self.log.info(f"{self.budget}: about {counted(epochs, 'epoch')}")
        self.length = RunLength(self.length.steps_per_epoch, epochs)
        self.run.warmup = warmup_steps(self.length, self.config.warmup_epochs)
        stop_ranges(self.run.model, self.length)
        if self.run.ema:
            self.run.ema.decay, self.run.ema.tau = ema_constants(self.length, self.config.ema_decay)

    def _stops_early(self) -> bool:
        at, patience = self.at, self.config.patience
        if self.stop_reason:
            self.log.info(f"stopping after epoch {at.epoch}: {self.stop_reason}")
            return True
        if not patience or at.improved_epoch < 0 or at.epoch - at.improved_epoch < patience:
            return False
        self.log.info(
            f"stopping: no better {self.evaluator.name} than {at.best_map:.3f} of epoch "
            f"{at.improved_epoch} for {counted(patience, 'epoch')}"
        )
        return True

    def _tell_started(self) -> None:
        titles = {title: f"metrics/{name}" for title, name in self.evaluator.titles.items()}
        facts = Started(
            self.folder, asdict(self.config), self.run.model.name, self.run.dataset.name,
            self.at.epoch, self.length.epochs, len(self.run.train_loader), titles,
        )  # fmt: skip
        self.observers.started(facts)

    def _tell_step(self, batches: int) -> None:
        at = self.at
        rate = at.sums["images"] / at.sums["seconds"] if at.sums["seconds"] else 0.0
        place = (at.epoch + 1, self.length.epochs, at.batch, batches)
        means = partial(mean_losses, at, self.run.criterion.part_names)
        self.observers.step(Step(*place, rate, means))

    # -- when numbers are not finite -------------------------------------------------------------

    def _diagnose(self, batch: Batch, at: Position, cause: str) -> Failure:
        run = self.run
        parts = batch.split(self.step.micro_batch or len(batch))
        found = find_failure(run.model, run.criterion, parts, self.precision, at, cause)
        return worst(self.ranks.gather(found))

    def _skip_batch(self, failure: Failure) -> None:
        """A batch that float32 cannot handle either: report it; raise RunError if it goes on."""
        if self.guard.diverged:
            raise RunError(
                f"training has diverged, also in fp32: {failure}; "
                "check these images and labels, or use a smaller lr0"
            )
        self.log.warn(f"batch skipped: {failure}")

    def _roll_back(self, failure: Failure | None) -> None:
        """Restore the last good state; after a failure continue in a safer precision."""
        self.load_state_dict(self.guard.state)
        if failure is None:
            return
        stages = tuple(self.run.model.stages)
        self.precision = safer_precision(self.precision, self.rungs, failure, stages)
        self.step.use(self.precision)
        back = f"rolled back to batch {self.at.batch}, continuing in {self.precision.label}"
        self.log.warn(f"{failure}; {back}")

    def _split_batches(self, ran_out: MemoryRanOut) -> None:
        """Go on from the last good state with half as many images per forward pass.  RunError."""
        what = f"{ran_out.what} at epoch {self.at.epoch + 1}, batch {self.at.batch}"
        now = self.step.micro_batch or self.config.batch_size // self.ranks.size
        saved = self.folder if self.config.save else None
        images = fewer_images(now, what, ran_out, self.ranks, saved)
        drop_unused(self.run.device)  # what the step held: the state needs room beside the run
        if (state := self.guard.rewind()) is not None:
            self.load_state_dict(state)
        self.step.micro_batch = images
        back = f"rolled back to batch {self.at.batch}, continuing with {described(images)}"
        self.log.warn(f"{what}: {back}")

    # -- saving and continuing -------------------------------------------------------------------

    def _save_on_the_way(self, stop: StopRequest) -> None:
        """Inside an epoch: after a signal, and every ``save_steps``; not while gradients are
        accumulated, because those are not saved."""
        batch, accumulate, every = self.at.batch, self.run.accumulate, self.config.save_steps
        due = every and batch // every > (batch - accumulate) // every
        if batch % accumulate:
            return
        signum = self._signal(stop)
        if signum is None and not due:
            return
        self.guard.check_flag()
        if signum is not None:
            self._interrupt(signum)
        self._save_last()

    def _signal(self, stop: StopRequest) -> int | None:
        """The signal that any rank has received: all stop together or none."""
        return self.ranks.largest(stop.signum or 0) or None

    def _interrupt(self, signum: int) -> None:
        self._save_last()
        self.ranks.wait()
        where = f"epoch {self.at.epoch + 1}, batch {self.at.batch}"
        then = f"continue with: det train resume={shlex.quote(str(self.folder))}"
        lost = "nothing was saved (save=False)"
        raise Interrupted(signum, f"stopped at {where}; {then if self.config.save else lost}")

    def _save_last(self) -> None:
        if self.writer.active:
            state, between = self.state_dict(), self.at.batch == 0
            self.writer.save_last(state, self.meta({}), between_epochs=between)

    def meta(self, metrics: dict[str, Any]) -> Meta:
        """The metadata of a checkpoint written now."""
        return describe_run(self.run, self.at, self.precision, metrics)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue as if the run had never stopped."""
        return {
            "meta": asdict(self.meta({})),
            "model": self.run.model.state_dict(),
            "ema": self.run.ema.state_dict() if self.run.ema else None,
            "optimizer": self.run.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict(),
            "precision": self.precision.name,
            "fp32_stages": list(self.precision.fp32_stages),
            "position": self.at.state_dict(),
            "failures": [asdict(failure) for failure in self.guard.failures],
            "micro_batch": self.step.micro_batch,
            "epochs": self.length.epochs,
            "config": asdict(self.config),
            "transferred": sorted(self.run.transferred_names),
            "torch_random_state": torch.get_rng_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state``: weights, average, moments, loss scale and position."""
        self.run.model.load_state_dict(state["model"])
        if self.run.ema:
            self.run.ema.load_state_dict(state["ema"])
        self.run.optimizer.load_state_dict(state["optimizer"])
        self.step.drop_gradients()
        self.step.scaler.load_state_dict(state["scaler"])
        self.step.micro_batch = state.get("micro_batch") or self.step.micro_batch
        self.at = Position(**state["position"])
        if len(state["failures"]) > len(self.guard.failures):  # a rollback forgets none
            self.guard.failures = [Failure(**failure) for failure in state["failures"]]
        if self.at.epoch:
            self._fit_time()
        torch.set_rng_state(state["torch_random_state"])
