"""Attacks of ``hostile_attacks.py`` by addresses and by what lies where results go."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from exports import save_checkpoint
from hostile_attacks import EITHER, OK, REFUSED, Attack
from tiny import write_squares

ESC = "\x1b[31m"
BRIEF = ("imgsz=64", "batch=4", "epochs=1", "amp=False", "workers=0", "device=cpu")


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
    """Attacks by addresses and places."""
    for name, prepare in ADDRESSES.items():
        yield Attack("address", name, prepare, EITHER)
    for name, (prepare, codes) in PLACES.items():
        yield Attack("places", name, prepare, codes)
