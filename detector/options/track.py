"""The options of ``det track``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .fields import option
from .predict import PredictConfig

TRACKERS = ("bytetrack", "botsort", "ocsort", "cbiou", "sort")
"""Trackers of the package ``trackers``, best known first."""


@dataclass(frozen=True, kw_only=True)
class TrackConfig(PredictConfig):
    """det track: find objects in videos and follow each one, or measure tracks on a MOT folder."""

    conf: str | float = option(
        0.1, "Detections", "Drop detections with a score below this. Weak ones continue a track "
        "and start none. auto: the confidence of each class that the checkpoint proposes.",
        low=0.0, high=1.0)
    tracker: str = option(
        TRACKERS[0], "Tracks", "Tracker: bytetrack, botsort (also follows the motion of the "
        "camera), ocsort, cbiou or sort; bytetrack.yaml and botsort.yaml mean the same.")
    per_class: bool = option(
        False, "Tracks", "Follow each class by itself. False lets the class of a track change from "
        "frame to frame.")
    track_high_thresh: float = option(
        0.25, "Tracks", "Detections with at least this score are matched first. No effect with "
        "sort.", low=0.0, high=1.0)
    new_track_thresh: float = option(
        0.25, "Tracks", "Lowest score that starts a track. No effect with ocsort, where "
        "track_high_thresh= says it.", low=0.0, high=1.0)
    track_buffer: int = option(
        30, "Tracks", "How long a track that is not seen is kept, in frames of a video with 30 per "
        "second.", low=0)
    trail: int = option(
        30, "Output", "Draw the way of each object over so many frames; 0 draws none.",
        low=0, high=10_000)
    save_mot: bool = option(
        True, "Output", "Write mot/NAME.txt of every video, rows frame,id,x,y,w,h,conf,class,-1; "
        "frames and classes count from 1.")
    data: str | None = option(
        None, "Data", "Measure tracks: a sequence in MOT layout (gt/gt.txt, img1/, seqinfo.ini), "
        "or a folder of sequences.")
    results: str | None = option(
        None, "Data", "With data=: measure these files instead of tracking: a folder with "
        "SEQUENCE.txt of each sequence, or one file.")
    boxes: str = option(
        "model", "Data", "With data=: what is tracked: boxes of the model, the true ones of "
        "gt/gt.txt, or those of det/det.txt.", choices=("model", "gt", "det"))
    rules: str = option(
        "auto", "Data", "With data=: mot counts class 1 and forgives matches with distractors, as "
        "MOTChallenge does; all counts every row whose mark is not 0. auto: mot where the name of "
        "the sequence begins with MOT.", choices=("auto", "mot", "all"))
