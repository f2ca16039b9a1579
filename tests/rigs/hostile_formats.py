"""Attacks of ``hostile_attacks.py`` on the label files of every format that det reads."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from families import FAMILIES
from hostile_attacks import EITHER, Attack

LABELS = (".json", ".jsonl", ".xml", ".csv", ".txt", ".names", ".data")
NUMBER = re.compile(rb"(?<![\w.\-\"])\d+(?:[.,]\d+)?(?![\w.\"])")
"""A number that is not part of a name."""
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "cat"><!ENTITY b "&a;&a;&a;&a;">'
    b'<!ENTITY c SYSTEM "file:///etc/passwd">]>'
)

Change = Callable[[Path, bytes], bytes | None]
"""What becomes of a label file; None where it does something else with the path."""


def each_number(value: bytes) -> Change:
    return lambda path, data: NUMBER.sub(value, data)


def image_called(name: str) -> Change:
    """Every image gets a name that leads elsewhere; it is not made."""
    return lambda path, data: re.sub(rb"\b[\w-]{1,40}\.(?=jpg|png)", lambda _: name.encode(), data)


def class_called(name: bytes) -> Change:
    return lambda path, data: re.sub(rb"\b(cat|face)\b", lambda _: name, data)


def entities(path: Path, data: bytes) -> bytes:
    """An XML with entities; another text gets the same bytes in front."""
    return BOMB + data.replace(b"cat", b"&c;&b;")


def loop(path: Path, data: bytes) -> None:
    """A link to itself."""
    path.unlink()
    path.symlink_to(path.name)


def pipe(path: Path, data: bytes) -> None:
    """A pipe that nobody writes to."""
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, data: bytes) -> None:
    """A folder with the name of a file, and in it a link to the folder above."""
    path.unlink()
    path.mkdir()
    (path / "up").symlink_to("..")


CHANGES: dict[str, Change] = {
    "cut in the middle": lambda path, data: data[: len(data) // 2],
    "cut before the end": lambda path, data: data[:-3],
    "empty": lambda path, data: b"",
    "zero bytes": lambda path, data: bytes(200),
    "UTF-16": lambda path, data: data.decode().encode("utf-16"),
    "not UTF-8": lambda path, data: data.replace(b"cat", b"c\xe4t").replace(b"a.jpg", b"\xe4.jpg"),
    "numbers are lists": each_number(b"[[1], {}]"),
    "numbers are words": each_number(b'"x"'),
    "numbers are null": each_number(b"null"),
    "numbers of 400 digits": each_number(b"9" * 400),
    "numbers of 1e308": each_number(b"1e308"),
    "numbers are NaN": each_number(b"NaN"),
    "numbers below zero": each_number(b"-7"),
    "entities": entities,
    "100,000 open brackets": lambda path, data: b"[" * 100_000,
    "100,000 open elements": lambda path, data: b"<annotation>" * 100_000,
    "class with escape codes": class_called(b"\\u001b[31mc\x1b[31m\x07"),
    "class with a line break": class_called(b"c\\na\nt"),
    "class of 5,000 characters": class_called(b"c" * 5000),
    "image above the folder": image_called("../../../../../../etc/passwd."),
    "image with an absolute path": image_called("/etc/passwd."),
    "image of another drive": image_called("C:\\\\Windows\\\\a."),
    "image with a NUL": image_called("a\\u0000b."),
    "image with escape codes": image_called("\\u001b[2Ja\x1b[2J."),
    "image at an address": image_called("http://127.0.0.1:9/a."),
    "a loop of links": loop,
    "a pipe": pipe,
    "a folder": folder,
}


def changed(family: str, change: Change, *words: str) -> Callable[[Path], Sequence[str]]:
    """Every label file of a family is changed, then ``det data ...`` reads the folder."""

    def prepare(place: Path) -> Sequence[str]:
        make, _, options = FAMILIES[family]
        make(place / "d")
        for path in [p for p in sorted((place / "d").rglob("*")) if p.suffix in LABELS]:
            data = change(path, path.read_bytes())
            if data is not None:
                path.write_bytes(data)
        return ("data", *words, *(f"{key}={value}" for key, value in options.items()))

    return prepare


def attacks() -> Iterator[Attack]:
    """Every change to every family, read by a check or a conversion in turn."""
    convert = ("convert", "data=d", "out=new", "allow=errors")
    for number, family in enumerate(FAMILIES):
        for turn, (name, change) in enumerate(CHANGES.items()):
            words = convert if (number + turn) % 2 else ("check", "data=d")
            prepare = changed(family, change, *words)
            left = ("d", "new")
            yield Attack(f"labels, {family}", name, prepare, EITHER, left=left, report=True)
