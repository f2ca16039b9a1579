"""Boxes with name tags on images, and contact sheets.

A class has the same color everywhere.  Line width and text follow the size of the image, and tags
stay inside it.  Drawing happens on a copy.  Images are [H,W,3] uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ...files.text import one_line

Color = tuple[int, int, int]
"""RGB."""

PALETTE = (
    (230, 57, 70),
    (29, 132, 219),
    (42, 157, 90),
    (244, 140, 6),
    (131, 86, 209),
    (0, 168, 181),
    (222, 79, 160),
    (166, 124, 0),
    (98, 182, 30),
    (86, 104, 219),
    (255, 112, 88),
    (0, 128, 105),
    (178, 58, 196),
    (205, 180, 30),
    (120, 144, 156),
    (170, 76, 40),
    (92, 190, 240),
    (160, 30, 80),
    (150, 200, 120),
    (70, 70, 160),
)
"""Twenty colors, neighbors in the list unlike; class ids from 20 on start again."""

FONT = cv2.FONT_HERSHEY_SIMPLEX
BACKGROUND = (244, 244, 246)
TEXT = (35, 38, 47)
CAPTION = 22
"""Height of a line of text above a picture, in pixels."""


def class_color(label: int) -> Color:
    """RGB of a class id, the same in every image and plot."""
    return PALETTE[label % len(PALETTE)]


def draw_detections(
    image: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray | None,
    class_names: Sequence[str] | None,
    line_width: int | None = None,
) -> np.ndarray:
    """A copy of ``image`` [H,W,3] uint8 RGB with boxes and tags (name, and score if given).

    boxes: [D,4] xyxy pixels, best first: the best are drawn on top.  labels: [D].  scores: [D].
    class_names: None draws no tags.  line_width: pixels; default: by the size of the image.
    """
    texts = None
    if class_names is not None:
        known = len(class_names)
        names = [one_line(class_names[i]) if i < known else str(i) for i in map(int, labels)]
        ends = [""] * len(names) if scores is None else [f" {float(score):.2f}" for score in scores]
        texts = [name + end for name, end in zip(names, ends, strict=True)]
    return draw_boxes(image, boxes, texts, [class_color(int(i)) for i in labels], line_width)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    texts: Sequence[str] | None,
    colors: Sequence[Color],
    line_width: int | None = None,
) -> np.ndarray:
    """A copy of ``image`` [H,W,3] uint8 RGB with boxes [D,4] xyxy, the first on top.

    texts: of the tags, None for no tags.  A tag is moved to where it hides the fewest others.
    """
    canvas = np.ascontiguousarray(image).copy()
    width = line_width or default_line_width(image.shape)
    corners = np.asarray(boxes, np.float64).reshape(-1, 4).round().astype(int).tolist()
    order = range(len(corners) - 1, -1, -1)
    for i in order:
        _draw_frame(canvas, corners[i], colors[i], width)
    if texts is None:
        return canvas
    tags: list[Tag] = []
    for text, box in zip(texts, corners, strict=True):
        tags.append(_place_tag(canvas.shape, text, box, width, tags))
    for i in order:
        _draw_tag(canvas, tags[i], colors[i])
    return canvas


def draw_paths(
    image: np.ndarray,
    paths: Sequence[np.ndarray],
    colors: Sequence[Color],
    line_width: int | None = None,
) -> np.ndarray:
    """A copy of ``image`` [H,W,3] uint8 RGB with a line through the points [P,2] of each path."""
    canvas = np.ascontiguousarray(image).copy()
    width = line_width or default_line_width(image.shape)
    for points, color in zip(paths, colors, strict=True):
        line = points.round().astype(np.int32).reshape(-1, 1, 2)
        cv2.polylines(canvas, [line], False, color, width, cv2.LINE_AA)
    return canvas


def default_line_width(shape: tuple[int, ...]) -> int:
    """Pixels for an image of ``shape`` (height, width, ...): 3 at 640, at least 1."""
    return max(1, round((shape[0] + shape[1]) / 2 / 220))


def _draw_frame(canvas: np.ndarray, box: list[int], color: Color, line_width: int) -> None:
    """The outline of a box, its lines centered on the sides and cut at the border of the image."""
    x1, y1, x2, y2 = box
    before, after = line_width // 2, line_width - line_width // 2

    def fill(left: int, top: int, right: int, bottom: int) -> None:
        rows = slice(max(top - before, 0), max(bottom + after, 0))
        canvas[rows, max(left - before, 0) : max(right + after, 0)] = color

    fill(x1, y1, x2, y1)
    fill(x1, y2, x2, y2)
    fill(x1, y1, x1, y2)
    fill(x2, y1, x2, y2)


class Tag(NamedTuple):
    """A text and the rectangle behind it, in pixels.  scale: of the font.  above: pixels from its
    top to the baseline."""

    text: str
    left: int
    top: int
    width: int
    height: int
    scale: float
    pad: int
    above: int

    @property
    def corners(self) -> tuple[int, int, int, int]:
        return self.left, self.top, self.left + self.width, self.top + self.height


def _place_tag(
    shape: tuple[int, ...], text: str, box: list[int], line_width: int, others: Sequence[Tag]
) -> Tag:
    """A tag above the box, else inside it or below, where it hides the fewest of ``others``; made
    smaller where it is wider than the image."""
    height, width = shape[:2]
    scale = max(0.36, line_width * 0.15)
    full, _ = cv2.getTextSize(text, FONT, scale, 1)[0]
    scale = max(min(scale, scale * 0.94 * width / max(full, 1)), 0.2)
    (text_width, text_height), below = cv2.getTextSize(text, FONT, scale, _thickness(scale))
    pad = max(2, round(text_height * 0.35))
    tag_width, tag_height = text_width + 2 * pad, text_height + below // 2 + 2 * pad
    start, end = box[0] - line_width // 2, box[2] - tag_width
    places = [
        (left, top)
        for left in (start, end)
        for top in (box[1] - tag_height, box[1], box[3] - tag_height, box[3])
    ]
    if box[1] < tag_height:  # no room above
        places = places[1:] + places[:1]
    tags = [
        Tag(
            text,
            min(max(left, 0), max(width - tag_width, 0)),
            min(max(top, 0), max(height - tag_height, 0)),
            *(tag_width, tag_height, scale, pad, text_height),
        )
        for left, top in places
    ]
    return tags[int(_hidden([tag.corners for tag in tags], others).argmin())]


def _hidden(places: list[tuple[int, int, int, int]], others: Sequence[Tag]) -> np.ndarray:
    """Pixels [P] of ``others`` under each of the rectangles ``places`` xyxy."""
    mine = np.array(places)[:, None]  # [P,1,4]
    theirs = np.array([tag.corners for tag in others]).reshape(1, -1, 4)
    sides = np.minimum(mine[..., 2:], theirs[..., 2:]) - np.maximum(mine[..., :2], theirs[..., :2])
    pixels: np.ndarray = sides.clip(0).prod(-1).sum(1)
    return pixels


def _thickness(scale: float) -> int:
    return max(1, round(scale * 1.6))


def _draw_tag(canvas: np.ndarray, tag: Tag, color: Color) -> None:
    corner = (tag.left + tag.width - 1, tag.top + tag.height - 1)
    cv2.rectangle(canvas, (tag.left, tag.top), corner, color, -1)
    origin = (tag.left + tag.pad, tag.top + tag.pad + tag.above)
    thickness = _thickness(tag.scale)
    cv2.putText(canvas, tag.text, origin, FONT, tag.scale, _ink(color), thickness, cv2.LINE_AA)


def _ink(color: Color) -> Color:
    """White on dark colors, near black on light ones (luminance of ITU-R BT.601)."""
    red, green, blue = color
    light = 0.299 * red + 0.587 * green + 0.114 * blue > 150
    return (25, 25, 30) if light else (255, 255, 255)


def tile_images(images: Sequence[np.ndarray], columns: int, cell: int, gap: int = 6) -> np.ndarray:
    """A contact sheet [H,W,3] uint8: each image with its longer side at ``cell`` pixels, in rows
    as high as their highest image."""
    columns = max(1, min(columns, len(images)))
    small = [fit(image, cell) for image in images]
    rows = [small[i : i + columns] for i in range(0, len(small), columns)]
    width = columns * (cell + gap) + gap
    strips = [np.full((gap, width, 3), BACKGROUND, np.uint8)]
    for row in rows:
        strip = np.full((max(x.shape[0] for x in row) + gap, width, 3), BACKGROUND, np.uint8)
        for column, picture in enumerate(row):
            top = (len(strip) - gap - picture.shape[0]) // 2
            left = gap + column * (cell + gap) + (cell - picture.shape[1]) // 2
            strip[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
        strips.append(strip)
    return np.concatenate(strips)


def captioned(image: np.ndarray, text: str, color: Color = TEXT) -> np.ndarray:
    """The image [H,W,3] under a line of text: [H + CAPTION,W,3].  Where the text is too long, its
    beginning is left out."""
    strip = np.full((CAPTION, image.shape[1], 3), BACKGROUND, np.uint8)
    text = one_line(text)
    while cv2.getTextSize(text, FONT, 0.42, 1)[0][0] > image.shape[1] - 4 and len(text) > 8:
        text = "..." + text[4:]
    cv2.putText(strip, text, (2, CAPTION - 7), FONT, 0.42, color, 1, cv2.LINE_AA)
    return np.concatenate((strip, image))


def fit(image: np.ndarray, side: int) -> np.ndarray:
    """The image with its longer side resized to ``side`` pixels."""
    height, width = image.shape[:2]
    share = side / max(height, width)
    if share == 1:
        return image
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR)
