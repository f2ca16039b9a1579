"""``det predict``: find objects in images, videos and streams."""

from __future__ import annotations

from ..checkpoints.check import check_trained, detect_pairs
from ..options.catalogue import Command
from ..options.predict import PredictConfig
from ..predict.locate import locate
from ..run.check import check_common, refuse
from ..run.log import Log
from .outcome import Outcome
from .show import show_run


def execute(command: Command, config: PredictConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, predict, and say where the results are."""
    check_predict(config, given, source_needed=True)
    from ..predict.pipeline import predict  # torch, only now

    result = predict(config, given, log)
    return Outcome(result, show_run(result))


def check_predict(
    config: PredictConfig, given: frozenset[str] = frozenset(), *, source_needed: bool = False
) -> None:
    """Raise UsageError where there is no model or no source to look at.

    source_needed: whether ``config.source`` must be set; Python callers may pass images instead.
    """
    files = config.save or config.save_txt or config.save_json or config.save_crop
    check_common(config, writes=source_needed or files)
    labels = config.save_conf and not config.save_txt
    refuse(
        [
            *detect_pairs(config, given),
            (labels, "save_conf=True adds scores to label files: add save_txt=True"),
            (
                source_needed and config.source is None,
                "say what to look at: det predict image.jpg (or a folder, video, camera, URL)",
            ),
        ]
    )
    if config.source is not None:
        locate(config.source)
    check_trained(config)
