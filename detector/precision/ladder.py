"""Choosing the precision of a run: half precision where it is right and faster, else fp32.

``amp=True`` climbs: what is known against the hardware is said before anything runs (hardware.py),
what is left is measured on the run's own model and batch (sanity.py), and the fastest that passed
is used.  A precision that is named is used, or refused with the reason.  The verdict on equal work
is kept in the cache folder, so the second run of a kind starts at once.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...datasets.nouns import Batch
from ...files.folders import cache_folder
from ..losses.detection import DetectionLoss
from ..models.detector import Detector
from ..options.errors import UsageError
from ..options.train import TrainConfig
from ..run.files import plain, write_json
from ..run.folder import RunError
from ..run.hardware import DeviceTraits, candidates, traits_of
from ..run.log import Log
from ..run.ranks import ALONE, Ranks
from .agree import agree, objections
from .precision import DTYPES, Precision
from .probe import StageError
from .sanity import SanityCheck, Trial

Result = TypeVar("Result")

CHECK_IMAGES, CHECK_PIXELS, LEAST_IMAGES = 16, 16 * 320**2, 4
"""Of the checked batch at most, and images in any case: a check is to cost steps, not minutes."""
CACHE_VERSION = 3


@dataclass(frozen=True)
class Decision:
    """precision: what the run uses.  rungs: what it may fall back to, in order.  trials: evidence,
    float32 first; empty where nothing was run.  objections: what is known against the others.
    cached: the evidence is that of an earlier run of the same kind.  seconds: what it took."""

    precision: Precision
    rungs: tuple[str, ...]
    trials: list[Trial]
    objections: dict[str, str]
    cached: bool = False
    seconds: float = 0.0

    def line(self) -> str:
        """The verdict in one line, as the user reads it."""
        name, device = self.precision.name, self.precision.device_type
        if name == "fp32":
            reason = self.precision.reason
            by = " by " if reason.startswith("amp=") else ": "
            return f"AMP disabled{by}{reason}; training in fp32"
        trial = next((t for t in self.trials if t.precision == name), None)
        if trial is None:
            return f"AMP: {name} on {device}, {self.precision.reason}"
        base = self.trials[0]
        return (
            f"AMP: {name} on {device}, {base.step_ms / trial.step_ms:.2g}x as fast, "
            f"{trial.saved_bytes / base.saved_bytes:.2f}x activation memory, "
            f"loss differs by {trial.loss_error:.2%}" + (" (checked before)" if self.cached else "")
        )


def choose_precision(
    config: TrainConfig,
    model: Detector,
    criterion: DetectionLoss,
    batches: Callable[[], Iterable[Batch]],
    device: torch.device,
    log: Log,
    *,
    fresh: bool = True,
    traits: DeviceTraits | None = None,
    ranks: Ranks = ALONE,
) -> Decision:
    """Decide, and tell the log.  batches: gives training batches (only the first is taken).  fresh:
    the weights are random, and one draw is like another; others are told apart in the cache.
    ranks: the ranks that train together; they decide alike (agree.py).

    Raises UsageError if this device lacks the precision that was named, RunError if that precision
    failed the check.
    """
    traits = traits or traits_of(device)
    decision = _decide(config, model, criterion, batches, traits, device, fresh, ranks)
    if decision.trials:
        report(decision, log)
    log.info(decision.line())
    return decision


def refuse_precision(config: TrainConfig, traits: DeviceTraits, ranks: Ranks = ALONE) -> None:
    """Raise UsageError if the device lacks the precision that ``amp=`` names."""
    named = _named(config)
    if named is None or config.amp_force:
        return
    if reason := objections(traits, ranks).get(named):
        raise UsageError(
            f"amp={named}: {reason}; use amp=True, or amp_force=True to try it anyway"
        )


def resumed_precision(
    name: str, device: torch.device, log: Log, *, force: bool = False, ranks: Ranks = ALONE
) -> Decision:
    """The precision of a resumed run: the one it had, or fp32 if this device lacks that one and
    ``force`` is not set."""
    against = objections(traits_of(device), ranks)
    if force:
        against.pop(name, None)
    reason = against.get(name, "as before the run was interrupted")
    precision = Precision("fp32" if name in against else name, device.type, reason)
    decision = Decision(precision, rungs_below(precision.name, against), [], against)
    log.info(decision.line())
    return decision


def _decide(
    config: TrainConfig,
    model: Detector,
    criterion: DetectionLoss,
    batches: Callable[[], Iterable[Batch]],
    traits: DeviceTraits,
    device: torch.device,
    fresh: bool,
    ranks: Ranks,
) -> Decision:
    against = objections(traits, ranks)
    if config.amp in (False, "fp32"):
        return Decision(Precision("fp32", traits.type, f"amp={config.amp}"), (), [], {})
    named = _named(config)
    refuse_precision(config, traits, ranks)
    names = (named,) if named else tuple(n for n in candidates(traits) if n not in against)
    if not names:
        reason = "; ".join(against.values())
        return Decision(Precision("fp32", traits.type, reason), (), [], against)
    if not config.amp_check:
        precision = Precision(names[0], traits.type, "not checked (amp_check=False)")
        return Decision(precision, rungs_below(names[0], against), [], against)
    started = time.perf_counter()
    trials, cached = _evidence(model, criterion, batches, names, device, fresh, ranks)
    seconds = time.perf_counter() - started
    return replace(conclude(config, trials, traits, against), cached=cached, seconds=seconds)


def conclude(
    config: TrainConfig, trials: list[Trial], traits: DeviceTraits, against: dict[str, str]
) -> Decision:
    """The decision that trials lead to.  against: what was not tried, and why.  Raises RunError
    where the precision that was named failed."""
    precision = verdict(config, _named(config), trials, traits)
    failed = {trial.precision: trial.problem for trial in trials[1:] if trial.problem}
    return Decision(precision, rungs_below(precision.name, against | failed), trials, against)


def _named(config: TrainConfig) -> str | None:
    """The precision that ``amp=`` names; None where it leaves the choice."""
    return str(config.amp) if config.amp in DTYPES else None


def verdict(
    config: TrainConfig, named: str | None, trials: list[Trial], traits: DeviceTraits
) -> Precision:
    """The fastest precision that passed, or the one that was named."""
    if named:
        problem = next((t.problem for t in trials if t.precision == named), "it was not measured")
        if problem and not config.amp_force:
            raise RunError(
                f"amp={named} failed the sanity check: {problem}; "
                "use amp=True, or amp_force=True to train in it anyway"
            )
        reason = f"amp={named}" + (f" and amp_force=True, although {problem}" if problem else "")
        return Precision(named, traits.type, reason)
    base, others = trials[0], trials[1:]
    passed = [trial for trial in others if trial.problem is None]
    best = min(passed, key=lambda trial: trial.step_ms, default=None)
    if best is None:
        reason = "; ".join(f"{t.precision}: {t.problem}" for t in others) or "nothing was measured"
        return Precision("fp32", traits.type, reason)
    if best.step_ms >= base.step_ms:
        slower = f"{best.precision} passed but is not faster ({best.step_ms:.0f} ms per step"
        return Precision("fp32", traits.type, f"{slower}, fp32 {base.step_ms:.0f} ms)")
    return Precision(best.precision, traits.type, "passed the sanity check")


def rungs_below(name: str, against: dict[str, str]) -> tuple[str, ...]:
    """Where to fall from ``name``, in order: bf16 has the range that fp16 lacks, fp32 has all."""
    order = ("fp16", "bf16", "fp32")
    return tuple(n for n in order[order.index(name) + 1 :] if n not in against)


def _evidence(
    model: Detector,
    criterion: DetectionLoss,
    batches: Callable[[], Iterable[Batch]],
    names: tuple[str, ...],
    device: torch.device,
    fresh: bool,
    ranks: Ranks,
) -> tuple[list[Trial], bool]:
    """Trials of float32 and ``names``, from the cache where the same work was checked before (on
    every rank: else all measure, at the same time)."""
    batch = part_to_check(next(iter(batches())).to(device))
    path = _cache_path(model, batch, names, device, fresh)
    known = _load(path, names)
    if all(ranks.gather(known is not None)) and known is not None:
        return known, True
    own = with_what_fits(batch, lambda part: SanityCheck(model, criterion, part).run(names))
    trials = agree(ranks.gather(own))
    if all(trial.problem is None for trial in trials):
        _store(path, trials)
    return trials, False


def part_to_check(batch: Batch) -> Batch:
    """As many images of a batch as show what a precision does: fewer where they are large."""
    pixels = batch.images.shape[-2] * batch.images.shape[-1]
    return batch.first(min(CHECK_IMAGES, max(CHECK_PIXELS // pixels, LEAST_IMAGES)))


def with_what_fits(batch: Batch, work: Callable[[Batch], Result]) -> Result:
    """``work(batch)``, or of its first half as often as memory runs out.  Raises RunError where a
    single image is too much."""
    while True:
        try:
            return work(batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise RunError(
                    "the AMP check ran out of memory with a single image: use a smaller imgsz="
                ) from error
            batch = batch.first(len(batch) // 2)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether there was too little memory, of a GPU or (where torch has no type for it) of the
    machine."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _cache_path(
    model: Detector, batch: Batch, names: tuple[str, ...], device: torch.device, fresh: bool
) -> Path:
    facts = (
        CACHE_VERSION,
        model.name,
        model.num_classes,
        [(tuple(p.shape), p.stride(), p.requires_grad) for p in model.parameters()],
        tuple(batch.images.shape),
        names,
        traits_of(device),
        torch.__version__,
        torch.get_num_threads(),
        "fresh" if fresh else _digest(model),
    )
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:24]
    return cache_folder() / "amp" / f"{digest}.json"


def _digest(model: Detector) -> str:
    """Of the weights: those of a checkpoint decide what overflows."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def _load(path: Path, names: tuple[str, ...]) -> list[Trial] | None:
    """Trials of an earlier check of ``names``; None where there is none, or it cannot be read."""
    try:
        rows = json.loads(path.read_text())
        trials = [
            Trial(**{**row, "stages": {k: StageError(**v) for k, v in row["stages"].items()}})
            for row in rows
        ]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return trials if [trial.precision for trial in trials] == ["fp32", *names] else None


def _store(path: Path, trials: list[Trial]) -> None:
    try:
        write_json(path, [asdict(trial) for trial in trials])
    except OSError:
        return  # a cache folder that cannot be written is no reason to stop


def report(decision: Decision, log: Log) -> None:
    """One table with everything that was measured."""
    base = decision.trials[0]
    columns = (
        "precision", "ms/step", "speed", "saved MB", "loss differs", "worst output", "worst cosine",
        "box cells", "lost", "unscaled", "verdict",
    )  # fmt: skip
    rows = []
    for trial in decision.trials:
        worst = max((s.output for s in trial.stages.values()), default=0.0)
        turned = min((s.cosine for s in trial.stages.values()), default=1.0)
        rows.append(
            (
                trial.precision, f"{trial.step_ms:.0f}", f"{base.step_ms / trial.step_ms:.2f}x",
                f"{trial.saved_bytes / 1e6:.0f}", f"{trial.loss_error:.2%}", f"{worst:.1%}",
                f"{turned:.4f}", f"{trial.box_error:.2f}", f"{trial.lost:.2%}",
                f"{trial.unscaled_lost:.2%}", trial.problem or "passed",
            )
        )  # fmt: skip
    log.table("AMP sanity check: one batch of this run, forward and backward", columns, rows)
    if not decision.cached:
        log.info(
            f"the check took {decision.seconds:.1f} s, a first batch and the start of the kernels "
            f"included; a step takes {base.step_ms / 1000:.2g} s in fp32"
        )
    for name, reason in decision.objections.items():
        log.info(f"{name} was not tried: {reason}")


def write_decision(path: Path, decision: Decision) -> None:
    """amp.json: the decision and everything it rests on."""
    data: dict[str, Any] = {"line": decision.line(), **asdict(replace(decision))}
    write_json(path, plain(data))
