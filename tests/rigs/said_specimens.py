"""What a user types for each export of an annotation tool, and what comes of it, in one process."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from specimens import SPECIMENS
from yolodet.cli import main

SAID = {
    "coco/01-coco2017": "data=annotations/instances_val2017.json images=val2017",
    "coco/06-voc2coco-script": "data=instances_v2.json images=images",
    "coco/10-coco-annotator": "data=garden-coco.json images=garden",
    "coco/11-via": "data=via_export_coco.json",
    "coco/12-make-sense": "data=labels_my-project-name_2026-01-02-03-04-05.json images=images",
    "coco/14-supervision": "data=annotations.json images=images",
    "coco/16-labelme2coco": "data=dataset.json images=.",
    "coco/17-lvis-like": "data=lvis_v1_train.json images=.",
    "coco/90-bad-boxes": "data=bad.json",
    "coco/92-file-names": "data=annotations.json",
    "coco/93-image-size": "data=annotations.json",
    "csv/01-tf-object-detection": "data=test_labels.csv images=test",
    "csv/07-odd": "data=semicolon.csv",
    "huggingface/01-metadata-jsonl": "data=. names=cat,dog",
    "labelstudio/01-json": "data=project-1-at-2026-01-02-03-04-05.json images=images",
    "via/01-project-v2": "data=via_project.json",
    "vott/01-json": "data=train-export.json images=.",
}
"""Specimen -> what its meta.json says, where that is not the folder."""
REFUSED = {
    "coco/94-not-instances": {
        "bom.json": "categories is empty", "captions_val.json": "COCO captions",
        "cut-short.json": "cut short", "deep.json": "cut",
        "duplicate-key.json": "", "empty.json": "an empty file", "image_info_val.json": "without",
        "images-object.json": "JSON without annotations", "labels_val.json": "COCO",
        "no-categories.json": "without categories", "package.json": "JSON without annotations",
        "panoptic_val.json": "COCO panoptic", "predictions.json": "a list of detections",
        "utf16.json": "UTF-16",
    },
    "csv/07-odd": {
        "ambiguous.csv": "do not say what they are", "brackets.csv": "no column holds a class",
    },
    "tfrecord/01": {".": "a TFRecord"},
}  # fmt: skip
"""Specimen -> its files that are no data set -> words of the line that says so."""
ACCEPTED = {
    "coco/94-not-instances": ("no-annotations.json", "stuff_val.json", "person_keypoints_val.json")
}
"""The other files of such a specimen."""
REFUSED_FINDINGS = ("csv-columns", "csv-no-class")
"""Findings that are the refusal of a file in det."""
OF_THE_DOCTOR = {
    "box-tiny", "box-small", "box-small-few", "class-without-box", "class-imbalance", "image-leak",
    "image-copy", "path-elsewhere", "split-empty", "split-without-box", "split-missing",
    "file-suffix", "label-orphan",
}  # fmt: skip
"""Findings about a data set as a whole, which the expectations do not count."""


@dataclass
class Told:
    """code: exit code.  result: of --json.  line: the error."""

    code: int
    result: dict[str, Any] = field(default_factory=dict)
    line: str = ""


def det(*words: str) -> Told:
    """What ``det ... --json`` says."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*words, "--json"])
    said = json.loads(out.getvalue())
    return Told(code, said.get("result") or {}, json.dumps(said.get("error")) + err.getvalue())


def words_of(name: str) -> list[str]:
    """The words that name a specimen, with whole paths."""
    files = SPECIMENS / name / "files"
    pairs = [word.partition("=") for word in SAID.get(name, "data=.").split()]
    paths = ("data", "images")
    return [f"{key}={files / value if key in paths else value}" for key, _, value in pairs]


def differences(name: str, out: Path) -> list[str]:
    """What det says otherwise than ``expected.json``.  out: a folder for what is converted."""
    expected = json.loads((SPECIMENS / name / "expected.json").read_text())
    wrong = [
        f"{file}: {told.code} {told.line}"
        for file, words in REFUSED.get(name, {}).items()
        for told in [det("data", "check", f"data={SPECIMENS / name / 'files' / file}")]
        if told.code != 2 or words not in told.line
    ]
    for file in ACCEPTED.get(name, ()):
        if not det("data", "check", f"data={SPECIMENS / name / 'files' / file}").result:
            wrong.append(f"{file} is refused")
    if expected.get("refused"):
        return wrong
    check = det("data", "check", *words_of(name))
    if not check.result:
        return [*wrong, f"check: {check.line}"]
    if list(check.result["class_names"]) != expected["class_names"]:
        wrong.append(f"classes {check.result['class_names']}, not {expected['class_names']}")
    found = Counter({g["id"]: g["count"] for g in check.result["groups"]})
    wanted = Counter(expected["counts"]["findings"])
    for id in REFUSED_FINDINGS:
        wanted.pop(id, None)
    for id in {*found, *wanted} - {key for key in OF_THE_DOCTOR if key not in wanted}:
        if found[id] != wanted[id]:
            wrong.append(f"{found[id]} x {id}, not {wanted[id]}")
    return wrong + _boxes(name, expected, out)


def _boxes(name: str, expected: dict[str, Any], out: Path) -> list[str]:
    words = (*words_of(name), f"out={out}", "format=coco", "allow=errors")
    told = det("data", "convert", *words)
    wanted = sorted(
        (Path(image["file"]).name, *_rows(image["labels"], image["boxes"]))
        for image in expected["images"]
    )
    if not told.result:
        return [f"convert: {told.line}"] if wanted or "no usable image" not in told.line else []
    found = []
    for file in (out / "annotations").glob("*.json"):
        data = json.loads(file.read_text())
        names = {row["id"]: row["name"] for row in data["categories"]}
        for image in data["images"]:
            rows = [r for r in data["annotations"] if r["image_id"] == image["id"]]
            rows = [row for row in rows if not row["iscrowd"]]
            boxes = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
            labels = [names[row["category_id"]] for row in rows]
            found.append((Path(image["file_name"]).name, *_rows(labels, boxes)))
    found.sort()
    shape = [(image, [row[0] for row in rows]) for image, *rows in found]
    if shape != [(image, [row[0] for row in rows]) for image, *rows in wanted]:
        return [f"images and classes {shape}, not {wanted}"]
    pairs = [
        (row[1:], other[1:])
        for one, two in zip(found, wanted, strict=True)
        for row, other in zip(one[1:], two[1:], strict=True)
    ]
    off = max((np.abs(np.subtract(a, b)).max() for a, b in pairs), default=0.0)
    return [f"boxes differ by {off} px"] if off > 0.01 else []


def _rows(labels: list[str], boxes: list[list[float]]) -> list[tuple[Any, ...]]:
    return sorted(
        ((label, *box) for label, box in zip(labels, boxes, strict=True)),
        key=lambda row: (row[0], [round(number, 1) for number in row[1:]]),
    )
