"""How good tracks are: HOTA, MOTA, IDF1 and ID switches of files in MOT layout.

The package ``trackers`` computes them, as TrackEval does.  References: HOTA, Luiten et al., IJCV
2021; CLEAR MOT (MOTA, ID switches), Bernardin and Stiefelhagen, 2008; IDF1, Ristani et al., 2016.
No torch is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..options.errors import UsageError
from .mot import MotError, read_rows
from .mot import Sequence as MotSequence

FAMILIES = ("HOTA", "CLEAR", "Identity")
SHOWN = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW", "MT", "ML", "Frag")
"""Metrics of a result: shares of 1, and from IDSW on numbers.  MT, ML: objects of the truth that
are followed for more than 80 % and less than 20 % of their frames; Frag: interruptions."""
PEDESTRIAN = 1

Families = dict[str, dict[str, Any]]


def result_files(text: str, sequences: Sequence[MotSequence]) -> dict[str, Path]:
    """The file of tracks of each sequence, by its name.  Raises UsageError."""
    path = Path(text)
    if path.is_file() and len(sequences) == 1:
        return {sequences[0].name: path}
    if not path.is_dir():
        raise UsageError(f"results={text}: expected a folder with SEQUENCE.txt of each sequence")
    files = {each.name: path / f"{each.name}.txt" for each in sequences}
    if missing := [file.name for file in files.values() if not file.is_file()]:
        raise UsageError(
            f"results={text}: {missing[0]} is missing ({len(missing)} of {len(files)})"
        )
    return files


def measure(
    sequences: Sequence[MotSequence], files: Mapping[str, Path], rules: str = "auto"
) -> dict[str, Any]:
    """Metrics of each sequence and of all together.

    files: tracks by the name of the sequence.  rules: see ``TrackConfig``.  Raises MotError for a
    file that is not in MOT layout.
    """
    found = {each.name: _measured(each, files[each.name], rules) for each in sequences}
    return {
        "sequences": {name: _shown(families) for name, families in found.items()},
        "all": _shown(_together(list(found.values()))),
    }


def _measured(sequence: MotSequence, file: Path, rules: str) -> Families:
    truth, found = read_rows(sequence.truth), read_rows(file)
    _refuse_doubles(truth[truth[:, 6] != 0], sequence.truth)
    _refuse_doubles(found, file)
    mot = rules == "mot" or (rules == "auto" and sequence.name.startswith("MOT"))
    truth = truth[(truth[:, 6] != 0) & (~np.bool_(mot) | (truth[:, 7] == PEDESTRIAN))]
    if not len(truth):
        hint = "; rules=all counts every class" if mot else ""
        raise MotError(f"{sequence.truth}: no row counts{hint}")
    if mot and len(found):
        return _by_mot_rules(sequence.truth, file)
    from trackers import eval as ours

    frames = _frames(truth, found)
    return {
        "HOTA": ours.compute_hota_metrics(*frames),
        "CLEAR": ours.compute_clear_metrics(*frames),
        "Identity": ours.compute_identity_metrics(*frames),
    }


def _by_mot_rules(truth: Path, found: Path) -> Families:
    """As MOTChallenge counts: class 1, and no penalty for tracks of distractors."""
    from trackers.eval import evaluate_mot_sequence

    result = evaluate_mot_sequence(truth, found, list(FAMILIES))
    return {
        "HOTA": result.HOTA.to_dict(include_arrays=True, arrays_as_list=False),
        "CLEAR": result.CLEAR.to_dict(),
        "Identity": result.Identity.to_dict(),
    }


def _frames(truth: np.ndarray, found: np.ndarray) -> tuple[list[Any], list[Any], list[Any]]:
    """Ids of the truth, ids of the tracks and their IoU, by frame; ids from 0 without gaps."""
    from trackers.eval import box_iou

    last = int(max(truth[:, 0].max(), found[:, 0].max(initial=0)))
    sides = []
    for rows in (truth, found):
        _, ids = np.unique(rows[:, 1], return_inverse=True)
        order = np.argsort(rows[:, 0], kind="stable")
        starts = np.searchsorted(rows[order, 0], np.arange(1, last + 2))
        parts = [order[a:b] for a, b in pairwise(starts)]
        sides.append([(ids[part].astype(np.intp), rows[part, 2:6]) for part in parts])
    pairs = list(zip(*sides, strict=True))
    ious = [box_iou(a[1], b[1], box_format="xywh") for a, b in pairs]
    return [a[0] for a, _ in pairs], [b[0] for _, b in pairs], ious


def _refuse_doubles(rows: np.ndarray, file: Path) -> None:
    """Raise MotError where an id occurs twice in a frame."""
    keys, counts = np.unique(rows[:, :2], axis=0, return_counts=True)
    if (counts > 1).any():
        frame, number = keys[counts > 1][0].astype(int).tolist()
        raise MotError(f"{file}: id {number} occurs twice in frame {frame}")


def _together(found: Sequence[Families]) -> Families:
    from trackers import eval as ours

    return {
        "HOTA": ours.aggregate_hota_metrics([each["HOTA"] for each in found]),
        "CLEAR": ours.aggregate_clear_metrics([each["CLEAR"] for each in found]),
        "Identity": ours.aggregate_identity_metrics([each["Identity"] for each in found]),
    }


def _shown(families: Families) -> dict[str, float | int]:
    every = {name: value for family in families.values() for name, value in family.items()}
    whole = SHOWN.index("IDSW")
    shares = {name: float(every[name]) for name in SHOWN[:whole]}
    return {**shares, **{name: int(every[name]) for name in SHOWN[whole:]}}
