"""What an annotation file is, told by its content: the name of the file decides nothing.

Only the beginning of a file is read, except that of a JSON with millions of rows, whose keys are
searched for without building it.
"""

from __future__ import annotations

import json
import mmap
import re
from pathlib import Path
from typing import Any, NamedTuple

from ...files.regular import open_regular

HEAD = 64 * 1024
"""Bytes of a text file that are looked at."""
WHOLE_JSON = 4 * 2**20
"""A JSON up to this size is parsed; in a larger one keys are searched for."""


class Kind(NamedTuple):
    """A kind of file.

    title: its name in messages.  format: the word of det's reader, "" where there is none.
    labels: whether it says where objects are.  fix: what to do with it instead.
    """

    title: str
    format: str = ""
    labels: bool = False
    fix: str = ""


_READ = (
    "det reads it: write a YAML with the line format: {}, and its file or folder as train: and val:"
)
KINDS = {
    "coco": Kind("COCO JSON", "coco", True),
    "voc": Kind("Pascal VOC XML", "voc", True),
    "yolo": Kind("YOLO text", "yolo", True),
    "labelme": Kind("labelme JSON", "", True, _READ.format("labelme")),
    "createml": Kind("CreateML JSON", "", True, _READ.format("createml")),
    "labelstudio": Kind("Label Studio JSON", "", True, _READ.format("labelstudio")),
    "via": Kind("VIA JSON", "", True, _READ.format("via")),
    "vott": Kind("VoTT JSON", "", True, _READ.format("vott")),
    "supervisely": Kind("Supervisely JSON", "", True, _READ.format("supervisely")),
    "datumaro": Kind("Datumaro JSON", "", True, _READ.format("datumaro")),
    "cvat": Kind("CVAT XML", "", True, _READ.format("cvat")),
    "csv": Kind("a CSV table of boxes", "", True, _READ.format("csv")),
    "dota": Kind("DOTA text", "", True, _READ.format("dota")),
    "coco-results": Kind(
        "a list of detections, as COCO results are", fix="annotations are needed: instances_*.json"
    ),
    "coco-captions": Kind("COCO captions", fix="boxes are needed: instances_*.json"),
    "coco-panoptic": Kind("COCO panoptic", fix="boxes are needed: instances_*.json"),
    "json": Kind("JSON without annotations", fix="name the annotations, or the data set's YAML"),
    "json-cut": Kind("no whole JSON: it is cut short or broken", fix="copy or export it again"),
    "xml": Kind("XML without annotations", fix="name the data set's folder or YAML"),
    "table": Kind("a CSV table without boxes", fix="name the data set's folder or YAML"),
    "darknet": Kind(
        "obj.data of darknet",
        fix="write a YAML with the same lists and names: train: train.txt, val: valid.txt, "
        "names: [...] in the order of its .names file",
    ),
    "list": Kind("a list of images", fix="write a YAML with the line train: {name}"),
    "utf16": Kind("text in UTF-16", fix="save it as UTF-8"),
    "archive": Kind("an archive", fix="unpack it, and name the folder"),
    "image": Kind("an image", fix="name the data set's folder or YAML"),
    "text": Kind("text that is no data set", fix="name the data set's folder or YAML"),
    "binary": Kind("no text", fix="name the data set's folder or YAML"),
    "empty": Kind("an empty file", fix="name the data set's folder or YAML"),
}

IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")
ARCHIVE_MAGIC = (b"PK\x03\x04", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf", b"BZh")
BOX_COLUMNS = {"xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2", "bbox", "width", "height"}


def kind_of(path: Path) -> str:
    """The kind of a file, a key of KINDS.  Raises OSError where it cannot be read."""
    with open_regular(path) as file:
        head = file.read(HEAD)
        if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            file.seek(0)
            data = file.read(WHOLE_JSON + 1)
            return kind_of_json(data) if len(data) <= WHOLE_JSON else _kind_of_large(file)
    if head.startswith(IMAGE_MAGIC) or head[8:12] == b"WEBP":
        return "image"
    if head.startswith(ARCHIVE_MAGIC):
        return "archive"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf16"
    if b"\0" in head:
        return "binary"
    text = head.decode("utf-8-sig", errors="replace").strip()
    if text.startswith("<"):
        return _kind_of_xml(text)
    return _kind_of_lines([line.strip() for line in text.splitlines() if line.strip()])


def kind_of_json(data: bytes) -> str:
    """The kind of a JSON that is small enough to be parsed."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return "json-cut"
    if isinstance(value, list):
        return _kind_of_list(value)
    keys = value.keys() if isinstance(value, dict) else set()
    if {"images", "annotations"} <= keys:
        return _kind_of_coco(value)
    for kind, needed in (
        ("labelme", {"shapes", "imagePath"}),
        ("via", {"_via_img_metadata"}),
        ("vott", {"assets", "tags"}),
        ("supervisely", {"objects", "size"}),
        ("datumaro", {"items", "categories"}),
        ("vott", {"asset", "regions"}),
    ):
        if needed <= keys:
            return kind
    first = next(iter(value.values()), None) if keys else None
    return "via" if isinstance(first, dict) and {"filename", "regions"} <= first.keys() else "json"


def _kind_of_coco(value: dict[str, Any]) -> str:
    rows = value["annotations"]
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    if "caption" in row:
        return "coco-captions"
    if "segments_info" in row:
        return "coco-panoptic"
    return "coco" if isinstance(value.get("categories"), list) else "json"


def _kind_of_list(value: list[Any]) -> str:
    row = value[0] if value and isinstance(value[0], dict) else {}
    if {"image_id", "category_id", "score"} <= row.keys():
        return "coco-results"
    if {"image", "annotations"} <= row.keys() or {"imagefilename", "annotation"} <= row.keys():
        return "createml"
    return "labelstudio" if {"data"} < row.keys() else "json"


def _kind_of_large(file: Any) -> str:
    """The kind of a JSON of any size, by the keys in it."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        needed = (b'"images"', b'"annotations"', b'"categories"')
        if all(data.find(key) >= 0 for key in needed):
            return "coco"
        if data[:1] == b"[" and data.find(b'"score"', 0, HEAD) >= 0:
            return "coco-results"
    return "json"


def _kind_of_xml(text: str) -> str:
    root = re.search(r"<([A-Za-z][\w.-]*)", text)
    return {"annotation": "voc", "annotations": "cvat"}.get(root.group(1) if root else "", "xml")


def _kind_of_lines(lines: list[str]) -> str:
    if not lines:
        return "empty"
    if all(re.match(r"(classes|train|valid|names|backup|eval)\s*=", line) for line in lines):
        return "darknet"
    rows = [line[:1000] for line in lines[:20]]
    if all(_is_yolo_row(row.split()) for row in rows):
        return "yolo"
    if any(_is_dota_row(row.split()) for row in rows):
        return "dota"
    images = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
    if all(row.lower().endswith(images) for row in rows):
        return "list"
    cells = [cell.strip().strip('"').lower() for cell in re.split("[,;\t]", rows[0])]
    if len(cells) >= 5:
        named = any(cell.endswith(images) for cell in cells)  # without a header: RetinaNet's
        return "csv" if named or len(BOX_COLUMNS & set(cells)) >= 2 else "table"
    return "text"


def _is_yolo_row(fields: list[str]) -> bool:
    return len(fields) >= 5 and fields[0].isdecimal() and all(map(_is_number, fields))


def _is_dota_row(fields: list[str]) -> bool:
    return len(fields) == 10 and all(map(_is_number, fields[:8])) and not _is_number(fields[8])


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return len(field) < 40
