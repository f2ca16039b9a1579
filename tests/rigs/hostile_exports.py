"""Attacks of ``hostile_attacks.py`` on exported files and scan caches."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from exports import make_image, run_export
from hostile_attacks import EITHER, OK, REFUSED, Attack
from tiny import write_squares
from yolodet.datasets.scan.cache import cache_path
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.export.formats.about import UNSEALED
from yolodet.detector.export.formats.checksum import digest_of

ESC = "\x1b[31m"
BRIEF = ("imgsz=64", "batch=4", "epochs=1", "amp=False", "workers=0", "device=cpu")


@cache
def honest_export() -> bytes:
    """best.onnx of the lively detector."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run_export(Path(folder), format="onnx")
        return (Path(folder) / "best.onnx").read_bytes()


def metadata(changes: Mapping[str, Any]) -> Callable[[Path], Sequence[str]]:
    """predict with a file whose metadata is changed and sealed again; None removes a pair."""

    def prepare(place: Path) -> Sequence[str]:
        import onnx

        path = place / "best.onnx"
        path.write_bytes(honest_export())
        model = onnx.load(path)
        texts = {pair.key: pair.value for pair in model.metadata_props}
        texts |= {name: value for name, value in changes.items() if value is not None}
        texts = {name: text for name, text in texts.items() if changes.get(name, "") is not None}
        if "checksum" not in changes:
            texts["checksum"] = json.dumps(UNSEALED)
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, texts)
        onnx.save(model, path)
        content = path.read_bytes()
        path.write_bytes(content.replace(UNSEALED.encode(), digest_of([path]).encode()))
        assert cv2.imwrite(str(place / "a.png"), make_image((64, 64), 0))
        return ["predict", "a.png", "model=best.onnx", "conf=0.1"]

    return prepare


def checkpoint(**changes: Any) -> dict[str, Any]:
    about = {"model": "yolo26n", "class_names": ["a", "b", "c"], "image_size": 96, "schema": 2,
             "strides": [8, 16, 32], "precision": "fp32"}  # fmt: skip
    return {"checkpoint": json.dumps(about | changes)}


METADATA: dict[str, Mapping[str, Any]] = {
    "escape in the names": {"names": json.dumps([f"a{ESC}", "b\nc", "d\u202e"])},
    "other number of names": {"names": '["a"]'},
    "many names": {"names": json.dumps(["a"] * 5000)},
    "names of the checkpoint with escapes": checkpoint(class_names=[f"a{ESC}", "b\n", "c"]),
    "fewer names of the checkpoint": checkpoint(class_names=["a"]),
    "image_size of the checkpoint huge": checkpoint(image_size=10**9),
    "precision of the checkpoint unknown": checkpoint(precision="fp7"),
    "no checkpoint": {"checkpoint": None},
    "checkpoint a list": {"checkpoint": "[]"},
    "checkpoint of nothing": {"checkpoint": "{}"},
    "another image_size": {"image_size": "[32, 32]"},
    "image_size that is no multiple": {"image_size": "[97, 97]"},
    "image_size huge": {"image_size": "[1048576, 1048576]"},
    "image_size 0": {"image_size": "[0, 0]"},
    "not square": {"image_size": "[64, 96]"},
    "batch 0": {"batch": "0"},
    "batch 7": {"batch": "7", "dynamic": "false"},
    "batch huge": {"batch": "1048576"},
    "stride 1": {"stride": "1"},
    "stride huge": {"stride": "1048576"},
    "dynamic, but it is not": {"dynamic": "true"},
    "uint8, but it is not": {"input": '"uint8"'},
    "raw, but it is not": {"output": '"raw"'},
    "NMS of none": {"nms": "true"},
    "max_det 1": {"max_det": "1"},
    "max_det NaN": {"max_det": "NaN"},
    "written on mps": {"written_on": '"mps"'},
    "format of another": {"format": '"tflite"'},
    "format unknown": {"format": f'"{ESC}"'.replace(ESC, "\\u001b")},
    "precision unknown": {"precision": '"fp7"'},
    "schema 99": {"det_schema": "99"},
    "schema a list": {"det_schema": "[]"},
    "no schema": {"det_schema": None},
    "license with an escape": {"license": json.dumps(f"AGPL{ESC}\n"), "licence": "1"},
    "provenance with an escape": {"provenance": json.dumps(f"{ESC}\n")},
    "nested": {"names": "[" * 100_000},
    "not JSON": {"names": f"{ESC}["},
    "a number of 5000 digits": {"batch": "9" * 5000},
    "checksum wrong": {"checksum": json.dumps("0" * 64)},
    "checksum a list": {"checksum": "[]"},
    "nothing": dict.fromkeys(("names", "image_size", "format", "stride", "batch")),
}


def exported(content: bytes, name: str, *words: str) -> Callable[[Path], Sequence[str]]:
    def prepare(place: Path) -> Sequence[str]:
        (place / name).write_bytes(content)
        assert cv2.imwrite(str(place / "a.png"), make_image((64, 64), 0))
        return words or ["predict", "a.png", f"model={name}"]

    return prepare


# ---------------------------------------------------------------- scan caches


def damaged_cache(
    change: Callable[[dict[str, np.ndarray]], Any],
) -> Callable[[Path], Sequence[str]]:
    """A data set whose scan of before is changed: it is read again, or its values are judged."""

    def prepare(place: Path) -> Sequence[str]:
        data = write_squares(place / "d")
        dataset = load_dataset(data)
        for split in ("train", "val"):
            scan_split(dataset, split)
            file = cache_path(dataset, split, 1.0)
            assert file is not None and file.is_file()
            with np.load(file) as stored:
                table = {name: stored[name].copy() for name in stored.files}
            new = change(table)
            if isinstance(new, bytes):
                file.write_bytes(new)
            else:
                np.savez(file, **(new or table))
        return ["train", f"data={data}", *BRIEF, "plots=False"]

    return prepare


def fill(name: str, value: Any) -> Callable[[dict[str, np.ndarray]], None]:
    def change(table: dict[str, np.ndarray]) -> None:
        table[name] = np.full_like(table[name], value)

    return change


def replaced(name: str, value: np.ndarray) -> Callable[[dict[str, np.ndarray]], None]:
    def change(table: dict[str, np.ndarray]) -> None:
        table[name] = value

    return change


CACHES: dict[str, Callable[[dict[str, np.ndarray]], Any]] = {
    "labels 999": fill("labels", 999),
    "labels -1": fill("labels", -1),
    "labels of float": lambda table: table | {"labels": table["labels"] + 0.5},
    "boxes NaN": fill("boxes", np.nan),
    "boxes infinite": fill("boxes", np.inf),
    "boxes beyond": fill("boxes", 1e9),
    "boxes inside out": lambda table: table | {"boxes": table["boxes"][:, ::-1].copy()},
    "sizes 0": fill("sizes", 0),
    "sizes -1": fill("sizes", -1),
    "sizes huge": fill("sizes", 2**31 - 1),
    "counts 0": fill("counts", 0),
    "counts -1": fill("counts", -1),
    "counts huge": fill("counts", 2**60),
    "counts of text": replaced("counts", np.array(["x"] * 8)),
    "no paths": replaced("paths", np.zeros(0, np.uint8)),
    "areas -1": lambda table: table | {"area": np.full(len(table["labels"]), -1.0)},
    "areas huge": lambda table: table | {"area": np.full(len(table["labels"]), 1e30)},
    "findings of nonsense": replaced("findings", np.frombuffer(b'[[0,1,2,3,4,5]]', np.uint8)),
    "findings with escapes": replaced(
        "findings", np.frombuffer(b'[[0,"a\\u001b[31m","error",0,0,"\\u001b[31mx"]]', np.uint8)),
    "findings a number": replaced("findings", np.frombuffer(b"5", np.uint8)),
    "findings nested": replaced("findings", np.frombuffer(b"[" * 100_000, np.uint8)),
    "findings of another severity": replaced(
        "findings", np.frombuffer(b'[[0,"a","worse",0,-7,"x"]]', np.uint8)),
    "objects": replaced("labels", np.array([None] * 8, object)),
    "text": lambda table: b"not a zip",
    "empty": lambda table: b"",
    "cut": lambda table: b"PK\x03\x04" + bytes(50),
}  # fmt: skip


def attacks() -> Iterator[Attack]:
    """Attacks on exported files and on scan caches."""
    for name, changes in METADATA.items():
        yield Attack("ONNX metadata", name, metadata(changes), EITHER, ("best.onnx", "device="))
    for name, content in {"empty": b"", "text": b"x" * 100, "cut": b"\x08\x08"}.items():
        for suffix in ("onnx", "pt2", "torchscript", "tflite", "xml"):
            yield Attack("exported file", f"{suffix} {name}", exported(content, f"b.{suffix}"),
                         REFUSED, (f"b.{suffix}", "which is not installed"))  # fmt: skip
    for name, change in CACHES.items():
        yield Attack("scan cache", name, damaged_cache(change), OK)
