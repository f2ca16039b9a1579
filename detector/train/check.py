"""The checks of ``det train`` before torch is loaded or a file is written."""

from __future__ import annotations

from ...weights.shelf import check_obtainable
from ...weights.zoo import ZOO
from ..checkpoints.check import check_model, check_start, start_of
from ..options.errors import UsageError
from ..options.memory_size import memory_bytes
from ..options.names import AUTO, MODELS
from ..options.train import TrainConfig
from ..record.tools import check_log
from ..run.check import Pairs, check_common, check_data, check_tile, refuse
from ..run.rank_info import check_batch, gpus_of, rank_info
from .best import check_metric
from .quantize import qat_pairs
from .resume import find_last
from .stages import check_stages


def check_train(config: TrainConfig, given: frozenset[str] = frozenset()) -> None:
    """Raise UsageError if options contradict each other or the training cannot start.  given: names
    of the options that were typed."""
    ranks = _check_ranks(config)
    check_common(config, writes=config.resume is None)
    check_log(config.log)
    check_metric(config.best)
    if config.resume is not None and config.dry_run:
        raise UsageError("dry_run=True shows a new run: leave out resume=")
    if config.resume is not None:  # the other options are those of the run that continues
        find_last(config.resume, config.project)
        if "data" in given:
            check_data(config.data_source, config.split)
        return
    check_tile(config)
    refuse([*_train_pairs(config, given), *qat_pairs(config, ranks)])
    if config.memory is not None:
        memory_bytes(config.memory)
    if config.class_weights is not None:
        from .class_weights import parse_class_weights  # with NumPy

        parse_class_weights(config.class_weights)
    if config.memory_share is None:
        check_batch(config.batch_size, ranks)
    if config.micro_batch is not None:
        check_batch(config.micro_batch, ranks, "micro_batch")
    if config.model != AUTO:  # it is chosen when the run begins
        check_model(config.model)
        _check_start(config)
    check_stages(
        config.model, amp_fp32=config.amp_fp32, checkpointing=config.checkpointing,
        freeze=config.freeze,
    )  # fmt: skip
    if config.teacher is not None:
        _check_weights("teacher", config.teacher, config)
    check_data(config.data_source, config.split, online=config.online)


def _check_ranks(config: TrainConfig) -> int:
    """The number of ranks of this training: those that were started, or will be."""
    started, named = rank_info(), gpus_of(config.device)
    if len(set(named)) < len(named):
        raise UsageError(f"device={config.device} names a GPU twice: each rank needs its own")
    return max(started.size, len(named))


def _train_pairs(config: TrainConfig, given: frozenset[str]) -> Pairs:
    given_ones = (*_optimizer_pairs(config, given), *_length_pairs(config, given))
    given_ones += (*_teacher_pairs(config, given), *_tile_pairs(config, given))
    channels = (
        config.channels not in (None, 1, 3),
        f"channels={config.channels}: expected 1 (gray) or 3 (RGB); of images with four "
        "channels the first three are read",
    )
    return [channels, *given_ones, *_run_pairs(config)]


def _tile_pairs(config: TrainConfig, given: frozenset[str]) -> Pairs:
    changed = {"overlap": config.overlap is not None, "empty_tiles": config.empty_tiles != 0.25}
    return [
        (name in given and wrong and not config.tile, f"{name}= belongs to tile=: add tile=640")
        for name, wrong in changed.items()
    ]


def _optimizer_pairs(config: TrainConfig, given: frozenset[str]) -> Pairs:
    schedules = {"cos_lr", "schedule"} <= given
    return [
        (
            schedules and config.cos_lr != (config.schedule == "cosine"),
            f"cos_lr={config.cos_lr} contradicts schedule={config.schedule}: give one of them",
        ),
        (
            config.memory_share is not None and config.micro_batch is not None,
            f"batch={config.batch} measures the images per forward pass, and micro_batch="
            f"{config.micro_batch} names them: leave one of them out",
        ),
        (
            config.memory_share is not None and config.memory is not None,
            f"batch={config.batch} fills the memory and memory={config.memory} saves it: leave one "
            "of them out, or write a number for batch=",
        ),
        (config.lr0 == 0, "lr0=0 changes no weight: expected a number above 0, e.g. lr0=0.01"),
        (
            config.ema_decay is not None and not config.ema,
            "ema_decay has no effect with ema=False: leave one of them out",
        ),
        (
            config.amp_force and config.amp in ("auto", True, False),
            f"amp_force=True needs a named precision, not amp={config.amp}: e.g. amp=fp16",
        ),
    ]


def _length_pairs(config: TrainConfig, given: frozenset[str]) -> Pairs:
    return [
        (config.time == 0, "time=0 leaves no time: expected hours above 0, e.g. time=0.5"),
        (
            "patience" in given and config.patience > 0 and not config.val,
            "patience needs an AP after every epoch: leave out val=False, or use patience=0",
        ),
    ]


def _teacher_pairs(config: TrainConfig, given: frozenset[str]) -> Pairs:
    return [
        (
            config.teacher is None and "distill" in given,
            f"distill={config.distill:g} has no effect without teacher=",
        ),
        (
            config.teacher is not None and config.distill == 0,
            f"distill=0 learns nothing from teacher={config.teacher}: leave one of them out",
        ),
    ]


def idle_words(config: TrainConfig, given: frozenset[str]) -> list[str]:
    """A line per option that another one, or the length of the run, leaves without its effect."""
    close, warmup, epochs = config.close_mosaic, config.warmup_epochs, config.epochs
    fixed, mixes = config.time is None, config.mosaic > 0 or config.mixup > 0
    lines = [
        (
            not fixed and "epochs" in given,
            f"epochs={epochs} has no effect: time={config.time} chooses the number of epochs",
        ),
        (
            config.micro_batch is not None and config.micro_batch >= config.batch_size,
            f"micro_batch={config.micro_batch} has no effect: batch={config.batch} is no larger",
        ),
        (
            fixed and mixes and close is not None and close >= epochs,
            f"close_mosaic={close} covers all {epochs} epochs: none has mosaic or mixup",
        ),
        (
            fixed and warmup is not None and warmup >= epochs,
            f"warmup_epochs={warmup} covers all {epochs} epochs: the learning rate only rises",
        ),
        (
            config.amp_fp32 is not None and config.amp in (False, "fp32"),
            f"amp_fp32={','.join(config.amp_fp32 or ())} has no effect: amp={config.amp} trains "
            "all stages in fp32",
        ),
        (
            config.nbs is not None and config.nbs < config.batch_size,
            f"nbs={config.nbs} is less than batch={config.batch_size}: every batch is a step",
        ),
    ]
    return [line for said, line in lines if said]


def _run_pairs(config: TrainConfig) -> Pairs:
    checkpoint = config.model not in MODELS
    return [
        (
            config.single_cls and config.balance != 0,
            "balance has no effect with single_cls=True: leave one of them out",
        ),
        (
            config.single_cls and config.class_weights is not None,
            "class_weights has no effect with single_cls=True: leave one of them out",
        ),
        (
            config.compile and config.checkpointing not in (False, ()),
            "checkpointing= and compile=True both decide what is kept for the backward pass: leave "
            "one of them out",
        ),
        (config.fraction == 0, "fraction=0 leaves no image: expected a share above 0"),
        (
            not config.save and config.save_period > 0,
            f"save_period={config.save_period} has no effect with save=False: leave one out",
        ),
        (
            not config.save and config.save_steps > 0,
            f"save_steps={config.save_steps} has no effect with save=False: leave one out",
        ),
        (
            not config.save and config.save_state,
            "save_state=True has no effect with save=False: leave one out",
        ),
        (
            config.augment_device == "cuda" and config.device in ("cpu", "mps"),
            f"augment_device=cuda needs a GPU, but device={config.device}: leave one out",
        ),
        (
            checkpoint and isinstance(config.pretrained, str),
            f"model={config.model} and pretrained={config.pretrained} are two sources of weights: "
            "give one checkpoint",
        ),
        (
            config.replay is not None and not config.keep_classes,
            f"replay={config.replay} has no effect without keep_classes=True",
        ),
        (
            config.keep_classes and (config.single_cls or config.classes is not None),
            "keep_classes=True keeps all classes: leave out single_cls= and classes=",
        ),
        (
            config.keep_classes and config.model != AUTO and start_of(config) is None,
            f"keep_classes=True needs weights, and model={config.model} starts from scratch: name "
            "a checkpoint, or weights of det weights list",
        ),
        (
            checkpoint and config.pretrained is False,
            f"model={config.model} is a checkpoint, and pretrained=False wants none: "
            "name a model, e.g. model=yolo26n",
        ),
    ]


def _check_start(config: TrainConfig) -> None:
    """Check the weights to start from: on disk, or in the zoo and obtainable."""
    if config.pretrained is True and config.model in MODELS and config.model not in ZOO:
        raise UsageError(
            f"pretrained=True: no permissive pretrained weights of {config.model} exist; "
            f"there are some of {', '.join(ZOO)}"
        )
    word = start_of(config)
    if word in ZOO:
        check_obtainable(str(word), offline=config.offline, accept_license=config.accept_license)
    elif word in MODELS:
        raise UsageError(
            f"pretrained={word} is a model without weights: leave it out to train {word} from "
            f"scratch, or take one of {', '.join(ZOO)}"
        )
    elif isinstance(config.pretrained, str):
        check_start("pretrained", str(word))


def _check_weights(option: str, word: str, config: TrainConfig) -> None:
    """Check trained weights: a checkpoint on disk, or in the zoo and obtainable."""
    if word in ZOO:
        check_obtainable(word, offline=config.offline, accept_license=config.accept_license)
    elif word in MODELS or word == AUTO:
        raise UsageError(
            f"{option}={word} is a model without weights: name a checkpoint, or one of "
            f"{', '.join(ZOO)}"
        )
    else:
        check_start(option, word)
