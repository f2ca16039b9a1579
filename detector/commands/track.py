"""``det track``: follow the objects of a video, or measure tracks on a MOT folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...files.counted import counted
from ..checkpoints.check import say_newest
from ..options.catalog import Command
from ..options.errors import UsageError, did_you_mean
from ..options.track import TRACKERS, TrackConfig
from ..run.check import refuse
from ..run.log import Log
from ..track.mot import IMAGES, find_sequences
from .outcome import Outcome
from .predict import check_predict
from .show import absolute, join

NO_FILES = {"save": False, "save_mot": False, "trail": 0}
"""What ``YOLO.track`` does not do unless it is asked to."""
OWN = ("results", "boxes", "rules")
"""Options of measuring."""


def execute(command: Command, config: TrackConfig, given: frozenset[str], log: Log) -> Outcome:
    """Check, track or measure, and say where the results are."""
    found = check_track(config, given, source_needed=True)
    if found.results is not None:
        from ..track.measure import measure, result_files

        sequences = find_sequences(str(found.data))
        files = result_files(found.results, sequences)
        measured = measure(sequences, files, found.rules)
        return Outcome(measured, join(metric_table(measured)))
    log.loading_torch()
    from ..track.pipeline import measure_tracks, track

    if found.model is not None:
        say_newest(config.model, found.model, log)
    if found.data is not None:
        result = measure_tracks(found, given, log)
        table = metric_table(result)
        return Outcome(result, join([*table, f"results: {absolute(result['folder'])}"]))
    result = track(found, given, log)
    return Outcome(result, join(_told(result, found)))


def _told(result: Mapping[str, Any], config: TrackConfig) -> list[str]:
    lines = [f"{counted(result['tracks'], 'track')} in {counted(result['images'], 'frame')}"]
    if not result["tracks"]:
        first = "track_high_thresh" if config.tracker == "ocsort" else "new_track_thresh"
        lowest = getattr(config, first)
        lines.append(
            f"a track needs several frames and a score of {lowest:g}: try a lower {first}="
        )
    return [*lines, f"results: {absolute(result['folder'])}"]


def check_track(
    config: TrackConfig,
    given: frozenset[str] = frozenset(),
    *,
    source_needed: bool = False,
    loaded: str | None = None,
) -> TrackConfig:
    """The config with its ``model=`` found and its tracker by name.  Raises UsageError for what is
    missing or contradictory, and where the package is not installed.

    source_needed: whether ``source=`` or ``data=`` must be set.  loaded: name of the model, if its
    file has been read already.
    """
    if find_spec("trackers") is None:
        raise UsageError(
            "det track needs the package trackers, which is not installed: "
            "pip install 'yolodet[track]'"
        )
    config = replace(config, tracker=tracker_name(config.tracker))
    _refuse_idle(config, given)
    if config.data is None:
        return _with_source(config, given, source_needed, loaded)
    if not source_needed:
        raise UsageError("data= measures tracks, on the command line: det track data=FOLDER")
    find_sequences(config.data)
    if config.results is not None:
        return config
    wanted = replace(config, save=config.save and "save" in given, save_mot=True)
    if config.boxes != "model":
        return wanted
    checked = check_predict(wanted, given)
    return replace(wanted, model=checked.model)


def _with_source(
    config: TrackConfig, given: frozenset[str], source_needed: bool, loaded: str | None
) -> TrackConfig:
    inside = Path(config.source or "") / IMAGES
    if config.source is not None and inside.is_dir():
        config = replace(config, source=str(inside))
    checked = check_predict(config, given, source_needed=source_needed, loaded=loaded)
    return replace(config, model=checked.model)


def _refuse_idle(config: TrackConfig, given: frozenset[str]) -> None:
    """Raise UsageError for options that exclude each other or have no effect."""
    lone = next((name for name in OWN if name in given and config.data is None), "")
    sort, ocsort = config.tracker == "sort", config.tracker == "ocsort"
    refuse(
        [
            (bool(lone), f"{lone}= belongs to measuring: add data=FOLDER"),
            (
                config.data is not None and config.source is not None,
                "source= and data= exclude each other: data= measures on its own videos",
            ),
            (
                config.results is not None and "boxes" in given,
                "results= and boxes= exclude each other: results= are tracks already",
            ),
            (
                sort and "track_high_thresh" in given,
                "track_high_thresh= has no effect with tracker=sort: use new_track_thresh=",
            ),
            (
                ocsort and "new_track_thresh" in given,
                "new_track_thresh= has no effect with tracker=ocsort: use track_high_thresh=",
            ),
        ]
    )


def tracker_name(text: str) -> str:
    """The tracker that ``tracker=`` names: ``bytetrack.yaml`` is ``bytetrack``.  Raises UsageError
    for an unknown one and for a file of values."""
    path = Path(text)
    yaml = path.suffix in (".yaml", ".yml")
    name = (path.stem if yaml and path.parent == Path() else text).lower()
    if name in TRACKERS:
        return name
    if yaml:
        raise UsageError(
            f"tracker={text}: det reads no file of a tracker; write tracker={TRACKERS[0]} with "
            "track_high_thresh=, new_track_thresh= and track_buffer="
        )
    fix = did_you_mean(name, TRACKERS) or f"expected one of {', '.join(TRACKERS)}"
    raise UsageError(f"tracker={text}: no such tracker; {fix}")


def metric_table(measured: Mapping[str, Any]) -> list[str]:
    """A line for each sequence, and one for all where there are several."""
    rows = dict(measured["sequences"])
    if len(rows) > 1:
        rows["all"] = measured["all"]
    columns = list(measured["all"])
    width = max(len("sequence"), *map(len, rows))
    lines = [f"{'sequence':{width}}  " + "  ".join(f"{name:>5}" for name in columns)]
    for name, values in rows.items():
        cells = [f"{v:5.3f}" if isinstance(v, float) else f"{v:5}" for v in values.values()]
        lines.append(f"{name:{width}}  " + "  ".join(cells))
    return lines
