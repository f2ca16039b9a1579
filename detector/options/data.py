"""The options of ``det data``."""

# fmt: off: one option per paragraph
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .fields import option
from .shared import DownloadConfig, built_in_data


@dataclass(frozen=True, kw_only=True)
class DataCheckConfig(DownloadConfig):
    """det data check: check a data set and list what is wrong with it."""

    data: str = built_in_data()
    val: str | None = option(
        None, "Data", "What to validate on, as for det train: a share of train that is held out "
        "(0.2), or a folder, list or COCO JSON.")
    seed: int = option(0, "Data", "Seed of the share that val= holds out.", low=0)
    imgsz: int = option(
        640, "Data", "Side of the network input in pixels, for objects that are small there.",
        low=32)
    deep: bool | str = option(
        "auto", "Data", "Decode every image, which finds damage in the middle of a file. auto does "
        "so for splits of up to 2,000 megapixels in all (about half a minute).",
        choices=("auto", True, False))


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """det data shapes: draw a data set of synthetic scenes with exact boxes."""

    out: str = option("shapes", "Data", "Folder to write. It must be new or empty.")
    n: int = option(
        2000, "Data", "Total number of images. A fifth is for validation unless val= is given.",
        low=2)
    val: int | None = option(
        None, "Data", "Validation images among the n. Default: a fifth.", low=1)
    test: int = option(0, "Data", "Test images among the n.", low=0)
    seed: int = option(0, "Data", "Random seed. The same seed draws the same bytes.", low=0)
    imgsz: int = option(640, "Data", "Longer side of the images in pixels.", low=64, high=4096)


@dataclass(frozen=True, kw_only=True)
class VideosConfig:
    """det data videos: draw videos with known tracks, in MOT layout."""

    out: str = option("videos", "Data", "Folder to write. It must be new or empty.")
    n: int = option(3, "Data", "Number of videos.", low=1, high=1000)
    frames: int = option(150, "Data", "Frames of each video.", low=1, high=100_000)
    objects: int = option(8, "Data", "Objects in each video.", low=1, high=60)
    seed: int = option(0, "Data", "Random seed. The same seed draws the same bytes.", low=0)
    imgsz: int = option(320, "Data", "Width of the frames in pixels.", low=64, high=4096)


IMAGE_WORDS = ("link", "copy", "none")
_NEW = "Folder of the new data set. It must be new or empty."
_PLAN = "Only say what would be written: counts, and the first images."


def images_option(default: str) -> Any:
    """``images=``"""
    return option(
        default, "Data", "Images of the new data set: link (hard links to the old ones where the "
        "disk allows them, which use no space), copy, or none. A folder is taken as images_dir=.",
        choices=IMAGE_WORDS, or_folder=True)


def images_dir_option() -> Any:
    """``images_dir=``"""
    return option(
        None, "Data", "Folder of the images of the old data set, where the labels are one file and "
        "the images lie elsewhere. It is what images= is for det train.")


@dataclass(frozen=True, kw_only=True)
class ConvertConfig(DownloadConfig):
    """det data convert: write a data set in another label format."""

    data: str = option("coco8.yaml", "Data", "Data set to read. It is not changed.")
    out: str = option("converted", "Data", _NEW)
    format: str = option(
        "yolo", "Data", "Label format to write.", choices=("yolo", "coco", "voc"))
    images: str = images_option("link")
    images_dir: str | None = images_dir_option()
    allow: str | None = option(
        None, "Data", "allow=errors goes on where boxes or images with errors are left out.",
        choices=("errors",))
    dry_run: bool = option(False, "Data", _PLAN)


@dataclass(frozen=True, kw_only=True)
class SplitConfig(DownloadConfig):
    """det data split: divide a data set into train, val and test."""

    data: str = option("coco8.yaml", "Data", "Data set to divide. It is not changed.")
    out: str = option("divided", "Data", _NEW)
    val: float = option(0.2, "Data", "Share of the images for validation.", low=0, high=0.9)
    test: float = option(0.0, "Data", "Share of the images for testing.", low=0, high=0.9)
    seed: int = option(0, "Data", "Random seed. The same seed divides in the same way.", low=0)
    images: str = images_option("none")
    images_dir: str | None = images_dir_option()
    dry_run: bool = option(False, "Data", _PLAN)


@dataclass(frozen=True, kw_only=True)
class MergeConfig(DownloadConfig):
    """det data merge: write one data set of several."""

    data: str = option(
        "coco8.yaml", "Data", "Data sets, separated by commas. Classes are matched by name.")
    out: str = option("merged", "Data", _NEW)
    format: str = option(
        "yolo", "Data", "Label format to write.", choices=("yolo", "coco", "voc"))
    images: str = option(
        "link", "Data", "Images of the new data set: link (hard links to the old ones where the "
        "disk allows them, which use no space), copy, or none.", choices=IMAGE_WORDS)
    dry_run: bool = option(False, "Data", _PLAN)


@dataclass(frozen=True, kw_only=True)
class StatsConfig(DownloadConfig):
    """det data stats: count images, boxes and their sizes, and draw them."""

    data: str = built_in_data()
    imgsz: int = option(
        640, "Data", "Training size in pixels, for which sizes of boxes are given.", low=32)
    out: str = option("data-stats.png", "Output", "Picture to write.")


@dataclass(frozen=True, kw_only=True)
class ShowConfig(DownloadConfig):
    """det data show: write pictures with the boxes of the labels."""

    data: str = built_in_data()
    out: str = option("data-show", "Output", "Folder for the pictures. It must be new or empty.")
    split: str | None = option(None, "Data", "Only this split. Default: all splits.")
    index: int | None = option(None, "Data", "Only the image of this number, from 0.", low=0)
    cls: str | None = option(None, "Data", "Only images with a box of this class (its name).")
    finding: str | None = option(
        None, "Data", "Only images with this finding of det data check, e.g. label-clipped.")
    max_images: int = option(100, "Data", "At most this many pictures.", low=1)
