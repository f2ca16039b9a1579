"""Options that several commands have."""

from __future__ import annotations

from dataclasses import dataclass

from .detect import DetectOptions
from .fields import knob


@dataclass(frozen=True, kw_only=True)
class FlagsConfig:
    """Switches that every command understands."""

    json: bool = knob(False, "Terminal")
    """Print one JSON object on stdout and nothing else there."""
    quiet: bool = knob(False, "Terminal")
    """Print only warnings and the result (the same as verbose=False)."""
    debug: bool = knob(False, "Terminal")
    """Show the traceback of an error."""


@dataclass(frozen=True, kw_only=True)
class CommonConfig:
    """Knobs of every command that runs a model."""

    device: str | None = knob(None, "Run")
    """Where to run: cpu, cuda, 0, 1, mps; to train also several (0,1). Default: the first GPU, else
    the CPU."""
    project: str = knob("runs", "Run")
    """Folder that holds the run folders."""
    name: str | None = knob(None, "Run")
    """Name of the run folder; a taken name gets -2, -3, ... Default: the command's name."""
    exist_ok: bool = knob(False, "Run")
    """Write into a run folder that exists instead of taking the next free name."""
    verbose: bool = knob(True, "Run")
    """Print progress and tables on stderr; False leaves only warnings."""
    offline: bool = knob(False, "Run")
    """Fetch no weights and no data set: what is not on disk is an error."""
    accept_license: str | None = knob(None, "Run")
    """Name of a licence to agree to, where weights to be downloaded ask for it."""


@dataclass(frozen=True, kw_only=True)
class DetectConfig:
    """How predictions become detections: the same knobs and the same code in train, val, predict
    and export."""

    nms: bool = knob(False, "Detections")
    """Use the one-to-many head with non-maximum suppression; False uses the NMS-free one-to-one
    head where the family has one (yolo26)."""
    iou: float = knob(0.7, "Detections", low=0.0, high=1.0)
    """Overlap above which NMS drops the lower-scored box (only where NMS is used)."""
    max_det: int = knob(300, "Detections", low=1)
    """Most detections kept for an image."""
    agnostic_nms: bool = knob(False, "Detections")
    """NMS across classes (only where NMS is used)."""

    def detect_options(self, conf: float, classes: tuple[int, ...] | None = None) -> DetectOptions:
        """These options, with the lowest score that counts and the classes to look for."""
        return DetectOptions(
            conf=conf,
            nms=self.nms,
            iou=self.iou,
            max_det=self.max_det,
            agnostic_nms=self.agnostic_nms,
            classes=classes,
        )
