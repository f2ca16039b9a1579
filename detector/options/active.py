"""The options of ``det label``, ``det pick`` and ``det data errors``: a detector looks at images
that somebody labels."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass

from .data import IMAGE_WORDS
from .fields import option
from .shared import DetectConfig, DownloadConfig, RunsConfig, TileConfig, TrainedConfig, input_size


@dataclass(frozen=True, kw_only=True)
class LooksConfig(TrainedConfig, DetectConfig, TileConfig, DownloadConfig, RunsConfig):
    """Options of commands with which a detector looks at the images of a data set."""

    device: str | None = option(
        None, "Run", "Where to run: cpu, cuda, 0, 1 or mps. Default: the first GPU, or the CPU "
        "where there is none.")
    batch: int = option(1, "Run", "Images per step; with tile=, tiles.", low=1)
    imgsz: int | tuple[int, ...] | None = input_size()


@dataclass(frozen=True, kw_only=True)
class LabelConfig(LooksConfig):
    """det label: write a new data set whose unlabeled images have the boxes of a detector."""

    data: str | None = option(
        None, "Data", "Images to label: a data set (YAML, folder or COCO JSON) or a folder of "
        "images. It is not changed.")
    conf: str | float = option(
        0.25, "Detections", "Leave out boxes with a score below this. auto: the confidence of each "
        "class that the checkpoint proposes (best F1 in validation).", low=0.0, high=1.0)
    out: str = option("labeled", "Data", "Folder of the new data set. It must be new or empty.")
    format: str = option(
        "yolo", "Data", "Label format to write.", choices=("yolo", "coco", "voc"))
    images: str = option(
        "link", "Data", "Images of the new data set: link (hard links to the old ones where the "
        "disk allows them, which use no space), copy, or none.", choices=IMAGE_WORDS)
    images_dir: str | None = option(
        None, "Data", "Folder of the images of the old data set, where the labels are one file and "
        "the images lie elsewhere.")
    relabel: bool = option(
        False, "Data", "Look at labeled images, too: the boxes of the detector replace theirs. "
        "False keeps the labels that are there.")


@dataclass(frozen=True, kw_only=True)
class PickConfig(LooksConfig):
    """det pick: choose the images that are worth labeling first."""

    data: str | None = option(
        None, "Data", "Images to choose from: a folder of images, or a data set (YAML, folder or "
        "COCO JSON), whose labeled images are taken for done.")
    n: int = option(100, "Run", "Images to choose.", low=1)
    by: str = option(
        "both", "Run", "What to choose by: uncertainty (many doubtful boxes), diversity (unlike "
        "those that are chosen or labeled already), or both in turn.",
        choices=("both", "uncertainty", "diversity"))
    out: str = option("picked", "Output", "Folder to write. It must be new or empty.")


@dataclass(frozen=True, kw_only=True)
class DataErrorsConfig(LooksConfig):
    """det data errors: list labels that look wrong to a detector that has not learned them."""

    data: str | None = option(
        None, "Data", "Data set to look through: YAML, folder or COCO JSON. Default: the one the "
        "detector was trained on.")
    split: str | None = option(
        None, "Data", "Split to look through. Default: train with the folder of det train folds=, "
        "else val.", choices=("train", "val", "test"))
    least: float = option(
        0.5, "Detections", "Lowest suspicion that is listed.", low=0.0, high=1.0)
    out: str = option("label-errors", "Output", "Folder to write. It must be new or empty.")
