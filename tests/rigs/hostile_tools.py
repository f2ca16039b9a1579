"""The attacks of ``hostile_attacks.py`` on searches, comparisons, reports, tracks and resumed runs.

A search is attacked only where its package is installed.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from exports import save_checkpoint
from hostile_attacks import EITHER, REFUSED, Attack
from hostile_options import BRIEF, ESC
from tiny import train, write_squares

SEARCH = tuple(word for word in BRIEF if word != "workers=0")
"""Of a search, whose workers= are its processes."""
Change = Callable[[Path], Any]
"""Damages what lies in a folder."""

BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(9)
)
DEEP = b"[" * 200_000
SECRET = "https://bob-user:s3cret@127.0.0.1:9/x?tok-abc"


def wrote(name: str, content: bytes | str) -> Change:
    """A file whose content is another."""

    def change(place: Path) -> None:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def cut(name: str, share: float = 0.5) -> Change:
    def change(place: Path) -> None:
        whole = (place / name).read_bytes()
        (place / name).write_bytes(whole[: int(len(whole) * share)])

    return change


def pipe(name: str) -> Change:
    def change(place: Path) -> None:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).unlink(missing_ok=True)
        os.mkfifo(place / name)

    return change


def endless(name: str) -> Change:
    def change(place: Path) -> None:
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to("/dev/zero")

    return change


def folder(name: str) -> Change:
    def change(place: Path) -> None:
        (place / name).unlink(missing_ok=True)
        (place / name).mkdir(parents=True)

    return change


def gone(name: str) -> Change:
    return lambda place: (place / name).unlink()


def edited(name: str, edit: Callable[[Any], Any]) -> Change:
    """A JSON file whose content was edited."""

    def change(place: Path) -> None:
        content = json.loads((place / name).read_text())
        content = edit(content) or content
        (place / name).write_text(json.dumps(content))

    return change


def packed(make: Callable[[Path], None]) -> bytes:
    """What ``make`` writes into a folder, as a tar file."""
    with tempfile.TemporaryDirectory() as place:
        here = Path.cwd()
        os.chdir(place)
        try:
            make(Path(place))
        finally:
            os.chdir(here)
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as file:
            file.add(place, ".")
        return data.getvalue()


def _run(place: Path) -> None:
    data = write_squares(place / "d")
    (place / "d" / "labels" / "val" / "0.txt").write_text("0 0.5 0.5 0.4 0.4\n" * 3)
    train(data, place, epochs=1, batch=4, plots=True, report=True)


def _search(place: Path) -> None:
    from yolodet.cli import main

    write_squares(place / "d")
    words = ("tune", "data=d", "trials=2", "seeds=0", "ranges=mosaic=0..1", "project=.", *SEARCH)
    assert main(words) == 0


@cache
def honest(kind: Callable[[Path], None]) -> bytes:
    return packed(kind)


def on(kind: Callable[[Path], None], change: Change, *words: str) -> Callable[[Path], Any]:
    """Words of a command, after a change to what a run or a search left."""

    def prepare(place: Path) -> Sequence[str]:
        with tarfile.open(fileobj=io.BytesIO(honest(kind))) as file:
            file.extractall(place, filter="data")
        change(place)
        return words

    return prepare


def nothing(place: Path) -> None:
    """No change."""


# ---------------------------------------------------------------- a run folder

RESULTS: dict[str, Change] = {
    "results.json empty": wrote("train/results.json", ""),
    "results.json cut": cut("train/results.json"),
    "results.json nested": wrote("train/results.json", DEEP),
    "results.json is a pipe": pipe("train/results.json"),
    "results.json is endless": endless("train/results.json"),
    "results.json is a list": wrote("train/results.json", "[]"),
    "metrics is text": edited("train/results.json", lambda r: r | {"metrics": "good"}),
    "per_class of numbers": edited(
        "train/results.json", lambda r: r["metrics"].update(per_class=[5])
    ),
    "a class with an escape": edited(
        "train/results.json",
        lambda r: r["metrics"]["per_class"][0].update(name=f"{ESC}<script>alert(1)</script>"),
    ),
    "confusion too large": edited(
        "train/results.json", lambda r: r["metrics"].update(confusion=[[1] * 9] * 9)
    ),
    "infinite AP": wrote("train/results.json", '{"metrics": {"map": Infinity, "per_class": []}}'),
    "hardest.json cut": cut("train/hardest.json"),
    "hardest.json is a list": wrote("train/hardest.json", "[1]"),
    "hardest.json of numbers": wrote("train/hardest.json", '{"missed": 5, "false": [5]}'),
    "hardest.json is a pipe": pipe("train/hardest.json"),
    "hardest.json is endless": endless("train/hardest.json"),
    "amp.json is a list": wrote("train/amp.json", "[1]"),
    "args.yaml is a bomb": wrote("train/args.yaml", BOMB),
    "an option is a bomb": wrote("train/args.yaml", BOMB + b"data: *j\n"),
    "args.yaml is nested": wrote("train/args.yaml", DEEP),
    "args.yaml is a pipe": pipe("train/args.yaml"),
    "a picture is a pipe": pipe("train/extra.png"),
    "a picture is endless": endless("train/extra.png"),
    "a picture is a folder": folder("train/extra.png"),
    "report.html is a folder": folder("train/report.html"),
    "report.html is a pipe": pipe("train/report.html"),
}  # fmt: skip
RESUMED: dict[str, Change] = {
    "results.csv cut": cut("train/results.csv"),
    "results.csv of bytes": wrote("train/results.csv", bytes(range(256))),
    "results.csv of a line": wrote("train/results.csv", b"x," * 5_000_000),
    "results.csv is a pipe": pipe("train/results.csv"),
    "results.csv is a folder": folder("train/results.csv"),
    "results.csv is endless": endless("train/results.csv"),
    "log.txt is a pipe": pipe("train/log.txt"),
    "log.txt is a folder": folder("train/log.txt"),
    "best.safetensors is a pipe": pipe("train/weights/best.safetensors"),
    "best.safetensors is cut": cut("train/weights/best.safetensors"),
    "data.json is nested": wrote("train/data.json", DEEP),
    "hardest.json is nested": wrote("train/hardest.json", DEEP),
    "results.json is a pipe": pipe("train/results.json"),
    "a plot is a pipe": pipe("train/results.png"),
}

# ---------------------------------------------------------------- a search

FOUND: dict[str, Change] = {
    "study.db empty": wrote("tune/study.db", ""),
    "study.db of bytes": wrote("tune/study.db", os.urandom(5000)),
    "study.db cut": cut("tune/study.db"),
    "study.db is text": wrote("tune/study.db", "no data base\n" * 99),
    "study.lock is a folder": folder("tune/study.lock"),
    "study.lock is a pipe": pipe("tune/study.lock"),
    "space.yaml missing": gone("tune/space.yaml"),
    "space.yaml a list": wrote("tune/space.yaml", "- mosaic\n"),
    "space.yaml of another option": wrote("tune/space.yaml", "lr0: 0..1\n"),
    "space.yaml of other values": wrote("tune/space.yaml", "mosaic: [True, False]\n"),
    "fixed.json missing": gone("tune/fixed.json"),
    "fixed.json cut": cut("tune/fixed.json"),
    "fixed.json a list": wrote("tune/fixed.json", "[1]"),
    "fixed.json nested": wrote("tune/fixed.json", DEEP),
    "fixed.json is a pipe": pipe("tune/fixed.json"),
    "fixed.json of an unknown option": edited("tune/fixed.json", lambda c: c | {f"{ESC}x": 5}),
    "fixed.json of a wrong value": edited("tune/fixed.json", lambda c: c | {"epochs": "many"}),
    "defaults.json a list": wrote("tune/defaults.json", "[]"),
    "defaults.json of text": wrote("tune/defaults.json", '{"mosaic": "much"}'),
    "args.yaml missing": gone("tune/args.yaml"),
    "args.yaml is a bomb": wrote("tune/args.yaml", BOMB),
    "args.yaml is a pipe": pipe("tune/args.yaml"),
    "a trial is a file": wrote("tune/trials/002", "x"),
    "trials.csv is a folder": folder("tune/trials.csv"),
    "tune.json is a folder": folder("tune/tune.json"),
}
SPACES: dict[str, Change] = {
    "bomb": wrote("s.yaml", BOMB),
    "nested": wrote("s.yaml", DEEP),
    "pipe": pipe("s.yaml"),
    "endless": endless("s.yaml"),
    "folder": folder("s.yaml"),
    "empty": wrote("s.yaml", ""),
    "unknown option with an escape": wrote("s.yaml", '"mo\\e[31msaic": 0..1'),
    "value with an escape": wrote("s.yaml", 'mosaic: "\\e[31m0..1"'),
    "infinite": wrote("s.yaml", "lr0: 1e400..2e400"),
    "not a number": wrote("s.yaml", "lr0: nan..1"),
    "logarithm of zero": wrote("s.yaml", "lr0: log:0..1"),
    "turned": wrote("s.yaml", "mosaic: 1..0"),
    "a million digits": wrote("s.yaml", "lr0: 0.1.." + "9" * 1_000_000),
    "a million choices": wrote("s.yaml", "optimizer: [" + "SGD," * 300_000 + "]"),
    "a mapping": wrote("s.yaml", "mosaic: {low: 0, high: 1}"),
    "data": wrote("s.yaml", f"data: [d, '{SECRET}']"),
    "model with a secret": wrote("s.yaml", f"model: ['{SECRET}', yolo26n]"),
    "date": wrote("s.yaml", "mosaic: 2024-01-01"),
}
RANGES = (
    "mosaic=" + "9" * 100_000 + "..1",
    f"mo{ESC}=0..1",
    "mosaic=0..1=2",
    "mosaic=|",
    "=",
    "\0",
)

# ---------------------------------------------------------------- a project

PROJECT: dict[str, tuple[Change, tuple[int, ...]]] = {
    "pipe": (pipe("det.yaml"), REFUSED),
    "endless": (endless("det.yaml"), REFUSED),
    "folder": (folder("det.yaml"), REFUSED),
    "link to nothing": (lambda p: (p / "det.yaml").symlink_to("gone"), REFUSED),
    "bomb": (wrote("det.yaml", BOMB), REFUSED),
    "nested": (wrote("det.yaml", DEEP), REFUSED),
    "binary": (wrote("det.yaml", bytes(range(256))), REFUSED),
    "40 MB": (wrote("det.yaml", b"#" * 40_000_000), EITHER),
    "escape in a key": (wrote("det.yaml", '"epo\\e[31mchs": 5'), REFUSED),
    "escape in a value": (wrote("det.yaml", 'name: "\\e[31mx"'), EITHER),
    "line break in a name": (wrote("det.yaml", 'name: "a\\nb"'), EITHER),
    "a date": (wrote("det.yaml", "epochs: 2024-01-01"), EITHER),
    "model with a secret": (wrote("det.yaml", f"model: {SECRET}"), EITHER),
    "project leaves the folder": (wrote("det.yaml", "name: ../../x"), EITHER),
    "itself": (wrote("det.yaml", "cfg: det.yaml"), EITHER),
    "log with an escape": (wrote("det.yaml", 'log: "\\e[31m"'), EITHER),
    "section is a list": (wrote("det.yaml", "train: [1]"), EITHER),
}
RULES = {
    "escape": f"{ESC}a->{ESC}b", "to nothing": "square->", "from nothing": "->b", "arrow": "->",
    "line break": "square->a\nb", "a million": ",".join(f"c{n}->x" for n in range(100_000)),
    "300 characters": "square->" + "x" * 300, "unknown": "sqare->box", "circle": "square->square",
    "number": "0->x", "large number": "9" * 5000 + "->x", "direction": "square->\u202ebox",
}  # fmt: skip
LOGS = ("json,json,JSON", f"{ESC}tensorboard", "tensorbord", "\0", ",", "wandb:me")
"""Words of ``log=``."""


def with_data(change: Change, *words: str) -> Callable[[Path], Sequence[str]]:
    def prepare(place: Path) -> Sequence[str]:
        write_squares(place / "d")
        change(place)
        return words

    return prepare


TRAIN = ("train", "data=d", *BRIEF)
SOURCES: dict[str, tuple[Callable[[Path], Sequence[str]], tuple[int, ...]]] = {
    "val is a pipe": (with_data(pipe("v"), *TRAIN, "val=v"), REFUSED),
    "val is endless": (with_data(endless("v.txt"), *TRAIN, "val=v.txt"), REFUSED),
    "val is a device": (with_data(nothing, *TRAIN, "val=/dev/zero"), REFUSED),
    "val is almost all": (with_data(nothing, *TRAIN, "val=0.9999999"), EITHER),
    "val is not a number": (with_data(nothing, *TRAIN, "val=nan"), REFUSED),
    "val is negative": (with_data(nothing, *TRAIN, "val=-0.2"), REFUSED),
    "val is tiny": (with_data(nothing, *TRAIN, "val=1e-300"), EITHER),
    "val has a secret": (with_data(nothing, *TRAIN, f"val={SECRET}"), REFUSED),
    "val with an escape": (with_data(nothing, *TRAIN, f"val={ESC}"), REFUSED),
    "val list of pipes": (with_data(
        lambda p: (pipe("a.jpg")(p), wrote("v.txt", "./a.jpg\n")(p)), *TRAIN, "val=v.txt"
    ), REFUSED),
    "val list with NUL": (with_data(wrote("v.txt", "a\0b.jpg\n"), *TRAIN, "val=v.txt"), REFUSED),
    "val list of a long line": (
        with_data(wrote("v.txt", "x" * 5_000_000), *TRAIN, "val=v.txt"), REFUSED,
    ),
    "val json is nested": (with_data(wrote("v.json", DEEP), *TRAIN, "val=v.json"), REFUSED),
    "images is a pipe": (with_data(pipe("i"), *TRAIN, "images=i"), REFUSED),
    "images has a secret": (with_data(nothing, *TRAIN, f"images={SECRET}"), REFUSED),
    "images with an escape": (with_data(nothing, *TRAIN, f"images={ESC}"), REFUSED),
}  # fmt: skip

# ---------------------------------------------------------------- the list


def _searches() -> Iterator[Attack]:
    if importlib.util.find_spec("optuna") is None:
        return
    for name, change in FOUND.items():
        words = ("tune", "resume=tune", "trials=3")
        yield Attack("search, resumed", name, on(_search, change, *words), EITHER)
    for name, change in SPACES.items():
        words = ("tune", "data=d", "trials=1", "seeds=0", "space=s.yaml", *SEARCH)
        yield Attack("space", name, with_data(change, *words), EITHER, ("space=", "s.yaml"))
    for text in RANGES:
        words = ("tune", "data=d", "trials=1", "seeds=0", f"ranges={text}", *SEARCH)
        yield Attack("ranges", f"{text[:20]!r}", with_data(nothing, *words))


def attacks() -> Iterator[Attack]:
    """Attacks on what came after training, validation, prediction and export."""
    for name, change in RESULTS.items():
        yield Attack("report", name, on(_run, change, "report", "train"), EITHER, ("train",))
    for name, change in RESUMED.items():
        words = ("train", "resume=train", "epochs=2", "data=d")
        yield Attack("resumed", name, on(_run, change, *words), EITHER, ("train/",))
    yield from _searches()
    for name, (change, codes) in PROJECT.items():
        words = ("val", "data=d", "model=best.safetensors", "single_cls=True", "workers=0")
        yield Attack(
            "det.yaml",
            name,
            with_data(_both(save_checkpoint, change), *words),
            codes,
            ("det.yaml", "model=", "name="),
        )
        yield Attack("det.yaml, train", name, with_data(change, *TRAIN), EITHER)
    for name, text in RULES.items():
        yield Attack("names", name, with_data(nothing, *TRAIN, f"names={text}"), EITHER, ("names",))
    for text in LOGS:
        prepare = with_data(nothing, *TRAIN, f"log={text}")
        yield Attack("log", repr(text), prepare, EITHER, ("log=",))
    for name, (prepare, codes) in SOURCES.items():
        yield Attack("images and val", name, prepare, codes)
    for word in ("yolo26n", f"{ESC}x", SECRET, "yolov9s"):
        for data in ("/dev/zero", f"{ESC}", SECRET):
            words = ("weights", "check", word, f"data={data}", "offline=True")
            name = f"{word[:12]!r} {data[:12]!r}"
            yield Attack("weights check", name, on_nothing(*words))


def on_nothing(*words: str) -> Callable[[Path], Sequence[str]]:
    return lambda place: words


def _both(first: Change, second: Change) -> Change:
    return lambda place: (first(place), second(place))
