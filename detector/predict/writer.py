"""The files of a prediction run: images, videos, label files, JSON and crops in one folder.

Every image and video gets a name of its own: that of the source, a second one of that name gets -2.
A file that exists is never replaced, so the output folder may be the folder of the sources.  A file
gets its name when it is complete.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...datasets.images.image import MOST_PIXELS
from ...files.atomic import write_bytes
from ...files.text import fitting_name
from . import labelstudio
from .coco_files import CocoFiles
from .growing import GrowingFile
from .images import encode, folder_name, free_path
from .results import Results
from .video import CODECS, VideoError, VideoWriter

DRAWN_SIDE = 4096
"""Long side in pixels of the drawing of an image that is too large to be drawn whole."""

_Stream = tuple[Results | None, str, VideoWriter | None, GrowingFile | None]
"""Of one stream: its last result, its name, and its files that are not finished."""


@dataclass(frozen=True)
class Outputs:
    """What to write.

    save: annotated images (.png stays .png, else .jpg), the frames of a video as one video.
    save_frames: these frames as ``NAME_frames/NUMBER.jpg``.
    save_txt: ``labels/NAME.txt``, YOLO rows, empty if nothing was found; of a video
    ``labels/NAME_FRAME.txt``.  save_conf: confidences in them.  save_crop:
    ``crops/CLASS/NAME-1.jpg`` and so on.  save_json: ``predictions.json``.  save_labelstudio:
    ``labelstudio.json``.  save_coco: ``coco_predictions.json`` and ``coco_images.json``.  Both are
    without the frames of videos.  save_mot: ``mot/NAME.txt`` of every video, rows of MOTChallenge.
    line_width: of drawn boxes in pixels; default by image size.  show_labels, show_conf,
    show_boxes: what is drawn.
    """

    save: bool = True
    save_frames: bool = False
    save_txt: bool = False
    save_conf: bool = False
    save_json: bool = False
    save_labelstudio: bool = False
    save_coco: bool = False
    save_crop: bool = False
    save_mot: bool = False
    line_width: int | None = None
    show_labels: bool = True
    show_conf: bool = True
    show_boxes: bool = True

    def drawn(self, result: Results) -> np.ndarray:
        """The image of a result [H,W,3] uint8 RGB with what is to be drawn; one of more than
        MOST_PIXELS is drawn smaller."""
        height, width = result.orig_shape
        if height * width > MOST_PIXELS:
            result = result.scaled_to(DRAWN_SIDE)
        if not self.show_boxes:
            return result.image
        return result.draw(self.line_width, conf=self.show_conf, labels=self.show_labels)


class ResultWriter:
    """Writes results into ``folder``, one after the other; a context manager.

    paths: the files that are complete so far.  frames_left_out: whether frames of videos were given
    for files that hold images alone.  The folder is made when the first file needs it.
    Raises OSError if writing fails, VideoError if no video codec works.
    """

    def __init__(self, folder: Path, outputs: Outputs) -> None:
        self.folder = Path(folder)
        self.paths: list[Path] = []
        self.frames_left_out = False
        self._outputs = outputs
        self._stems: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._video: VideoWriter | None = None
        self._current: Results | None = None
        self._stem = ""
        self._lists: dict[str, GrowingFile] = {}
        self._mot: GrowingFile | None = None
        self._coco: CocoFiles | None = None
        self._aside: dict[str, _Stream] = {}

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ctrl-C is how a camera is stopped: what was written until then is finished.  A file that
        could not be written is removed."""
        if kind is not None and issubclass(kind, (OSError, VideoError)):
            self._discard()
        else:
            self.close()

    def write(self, result: Results) -> None:
        """Write the files of one result; the frames of a video come in their order."""
        if result.source.in_turn:
            self._turn_to(result.path)
        if not self._continues(result):
            self._close_video()
            self._close_mot()
            self._stem = self._take_stem(fitting_name(result.source.path.stem))
        self._current = result
        name = self._stem if result.frame is None else f"{self._stem}_{result.frame}"
        if self._outputs.save:
            self._write_picture(result)
        if self._outputs.save_frames and result.frame is not None:
            path = self._free(f"{self._stem}_frames", f"{result.frame}.jpg")
            self._write_file(path, encode(self._outputs.drawn(result)[:, :, ::-1], ".jpg"))
        if self._outputs.save_txt:
            rows = "".join(f"{row}\n" for row in result.to_rows(self._outputs.save_conf))
            self._write_file(self._free("labels", f"{name}.txt"), rows.encode())
        if self._outputs.save_crop:
            for number, (class_name, crop) in enumerate(result.crops(), 1):
                if crop.size:
                    path = self._free("crops", folder_name(class_name), f"{name}-{number}.jpg")
                    self._write_file(path, encode(crop, ".jpg"))
        if self._outputs.save_json:
            self._append("predictions.json", _described(result))
        if self._outputs.save_labelstudio or self._outputs.save_coco:
            self._write_for_tools(result)
        if self._outputs.save_mot:
            self._write_mot(result)

    def _turn_to(self, path: str) -> None:
        """Put the open video of one stream aside and take up that of another."""
        if self._current is not None:
            self._aside[self._current.path] = (self._current, self._stem, self._video, self._mot)
        state = self._aside.pop(path, (None, "", None, None))
        self._current, self._stem, self._video, self._mot = state

    def _write_for_tools(self, result: Results) -> None:
        """Files about images alone."""
        if result.frame is not None:
            self.frames_left_out = True
            return
        if self._outputs.save_labelstudio:
            self._append("labelstudio.json", labelstudio.task(result))
        if self._outputs.save_coco:
            if self._coco is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._coco = CocoFiles(self.folder)
            self._coco.add(result)

    def close(self) -> None:
        """Finish the video and the JSON files, or remove what cannot be finished.  A second call
        does nothing."""
        try:
            self._close_video()
            self._close_mot()
            for stream in list(self._aside):
                self._turn_to(stream)
                self._close_video()
                self._close_mot()
                self._current = None
            for name in list(self._lists):
                path = self._free(name)
                self._lists[name].close(path)
                self.paths.append(path)
                del self._lists[name]
            if self._coco is not None:
                self.paths += self._coco.close()
                self._coco = None
        finally:
            self._discard()

    def _discard(self) -> None:
        """Remove what is not finished."""
        aside = [part for state in self._aside.values() for part in state[2:]]
        self._aside = {}
        unfinished = (*aside, self._video, self._mot, self._coco, *self._lists.values())
        self._video, self._mot, self._coco, self._lists = None, None, None, {}
        for part in unfinished:
            if part is not None:
                part.discard()

    def _continues(self, result: Results) -> bool:
        """Whether the result is a later frame of the video that is being written."""
        last = self._current
        if last is None or last.frame is None or result.frame is None:
            return False
        same = (last.path, last.orig_shape) == (result.path, result.orig_shape)
        return same and result.frame > last.frame

    def _take_stem(self, stem: str) -> str:
        """``stem``, or with -2, -3, ...: used for no other source and no file in the folder."""
        number = self._numbers.get(stem.casefold(), 0)  # no search from 1 for the thousandth
        name = ""
        while not name or name.casefold() in self._stems or self._is_on_disk(name):
            number += 1
            name = stem if number == 1 else f"{stem}-{number}"
        self._numbers[stem.casefold()] = number
        self._stems.add(name.casefold())
        return name

    def _is_on_disk(self, stem: str) -> bool:
        suffixes = (".jpg", ".png", *(suffix for suffix, _ in CODECS))
        names = (*(f"{stem}{suffix}" for suffix in suffixes), f"labels/{stem}.txt")
        return any(os.path.lexists(self.folder / name) for name in names)

    def _free(self, *parts: str) -> Path:
        return free_path(self.folder.joinpath(*parts))

    def _write_file(self, path: Path, data: bytes) -> None:
        write_bytes(path, data)
        self.paths.append(path)

    def _write_picture(self, result: Results) -> None:
        if result.frame is None:
            suffix = ".png" if result.path.lower().endswith(".png") else ".jpg"
            picture = encode(self._outputs.drawn(result)[:, :, ::-1], suffix)
            self._write_file(self._free(self._stem + suffix), picture)
            return
        if self._video is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            stem = self.folder / self._stem
            self._video = VideoWriter(stem, fps=result.source.fps, size=result.orig_shape)
        self._video.write(self._outputs.drawn(result))

    def _append(self, name: str, row: dict[str, Any]) -> None:
        """Add a row to the JSON list of this name."""
        if name not in self._lists:
            self._lists[name] = GrowingFile(self._free(name), "[\n", ",\n", "\n]\n")
        self._lists[name].append(json.dumps(row))

    def _write_mot(self, result: Results) -> None:
        if self._mot is None:
            path = self._free("mot", f"{self._stem}.txt")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._mot = GrowingFile(path)
        for row in result.to_mot():
            self._mot.append(row + "\n")

    def _close_mot(self) -> None:
        if self._mot is not None:
            path = self._free("mot", f"{self._stem}.txt")
            self._mot.close(path)
            self.paths.append(path)
            self._mot = None

    def _close_video(self) -> None:
        if self._video is not None:
            path = self._video.close()
            self.paths.append(path)
            self._video = None


def _described(result: Results) -> dict[str, Any]:
    """A row of predictions.json."""
    height, width = result.orig_shape
    return {
        "path": result.path,
        "frame": result.frame,
        "width": width,
        "height": height,
        "detections": result.summary(decimals=None),
    }
