"""Choosing the precision of a run: half precision where it is right and faster, else fp32.

With ``amp=True``, precisions that the hardware does not support well are excluded (hardware.py),
the others are measured on the run's own model and batch (sanity.py), and the fastest that passed is
used.  Where single stages of the model fail in a precision, it is measured again with these stages
in float32 (by_stage.py).  A precision that is given by name is used, or refused with the reason.
Results are cached,
so that the next run with the same model, batch shape and device starts at once.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from ...datasets.nouns import Batch
from ...files.folders import cache_folder
from ...files.json_text import read_json
from ..losses.detection import DetectionLoss
from ..models.detector import Detector
from ..models.stage_names import stages_named
from ..options.errors import UsageError
from ..options.train import TrainConfig
from ..run.files import plain, write_json
from ..run.folder import RunError
from ..run.hardware import DeviceTraits, candidates, traits_of
from ..run.log import Log
from ..run.memory import out_of_memory
from ..run.ranks import ALONE, Ranks
from .agree import objections
from .by_stage import try_precisions
from .precision import DTYPES, FIRST_SCALE, Precision
from .probe import StageError
from .sanity import SanityCheck, Trial

Result = TypeVar("Result")

CHECK_IMAGES, CHECK_PIXELS, LEAST_IMAGES = 16, 16 * 320**2, 4
"""Upper limits of the checked batch, and the least number of images: so the check stays short."""
CACHE_VERSION = 4


@dataclass(frozen=True)
class Decision:
    """precision: what the run uses.  rungs: what it may fall back to, in order.  trials: measured,
    float32 first; empty if nothing was measured.  objections: precision -> why it was not tried.
    cached: the trials come from an earlier run.  seconds: duration of the check."""

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
        trial, label = self.used, self.precision.label
        if trial is None:
            return f"AMP: {label} on {device}, {self.precision.reason}"
        base = self.trials[0]
        first = next(t for t in self.trials if t.precision == name)
        why = "" if first is trial else f"; without: {first.problem}"
        return (
            f"AMP: {label} on {device}, {base.step_ms / trial.step_ms:.2g}x as fast, "
            f"{trial.saved_bytes / base.saved_bytes:.2f}x activation memory, loss differs by "
            f"{trial.loss_error:.2%}{why}" + (" (checked before)" if self.cached else "")
        )

    @property
    def used(self) -> Trial | None:
        """The trial of what the run uses, None if it was not measured."""
        own = (self.precision.name, self.precision.fp32_stages)
        return next((t for t in self.trials if (t.precision, t.fp32_stages) == own), None)


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
    """Decide, and log the measurements; the caller logs the decision.

    batches: makes training batches, of which the first is used.  fresh: the weights are random, so
    their values are not part of the cache key.  ranks: all decide the same (agree.py).

    Raises UsageError if this device lacks the precision that was given, RunError if that precision
    failed the check.
    """
    traits = traits or traits_of(device)
    decision = _decide(config, model, criterion, batches, traits, device, fresh, ranks)
    if decision.trials:
        report(decision, log)
    log.detail(decision.line())
    return decision


def refuse_precision(config: TrainConfig, traits: DeviceTraits, ranks: Ranks = ALONE) -> None:
    """Raise UsageError if the device lacks the precision that ``amp=`` names."""
    named = _named(config)
    if named is None or config.amp_force:
        return
    if reason := objections(traits, ranks).get(named):
        raise UsageError(f"amp={named}: {reason}; use amp=True, or amp_force=True to try it anyway")


def resumed_precision(
    name: str,
    device: torch.device,
    fp32_stages: Sequence[str] = (),
    *,
    force: bool = False,
    ranks: Ranks = ALONE,
) -> Decision:
    """The precision of a resumed run: the one it had, with the stages that were in float32, or
    fp32 if this device lacks it (unless ``force``)."""
    against = objections(traits_of(device), ranks)
    if force:
        against.pop(name, None)
    reason = against.get(name, "as before the run was interrupted")
    name = "fp32" if name in against else name
    precision = Precision(name, device.type, reason, () if name == "fp32" else tuple(fp32_stages))
    return Decision(precision, rungs_below(precision.name, against), [], against)


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
    kept = stages_named(model, config.amp_fp32, "amp_fp32")
    if config.amp in (False, "fp32"):
        return Decision(Precision("fp32", traits.type, f"amp={config.amp}"), (), [], {})
    named = _named(config)
    refuse_precision(config, traits, ranks)
    names = (named,) if named else tuple(n for n in candidates(traits) if n not in against)
    if not names:
        reason = "; ".join(against.values())
        return Decision(Precision("fp32", traits.type, reason), (), [], against)
    if not config.amp_check:
        precision = Precision(names[0], traits.type, "not checked (amp_check=False)", kept)
        return Decision(precision, rungs_below(names[0], against), [], against)
    started = time.perf_counter()
    trials, cached = _evidence(model, criterion, batches, names, kept, device, fresh, ranks)
    seconds = time.perf_counter() - started
    return replace(conclude(config, trials, traits, against), cached=cached, seconds=seconds)


def conclude(
    config: TrainConfig, trials: list[Trial], traits: DeviceTraits, against: dict[str, str]
) -> Decision:
    """The decision from ``trials``.  against: precision -> why it was not tried.  Raises RunError
    if the precision that was given failed."""
    precision = verdict(config, _named(config), trials, traits)
    whole = {trial.precision: trial.problem for trial in reversed(trials[1:])}  # the first of each
    failed = {name: problem for name, problem in whole.items() if problem}
    return Decision(precision, rungs_below(precision.name, against | failed), trials, against)


def _named(config: TrainConfig) -> str | None:
    """The precision that ``amp=`` names; None if det chooses."""
    return str(config.amp) if config.amp in DTYPES else None


def verdict(
    config: TrainConfig, named: str | None, trials: list[Trial], traits: DeviceTraits
) -> Precision:
    """The fastest precision that passed, or the one that was given."""
    if named:
        own = [trial for trial in trials if trial.precision == named]
        used = next((trial for trial in own if trial.problem is None), own[0])
        if (problem := used.problem) and not config.amp_force:
            raise RunError(
                f"amp={named} failed the sanity check: {problem}; "
                "use amp=True, or amp_force=True to train in it anyway"
            )
        reason = f"amp={named}" + (f" and amp_force=True, although {problem}" if problem else "")
        return precision_of(used, traits.type, reason)
    base, others = trials[0], trials[1:]
    passed = [trial for trial in others if trial.problem is None]
    best = min(passed, key=lambda trial: trial.step_ms, default=None)
    if best is None:
        first = {trial.precision: trial.problem for trial in reversed(others)}
        told = [f"{name}: {problem}" for name, problem in reversed(first.items())]
        reason = "; ".join(told) or "nothing was measured"
        return Precision("fp32", traits.type, reason)
    if best.step_ms >= base.step_ms:
        slower = f"{best.label} passed but is not faster ({best.step_ms:.0f} ms per step"
        return Precision("fp32", traits.type, f"{slower}, fp32 {base.step_ms:.0f} ms)")
    return precision_of(best, traits.type, "passed the sanity check")


def precision_of(trial: Trial, device_type: str, reason: str) -> Precision:
    """What was tried, for a run.  Where it passed, fp16 begins at half of the loss scale that the
    batch of the check allowed: other batches have larger gradients."""
    measured = trial.precision == "fp16" and trial.problem is None
    scale = trial.scale / 2 if measured else FIRST_SCALE
    return Precision(trial.precision, device_type, reason, trial.fp32_stages, scale)


def rungs_below(name: str, against: dict[str, str]) -> tuple[str, ...]:
    """Safer precisions than ``name``, in order: bf16 has a larger range than fp16."""
    order = ("fp16", "bf16", "fp32")
    return tuple(n for n in order[order.index(name) + 1 :] if n not in against)


def _evidence(
    model: Detector,
    criterion: DetectionLoss,
    batches: Callable[[], Iterable[Batch]],
    names: tuple[str, ...],
    kept: tuple[str, ...],
    device: torch.device,
    fresh: bool,
    ranks: Ranks,
) -> tuple[list[Trial], bool]:
    """Trials of float32 and ``names``, and whether they come from the cache.  The cache is used
    only if every rank has them; otherwise all measure, at the same time.  kept: stages that are in
    float32 in every trial."""
    batch = images_to_check(next(iter(batches())).to(device))
    path = _cache_path(model, batch, names, kept, device, fresh)
    known = _load(path, names)
    if all(ranks.gather(known is not None)) and known is not None:
        return known, True

    def measure(wanted: Mapping[str, tuple[str, ...]]) -> list[Trial]:
        return halve_until_it_fits(
            batch, lambda part: SanityCheck(model, criterion, part).run(wanted)
        )

    trials = try_precisions(measure, names, tuple(model.stages), kept, ranks)
    if {trial.precision for trial in trials if trial.problem is None} == {"fp32", *names}:
        _store(path, trials)
    return trials, False


def images_to_check(batch: Batch) -> Batch:
    """The first images of a batch: enough to judge a precision, fewer if they are large."""
    pixels = batch.images.shape[-2] * batch.images.shape[-1]
    return batch.first(min(CHECK_IMAGES, max(CHECK_PIXELS // pixels, LEAST_IMAGES)))


def halve_until_it_fits(batch: Batch, work: Callable[[Batch], Result]) -> Result:
    """``work(batch)``, with the batch halved whenever memory runs out.  Raises RunError if a single
    image does not fit."""
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


def _cache_path(
    model: Detector,
    batch: Batch,
    names: tuple[str, ...],
    kept: tuple[str, ...],
    device: torch.device,
    fresh: bool,
) -> Path:
    facts = (
        CACHE_VERSION,
        model.name,
        model.num_classes,
        [(tuple(p.shape), p.stride(), p.requires_grad) for p in model.parameters()],
        tuple(batch.images.shape),
        names,
        kept,
        traits_of(device),
        torch.__version__,
        torch.get_num_threads(),
        "fresh" if fresh else _digest(model),
    )
    digest = hashlib.sha256(repr(facts).encode()).hexdigest()[:24]
    return cache_folder() / "amp" / f"{digest}.json"


def _digest(model: Detector) -> str:
    """Hash of the weights, which decide what overflows."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def _load(path: Path, names: tuple[str, ...]) -> list[Trial] | None:
    """Trials of an earlier check of ``names``; None if there is none or it cannot be read."""
    try:
        rows = read_json(path)
        trials = [_trial(row) for row in rows]
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return trials if list(dict.fromkeys(t.precision for t in trials)) == ["fp32", *names] else None


def _trial(row: dict[str, Any]) -> Trial:
    """A trial read back from JSON, which has null for what is not finite."""

    def numbers(values: dict[str, Any]) -> dict[str, Any]:
        return {k: math.nan if v is None and k != "problem" else v for k, v in values.items()}

    stages = {name: StageError(**numbers(error)) for name, error in row["stages"].items()}
    named = {name: tuple(row[name]) for name in ("fp32_stages", "suspects")}
    return Trial(**{**numbers(row), "stages": stages, **named})


def _store(path: Path, trials: list[Trial]) -> None:
    try:
        write_json(path, [asdict(trial) for trial in trials])
    except OSError:
        return  # an unwritable cache folder does not stop the run


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
                trial.label, f"{trial.step_ms:.0f}", f"{base.step_ms / trial.step_ms:.2f}x",
                f"{trial.saved_bytes / 1e6:.0f}", f"{trial.loss_error:.2%}", f"{worst:.1%}",
                f"{turned:.4f}", f"{trial.box_error:.2f}", f"{trial.lost:.2%}",
                f"{trial.unscaled_lost:.2%}", trial.problem or "passed",
            )
        )  # fmt: skip
    shown = ("precision", "ms/step", "speed", "saved MB", "loss differs", "verdict")
    log.table("AMP sanity check: one batch of this run, forward and backward", columns, rows, shown)
    if not decision.cached:
        log.detail(
            f"the check took {decision.seconds:.1f} s, including the first batch and loading the "
            f"kernels; a step takes {base.step_ms / 1000:.2g} s in fp32"
        )
    for name, reason in decision.objections.items():
        log.detail(f"{name} was not tried: {reason}")


def write_decision(path: Path, decision: Decision) -> None:
    """Write amp.json: the decision and all measurements."""
    write_json(path, plain({"line": decision.line(), **asdict(decision)}))
