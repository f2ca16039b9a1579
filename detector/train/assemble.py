"""From a TrainConfig to the parts of a run: data, model, optimizer, schedule.

The trainer uses these parts; it never asks the config how to build one.  What det chooses for the
user is printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from ...datasets.batches.balance import Balance, balance_of
from ...datasets.batches.dataset import Augment, DetectionDataset
from ...datasets.batches.device_draw import DevicePainter, choose_device
from ...datasets.batches.device_plan import Layout
from ...datasets.batches.loader import Loader
from ...datasets.formats.record import Record
from ...datasets.images.cache import ImageCache, memory_budget
from ...datasets.images.input_size import InputSize
from ...datasets.scan.doctor import compare_splits
from ...datasets.scan.scan import Scan, scan_split, summarize_findings
from ...datasets.sets.locate import Dataset, load_dataset
from ...files.folders import cache_folder
from ...weights.checkpoint import Meta
from ...weights.transfer import Transfer
from ..checkpoints.statistics import restore_statistics
from ..evaluate.class_names import SINGLE_CLASS, class_numbers
from ..losses.detection import DetectionLoss, Gains
from ..models.checkpointing import checkpoint_stages
from ..models.detector import Detector
from ..models.stage_names import stages_named
from ..options.errors import UsageError
from ..options.train import TrainConfig
from ..precision.ladder import refuse_precision
from ..run.device import keep_freed_memory, pick_device, use_threads
from ..run.hardware import traits_of
from ..run.kernels import choose_kernels
from ..run.log import Log
from ..run.rank_info import device_of_rank, rank_info
from ..run.ranks import ALONE, Ranks
from .best import check_class
from .class_weights import class_weights, describe_weights
from .ema import ModelEma
from .familiar import settle_rate, share_of
from .freeze import freeze
from .kept_classes import keep
from .optim import build_optimizer, choose_optimizer, settle_optimizer
from .quantize import measure_ranges
from .schedule import (
    RunLength,
    accumulated,
    batch_norm_momentum,
    batches_per_epoch,
    close_epoch,
    ema_constants,
    repeats_for,
    run_length,
    warmup_steps,
)
from .start import (
    choose_size,
    fit_size,
    longer_side,
    refuse_one_value,
    settle_model,
    start,
    start_again,
)
from .teacher import learn_from
from .tiles import Samples, samples_of


@dataclass
class Run:
    """The parts of one training run."""

    config: TrainConfig
    device: torch.device
    dataset: Dataset
    class_names: tuple[str, ...]
    image_size: InputSize
    train: Scan
    val: Scan
    model: Detector
    train_loader: Loader
    val_loader: Loader
    criterion: DetectionLoss
    optimizer: torch.optim.Optimizer
    ema: ModelEma | None
    repeats: int
    accumulate: int
    length: RunLength
    warmup: int
    provenance: dict[str, str]
    transferred: Transfer | None
    transferred_names: frozenset[str]
    ranks: Ranks
    balance: Balance | None

    @property
    def deployed(self) -> Detector:
        """The weights that are measured and saved as best: the average, if there is one."""
        return self.ema.average if self.ema else self.model  # type: ignore[return-value]

    def close(self) -> None:
        """End the loaders' processes."""
        self.train_loader.close()
        self.val_loader.close()


def assemble(
    config: TrainConfig,
    log: Log,
    resumed: Meta | None = None,
    transferred: frozenset[str] = frozenset(),
    ranks: Ranks = ALONE,
) -> Run:
    """Build every part of the run.

    resumed, transferred: of the state that will be loaded into it; the weights that the run once
    started from are not needed then.  ranks: that train together.  Raises DeviceError, UsageError,
    ValueError and what reading data and weights raises; writes nothing but caches."""
    device = prepare_device(config, ranks)
    config = settle_model(config, log, ranks)
    if resumed is None:
        refuse_precision(config, traits_of(device), ranks)
    with ranks.rank0_first():
        dataset, scans = load_data(config, log)
        own_names = ("object",) if config.single_cls else dataset.class_names
        again = resumed and start_again(resumed, own_names, config)
        begin = again or start(config, own_names, log)
        kept = keep(config, scans, own_names, begin.class_names, log)
        scans = kept.scans
    model, class_names = begin.model, begin.class_names
    ranks.broadcast_tensors(model.state_dict().values())
    config = replace(config, imgsz=choose_size(config, begin, log))
    config = settle_optimizer(config, resumed is None and bool(begin.transferred_names))
    if resumed is None and begin.transferred is None:
        config = replace(config, pretrained=False)  # args.yaml repeats the run, whatever lies here
    image_size = fit_size(model, config, log)
    model.detach_one_to_one = False  # better by 0.025 AP (docs/log.md)
    freeze(model, config.freeze)
    checkpoint_stages(model, stages_named(model, config.checkpointing, "checkpointing"))
    layout = torch.channels_last if config.channels_last else torch.preserve_format
    model = model.to(device).to(memory_format=layout)
    samples = samples_of(config, kept, log)
    repeats = repeats_for(len(samples.scans[0].records), config.batch_size, config.epochs)
    balance = choose_balance(config, samples.scans[0].records, class_names, log)
    train_loader, val_loader = make_loaders(
        config, samples, image_size, repeats, device, log,
        align=model.letterbox, ranks=ranks, weights=balance.factors if balance else None,
    )  # fmt: skip
    refuse_one_value(config, image_size, model.max_stride, train_loader.smallest_batch)
    length = run_length(len(train_loader), config.batch_size, config.epochs, config.nbs)
    restore_statistics(model, begin.transferred_names, train_loader, ranks, log)
    config = settle_rate(config, begin.source, train_loader, device, ranks, log)
    measure_ranges(model, train_loader, length, log, resumed=resumed is not None)
    for norm in (each for each in model.modules() if isinstance(each, torch.nn.BatchNorm2d)):
        norm.momentum = batch_norm_momentum(length)
    decay, tau = ema_constants(length, config.ema_decay)
    choice, rate = choose_optimizer(config), share_of(config)
    names = transferred or begin.transferred_names
    optimizer = build_optimizer(model, choice, transferred=names, transferred_lr=rate, ranks=ranks)
    criterion = make_loss(config, scans[0].records, class_names, device, log, ranks=ranks)
    teaches = learn_from(config, model, class_names, train_loader, ranks, log, resumed)
    criterion.labeled, criterion.distillation = samples.labeled, teaches
    return Run(
        config=config,
        device=device,
        dataset=dataset,
        class_names=class_names,
        image_size=image_size,
        train=scans[0],
        val=scans[1],
        model=model,
        train_loader=train_loader,
        val_loader=val_loader,
        criterion=criterion,
        optimizer=optimizer,
        ema=ModelEma(model, decay=decay, tau=tau) if config.ema else None,
        repeats=repeats,
        accumulate=accumulated(config.batch_size, config.nbs),
        length=length,
        warmup=warmup_steps(length, config.warmup_epochs),
        provenance={"license": begin.license, "provenance": begin.provenance},
        transferred=begin.transferred,
        transferred_names=names,
        ranks=ranks,
        balance=balance,
    )


def prepare_device(config: TrainConfig, ranks: Ranks) -> torch.device:
    """The device of this rank, with the process set up for it.  Raises DeviceError, UsageError."""
    device = pick_device(device_of_rank(config.device, rank_info(), cuda=torch.cuda.is_available()))
    if config.sync_bn and device.type != "cuda":
        raise UsageError(
            f"sync_bn=True needs CUDA devices, and this run is on {device}: torch has no "
            "SyncBatchNorm there; leave it out"
        )
    prepare_process(config, device)
    if ranks.size > 1 and device.type == "cuda":
        torch.cuda.set_device(device)  # or every rank would take memory of the first GPU
    return device


def prepare_process(config: TrainConfig, device: torch.device) -> None:
    """Seeds, threads and kernels, for the whole process."""
    torch.manual_seed(config.seed)
    use_threads(config.threads, rank_info().local_size)
    cv2.setNumThreads(1)  # threads already draw several images at once
    if device.type == "cpu":
        keep_freed_memory()
    choose_kernels(device, deterministic=config.deterministic)


def load_data(config: TrainConfig, log: Log) -> tuple[Dataset, tuple[Scan, Scan]]:
    """The data set with its training and validation splits, read and checked."""
    with log.progress("preparing the data set", 0) as update:
        dataset = load_dataset(
            config.data_source,
            download=config.online,
            on_message=log.message,
            on_progress=update,
        )
    scans = []
    for split, fraction in (("train", config.fraction), (config.split, 1.0)):
        with log.progress(f"reading {split}", 0) as update:
            scan = scan_split(
                dataset, split, fraction=fraction, on_progress=update, strict=config.allow is None
            )
        for line in summarize_findings(scan):
            log.warn(f"{split}: {line}")
        records = list(scan.records)
        if (chosen := class_numbers(config.classes, dataset.class_names)) is not None:
            records = [record.only(chosen) for record in records]
        if config.single_cls:
            records = [record.single_class() for record in records]
        scans.append(replace(scan, records=records))
    if dataset.hold_out is not None:
        held = len(scans[1].records)
        log.info(
            f"val={config.val}: {held} of {held + len(scans[0].records)} training images are held "
            f"out to validate on (seed={config.seed}; listed in the run's folder split)"
        )
    names = SINGLE_CLASS if config.single_cls else dataset.class_names
    check_class(config.best, names, scans[1].records)
    by_name = {scan.split: scan for scan in scans}
    for line in compare_splits(dataset, by_name, longer_side(config), config.tile):
        log.warn(line)
    return dataset, (scans[0], scans[1])


def choose_balance(
    config: TrainConfig, records: Sequence[Record], class_names: Sequence[str], log: Log
) -> Balance | None:
    """How often each training image is drawn; None: equally often."""
    if config.balance == 0:
        return None
    named = None if isinstance(config.balance, bool) else config.balance
    balance = balance_of(records, len(class_names), named)
    if balance is None:
        log.info(f"balance={config.balance} has no effect: no class is rarer than that")
    else:
        log.info(f"balance={config.balance}: {balance.line(class_names)}")
    return balance


def make_loss(
    config: TrainConfig,
    records: Sequence[Record],
    class_names: Sequence[str],
    device: torch.device,
    log: Log,
    *,
    ranks: Ranks,
) -> DetectionLoss:
    """The loss with the gains and the class weights of the run.  Raises UsageError."""
    weights = class_weights(config.class_weights, class_names, records)
    if weights is not None:
        said = describe_weights(weights, class_names)
        log.info(f"class_weights={config.class_weights}: {said}")
    on_device = None if weights is None else torch.from_numpy(weights).to(device)
    gains = Gains(config.box, config.cls, config.dfl)
    return DetectionLoss(gains, ranks=ranks, class_weights=on_device)


def make_loaders(
    config: TrainConfig,
    samples: Samples,
    image_size: InputSize,
    repeats: int,
    device: torch.device,
    log: Log,
    *,
    align: str,
    ranks: Ranks = ALONE,
    weights: np.ndarray | None = None,
) -> tuple[Loader, Loader]:
    """Loaders of augmented training images and of plain validation images; each rank gets its
    share of both.  align: where a validation image lies in the input.  weights: of the training
    images (DetectionDataset)."""
    scans = samples.scans
    local_ranks = rank_info().local_size
    steps = batches_per_epoch(len(scans[0].records), config.batch_size, repeats)
    length = RunLength(steps, config.epochs)
    augment = Augment(
        hsv_h=config.hsv_h,
        hsv_s=config.hsv_s,
        hsv_v=config.hsv_v,
        degrees=config.degrees,
        translate=config.translate,
        scale=config.scale,
        shear=config.shear,
        flipud=config.flipud,
        fliplr=config.fliplr,
        mosaic=config.mosaic,
        mixup=config.mixup,
        close_epoch=close_epoch(length, config.close_mosaic),
    )
    on_device = draws_on_device(config, scans[0].records, image_size, device, log)
    room = memory_budget(config.cache, local_ranks)
    loaders = []
    for scan, tiles, augmentation in zip(scans, samples.tiles, (augment, None), strict=True):
        painted = on_device and augmentation is not None
        cache = ImageCache(
            scan.records,
            image_size.whole,
            mode="none" if painted and config.cache == "auto" else config.cache,
            folder=cache_folder() / "images",
            fingerprint=f"{scan.fingerprint} {config.pixels}",
            budget=room,
        )
        room -= cache.memory
        what = "training" if augmentation else "validation"
        log.detail(f"{what} images: {cache.describe()}")
        data = DetectionDataset(
            scan.records,
            image_size,
            augment=augmentation,
            seed=config.seed,
            cache=cache,
            align=align,
            weights=weights if augmentation else None,
            border=samples.border if augmentation else None,
            tiles=tiles,
        )
        loaders.append(
            Loader(
                data,
                config.batch_size if augmentation else config.images_per_pass,
                shuffle=augmentation is not None,
                seed=config.seed,
                repeats=repeats if augmentation else 1,
                workers=config.workers,
                device_type=device.type,
                painter=fill_device(data, device, log) if painted else None,
                rank=ranks.rank,
                world_size=ranks.size,
                local_ranks=local_ranks,
            )
        )
    for loader in loaders:
        loader.on_lost = log.warn
    return loaders[0], loaders[1]


def draws_on_device(
    config: TrainConfig,
    records: Sequence[Record],
    image_size: InputSize,
    device: torch.device,
    log: Log,
) -> bool:
    """Whether training images are drawn on the device of the run.  Raises ValueError if that was
    asked for and is not possible."""
    if device.type == "cpu" and config.augment_device != "cuda":
        return False
    layout = Layout(ImageCache(records, image_size.whole, mode="none"))
    chosen, why = choose_device(config.augment_device, layout, device)
    log.detail(f"training images are drawn {why}")
    return chosen


def fill_device(data: DetectionDataset, device: torch.device, log: Log) -> DevicePainter:
    """A painter with every image on the device.  Raises ImageError if one cannot be read."""
    painter = DevicePainter(data, device)
    with log.progress(f"images to {device}", len(data)) as update:
        painter.fill(update)
    return painter
