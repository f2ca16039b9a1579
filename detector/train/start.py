"""The model that a run starts with: random, from given weights, or of a resumed run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...datasets.images.input_size import InputSize
from ...files.counted import counted
from ...weights.checkpoint import Meta
from ...weights.transfer import Transfer, transfer
from ...weights.zoo import license_notice
from ..checkpoints.check import start_of
from ..checkpoints.fetch import obtain, settle
from ..checkpoints.restore import letterbox_of, restore
from ..evaluate.class_names import ClassNames, first_difference
from ..models.build import architecture_of, build, build_from, with_classes
from ..models.detector import Detector
from ..models.detector_like import fitted, sides_of
from ..models.gray import stem_with, with_channels
from ..models.levels import by_stride, fresh_parts
from ..options.errors import UsageError
from ..options.names import AUTO, MODELS
from ..options.parse import show
from ..options.train import TrainConfig
from ..quantization.simulate import ranges_of, simulate
from ..run.folder import BEST
from ..run.log import Log
from ..run.ranks import Ranks
from .kept_classes import joined_names
from .quantize import check_classes

USUAL_SIZE = 640
"""Side of the input if neither the user nor the weights give one."""


@dataclass(frozen=True)
class Start:
    """model: to be trained.  license, provenance: of the weights that it starts from.
    transferred: the transferred tensors, None for a random model.
    image_size: that the weights were trained at.  class_names: of the model.  source: the detector
    that the weights come from."""

    model: Detector
    license: str = "Apache-2.0"
    provenance: str = "trained from scratch"
    transferred: Transfer | None = None
    image_size: int | tuple[int, int] | None = None
    class_names: tuple[str, ...] = ()
    source: Detector | None = None

    @property
    def transferred_names(self) -> frozenset[str]:
        """Tensors that were transferred completely; those matched by class name learn like new
        ones."""
        moved = self.transferred
        if ranges_of(self.model) is not None:
            return frozenset(name for name, _ in self.model.named_parameters())
        return frozenset(moved.loaded).difference(moved.by_class) if moved else frozenset()


def start(config: TrainConfig, class_names: Sequence[str], log: Log) -> Start:
    """A random detector, or one with the fitting tensors of the weights that the config names.

    Raises LicenseError, DownloadError, CheckpointError or ImportFailed if those cannot be obtained.
    """
    word = start_of(config)
    if word is None:
        model = build(config.model, len(class_names))
        if config.channels == 1:
            model = build_from(with_channels(architecture_of(model), 1))
        return Start(model, class_names=tuple(class_names))
    with log.progress("weights", 0) as update:
        path = obtain(
            word,
            offline=config.offline,
            accept_license=config.accept_license,
            on_message=log.message,
            on_progress=update,
        )
    source, meta = restore(path)
    if meta.quantization is not None:
        raise UsageError(
            f"model={word} was trained with qat={meta.quantization}, and its weights are rounded "
            "when they are used: start from the float checkpoint"
        )
    if config.keep_classes:
        class_names = joined_names(meta.class_names, class_names)
        added = class_names[len(meta.class_names) :]
        log.info(
            f"keep_classes: {counted(len(meta.class_names), 'class')} of the weights, and new: "
            f"{', '.join(added) or 'none'}"
        )
    name = config.model if config.model in MODELS else meta.model
    channels = config.channels or source.channels
    if name == meta.model:  # with the checkpoint's widths, so that all of it fits
        wanted = with_classes(architecture_of(source), len(class_names))
        model = build_from(with_channels(wanted, channels))
        model.letterbox = source.letterbox
    else:
        model = build(name, len(class_names))
        if channels == 1:
            model = build_from(with_channels(architecture_of(model), 1))
    moved = transfer(
        by_stride(stem_with(source.state_dict(), channels), source.strides, model.strides),
        model.state_dict(),
        class_names_from=meta.class_names,
        class_names_to=tuple(class_names),
        class_keys=model.class_keys,
    )
    model.load_state_dict(moved.loaded, strict=False)
    log.info(f"weights from {word} ({meta.license}): {moved.report()}")
    if source.channels != channels:
        log.info(f"channels={channels}, the weights have {source.channels}: the first convolution "
                 "is changed so that gray images give the same")
    if source.strides != model.strides:
        fresh = fresh_parts(list(model.state_dict()), moved.loaded)
        log.info(
            f"levels of stride {show(model.strides)}, the weights have "
            f"{show(source.strides)}; fresh: {', '.join(fresh) or 'none'}"
        )
    if notice := license_notice(path.name, meta.license, meta.provenance):
        log.warn(notice)
    about = f"{path.name} ({meta.provenance})"
    if config.qat is not None:
        check_classes(config, meta.class_names, class_names)
        simulate(model)
    return Start(
        model, meta.license, about, moved, meta.image_size, tuple(class_names), source
    )


def settle_model(config: TrainConfig, log: Log, ranks: Ranks) -> TrainConfig:
    """The config with a name in place of ``model=auto``, the same on all ranks."""
    if config.model != AUTO:
        return config
    name = None
    if ranks.first:
        with log.progress("weights", 0) as update:
            name, _ = settle(offline=config.offline, log=log, on_progress=update)
    return replace(config, model=str(ranks.broadcast(name)))


def start_again(meta: Meta, class_names: Sequence[str], config: TrainConfig) -> Start:
    """The detector of a resumed run, before its state is loaded.

    class_names: of the data, which may be some of them with ``keep_classes``.  Raises UsageError if
    the data have other classes than the run.
    """
    names = meta.class_names if config.keep_classes else class_names
    ours, theirs = ClassNames(f"data={config.data}", names), ClassNames("the run", meta.class_names)
    if wrong := first_difference(ours, theirs):
        raise UsageError(
            f"{wrong}: continue with data of the same classes, or start a new run from its weights "
            f"(model=.../{BEST})"
        )
    assert meta.architecture is not None
    model = build_from(meta.architecture)
    model.letterbox = letterbox_of(meta, model.letterbox)
    if meta.quantization is not None:
        simulate(model)
    return Start(model, meta.license, meta.provenance, class_names=meta.class_names)


def choose_size(config: TrainConfig, begin: Start, log: Log) -> int | tuple[int, ...]:
    """``imgsz=`` where it was given, else the size of the weights that the run starts from."""
    if config.imgsz is not None:
        return config.imgsz
    if begin.image_size is None:
        return USUAL_SIZE
    log.info(f"imgsz={show(begin.image_size)}, the size that the weights were trained at")
    return begin.image_size


def longer_side(config: TrainConfig) -> int:
    """Of the input, before the weights have been asked."""
    return max(sides_of(config.imgsz or USUAL_SIZE))


def fit_size(model: Detector, config: TrainConfig, log: Log) -> InputSize:
    """The input of the model, with sides rounded up to multiples of its stride; the log says if
    they change."""
    wanted, stride = config.imgsz, model.max_stride
    assert wanted is not None
    size = replace(fitted(wanted, stride, rect=config.rect), pixels=config.pixels)
    if size.whole != sides_of(wanted):
        log.info(f"imgsz={show(wanted)} is rounded up to {size}, a multiple of the stride {stride}")
    return size


def refuse_one_value(config: TrainConfig, size: InputSize, stride: int, images: int) -> None:
    """Raise UsageError if batch norm would get one value per channel, which it cannot normalize:
    the coarsest features of one image that is as small as the stride.  images: of the smallest
    batch."""
    smallest = max(round(max(size.whole) * (1.0 - config.multi_scale) / stride), 1) * stride
    if images == 1 and smallest == stride:
        raise UsageError(
            f"batch={config.batch_size} leaves a training batch with one image, too few for batch "
            f"norm at {smallest} pixels: use another batch=, or a larger imgsz="
        )
