"""Attacks of ``hostile_writes.py`` on what is read: YAML, checkpoints, and the notes of a run."""

from __future__ import annotations

import contextlib
import json
import pickle
import resource
import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from tiny import train, val
from yolodet import cli
from yolodet.detector.checkpoints.restore import restore
from yolodet.detector.run.data_place import DATA
from yolodet.detector.run.folder import BEST
from yolodet.detector.run.owner import NOTE
from yolodet.files.errors import DetError
from yolodet.files.yaml_text import YamlError, read_yaml
from yolodet.weights.checkpoint import load_state, load_weights, save_weights


class Fell(Exception):
    """The attack was not held."""


def expect(holds: Any, why: str) -> None:
    if not holds:
        raise Fell(why)


# ---------------------------------------------------------------- YAML


def _bomb(levels: int, width: int, form: str) -> str:
    lines = ["l0: &l0 {a: 1}" if "<<" in form else "l0: &l0 [a]"]
    for level in range(1, levels):
        lines.append(f"l{level}: &l{level} " + form % ", ".join([f"*l{level - 1}"] * width))
    return "\n".join(lines)


TEXTS: dict[str, str] = {
    **{f"bomb {form} x {width}": _bomb(40, width, form)
       for form in ("[%s]", "{<<: [%s]}", "{k: [%s]}") for width in (2, 9, 50)},
    **{f"{depth} of {sign!r}": sign * depth for sign in "[{?-" for depth in (60, 10_000)},
    **{f"number {text[:12]}": f"a: {text}" for text in
       ("9" * 5000, "0x" + "f" * 5000, "0b" + "1" * 5000, "1" + "_" * 5000, "1e" + "9" * 5000,
        "!!int 1:" + ":".join(["59"] * 900), "!!float 1:2:3", "!!int", "!!float", "!!int +")},
    **{f"tag {tag}": f"a: {tag} b" for tag in
       ("!!python/object/apply:os.system", "!!binary", "!!set", "!!omap", "!!pairs", "!!timestamp",
        "!!bool", "!!seq", "!!map", "!local", "!<x>")},
    "itself": "&a [*a]", "merged itself": "a: &a\n  <<: *a", "unknown alias": "a: *b",
    "list as key": "? [a]\n: b", "twice": "a: 1\na: 2", "two documents": "a\n---\nb",
    "nul": "\0", "values": "[" + "a," * 300_000 + "]", "keys": "a:\n" * 100_000,
}  # fmt: skip


def hostile_yaml(text: str, folder: Path) -> None:
    path = folder / "a.yaml"
    path.write_text(text)
    with contextlib.suppress(YamlError):
        value = read_yaml(path)
        expect(len(json.dumps(value, default=str)) < 1 << 26, "it has expanded")
    for words in (["train", f"cfg={path}"], ["data", "check", str(path)]):
        expect(cli.main(words) in (1, 2), "it was taken")


# ---------------------------------------------------------------- damaged files


def flipped(run: Path, name: Path, position: float, bit: int, folder: Path) -> None:
    """One bit of a checkpoint is another one."""
    path = folder / name.name
    data = bytearray((run / name).read_bytes())
    place = min(int(position * len(data)), len(data) - 1)
    data[place] ^= 1 << bit
    path.write_bytes(data)
    before = load_weights(run / BEST)[0] if name == BEST else load_state(run / name)["model"]
    try:
        now = load_weights(path)[0] if name == BEST else load_state(path)["model"]
    except DetError as error:
        expect(str(path) in str(error), f"no file named: {error}")
        return
    same = all(torch.equal(before[key], now[key]) for key in before)
    expect(same, f"bit {bit} of byte {place} went unnoticed")


def cut(run: Path, name: Path, share: float, folder: Path) -> None:
    path = folder / name.name
    data = (run / name).read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with contextlib.suppress(DetError):
        load_weights(path) if name == BEST else load_state(path)
        raise Fell("a part was taken for the whole")


def not_finite(run: Path, value: float, folder: Path) -> None:
    tensors, meta = load_weights(run / BEST)
    for tensor in tensors.values():
        if tensor.is_floating_point():
            tensor.view(-1)[-1] = value
            break
    path = folder / "a.safetensors"
    save_weights(path, tensors, meta)
    with contextlib.suppress(DetError):
        restore(path)
        raise Fell("it predicts")


class Calls:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


def hostile_pickle(value: Any, protocol: int, folder: Path) -> None:
    path = folder / "last.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("last/data.pkl", pickle.dumps({"schema": 2, "x": value}, protocol))
    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, limit[1]))
    try:
        load_state(path)
        raise Fell("it was loaded")
    except DetError as error:
        expect(str(path) in str(error), "no file named")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)


def broken_note(origin: Path, data: Path, text: str, folder: Path) -> None:
    """data.json, .owner.json or args.yaml of a run are damaged: the run goes on or says why."""
    for name in (DATA, NOTE, "args.yaml"):
        run = folder / name / "train"
        shutil.copytree(origin, run)
        (run / name).write_text(text)
        with contextlib.suppress(DetError):
            train(data, folder, resume=run, epochs=2)
        with contextlib.suppress(DetError):
            val(model=str(run / BEST), project=str(folder / "val"))
