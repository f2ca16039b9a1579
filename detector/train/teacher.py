"""``teacher=``: a trained detector that the run learns from, beside the labels.

The teacher is fixed: no gradients, batch norms folded, only the branches that the student has.  It
computes in the precision of the run where its answers on a batch of the run stay the same.  What it
costs is said.  The loss is in ``losses/distill.py``.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ...datasets.batches.loader import Loader
from ...files.download import sha256_of
from ...weights.checkpoint import Meta
from ..checkpoints.fetch import obtain
from ..checkpoints.restore import restore
from ..losses.detection import Gains
from ..losses.distill import POINTS, Distillation, Features, Lesson
from ..models.detector import Detector
from ..models.float32_stages import to_dtype
from ..models.head import decode_boxes
from ..models.predictions import AUXILIARY, Predictions
from ..options.errors import UsageError, nearest
from ..options.train import TrainConfig
from ..run.device import synchronize
from ..run.log import Log
from ..run.ranks import Ranks

MAX_SCORE_ERROR = 0.05
MAX_BOX_ERROR = 0.5
"""Of the 99th percentile: scores, and box sides in cells, that another precision may change."""
SURE = 0.05
"""Score from which a box of the teacher counts in that comparison."""
SAMPLE = 4
"""Images of the first batch that precisions are compared on."""


def learn_from(
    config: TrainConfig,
    student: Detector,
    class_names: Sequence[str],
    loader: Loader,
    ranks: Ranks,
    log: Log,
    resumed: Meta | None = None,
) -> Distillation | None:
    """The distillation loss of a run; None without ``teacher=``.

    loader: of training images; precisions are compared on its first batch.  resumed: of the run
    that continues.  Raises UsageError where the
    teacher cannot teach this student, and what reading a checkpoint raises."""
    if config.teacher is None:
        return None
    with ranks.rank0_first(), log.progress("weights", 0) as update:
        path = obtain(
            config.teacher, offline=config.offline, accept_license=config.accept_license,
            on_message=log.message, on_progress=update,
        )  # fmt: skip
    model, meta = restore(path)
    order = class_order(config.teacher, meta.class_names, class_names)
    branches = common_branches(config.teacher, model, student)
    device = next(student.parameters()).device
    model = model.fuse(branches).requires_grad_(False).to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    about = {"model": meta.model, "sha256": sha256_of(path)}
    if resumed is not None:
        refuse_another(config, about, resumed)
    sample = next(iter(loader.epoch(0))).images[:SAMPLE].to(device)
    teacher = Teacher(model, order, sample, about, log)
    studied = compare_features(teacher, student)
    gains = Gains(config.box, config.cls, config.dfl)
    return Distillation(teacher, gains, gain=config.distill, studied=studied, ranks=ranks)


def class_order(teacher: str, known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Number of each class of the run in the teacher.  Raises UsageError for one that it does not
    know."""
    for name in wanted:
        if name not in known:
            near = nearest(name, known)
            shown = ", ".join(known[:10]) + (" ..." if len(known) > 10 else "")
            hint = f"the nearest is {near[0]!r}" if near else f"it knows {shown}"
            raise UsageError(
                f"teacher={teacher} does not know the class {name!r} of the run ({hint}): name a "
                "checkpoint that was trained on the same classes"
            )
    return [list(known).index(name) for name in wanted]


def common_branches(word: str, teacher: Detector, student: Detector) -> tuple[str, ...]:
    """The branches that the teacher can teach.  Raises UsageError where there is none."""
    if teacher.strides != student.strides:
        raise UsageError(
            f"teacher={word} predicts at strides {teacher.strides}, the model of the run at "
            f"{student.strides}: name a teacher with the same strides"
        )
    shared = [name for name in student.branches if name in teacher.branches and name != AUXILIARY]
    if not shared:
        raise UsageError(
            f"teacher={word} has the head {', '.join(teacher.branches)}, the model of the run has "
            f"{', '.join(student.branches)}: name a teacher with the same head"
        )
    return tuple(shared)


class Teacher:
    """A detector that is only asked.

    model: in evaluation mode, on the device.  order: its number of each class of the student.
    sample: images on the device.  about: which checkpoint it is, for the files of the run."""

    def __init__(
        self,
        model: Detector,
        order: Sequence[int],
        sample: Tensor,
        about: Mapping[str, str],
        log: Log,
    ) -> None:
        self.exact, self.model, self.sample, self.about = model, model, sample, about
        self.log = log
        self.order = None if list(order) == list(range(model.num_classes)) else list(order)
        self.levels: tuple[int, ...] = ()
        """Levels of the neck that are compared with the student's."""
        self._dtype = torch.float32
        self._features = keep_features(model.neck)

    def use(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype``, or in float32 where the answers would differ; says what it is and
        takes."""
        self.model, self._dtype, note = self.exact, torch.float32, ""
        if dtype != torch.float32:
            exact = self(self.sample)
            self.model = to_dtype(copy.deepcopy(self.exact), dtype)
            if problem := difference(self(self.sample).outputs, exact.outputs):
                self.model, note = self.exact, f" ({dtype_name(dtype)}: {problem})"
            else:
                self._dtype = dtype
        self._say(note)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Lesson:
        """Predictions of the shared branches, in the student's order of classes."""
        outputs = self.model(images)
        if self.order is not None:
            outputs = {
                name: replace(found, logits=found.logits[..., self.order])
                for name, found in outputs.items()
            }
        features = self._features()
        return Lesson(outputs, [features[level] for level in self.levels])

    def _say(self, note: str) -> None:
        device, size = self.sample.device, self.sample.shape[-1]
        self(self.sample)
        synchronize(device)
        started = time.perf_counter()
        self(self.sample)
        synchronize(device)
        took = (time.perf_counter() - started) * 1000 / len(self.sample)
        facts = self.exact.describe(size)
        self.log.info(
            f"teacher    {self.exact.name}: {facts['parameters']:,} parameters, "
            f"{facts['gflops']:.1f} GFLOPs and {took:.1f} ms per image in "
            f"{dtype_name(self._dtype)}{note}"
        )


def dtype_name(dtype: torch.dtype) -> str:
    """``bf16``, ``fp16`` or ``fp32``."""
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(dtype, "fp32")


def difference(found: Mapping[str, Predictions], exact: Mapping[str, Predictions]) -> str | None:
    """Why the answers of another precision must not be used, or None."""
    for name, wanted in exact.items():
        scores, theirs = wanted.logits.sigmoid(), found[name].logits.float().sigmoid()
        boxes, moved = decode_boxes(wanted), decode_boxes(found[name])
        if not (bool(theirs.isfinite().all()) and bool(moved.isfinite().all())):
            return "the answers are not finite"
        best, rows = scores.amax(-1).topk(min(POINTS, scores.shape[1]), 1)  # [B,K]
        errors = (theirs.amax(-1).gather(1, rows) - best).abs()
        if (error := float(errors.flatten().quantile(0.99))) > MAX_SCORE_ERROR:
            return f"scores differ by {error:.2f}, at most {MAX_SCORE_ERROR}"
        cells = ((moved - boxes).abs().amax(-1) / wanted.strides).gather(1, rows)[best > SURE]
        if len(cells) and (error := float(cells.quantile(0.99))) > MAX_BOX_ERROR:
            return f"boxes move by {error:.2f} cells, at most {MAX_BOX_ERROR}"
    return None


def keep_features(neck: nn.Module) -> Callable[[], Features]:
    """What ``neck``, or a deep copy of it, returned last.  The hook is a plain function, which a
    deep copy shares, with nothing of what it keeps copied."""
    kept: list[Features] = [()]

    def keep(_: nn.Module, inputs: Any, output: Features) -> None:
        kept[0] = output

    neck.register_forward_hook(keep)
    return lambda: kept[0]


def compare_features(teacher: Teacher, student: Detector) -> Callable[[], Features] | None:
    """Let the teacher give the features of the levels that are equally wide in both necks; what
    gives the student's, None where no level is."""
    theirs, ours = level_widths(teacher.exact), level_widths(student)
    teacher.levels = tuple(i for i, pair in enumerate(zip(theirs, ours, strict=True))
                           if pair[0] == pair[1])  # fmt: skip
    if not teacher.levels:
        return None
    features = keep_features(student.neck)
    return lambda: [features()[level] for level in teacher.levels]


def level_widths(model: Detector) -> list[int]:
    """Channels of each level of the neck."""
    shadow = copy.deepcopy(model).to("meta").eval()
    widths = keep_features(shadow.neck)
    shadow(torch.empty(1, 3, 2 * model.max_stride, 2 * model.max_stride, device="meta"))
    return [level.shape[1] for level in widths()]


def refuse_another(config: TrainConfig, about: Mapping[str, Any], resumed: Meta) -> None:
    """Raise UsageError where a run that continues would have another teacher than before."""
    if resumed.data.get("teacher") != about:
        raise UsageError(
            f"teacher={config.teacher} is another file than when the run began: name the same "
            "weights with teacher="
        )
