"""A data set with every hostile or damaged file that was ever met, among sound ones."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np

SOUND = 6
"""Sound images of train; val has three."""
ROW = "0 0.5 0.5 0.4 0.4\n"


def write_hostile(root: Path) -> Path:
    """Write the data set; returns its YAML."""
    for split, count in (("train", SOUND), ("val", 3)):
        (root / "images" / split).mkdir(parents=True)
        (root / "labels" / split).mkdir(parents=True)
        for number in range(count):
            _image(root / f"images/{split}/sound{number}.jpg", number + 10 * (split == "val"))
            (root / f"labels/{split}/sound{number}.txt").write_text(ROW)
        _images(root / "images" / split, root / "labels" / split)
        _labels(root / "images" / split, root / "labels" / split)
    yaml = root / "data.yaml"
    yaml.write_text("train: images/train\nval: images/val\nnames: [cell, other]\n")
    return yaml


def _image(path: Path, seed: int, size: tuple[int, int] = (48, 64)) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(noise, size[::-1]))
    return path.read_bytes()


def _images(images: Path, labels: Path) -> None:
    os.mkfifo(images / "pipe.jpg")
    os.symlink("/dev/zero", images / "zero.png")
    os.symlink(images / "gone.jpg", images / "link.jpg")
    os.symlink(images, images / "loop")
    here = os.getcwd()
    os.chdir(images)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.bind("door.jpg")
    finally:
        os.chdir(here)
    head = struct.pack(">IIBBBBB", 32000, 32000, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))
    (images / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d))
                   for t, d in chunks)
    )  # fmt: skip
    tags = [(256, 4, 1, 40000), (257, 4, 1, 40000)]
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    (images / "bomb.tif").write_bytes(b"II*\0" + struct.pack("<IH", 8, 2) + body + bytes(4))
    whole = _image(images / "half.jpg", 77)
    (images / "half.jpg").write_bytes(whole[: len(whole) // 2] + b"\xff\xd9")
    (images / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    png = bytearray(_image(images / "middle.png", 78))
    png[len(png) // 3 : len(png) // 3 + 60] = bytes(60)
    (images / "middle.png").write_bytes(png)
    (images / "empty.jpg").write_bytes(b"")
    (images / "text.jpg").write_text("no image")
    assert cv2.imwrite(str(images / "dark.png"), np.full((48, 64), 900, np.uint16))
    (images / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    for name in ("half", "middle", "dark", "bomb", "pipe", "zero", "door"):
        (labels / f"{name}.txt").write_text(ROW)


def _labels(images: Path, labels: Path) -> None:
    texts: dict[str, bytes] = {
        "fields": b"0 " + b"0.5 " * 1_000_000 + b"\n" + ROW.encode(),
        "digits": b"0 " + b"9" * 3_000_000 + b" 0.5 0.5 0.5\n",
        "utf16": ROW.encode("utf-16"),
        "binary": bytes(range(256)),
        "large": b"\n" * (17 * 2**20),
        "infinite": b"0 nan inf 0.5 0.5\n1e400 0.5 0.5 0.5 0.5\n",
        "escape": b"\x1b[31m 0.5 0.5 0.5 0.5\n",
    }
    for number, (name, data) in enumerate(texts.items()):
        _image(images / f"{name}.jpg", 100 + number)
        (labels / f"{name}.txt").write_bytes(data)
    for number, name in enumerate(("waits", "endless", "new\nline\x1b[31m")):
        _image(images / f"{name}.jpg", 200 + number)
    os.mkfifo(labels / "waits.txt")
    os.symlink("/dev/zero", labels / "endless.txt")
