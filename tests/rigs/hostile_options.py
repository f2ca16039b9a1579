"""The attacks of ``hostile_attacks.py``: hostile files of every kind that det reads."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import torch
from exports import make_image, save_checkpoint
from hostile_attacks import EITHER, REFUSED, Attack
from tiny import write_squares

ESC = "\x1b[31m"
BRIEF = ("imgsz=64", "batch=4", "epochs=1", "amp=False", "workers=0", "plots=False", "device=cpu")

# ---------------------------------------------------------------- options files

CFG: dict[str, bytes] = {
    "date": b"epochs: 2024-01-01",
    "date as key": b"2024-01-01: 5",
    "400 digits": b"epochs: " + b"9" * 400,
    "400 digits as float": b"lr0: 1" + b"0" * 400,
    "nested 3000": b"epochs: " + b"[" * 3000 + b"]" * 3000,
    "nested flow": b"classes: [[[0]]]",
    "a list": b"- epochs\n- 5\n",
    "a word": b"epochs",
    "a number": b"5",
    "binary": bytes(range(256)),
    "utf-16": "epochs: 5".encode("utf-16"),
    "nul": b"epochs: 5\0",
    "tab": b"\tepochs: 5",
    "key twice": b"epochs: 5\nepochs: 6\n",
    "key is a list": b"? [a, b]\n: 5\n",
    "key is null": b"null: 5",
    "key is true": b"yes: 5",
    "empty section": b"train:\n",
    "section is a number": b"train: 5\nval: 6\n",
    "value is a mapping": b"epochs: {a: 5}",
    "infinity": b"lr0: .inf",
    "nan": b"lr0: .nan",
    "base 60": b"epochs: 1:30",
    "python tag": b"epochs: !!python/object/apply:os.system [ls]",
    "set": b"epochs: !!set {a, b}",
    "escape in a key": b"epo\x1bchs: 5",
    "escape in a quoted key": b'"epo\\e[31mchs": 5',
    "escape in a value": b'model: "\\e[31mx"',
    "line breaks in a value": b'model: "a\\nb\\nc"',
    "long key": b"e" * 100_000 + b": 5",
    "long value": b"model: " + b"e" * 100_000,
    "binary value": b"model: !!binary aGVsbG8=",
    "merge with nothing": b"<<: 5\nepochs: 5",
    "anchor of itself": b"epochs: &a [*a]",
    "address with a password": b"epochs: https://bob-user:s3cret@h/?tok-abc",
}


def cfg(content: bytes) -> Callable[[Path], Sequence[str]]:
    def prepare(place: Path) -> Sequence[str]:
        write_squares(place / "d")
        (place / "o.yaml").write_bytes(content)
        return ["train", "data=d", "cfg=o.yaml", *BRIEF[:2], *BRIEF[3:]]

    return prepare


# ---------------------------------------------------------------- a borrowed run

ARGS: dict[str, bytes] = {
    "broken": b"data: [",
    "empty": b"",
    "a list": b"- data\n",
    "a word": b"data",
    "no data": b"epochs: 5\n",
    "data is null": b"data:\n",
    "data is a list": b"data: [a, b]\n",
    "data is a number": b"data: 5\n",
    "data is a mapping": b"data: {a: b}\n",
    "data with an escape": b'data: "\\e[31mx.yaml"\n',
    "binary": bytes(range(256)),
    "utf-16": "data: x".encode("utf-16"),
    "nested": b"data: " + b"[" * 3000,
    "tag": b"data: !!python/name:os.system\n",
    "too long a name": b"data: " + b"e" * 5000,
    "nul": b'data: "a\\0b"\n',
}


def borrowed(content: bytes) -> Callable[[Path], Sequence[str]]:
    def prepare(place: Path) -> Sequence[str]:
        weights = place / "theirs" / "weights"
        weights.mkdir(parents=True)
        save_checkpoint(weights)
        (place / "theirs" / "args.yaml").write_bytes(content)
        return ["val", "model=theirs", "workers=0", "device=cpu"]

    return prepare


# ---------------------------------------------------------------- states


@cache
def honest_state() -> bytes:
    """last.pt of a run of one epoch."""
    import tempfile

    from tiny import train

    with tempfile.TemporaryDirectory() as folder:
        data = write_squares(Path(folder) / "d")
        train(data, Path(folder) / "runs", epochs=1, batch=4)
        return (Path(folder) / "runs/train/weights/last.pt").read_bytes()


def state(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Sequence[str]]:
    """resume= with a last.pt whose content is changed."""

    def prepare(place: Path) -> Sequence[str]:
        data = write_squares(place / "d")
        path = place / "r" / "weights" / "last.pt"
        path.parent.mkdir(parents=True)
        path.write_bytes(honest_state())
        content = torch.load(path, weights_only=True)
        content["config"]["data"] = str(data)
        content = change(content) or content
        torch.save(content, path)
        return ["train", "resume=r", "epochs=2", "device=cpu"]

    return prepare


def without(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        del content[path[-1]]

    return change


def with_value(value: Any, *path: str) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in path[:-1]:
            content = content[key]
        content[path[-1]] = value

    return change


def first_tensor(value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        content["model"][next(iter(content["model"]))] = value

    return change


STATES: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{
        f"without {k}": without(k)
        for k in (
            "meta",
            "model",
            "config",
            "position",
            "optimizer",
            "precision",
            "ema",
            "transferred",
        )
    },
    **{f"without position.{k}": without("position", k) for k in ("epoch", "rows", "best_map")},
    **{f"without meta.{k}": without("meta", k) for k in ("model", "class_names", "strides")},
    "batch 0": with_value(0, "config", "batch"),
    "batch -1": with_value(-1, "config", "batch"),
    "batch is text": with_value("x", "config", "batch"),
    "imgsz 0": with_value(0, "config", "imgsz"),
    "imgsz huge": with_value(10**9, "config", "imgsz"),
    "amp unknown": with_value("fp7", "config", "amp"),
    "freeze unknown": with_value(("x",), "config", "freeze"),
    "config is a list": with_value([], "config"),
    "data is None": with_value(None, "config", "data"),
    "data is another": with_value(f"{ESC}x.yaml", "config", "data"),
    "epoch -5": with_value(-5, "position", "epoch"),
    "epoch huge": with_value(10**30, "position", "epoch"),
    "epoch is text": with_value("x", "position", "epoch"),
    "epoch is NaN": with_value(float("nan"), "position", "epoch"),
    "batch of the position -3": with_value(-3, "position", "batch"),
    "batch of the position 999": with_value(999, "position", "batch"),
    "updates negative": with_value(-7, "position", "updates"),
    "updates is text": with_value("x", "position", "updates"),
    "rows is text": with_value("x", "position", "rows"),
    "rows of nothing": with_value([{}], "position", "rows"),
    "rows of others": with_value([{f"a{ESC}": 1}], "position", "rows"),
    "sums is a list": with_value([], "position", "sums"),
    "sums of text": with_value({"images": "x"}, "position", "sums"),
    "seconds is text": with_value("x", "position", "seconds"),
    "position is a list": with_value([], "position"),
    "unknown position": with_value(1, "position", "more"),
    "best_epoch is text": with_value("x", "position", "best_epoch"),
    "precision unknown": with_value("fp7", "precision"),
    "precision is a list": with_value([], "precision"),
    "model is a list": with_value([], "model"),
    "model of text": first_tensor("x"),
    "another shape": first_tensor(torch.zeros(3, 3)),
    "another dtype": first_tensor(torch.zeros(8, 3, 3, 3, dtype=torch.complex64)),
    "ema is text": with_value("x", "ema"),
    "ema of nothing": with_value({}, "ema"),
    "ema without updates": with_value({"average": {}}, "ema"),
    "optimizer is a list": with_value([], "optimizer"),
    "optimizer of nothing": with_value({}, "optimizer"),
    "optimizer without groups": with_value({"state": {}, "param_groups": []}, "optimizer"),
    "transferred is a number": with_value(7, "transferred"),
    "class name with an escape": with_value((f"{ESC}x",), "meta", "class_names"),
    "classes of another": with_value(("a", "b"), "meta", "class_names"),
    "meta is a list": with_value([], "meta"),
    "model of meta unknown": with_value(f"{ESC}yolo99", "meta", "model"),
    "schema text": with_value("x", "schema"),
    "schema 99": with_value(99, "schema"),
    "schema -1": with_value(-1, "schema"),
    "only a schema": lambda content: {"schema": 2},
    "a list": lambda content: [1, 2],
}

# ---------------------------------------------------------------- weights


def header(changes: Mapping[str, Any], *words: str) -> Callable[[Path], Sequence[str]]:
    """A command on best.safetensors whose header is changed, its checksum too."""

    def prepare(place: Path) -> Sequence[str]:
        path = save_checkpoint(place)
        data = path.read_bytes()
        size = int.from_bytes(data[:8], "little")
        table = json.loads(data[8 : 8 + size])
        about = json.loads(table["__metadata__"]["det"])
        about.update(changes)
        text = json.dumps(about)
        table["__metadata__"]["det"] = text
        table["__metadata__"]["det_sha256"] = hashlib.sha256(text.encode()).hexdigest()
        head = json.dumps(table).encode()
        path.write_bytes(struct.pack("<Q", len(head)) + head + data[8 + size :])
        assert cv2.imwrite(str(place / "a.png"), make_image((64, 64), 0))
        write_squares(place / "d")
        return words or ("predict", "a.png", "model=best.safetensors", "device=cpu")

    return prepare


HEADERS: dict[str, Mapping[str, Any]] = {
    "image_size 0": {"image_size": 0},
    "image_size -1": {"image_size": -1},
    "image_size 10^9": {"image_size": 10**9},
    "image_size true": {"image_size": True},
    "image_size text": {"image_size": "x"},
    "image_size 10^30": {"image_size": 10**30},
    "no class": {"class_names": []},
    "classes of numbers": {"class_names": [1, 2, 3]},
    "classes is text": {"class_names": "abc"},
    "too many classes": {"class_names": ["a"] * 70_000},
    "precision unknown": {"precision": f"{ESC}fp7"},
    "precision a number": {"precision": 7},
    "strides of text": {"strides": ["x"]},
    "strides 0": {"strides": [0, 0, 0]},
    "strides many": {"strides": [8] * 100},
    "schema 99": {"schema": 99},
    "schema true": {"schema": True},
    "model unknown": {"model": f"{ESC}yolo99n"},
    "model a path": {"model": "../../etc/passwd"},
    "preprocess a list": {"preprocess": []},
    "letterbox unknown": {"preprocess": {"letterbox": f"{ESC}x"}},
    "letterbox a list": {"preprocess": {"letterbox": []}},
    "architecture a list": {"architecture": []},
    "architecture of nothing": {"architecture": {}},
    "architecture huge": {"architecture": {"family": "yolo26", "size": "n", "num_classes": 10**9,
                          "reg_max": 1, "branches": ["a"], "widths": {}, "heads": {}}},
    "class_width text": {"schema": 1, "class_width": "x"},
}  # fmt: skip
SHOWN: dict[str, Mapping[str, Any]] = {
    "escape in the license": {"license": f"MIT{ESC}\nAGPL"},
    "escape in the provenance": {
        "provenance": f"x{ESC}\n\r\x07 https://bob-user:s3cret@h/?tok-abc"
    },
    "escape in a class": {"class_names": [f"a{ESC}", "b\nc", "c\u202e"]},
    "escape in the data": {"data": {f"k{ESC}": f"v{ESC}\n", "yaml": f"{ESC}x"}},
    "escape in the versions": {"versions": {f"{ESC}": f"{ESC}"}},
    "NaN among metrics": {"metrics": {"map": float("nan"), f"{ESC}": float("inf")}},
    "config of nonsense": {"config": {"single_cls": "x", f"{ESC}": [ESC]}},
    "surrogate": {"provenance": "\ud800 x", "license": "\udcff"},
}
RAW: dict[str, bytes] = {
    "empty": b"",
    "8 bytes": struct.pack("<Q", 100),
    "60 MB of [": struct.pack("<Q", 60 << 20) + b"[" * (60 << 20),
    "60 MB of {": struct.pack("<Q", 60 << 20) + b'{"a":' * (12 << 20),
    "a list": struct.pack("<Q", 2) + b"[]",
    "a word": struct.pack("<Q", 6) + b'"text"',
    "metadata a list": struct.pack("<Q", 19) + b'{"__metadata__":[]}',
    "metadata of numbers": struct.pack("<Q", 26) + b'{"__metadata__":{"det":5}}',
    "a number of 5000 digits": struct.pack("<Q", 5006) + b'{"a":' + b"9" * 5000 + b"}",
    "text": b"not a checkpoint at all, only a sentence",
}


def raw(content: bytes, *words: str) -> Callable[[Path], Sequence[str]]:
    def prepare(place: Path) -> Sequence[str]:
        (place / "best.safetensors").write_bytes(content)
        return words

    return prepare


# ---------------------------------------------------------------- the list


def attacks() -> Iterator[Attack]:
    """Every attack on options, runs and checkpoints."""
    for name, content in CFG.items():
        yield Attack(
            "options file", name, cfg(content), EITHER, ("o.yaml", "model=", "classes=", "eee")
        )
    for name, content in ARGS.items():
        names = ("args.yaml", "data") if name != "no data" else ()
        yield Attack("args.yaml", name, borrowed(content), REFUSED, names)
    for name, change in STATES.items():
        names = ("last.pt", "data", "epoch", "freeze=", "imgsz=")
        yield Attack("last.pt", name, state(change), EITHER, names)
    for name, changes in HEADERS.items():
        yield Attack("header, predict", name, header(changes), EITHER, ("best.safetensors",))
        words = ("train", "data=d", "model=best.safetensors", *BRIEF)
        yield Attack("header, train", name, header(changes, *words), EITHER, ("best.safetensors",))
    for name, changes in SHOWN.items():
        yield Attack("header, info", name, header(changes, "info", "best.safetensors"), EITHER)
        words = ("val", "data=d", "model=best.safetensors", "single_cls=True", "workers=0")
        yield Attack("header, val", name, header(changes, *words, "device=cpu"), EITHER)
    for name, content in RAW.items():
        for words in (("info", "best.safetensors"), ("export", "model=best.safetensors")):
            yield Attack(f"weights, {words[0]}", name, raw(content, *words), REFUSED,
                         ("best.safetensors",))  # fmt: skip
