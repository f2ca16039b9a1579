"""Attacks of ``hostile_attacks.py`` by names of images and classes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
from exports import make_image, save_checkpoint
from hostile_attacks import EITHER, OK, Attack
from tiny import write_squares

ESC = "\x1b[31m"
BRIEF = ("imgsz=64", "batch=4", "epochs=1", "amp=False", "workers=0", "device=cpu")

PREDICT = ("predict", "d/images/val", "model=best.safetensors", "device=cpu")


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


def attacks() -> Iterator[Attack]:
    """Attacks by names of images and classes."""
    for name, called in NAMES.items():
        yield Attack("image name, predict", name, image_called(called), OK)
        words = ("train", "data=d", *BRIEF, "cache=disk")
        yield Attack("image name, train", name, image_called(called, *words), OK)
        words = ("val", "data=d", "model=best.safetensors", "single_cls=True", "workers=0",
                 "device=cpu", "save_txt=True", "save_json=True")  # fmt: skip
        yield Attack("image name, val", name, image_called(called, *words), OK)
        words = ("data", "check", "data=d")
        yield Attack("image name, check", name, image_called(called, *words), EITHER)
    for name, text in CLASSES.items():
        yield Attack("class name, train", name, class_called(text, "train", "data=d", *BRIEF), OK)
        words = ("predict", "a.png", "model=best.safetensors", "device=cpu", "conf=0.1",
                 "save_crop=True", "save_json=True")  # fmt: skip
        yield Attack("class name, predict", name, class_called(text, *words), OK)
        yield Attack("class name, info", name, class_called(text, "info", "best.safetensors"), OK)
