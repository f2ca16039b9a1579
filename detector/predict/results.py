"""What was found in one image, and writing it down: pictures, videos, label files, JSON, crops.

A Result is plain NumPy, boxes in the pixels of the image it carries.  A ResultWriter gives every
image and video of a run a name of its own in one folder (the source's; a second one of that name
gets -2) and never replaces a file it finds there, so the folder of the sources itself is as safe a
place as any.  Files appear under their name when they are complete.

Left out: windows (``show``), tables; ``to_dicts`` is the door to anything else.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import cv2
import numpy as np

from ...datasets.boxes import xyxy_to_xywhn
from ..evaluate.draw import draw_detections
from .video import CODECS, VideoWriter

JPEG_QUALITY = 95
CORNERS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Result:
    """What was found in one image, best first.

    path, frame, fps: where the image is from, as in ``Frame``.  image: [H,W,3] uint8 RGB.
    boxes: [D,4] float32 xyxy pixels of ``image``.  scores: [D] float32.  labels: [D] int64.
    class_names: by class id.  speed: milliseconds an image: pre, inference, post.
    """

    path: Path
    frame: int | None
    image: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: Sequence[str]
    speed: dict[str, float]
    fps: float | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __bool__(self) -> bool:
        return True

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[0], self.image.shape[1]

    def draw(self, line_width: int | None = None) -> np.ndarray:
        """A copy of the image [H,W,3] uint8 RGB with boxes, names and scores drawn into it."""
        return draw_detections(
            self.image, self.boxes, self.labels, self.scores, self.class_names, line_width
        )

    def to_dicts(self) -> list[dict[str, Any]]:
        """One JSON-ready dict a detection: name, class, confidence, box (x1, y1, x2, y2 pixels).

        Numbers are the shortest that read back as the same float32: nothing is rounded away, so
        these detections score the same AP as the tensors they come from.
        """
        boxes, scores = _shortest(self.boxes), _shortest(self.scores)
        rows = zip(boxes, scores, self.labels.tolist(), strict=True)
        return [
            {
                "name": self.class_names[label],
                "class": label,
                "confidence": score,
                "box": dict(zip(CORNERS, box, strict=True)),
            }
            for box, score, label in rows
        ]

    def to_rows(self, with_scores: bool = False) -> list[str]:
        """YOLO rows: class cx cy w h as shares of the image, with_scores adds the score."""
        shares = xyxy_to_xywhn(self.boxes, self.size)  # [D,4]
        rows = []
        for label, share, score in zip(self.labels, shares, self.scores, strict=True):
            numbers = (*share, score) if with_scores else share
            rows.append(" ".join((str(int(label)), *(f"{number:.6f}" for number in numbers))))
        return rows

    def summary(self) -> str:
        """One line: size, what was found, time; such as ``640x480 3 clocks, 1 kite 12.3 ms``."""
        height, width = self.size
        ids, counts = np.unique(self.labels, return_counts=True)
        found = [_count(n, self.class_names[i]) for i, n in zip(ids, counts, strict=True)]
        total = sum(self.speed.values())
        return f"{width}x{height} {', '.join(found) or 'no detections'} {total:.1f} ms"


def _shortest(values: np.ndarray) -> Any:
    """Nested lists of a float32 array, each number with no more digits than it takes."""
    return values.astype(np.float32).astype(str).astype(np.float64).tolist()


def _count(number: int, name: str) -> str:
    """``3 clocks``, ``1 kite``, ``2 buses``."""
    is_plural = name.endswith("s") and not name.endswith(("ss", "us"))
    if number == 1 or is_plural:
        return f"{number} {name}"
    return f"{number} {name}{'es' if name.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


class ResultWriter:
    """Writes results into ``folder``, one after the other; a context manager.

    save: annotated pictures (.png stays .png, else .jpg), the frames of a video as one video.
    save_txt: ``labels/NAME.txt``, YOLO rows (``to_rows``), empty where nothing was found; of a
    video ``labels/NAME_FRAME.txt``.  save_conf: scores in them.  save_crop:
    ``crops/CLASS/NAME-1.jpg`` and so on.  save_json: ``predictions.json``, written along the way
    and named at the end.  line_width: of drawn boxes in pixels, None by image size.
    paths: what has been written and named so far.

    The folder is made when the first file needs it.  Raises OSError where writing fails,
    VideoError where no video codec works.
    """

    def __init__(
        self,
        folder: Path,
        *,
        save: bool = True,
        save_txt: bool = False,
        save_conf: bool = False,
        save_json: bool = False,
        save_crop: bool = False,
        line_width: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.paths: list[Path] = []
        self._save, self._save_txt, self._save_conf = save, save_txt, save_conf
        self._save_json, self._save_crop = save_json, save_crop
        self._line_width = line_width
        self._stems: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._video: VideoWriter | None = None
        self._current: Result | None = None
        self._stem = ""
        self._json: _JsonList | None = None

    def __enter__(self) -> ResultWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, result: Result) -> None:
        """Write all that was asked for of one result; frames of a video come in their order."""
        if not self._continues(result):
            self._close_video()
            self._stem = self._take_stem(result.path.stem)
        self._current = result
        name = self._stem if result.frame is None else f"{self._stem}_{result.frame}"
        if self._save:
            self._write_picture(result)
        if self._save_txt:
            rows = "".join(f"{row}\n" for row in result.to_rows(self._save_conf))
            self._write_file(self._free("labels", f"{name}.txt"), rows.encode())
        if self._save_crop:
            self._write_crops(result, name)
        if self._save_json:
            self._write_json(result)

    def close(self) -> None:
        """Finish the video and predictions.json.  Nothing happens the second time."""
        self._close_video()
        if self._json is not None:
            path = self._free("predictions.json")
            self._json.close(path)
            self.paths.append(path)
            self._json = None

    def _continues(self, result: Result) -> bool:
        """Whether the result is a later frame of the video that is being written."""
        last = self._current
        if last is None or last.frame is None or result.frame is None:
            return False
        same = (last.path, last.size) == (result.path, result.size)
        return same and result.frame > last.frame

    def _take_stem(self, stem: str) -> str:
        """``stem``, or with -2, -3, ...: used for no other source and no file in the folder."""
        number = self._numbers.get(stem.casefold(), 0)  # so that many of one name stay quick
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
        """A path in the folder at which nothing lies, its parent made."""
        path = first = self.folder.joinpath(*parts)
        number = 1
        while os.path.lexists(path):
            number += 1
            path = first.with_name(f"{first.stem}-{number}{first.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _write_file(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{path.name}.part")
        temporary.write_bytes(data)
        temporary.replace(path)
        self.paths.append(path)

    def _write_picture(self, result: Result) -> None:
        drawn = result.draw(self._line_width)
        if result.frame is None:
            suffix = ".png" if result.path.suffix.lower() == ".png" else ".jpg"
            self._write_file(self._free(self._stem + suffix), _encode(drawn, suffix))
            return
        if self._video is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            stem = self.folder / self._stem
            self._video = VideoWriter(stem, fps=result.fps, size=result.size)
        self._video.write(drawn)

    def _write_crops(self, result: Result, name: str) -> None:
        for number, (box, label) in enumerate(zip(result.boxes, result.labels, strict=True), 1):
            crop = crop_box(result.image, box)
            if crop.size:
                folder = _folder_name(result.class_names[label])
                path = self._free("crops", folder, f"{name}-{number}.jpg")
                self._write_file(path, _encode(crop, ".jpg"))

    def _write_json(self, result: Result) -> None:
        if self._json is None:
            self._json = _JsonList(self._free(".predictions.json.part"))
        height, width = result.size
        self._json.append(
            {
                "path": str(result.path),
                "frame": result.frame,
                "width": width,
                "height": height,
                "detections": result.to_dicts(),
            }
        )

    def _close_video(self) -> None:
        if self._video is not None:
            self.paths.append(self._video.close())
            self._video = None


class _JsonList:
    """A JSON list on disk that grows row by row, so that memory does not."""

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._file: IO[str] = open(temporary, "w", encoding="utf-8")  # noqa: SIM115
        self._separator = "[\n"

    def append(self, row: dict[str, Any]) -> None:
        self._file.write(self._separator + json.dumps(row))
        self._separator = ",\n"

    def close(self, path: Path) -> None:
        self._file.write("\n]\n")
        self._file.close()
        self._temporary.replace(path)


def crop_box(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pixels of ``image`` [H,W,3] that the xyxy box touches: a view, within the borders."""
    x1, y1 = (max(0, int(np.floor(side))) for side in box[:2])
    x2, y2 = (max(0, int(np.ceil(side))) for side in box[2:])
    return image[y1:y2, x1:x2]


def _folder_name(class_name: str) -> str:
    """A class name as the name of one folder: no separators, no leading or trailing dots."""
    return re.sub(r"[^\w\- .]", "_", class_name).strip(". ") or "_"


def _encode(image: np.ndarray, suffix: str) -> bytes:
    """An RGB image as the bytes of a .jpg or .png file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix == ".jpg" else []
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise OSError(f"an image of {image.shape[:2]} can not be written as {suffix}")
    return data.tobytes()
