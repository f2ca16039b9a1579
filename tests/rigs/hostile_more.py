"""More attacks of ``hostile_attacks.py``: exported files, scan caches, names, addresses, places."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from exports import make_image, run_export, save_checkpoint
from hostile_attacks import EITHER, OK, REFUSED, Attack
from tiny import write_squares
from yolodet.datasets.scan.cache import cache_path
from yolodet.datasets.scan.scan import scan_split
from yolodet.datasets.sets.locate import load_dataset
from yolodet.detector.export.formats.about import UNSEALED
from yolodet.detector.export.formats.checksum import digest_of

ESC = "\x1b[31m"
BRIEF = ("imgsz=64", "batch=4", "epochs=1", "amp=False", "workers=0", "device=cpu")

# ---------------------------------------------------------------- exported files


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

# ---------------------------------------------------------------- names

NAMES: dict[str, bytes] = {
    "escape": b"a\x1b[31mb",
    "line break": b"a\nb",
    "carriage return": b"a\rb",
    "bell": b"a\x07b",
    "not UTF-8": b"a\xffb",
    "250 characters": b"n" * 246,
    "250 bytes of umlauts": "\u00e4".encode() * 123,
    "right to left": "a\u202eb".encode(),
    "percent": b"a%d%s",
    "braces": b"a{0}{x}",
    "markup": b"[link=x]a[red]",
    "leading dash": b"--conf",
    "equals": b"imgsz=5",
    "comma": b"a,b",
    "space": b" a b ",
    "only a dot": b".a",
    "glob": b"a*[b]?",
    "quote": b"a'b\"c",
    "CJK": "\u732b\u72ac".encode(),
    "line separator": "a\u2028b".encode(),
    "NUL device": b"CON",
}
CLASSES: dict[str, str] = {
    "escape": f"a{ESC}",
    "line break": "a\nb",
    "dollars": "$x$ ${",
    "mathematics that is wrong": r"$\frac{",
    "300 characters": "n" * 300,
    "way up": "../../x",
    "absolute": "/etc/x",
    "underscore": "_a",
    "CJK": "\u732b",
    "emoji": "\U0001f468\u200d\U0001f469",
    "right to left": "a\u202eb",
    "markup": "[red]x[/red]",
    "braces": "{0}",
    "percent": "%s%n",
    "comma": "a,b",
    "quotes": "a'b\"c",
    "formula": "=1+1",
    "backslash": "a\\",
    "html": "<script>alert(1)</script>",
    "only dots": "..",
}


def image_called(name: bytes, *words: str) -> Callable[[Path], Sequence[str]]:
    """A data set with an image of that name in train and val."""

    def prepare(place: Path) -> Sequence[str]:
        write_squares(place / "d")
        for split in ("train", "val"):
            for kind, suffix in (("images", b".png"), ("labels", b".txt")):
                folder = os.fsencode(place / "d" / kind / split)
                shutil.copy(folder + b"/1" + suffix, folder + b"/" + name + suffix)
        save_checkpoint(place)
        return words or (*PREDICT, "conf=0.1", "save_txt=True", "save_crop=True", "save_json=True")

    return prepare


def class_called(name: str, *words: str) -> Callable[[Path], Sequence[str]]:
    def prepare(place: Path) -> Sequence[str]:
        data = write_squares(place / "d")
        data.write_text(f"train: images/train\nval: images/val\nnames: [{json.dumps(name)}]\n")
        save_checkpoint(place, class_names=(name, f"{name}2", f"{name}3"))
        assert cv2.imwrite(str(place / "a.png"), make_image((96, 96), 0))
        return words

    return prepare


# ---------------------------------------------------------------- addresses


@contextlib.contextmanager
def answering(status: str, *headers: str) -> Iterator[str]:
    """A server with one raw answer; gives its address."""
    import socket

    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                client.recv(65536)
                client.sendall("\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode())
                client.close()

    threading.Thread(target=serve, daemon=True).start()
    yield f"127.0.0.1:{server.getsockname()[1]}"


KEEP = contextlib.ExitStack()
"""Servers, which live as long as the program."""


def fetched(address: str, status: str = "", *headers: str) -> Callable[[Path], Sequence[str]]:
    """A data set at an address; HOST is a server that answers ``status``."""

    def prepare(place: Path) -> Sequence[str]:
        host = KEEP.enter_context(answering(status, *headers)) if status else "127.0.0.1:9"
        text = f"path: nowhere\ntrain: a\nval: b\nnames: [a]\ndownload: {json.dumps(address)}\n"
        (place / "d.yaml").write_text(text.replace("HOST", host))
        return ["data", "check", "data=d.yaml"]

    return prepare


def watched(address: str, status: str = "", *headers: str) -> Callable[[Path], Sequence[str]]:
    """predict on an address."""

    def prepare(place: Path) -> Sequence[str]:
        host = KEEP.enter_context(answering(status, *headers)) if status else "127.0.0.1:9"
        save_checkpoint(place)
        return ["predict", address.replace("HOST", host), "model=best.safetensors", "device=cpu"]

    return prepare


WITH = "bob-user:s3cret@HOST/x.zip?token=tok-abc"
ADDRESSES: dict[str, Callable[[Path], Sequence[str]]] = {
    "nobody answers": fetched(f"http://{WITH}"),
    "https, nobody answers": fetched(f"https://{WITH}"),
    "404 with escapes": fetched(f"http://{WITH}", f"404 No{ESC} way\x07"),
    "500": fetched(f"http://{WITH}", "500 s"),
    "redirect to plain": fetched(f"http://{WITH}", "302 Found", f"Location: http://evil/{WITH}"),
    "redirect to itself": fetched(f"http://{WITH}", "302 Found", "Location: /x.zip?tok-abc"),
    "redirect to a file": fetched(f"http://{WITH}", "302 Found", "Location: file:///etc/passwd"),
    "not HTTP": fetched(f"http://{WITH}", f"{ESC} nonsense"),
    "length of text": fetched(f"http://{WITH}", "200 OK", "Content-Length: x"),
    "length negative": fetched(f"http://{WITH}", "200 OK", "Content-Length: -5"),
    "not a zip": fetched(f"http://{WITH}", "200 OK", "Content-Length: 0"),
    "slash in the password": fetched("https://bob-user:s3/s3cret@h/x.zip?tok-abc"),
    "port of text": fetched("https://bob-user:s3cret@h:port/x.zip?tok-abc"),
    "bad characters": fetched("https://bob-user:s3cret@h\u2100.com/x.zip?tok-abc"),
    "brackets": fetched("https://bob-user:s3cret@[::1/x.zip?tok-abc"),
    "ftp": fetched("ftp://bob-user:s3cret@h/x.zip?tok-abc"),
    "no zip": fetched("https://bob-user:s3cret@h/x.tar?tok-abc"),
    "a space in it": fetched("https://bob-user:s3cret@h/a b.zip?tok-abc"),
    "a script": fetched("curl https://bob-user:s3cret@h/x.zip?tok-abc"),
    "predict, nobody": watched("http://bob-user:s3cret@HOST/x.jpg?tok-abc"),
    "predict, 401": watched("http://bob-user:s3cret@HOST/x.jpg?tok-abc", f"401 No{ESC}\x07"),
    "predict, not HTTP": watched("http://bob-user:s3cret@HOST/x.jpg?tok-abc", f"{ESC}"),
    "predict, no image": watched("http://bob-user:s3cret@HOST/x.jpg?tok-abc", "200 OK"),
    "predict, a stream": watched("rtsp://bob-user:s3cret@HOST/x?tok-abc"),
    "predict, a video": watched("http://bob-user:s3cret@HOST/x.mp4?tok-abc", "404 No"),
    "predict, unknown scheme": watched("gopher://bob-user:s3cret@h/x?tok-abc"),
    "predict, port of text": watched("http://bob-user:s3cret@h:port/x.jpg?tok-abc"),
    "predict, brackets": watched("http://bob-user:s3cret@[::1/x.jpg?tok-abc"),
    "predict, redirect": watched("http://bob-user:s3cret@HOST/x.jpg", "302 Found",
                                 "Location: http://bob-user:s3cret@127.0.0.1:9/?tok-abc"),
}  # fmt: skip

# ---------------------------------------------------------------- places of results


def results(words: Sequence[str], make: Callable[[Path], Any]) -> Callable[[Path], Sequence[str]]:
    def prepare(place: Path) -> Sequence[str]:
        write_squares(place / "d")
        save_checkpoint(place)
        make(place)
        return words

    return prepare


def gone(place: Path) -> None:
    (place / "gone").mkdir()
    os.chdir(place / "gone")
    (place / "gone").rmdir()


def folder_at(name: str) -> Callable[[Path], Any]:
    return lambda place: (place / name).mkdir(parents=True)


def file_at(name: str, content: bytes = b"") -> Callable[[Path], Any]:
    def make(place: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)

    return make


TRAIN = ("train", "data=d", *BRIEF, "plots=False")
PREDICT = ("predict", "d/images/val", "model=best.safetensors", "device=cpu")
EXPORT = ("export", "model=best.safetensors")
PLACES: dict[str, tuple[Callable[[Path], Sequence[str]], tuple[int, ...]]] = {
    "project is a file": (results((*TRAIN, "project=p"), file_at("p")), REFUSED),
    "name with an escape": (results((*TRAIN, f"name=a{ESC}\nb"), lambda p: None), EITHER),
    "name not UTF-8": (results((*TRAIN, "name=a\udcff"), lambda p: None), EITHER),
    "name of 300": (results((*TRAIN, "name=" + "n" * 300), lambda p: None), REFUSED),
    "name of 250": (results((*TRAIN, "name=" + "n" * 250), lambda p: None), OK),
    "project of 5000": (results((*TRAIN, "project=" + "n" * 5000), lambda p: None), REFUSED),
    "log.txt is a folder": (results((*TRAIN, "exist_ok=True"),
                            folder_at("runs/train/log.txt")), REFUSED),
    "args.yaml is a folder": (results((*TRAIN, "exist_ok=True"),
                              folder_at("runs/train/args.yaml")), REFUSED),
    "results.csv is a folder": (results((*TRAIN, "exist_ok=True"),
                                folder_at("runs/train/results.csv")), EITHER),
    "weights is a file": (results((*TRAIN, "exist_ok=True"), file_at("runs/train/weights")),
                          REFUSED),
    "the run is a file": (results(TRAIN, file_at("runs/train")), OK),
    "labels is a file": (results((*PREDICT, "save_txt=True", "exist_ok=True"),
                         file_at("runs/predict/labels")), REFUSED),
    "predictions.json is there": (results((*PREDICT, "save_json=True", "exist_ok=True"),
                                  file_at("runs/predict/predictions.json", b"{")), OK),
    "report of an export is broken": (results(EXPORT, file_at("best.onnx.json", b"{")), REFUSED),
    "report of an export is binary": (results(EXPORT, file_at("best.onnx.json", bytes(range(256)))),
                                      REFUSED),
    "report of an export is a folder": (results(EXPORT, folder_at("best.onnx.json")), REFUSED),
    "report of an export is nested": (results(EXPORT, file_at("best.onnx.json", b"[" * 100_000)),
                                      REFUSED),
    "target is a folder": (results(EXPORT, folder_at("best.onnx")), REFUSED),
    "target is broken": (results(EXPORT, file_at("best.onnx", b"x")), REFUSED),
    "failed is a folder": (results(EXPORT, folder_at("best.onnx.failed")), EITHER),
    "output is a device": (results((*EXPORT, "output=/dev/null"), lambda p: None), REFUSED),
    "output of 300": (results((*EXPORT, "output=" + "n" * 300 + ".onnx"), lambda p: None), REFUSED),
    "current folder is gone": (results(TRAIN, gone), REFUSED),
    "current folder is gone, predict": (results(("predict", "a.jpg"), gone), REFUSED),
    "current folder is gone, info": (results(("info", "best.safetensors"), gone), REFUSED),
    "current folder is gone, check": (results(("data", "check", "coco8.yaml"), gone), EITHER),
    "current folder is gone, weights": (results(("weights", "list"), gone), OK),
    "current folder is gone, export": (results(("export",), gone), REFUSED),
    "current folder is gone, val": (results(("val",), gone), REFUSED),
    "model is a folder": (results(("predict", "d/images/val", "model=d"), lambda p: None), REFUSED),
    "model is a picture": (results(("predict", "d/images/val", "model=d/images/val/1.png"),
                           lambda p: None), REFUSED),
    "data is a picture": (results(("train", "data=d/images/val/1.png"), lambda p: None), REFUSED),
    "source is a checkpoint": (results(("predict", "best.safetensors", "model=best.safetensors"),
                               lambda p: None), REFUSED),
    "imgsz of the moon": (results((*PREDICT, "imgsz=1000000000"), lambda p: None), REFUSED),
    "imgsz of the moon, train": (results(("train", "data=d", "imgsz=1000000000", "amp=False"),
                                 lambda p: None), REFUSED),
    "NUL in a name": (results((*PREDICT, "name=a\0b"), lambda p: None), REFUSED),
    "NUL in a source": (results(("predict", "a\0b"), lambda p: None), REFUSED),
    "NUL in a model": (results((*PREDICT[:2], "model=a\0b"), lambda p: None), REFUSED),
    "NUL in data": (results(("train", "data=a\0b"), lambda p: None), REFUSED),
    "NUL in output": (results((*EXPORT, "output=a\0b.onnx"), lambda p: None), REFUSED),
    "NUL in project": (results((*PREDICT, "project=a\0b"), lambda p: None), REFUSED),
    "NUL in cfg": (results((*PREDICT, "cfg=a\0b"), lambda p: None), REFUSED),
    "NUL in resume": (results(("train", "resume=a\0b"), lambda p: None), REFUSED),
    "NUL in pretrained": (results(("train", "data=d", "pretrained=a\0b"), lambda p: None), REFUSED),
    "NUL in out": (results(("data", "shapes", "n=5", "out=a\0b"), lambda p: None), REFUSED),
    "NUL in info": (results(("info", "a\0b.pt"), lambda p: None), REFUSED),
    "an escape in a word": (results(("train", f"{ESC}x"), lambda p: None), REFUSED),
    "an escape in an option": (results(("train", f"{ESC}x=5"), lambda p: None), REFUSED),
    "an escape in a command": (results((f"{ESC}train",), lambda p: None), REFUSED),
    "an escape in a value": (results(("train", f"epochs={ESC}"), lambda p: None), REFUSED),
    "an escape in det config": (results(("config", "train", f"name={ESC}\nb"), lambda p: None), OK),
}  # fmt: skip


def attacks() -> Iterator[Attack]:
    for name, changes in METADATA.items():
        yield Attack("ONNX metadata", name, metadata(changes), EITHER, ("best.onnx",))
    for name, content in {"empty": b"", "text": b"x" * 100, "cut": b"\x08\x08"}.items():
        for suffix in ("onnx", "pt2", "torchscript", "tflite", "xml"):
            yield Attack("exported file", f"{suffix} {name}", exported(content, f"b.{suffix}"),
                         REFUSED, (f"b.{suffix}",))  # fmt: skip
    for name, change in CACHES.items():
        yield Attack("scan cache", name, damaged_cache(change), OK)
    for name, called in NAMES.items():
        yield Attack("image name, predict", name, image_called(called), OK)
        words = ("train", "data=d", *BRIEF, "cache=disk")
        yield Attack("image name, train", name, image_called(called, *words), OK)
        words = ("val", "data=d", "model=best.safetensors", "single_cls=True", "workers=0",
                 "device=cpu", "save_txt=True", "save_json=True")  # fmt: skip
        yield Attack("image name, val", name, image_called(called, *words), OK)
        yield Attack("image name, check", name, image_called(called, "data", "check", "d"), EITHER)
    for name, text in CLASSES.items():
        yield Attack("class name, train", name, class_called(text, "train", "data=d", *BRIEF), OK)
        words = ("predict", "a.png", "model=best.safetensors", "device=cpu", "conf=0.1",
                 "save_crop=True", "save_json=True")  # fmt: skip
        yield Attack("class name, predict", name, class_called(text, *words), OK)
        yield Attack("class name, info", name, class_called(text, "info", "best.safetensors"), OK)
    for name, prepare in ADDRESSES.items():
        yield Attack("address", name, prepare, EITHER)
    for name, (prepare, codes) in PLACES.items():
        yield Attack("places", name, prepare, codes)
