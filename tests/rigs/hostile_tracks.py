"""The attacks of ``hostile_attacks.py`` on comparisons, tasks and tracks."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
from exports import make_image, save_checkpoint, write_data
from hostile_attacks import EITHER, OK, REFUSED, Attack
from hostile_options import ESC
from hostile_tools import SECRET, Change, cut, endless, nothing, pipe

# ---------------------------------------------------------------- two detectors, and tracks


def compared(change: Change, *words: str) -> Callable[[Path], Sequence[str]]:
    """``det compare`` of two checkpoints on a data set, after a change."""

    def prepare(place: Path) -> Sequence[str]:
        (place / "x").mkdir(), (place / "y").mkdir()
        save_checkpoint(place / "x")
        save_checkpoint(place / "y")
        write_data(place)
        change(place)
        both = ("x/best.safetensors", "y/best.safetensors", "workers=0", "device=cpu")
        own = () if any(word.startswith("data=") for word in words) else ("data=data.yaml",)
        return ["compare", *both, *own, *words]

    return prepare


def other_names(*names: str) -> Change:
    def change(place: Path) -> None:
        save_checkpoint(place / "y", class_names=names)

    return change


COMPARED: dict[str, tuple[Change, tuple[str, ...], tuple[int, ...]]] = {
    "itself": (nothing, (), OK),
    "other classes with escapes": (other_names(f"{ESC}a", f"{ESC}b"), (), REFUSED),
    "a class twice": (other_names("cat", "cat"), (), EITHER),
    "the second is a pipe": (pipe("y/best.safetensors"), (), REFUSED),
    "the second is cut": (cut("y/best.safetensors"), (), REFUSED),
    "the second is endless": (endless("y/best.safetensors"), (), REFUSED),
    "samples without end": (nothing, ("samples=1000000000000",), REFUSED),
    "a level of nan": (nothing, ("level=nan",), REFUSED),
    "data with an escape": (nothing, (f"data={ESC}.yaml",), REFUSED),
    "data with a secret": (nothing, (f"data={SECRET}",), REFUSED),
    "seed below zero": (nothing, ("seed=-1",), EITHER),
}


def sequence(rows: bytes, about: bytes = b"[Sequence]\nframeRate=10\n", *more: str) -> Any:
    """``det track`` or ``det val`` on a MOT folder."""

    def prepare(place: Path) -> Sequence[str]:
        for number in (1, 2):
            path = place / f"m/img1/{number:06d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), make_image((48, 64), number))
        (place / "m" / "gt").mkdir()
        (place / "m/gt/gt.txt").write_bytes(rows)
        (place / "m/seqinfo.ini").write_bytes(about)
        boxes = () if more else ("boxes=gt",)
        return ["track", "data=m", "device=cpu", *boxes, *more]

    return prepare


MOT: dict[str, tuple[bytes, bytes]] = {
    "rows of nan": (b"1,1,nan,1,5,5,1,1,1\n", b""),
    "frame 1e18": (b"1000000000000000000,1,1,1,5,5,1,1,1\n", b""),
    "frame 1e300": (b"1e300,1,1,1,5,5,1,1,1\n", b""),
    "id 1e30": (b"1,1e30,1,1,5,5,1,1,1\n", b""),
    "one id twice": (b"1,1,1,1,5,5,1,1,1\n" * 2, b""),
    "huge box": (b"1,1,1e300,1,1e308,5,1,1,1\n", b""),
    "negative box": (b"1,1,1,1,-5,-5,1,1,1\n", b""),
    "a line of 1e7 fields": (b"1," * 5_000_000, b""),
    "digits": (b"9" * 3_000_000 + b",1,1,1,1,1\n", b""),
    "utf-16": ("1,1,1,1,5,5,1,1,1\n".encode("utf-16"), b""),
    "binary": (bytes(range(256)), b""),
    "empty": (b"", b""),
    "escape": (b"\x1b[31m,1,1\n", b""),
    "seqinfo of bytes": (b"1,1,1,1,5,5,1,1,1\n", bytes(range(256))),
    "seqinfo with escapes": (b"1,1,1,1,5,5,1,1,1\n", b"[Sequence]\nseqLength=\x1b[31m\n"),
    "seqinfo of a huge length": (b"1,1,1,1,5,5,1,1,1\n", b"[Sequence]\nseqLength=" + b"9" * 18),
    "seqinfo of 10000 digits": (b"1,1,1,1,5,5,1,1,1\n", b"[Sequence]\nseqLength=" + b"9" * 10000),
    "seqinfo without a section": (b"1,1,1,1,5,5,1,1,1\n", b"frameRate=5\n"),
    "infinite frame rate": (b"1,1,1,1,5,5,1,1,1\n", b"[Sequence]\nframeRate=inf\n"),
    "huge picture": (
        b"1,1,1,1,5,5,1,1,1\n", b"[Sequence]\nimWidth=1000000000\nimHeight=1000000000\n",
    ),
}  # fmt: skip
FILES: dict[str, Change] = {
    "gt.txt is a pipe": pipe("m/gt/gt.txt"),
    "gt.txt is endless": endless("m/gt/gt.txt"),
    "seqinfo.ini is a pipe": pipe("m/seqinfo.ini"),
    "seqinfo.ini is endless": endless("m/seqinfo.ini"),
    "img1 is a file": lambda p: ([f.unlink() for f in (p / "m/img1").iterdir()],
                                 (p / "m/img1").rmdir(), (p / "m/img1").write_text("x")),
    "an image is a pipe": pipe("m/img1/000003.jpg"),
    "results is a pipe": pipe("r.txt"),
}  # fmt: skip

# ---------------------------------------------------------------- tasks for people

TASKS = (
    "a#b?c%41.jpg", "\x1b[31m.jpg", "a\nb.jpg", "\udcff.jpg", "\u202ea.jpg", "C:\\x.jpg", "''.jpg",
)  # fmt: skip
"""Names of images."""


def tasks(name: str) -> Callable[[Path], Sequence[str]]:
    def prepare(place: Path) -> Sequence[str]:
        save_checkpoint(place)
        (place / "s").mkdir()
        image = cv2.imencode(".jpg", make_image((48, 64), 1))[1].tobytes()
        with open(os.fsencode(place / "s") + b"/" + os.fsencode(name), "wb") as file:
            file.write(image)
        words = ("save_labelstudio=True", "save_coco=True", "save_json=True", "save_txt=True")
        return ["predict", "s", "model=best.safetensors", "device=cpu", "conf=0.0", *words]

    return prepare


# ---------------------------------------------------------------- the list


def attacks() -> Iterator[Attack]:
    """Attacks on two detectors, tasks for people, and MOT folders."""
    for name, (change, words, codes) in COMPARED.items():
        yield Attack("compare", name, compared(change, *words), codes)
    for name in TASKS:
        yield Attack("tasks", repr(name), tasks(name), OK)
    if importlib.util.find_spec("trackers") is not None:
        for name, (rows, about) in MOT.items():
            yield Attack("tracks", name, sequence(rows, about), EITHER)
        for name, change in FILES.items():
            more = ("results=r.txt",) if name.startswith("results") else ()
            prepare = _then(sequence(b"1,1,1,1,5,5,1,1,1\n", b"[Sequence]\n", *more), change)
            yield Attack("tracks", name, prepare, EITHER)


def _then(prepare: Callable[[Path], Any], change: Change) -> Callable[[Path], Any]:
    def both(place: Path) -> Any:
        words = prepare(place)
        change(place)
        return words

    return both
