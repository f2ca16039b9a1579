"""``det predict``: find objects in images, videos and streams."""

from __future__ import annotations

from ..checkpoints.check import check_fused, find_trained, say_newest
from ..options.catalog import Command, command_of
from ..options.predict import PredictConfig
from ..predict.locate import locate
from ..run.check import check_common, check_tile, refuse
from ..run.log import Log
from .outcome import Outcome
from .show import show_predictions


def execute(command: Command, config: PredictConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, predict, and say where the results are."""
    found = check_predict(config, given, source_needed=True)
    log.loading_torch()
    from ..predict.pipeline import predict

    say_newest(config.model, found.model, log)
    result = predict(found, given, log)
    return Outcome(result, show_predictions(result))


def _example(config: PredictConfig) -> str:
    command = command_of(type(config))
    return command.example if command else ""


def writes_files(config: PredictConfig) -> bool:
    """Whether a run folder is made."""
    names = ("save", "save_txt", "save_json", "save_coco", "save_labelstudio", "save_crop")
    more = ("save_frames", "save_mot")
    return any(getattr(config, name, False) for name in names + more)


def check_predict(
    config: PredictConfig,
    given: frozenset[str] = frozenset(),
    *,
    source_needed: bool = False,
    loaded: str | None = None,
) -> PredictConfig:
    """The config with its ``model=`` found.  Raises UsageError where there is no model or source.

    source_needed: whether ``config.source`` must be set; Python callers may pass images instead.
    loaded: name of the model, if its file has been read already.
    """
    files = writes_files(config)
    check_common(config, writes=source_needed or files)
    check_tile(config)
    if config.show:
        from ..predict.window import check_display

        check_display()
    labels = config.save_conf and not config.save_txt
    refuse(
        [
            (labels, "save_conf=True adds scores to label files: add save_txt=True"),
            (
                source_needed and config.source is None,
                f"missing source: write {_example(config)} (or a folder, video, camera, URL)",
            ),
        ]
    )
    if config.source is not None:
        locate(config.source, recursive=config.recursive)
    if loaded is None:
        config = find_trained(config)
    check_fused(config)
    return config
