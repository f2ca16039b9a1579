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


_AGAIN = "det does not read it: export COCO JSON, Pascal VOC or YOLO with the tool that wrote it"
_READ = "name the folder itself (data=FOLDER), or write a YAML with the line format: {}"


def _tool(title: str, format: str) -> Kind:
    return Kind(title, format, True, _READ.format(format))


KINDS = {
    "coco": Kind("COCO JSON", "coco", True),
    "voc": Kind("Pascal VOC XML", "voc", True),
    "yolo": Kind("YOLO text", "yolo", True),
    "labelme": _tool("labelme JSON", "labelme"),
    "createml": _tool("CreateML JSON", "createml"),
    "labelstudio": _tool("Label Studio JSON", "labelstudio"),
    "via": _tool("VIA JSON or CSV", "via"),
    "vott": _tool("VoTT JSON", "vott"),
    "supervisely": _tool("Supervisely JSON", "supervisely"),
    "datumaro": _tool("Datumaro JSON", "datumaro"),
    "cvat": _tool("CVAT XML", "cvat"),
    "csv": _tool("a CSV table of boxes", "csv"),
    "dota": _tool("DOTA text", "dota"),
    "kitti": _tool("KITTI text", "kitti"),
    "widerface": _tool("WIDER FACE text", "widerface"),
    "huggingface": _tool("metadata.jsonl of Hugging Face", "huggingface"),
    "vott-asset": Kind(
        "one image of a VoTT project", fix="name its export, the JSON with all images"
    ),
    "tfrecord": Kind("a TFRecord", fix=_AGAIN),
    "parquet": Kind("a Parquet table", fix=_AGAIN),
    "bdd100k": Kind("BDD100K JSON", fix=_AGAIN),
    "labelbox": Kind("Labelbox NDJSON", fix=_AGAIN),
    "sagemaker": Kind("a SageMaker manifest", fix=_AGAIN),
    "dlib": Kind("XML of dlib", fix=_AGAIN),
    "vertex": Kind("a CSV of Vertex AI", fix=_AGAIN),
    "coco-results": Kind(
        "a list of detections, as COCO results are", fix="annotations are needed: instances_*.json"
    ),
    "coco-captions": Kind("COCO captions", fix="boxes are needed: instances_*.json"),
    "coco-panoptic": Kind("COCO panoptic", fix="boxes are needed: instances_*.json"),
    "coco-images": Kind("COCO JSON without annotations", fix="boxes are needed: instances_*.json"),
    "coco-labels": Kind("COCO JSON without boxes", fix="boxes are needed: instances_*.json"),
    "coco-classless": Kind(
        "COCO JSON without categories", fix="its class names are lost: export it again"
    ),
    "json": Kind("JSON without annotations", fix="name the annotations, or the data set's YAML"),
    "json-cut": Kind("no whole JSON: it is cut short or broken", fix="copy or export it again"),
    "xml": Kind("XML without annotations", fix="name the data set's folder or YAML"),
    "table": Kind("a CSV table without boxes", fix="name the data set's folder or YAML"),
    "darknet": Kind("obj.data of darknet"),
    "list": Kind("a list of images", fix="write a YAML with the line train: {name}"),
    "utf16": Kind("text in UTF-16", fix="save it as UTF-8"),
    "archive": Kind("an archive", fix="unpack it, and name the folder"),
    "image": Kind("an image", fix="name the data set's folder or YAML"),
    "text": Kind("text that is no data set", fix="name the data set's folder or YAML"),
    "binary": Kind("no text", fix="name the data set's folder or YAML"),
    "empty": Kind("an empty file", fix="name the data set's folder or YAML"),
}

IMAGE_MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\0", b"MM\0*")
JSON_LINES = {
    "huggingface": {"file_name"}, "labelbox": {"data_row"}, "sagemaker": {"source-ref"},
}  # fmt: skip
"""Kind -> the keys of its first line, for files with a JSON on every line."""
LARGE = {
    "coco": ("images", "annotations", "categories"), "labelme": ("shapes", "imagePath"),
    "labelstudio": ("annotations", "original_width"), "via": ("region_attributes", "filename"),
    "createml": ("annotations", "coordinates"), "vott": ("assets", "tags"),
    "supervisely": ("objects", "geometryType"), "datumaro": ("items", "categories"),
}  # fmt: skip
"""Kind -> keys that a large JSON must hold, in the order in which they are looked for."""
ARCHIVE_MAGIC = (b"PK\x03\x04", b"\x1f\x8b", b"Rar!", b"7z\xbc\xaf", b"BZh")
KITTI_COLUMNS = (15, 16)
"""Without and with a score."""
BOX_COLUMNS = {"xmin", "ymin", "xmax", "ymax", "x1", "y1", "x2", "y2", "bbox", "width", "height",
               "bbox_x", "bbox_y"}  # fmt: skip


def kind_of(path: Path) -> str:
    """The kind of a file, a key of KINDS.  Raises OSError where it cannot be read."""
    with open_regular(path) as file:
        head = file.read(HEAD)
        if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
            file.seek(0)
            data = file.read(WHOLE_JSON + 1)
            if (kind := _kind_of_json_lines(data)) is not None:
                return kind
            return kind_of_json(data) if len(data) <= WHOLE_JSON else _kind_of_large(file)
    if head.startswith(IMAGE_MAGIC) or head[8:12] == b"WEBP":
        return "image"
    if head.startswith(ARCHIVE_MAGIC):
        return "archive"
    if head.startswith(b"PAR1"):
        return "parquet"
    if path.suffix.lower() in (".tfrecord", ".tfrecords", ".record"):
        return "tfrecord"
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf16"
    if b"\0" in head:
        return "binary"
    text = head.decode("utf-8-sig", errors="replace").strip()
    if text.startswith("<"):
        return _kind_of_xml(text)
    return _kind_of_lines([line.strip() for line in text.splitlines() if line.strip()])


def _kind_of_json_lines(head: bytes) -> str | None:
    """The kind of a file whose first line is a JSON of its own, None for every other."""
    try:
        value = json.loads(head.partition(b"\n")[0].decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
    keys = value.keys() if isinstance(value, dict) else set()
    return next((kind for kind, needed in JSON_LINES.items() if needed <= keys), None)


def kind_of_json(data: bytes) -> str:
    """The kind of a JSON that is small enough to be parsed."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return "json-cut"
    if isinstance(value, list):
        return _kind_of_list(value)
    keys = value.keys() if isinstance(value, dict) else set()
    if "images" in keys and keys & {"annotations", "categories", "info", "licenses"}:
        return _kind_of_coco(value)
    for kind, needed in (
        ("labelme", {"shapes", "imagePath"}),
        ("via", {"_via_img_metadata"}),
        ("vott", {"assets", "tags"}),
        ("supervisely", {"objects", "size"}),
        ("datumaro", {"items", "categories"}),
        ("vott-asset", {"asset", "regions"}),
    ):
        if needed <= keys:
            return kind
    first = next(iter(value.values()), None) if keys else None
    return "via" if isinstance(first, dict) and {"filename", "regions"} <= first.keys() else "json"


def _kind_of_coco(value: dict[str, Any]) -> str:
    rows = value.get("annotations", [])
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    if "caption" in row:
        return "coco-captions"
    if "segments_info" in row:
        return "coco-panoptic"
    if "categories" not in value:
        return "coco-classless"
    if not rows and not value["categories"] and value["images"]:
        return "coco-images"
    lists = all(isinstance(some, list) for some in (value["images"], rows, value["categories"]))
    if lists and row and not {"bbox", "segmentation"} & row.keys():
        return "coco-labels"
    return "coco" if lists else "json"


def _kind_of_list(value: list[Any]) -> str:
    row = value[0] if value and isinstance(value[0], dict) else {}
    if {"image_id", "category_id", "score"} <= row.keys():
        return "coco-results"
    if {"image", "annotations"} <= row.keys() or {"imagefilename", "annotation"} <= row.keys():
        return "createml"
    if {"name", "labels"} <= row.keys():
        return "bdd100k"
    if {"data"} < row.keys() or _is_minimal_task(row):
        return "labelstudio"
    return "json"


def _is_minimal_task(row: dict[str, Any]) -> bool:
    """Whether a row is a task of Label Studio's export "JSON-MIN"."""
    shapes = [v[0] for v in row.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
    sized = any({"original_width", "original_height"} <= shape.keys() for shape in shapes)
    return sized or {"annotator", "annotation_id", "lead_time"} <= row.keys()


def _kind_of_large(file: Any) -> str:
    """The kind of a JSON of any size, by the keys in it."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for kind, keys in LARGE.items():
            if all(data.find(b'"%s"' % key.encode()) >= 0 for key in keys):
                return kind
        if data[:1] == b"[" and data.find(b'"score"', 0, HEAD) >= 0:
            return "coco-results"
    return "json"


def _kind_of_xml(text: str) -> str:
    root = re.search(r"<([A-Za-z][\w.-]*)", text)
    kinds = {"annotation": "voc", "annotations": "cvat", "dataset": "dlib"}
    return kinds.get(root.group(1) if root else "", "xml")


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
    if all(_is_kitti_row(row.split()) for row in rows):
        return "kitti"
    images = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
    if len(rows) >= 3 and rows[0].lower().endswith(images) and rows[1].isdecimal():
        return "widerface"
    if all(row.lower().endswith(images) for row in rows):
        return "list"
    cells = [cell.strip().strip('"').lower() for cell in re.split("[,;\t]", rows[0])]
    if "region_shape_attributes" in cells:
        return "via"
    if re.match(r"(train|validation|test|unassigned),gs://", rows[0], re.IGNORECASE):
        return "vertex"
    if len(cells) >= 5:
        named = any(cell.endswith(images) for cell in cells)  # without a header: RetinaNet's
        return "csv" if named or len(BOX_COLUMNS & set(cells)) >= 2 else "table"
    return "text"


def _is_yolo_row(fields: list[str]) -> bool:
    return len(fields) >= 5 and fields[0].isdecimal() and all(map(_is_number, fields))


def _is_dota_row(fields: list[str]) -> bool:
    corners = len(fields) in (9, 10) and all(map(_is_number, fields[:8]))
    return corners and not _is_number(fields[8])


def _is_kitti_row(fields: list[str]) -> bool:
    named = len(fields) in KITTI_COLUMNS and not _is_number(fields[0])
    return named and all(map(_is_number, fields[1:]))


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return len(field) < 40
