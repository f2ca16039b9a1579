"""What was found in one image: boxes, drawings, tables and files."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ...datasets.boxes import xyxy_to_xywhn
from ...datasets.images.image import resize_to
from ...files.atomic import append_whole, write_bytes
from ...files.text import fitting_name, one_line
from ..evaluate.draw import class_color, draw_boxes, draw_detections, draw_paths
from ..evaluate.postprocess import Detections
from ..evaluate.rows import Rows
from .boxes import Boxes
from .images import crop_box, encode, folder_name, free_path
from .sources import Frame

CORNERS = ("x1", "y1", "x2", "y2")


class Results(Rows):
    """What was found in one image, best first.

    source: the image, and where it is from.  detections: on the CPU, in pixels of the image.
    names: class names by id.  speed: ms per image: preprocess, inference, postprocess.
    best_score: the highest score in the image, where nothing reached the confidence; else None.

    Everything else is computed when it is asked for.  Indexing and iteration give Results with
    fewer boxes.  trails: of tracks, id -> [P,2] centers of earlier boxes, which are drawn.
    ``masks``, ``keypoints``, ``probs`` and ``obb`` are None: det detects boxes.
    """

    masks = keypoints = probs = obb = None

    def __init__(
        self,
        source: Frame,
        detections: Detections,
        names: dict[int, str],
        speed: dict[str, float],
        best_score: float | None = None,
    ) -> None:
        self.source = source
        self.names = names
        self.speed = speed
        self.best_score = best_score
        self._detections = detections
        self._boxes: Boxes | None = None
        self.trails: Mapping[int, np.ndarray] = {}

    @property
    def boxes(self) -> Boxes:
        """The boxes with confidences and classes."""
        if self._boxes is None:
            found = self._detections
            columns = (found.boxes, found.scores[:, None], found.labels[:, None].float())
            self._boxes = Boxes(torch.cat(columns, 1), self.orig_shape)
        return self._boxes

    @property
    def detections(self) -> Detections:
        """What was found, as tensors on the CPU."""
        return self._detections

    @property
    def path(self) -> str:
        """The file, or a name for an image without a file."""
        return str(self.source.path)

    @property
    def frame(self) -> int | None:
        """Number of the frame in a video, from 0; None for an image."""
        return self.source.frame

    @property
    def image(self) -> np.ndarray:
        """The image [H,W,3] uint8 RGB."""
        return self.source.image

    @property
    def orig_img(self) -> np.ndarray:
        """The image [H,W,3] uint8 BGR, as OpenCV has it."""
        return cv2.cvtColor(self.source.image, cv2.COLOR_RGB2BGR)

    @property
    def orig_shape(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.source.image.shape[0], self.source.image.shape[1]

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: Any) -> Results:
        """The results of the boxes at an int, slice, mask or indices."""
        return self._with(self.boxes[index])

    def __iter__(self) -> Iterator[Results]:
        return (self[index] for index in range(len(self)))

    def _with(self, boxes: Boxes) -> Results:
        other = copy.copy(self)
        other._boxes = boxes
        return other

    def with_tracks(self, boxes: Boxes, trails: Mapping[int, np.ndarray]) -> Results:
        """The same image with the boxes of tracks [T,7], and their trails."""
        other = self._with(boxes)
        other.trails = trails
        return other

    def scaled_to(self, side: int) -> Results:
        """The same with an image whose long side has ``side`` pixels, to be drawn."""
        image = resize_to(self.image, side)
        boxes = self.boxes.cpu().data.clone()
        gain = (image.shape[1] / self.image.shape[1], image.shape[0] / self.image.shape[0])
        boxes[:, :4] *= boxes.new_tensor(gain * 2)
        other = self._with(Boxes(boxes, (image.shape[0], image.shape[1])))
        other.source = replace(self.source, image=image)
        return other

    def numpy(self) -> Results:
        """The same with boxes as NumPy arrays."""
        return self._with(self.boxes.numpy())

    def to(self, *args: Any, **kwargs: Any) -> Results:
        """The same with boxes as tensors; arguments as of ``torch.Tensor.to``."""
        return self._with(self.boxes.to(*args, **kwargs))

    def cpu(self) -> Results:
        return self._with(self.boxes.cpu())

    def cuda(self) -> Results:
        return self.to("cuda")

    def draw(
        self, line_width: int | None = None, *, conf: bool = True, labels: bool = True
    ) -> np.ndarray:
        """A copy of the image [H,W,3] uint8 RGB with boxes, and with names and confidences."""
        boxes = self.boxes.numpy()
        names = [self.names[i] for i in sorted(self.names)] if labels else None
        scores = boxes.conf if conf else None
        if boxes.is_track:
            return self._draw_tracks(boxes, names, scores, line_width)
        return draw_detections(
            self.image, boxes.xyxy, boxes.cls.astype(np.int64), scores, names, line_width
        )

    def _draw_tracks(
        self, boxes: Boxes, names: list[str] | None, scores: Any, line_width: int | None
    ) -> np.ndarray:
        """``draw`` of tracks: a color for each id, which is in the tag, over their trails."""
        ids = boxes.id.astype(int).tolist()
        texts = None
        if names is not None:
            ends = [""] * len(ids) if scores is None else [f" {score:.2f}" for score in scores]
            labels = [one_line(self.names[i]) for i in boxes.cls.astype(int).tolist()]
            rows = zip(ids, labels, ends, strict=True)
            texts = [f"id:{number} {label}{end}" for number, label, end in rows]
        moved = [i for i in ids if i in self.trails]
        paths = [self.trails[i] for i in moved]
        image = draw_paths(self.image, paths, [class_color(i) for i in moved], line_width)
        return draw_boxes(image, boxes.xyxy, texts, [class_color(i) for i in ids], line_width)

    def plot(
        self,
        conf: bool = True,
        line_width: int | None = None,
        labels: bool = True,
        boxes: bool = True,
        pil: bool = False,
    ) -> Any:
        """``draw`` as [H,W,3] uint8 BGR, as OpenCV shows it; pil: as a PIL image.

        boxes: False leaves the image without boxes.
        """
        drawn = self.draw(line_width, conf=conf, labels=labels) if boxes else self.image
        if pil:
            from PIL import Image

            return Image.fromarray(drawn)
        return cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR)

    def show(self, **options: Any) -> None:
        """Open the drawing in the image viewer of the system.  options: of ``plot``."""
        self.plot(**{**options, "pil": True}).show()

    def save(self, filename: str | Path | None = None, **options: Any) -> str:
        """Write the drawing and return the file.  options: of ``plot``.

        filename: default results_NAME in the current folder.  An existing file is replaced.
        """
        path = Path(filename or f"results_{fitting_name(self.source.path.stem)}.jpg")
        write_bytes(path, encode(self.plot(**options), path.suffix or ".jpg"))
        return str(path)

    def save_txt(self, txt_file: str | Path, save_conf: bool = False) -> str:
        """Append YOLO rows (``to_rows``) to a file and return it."""
        path = Path(txt_file)
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{row}\n" for row in self.to_rows(save_conf))
        append_whole(path, rows.encode())
        return str(path)

    def save_crop(self, save_dir: str | Path, file_name: str | Path = "im.jpg") -> None:
        """Write every box as ``save_dir/CLASS/NAME.jpg``; a taken name gets -2, -3, ..."""
        name = f"{fitting_name(Path(file_name).stem)}.jpg"
        for class_name, crop in self.crops():
            if crop.size:
                path = free_path(Path(save_dir) / folder_name(class_name) / name)
                write_bytes(path, encode(crop, ".jpg"))

    def crops(self) -> Iterator[tuple[str, np.ndarray]]:
        """Class name and pixels [h,w,3] uint8 BGR of every box; empty for a box outside."""
        image, boxes = self.image, self.boxes.numpy()
        for box, label in zip(boxes.xyxy, boxes.cls.astype(int).tolist(), strict=True):
            yield self.names[label], crop_box(image, box)[:, :, ::-1]

    def summary(self, normalize: bool = False, decimals: int | None = 5) -> list[dict[str, Any]]:
        """One dict per detection: name, class, confidence, box (x1, y1, x2, y2); of tracks also
        track_id.

        normalize: boxes relative to the image instead of pixels.  decimals: of all numbers; None
        gives the shortest numbers that read back as the same float32.
        """
        found = self.boxes.numpy()
        boxes = _numbers(found.xyxyn if normalize else found.xyxy, decimals)
        rows = zip(boxes, _numbers(found.conf, decimals), found.cls.tolist(), strict=True)
        ids = found.id.astype(int).tolist() if found.is_track else None
        return [
            {
                "name": self.names[int(label)],
                "class": int(label),
                "confidence": score,
                "box": dict(zip(CORNERS, box, strict=True)),
                **({"track_id": ids[place]} if ids else {}),
            }
            for place, (box, score, label) in enumerate(rows)
        ]

    def to_rows(self, with_scores: bool = False) -> list[str]:
        """YOLO rows: class cx cy w h relative to the image; with_scores adds the confidence.
        Of tracks the id is the last number."""
        found = self.boxes.numpy()
        boxes, scores = xyxy_to_xywhn(found.xyxy, self.orig_shape), found.conf[:, None]
        numbers = np.concatenate((boxes, scores), 1) if with_scores else boxes
        ids = [[str(int(i))] for i in found.id] if found.is_track else [[]] * len(found)
        return [
            " ".join((str(int(label)), *(f"{number:.6f}" for number in row), *last))
            for label, row, last in zip(found.cls, numbers, ids, strict=True)
        ]

    def to_mot(self) -> list[str]:
        """Rows of MOTChallenge: frame, id (-1 without tracks), left, top, width, height,
        confidence, class, -1.  Frames and classes count from 1."""
        found = self.boxes.numpy()
        sizes = found.xyxy[:, 2:].astype(np.float64) - found.xyxy[:, :2]
        corners = _numbers(found.xyxy[:, :2], None)
        scores = _numbers(found.conf, None)
        ids = found.id.astype(int).tolist() if found.is_track else [-1] * len(found)
        frame = (self.frame or 0) + 1
        rows = zip(ids, corners, sizes.tolist(), scores, found.cls.tolist(), strict=True)
        return [
            f"{frame},{number},{x:.10g},{y:.10g},{w:.10g},{h:.10g},{score},{int(label) + 1},-1"
            for number, (x, y), (w, h), score, label in rows
        ]

    def verbose(self) -> str:
        """What was found, in words: ``3 clocks, 1 kite``."""
        ids, counts = np.unique(self.boxes.numpy().cls.astype(int), return_counts=True)
        found = [_count(n, self.names[i]) for i, n in zip(ids.tolist(), counts, strict=True)]
        return one_line(", ".join(found)) or "no detections"

    def line(self) -> str:
        """One line for a log: ``640x480 3 clocks, 1 kite 12.3 ms``."""
        height, width = self.orig_shape
        below = not len(self) and self.best_score is not None
        best = f" (best score {self.best_score:.3f})" if below else ""
        return f"{width}x{height} {self.verbose()}{best} {sum(self.speed.values()):.1f} ms"

    def __repr__(self) -> str:
        return one_line(f"Results({self.path}: {self.line()})")


def _numbers(values: np.ndarray, decimals: int | None) -> Any:
    """Nested lists of a float32 array, each number with no more digits than needed."""
    shortest = values.astype(np.float32).astype(str).astype(np.float64)
    return (shortest if decimals is None else shortest.round(decimals)).tolist()


def _count(number: int, name: str) -> str:
    """``3 clocks``, ``1 kite``, ``2 buses``."""
    is_plural = name.endswith("s") and not name.endswith(("ss", "us"))
    if number == 1 or is_plural:
        return f"{number} {name}"
    return f"{number} {name}{'es' if name.endswith(('s', 'x', 'ch', 'sh')) else 's'}"
