"""Programs that are measured from outside: their last line of JSON, and the memory they hold."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

DET = [sys.executable, "-m", "yolodet.cli"]
EVERY = 0.25  # seconds between two looks at the memory
MASK = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
"""Makes torch on a new processor compute as on one with AVX2 only."""
OURS = {"GOMP_SPINCOUNT", "KMP_BLOCKTIME"} - os.environ.keys()
"""Variables that importing det sets; they are removed, so that each program sets its own."""


def run(words: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run a program to its end; the JSON of its last line, and ``rss``: the most memory in bytes
    that it and its children held at a time.

    What processes share counts once for each of them; to tell it apart the system has to go
    through all pages, and two programs of a core each would wait for that.  0 where the system has
    no /proc.  Raises SystemExit with the end of what it said where the program fails.
    """
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as told:
        child = subprocess.Popen(
            [str(word) for word in words], stdout=said, stderr=told,
            env={k: v for k, v in os.environ.items() if k not in OURS} | dict(environment or {}),
        )  # fmt: skip
        most = 0
        while child.poll() is None:
            most = max(most, memory(child.pid))
            time.sleep(EVERY)
        texts = []
        for file in (said, told):
            file.seek(0)
            texts.append(file.read())
    if child.returncode:
        raise SystemExit(f"{' '.join(map(str, words))} failed:\n{texts[1][-2000:]}")
    return {**json.loads(texts[0].strip().splitlines()[-1]), "rss": most}


def det(
    *words: str, environment: Mapping[str, str] | None = None, **options: object
) -> dict[str, Any]:
    """The result of a command of det in a process of its own.  options: ``epochs=3``."""
    typed = [*words, *(f"{name}={value}" for name, value in options.items())]
    return dict(run([*DET, *typed, "--json"], environment)["result"])


def trained(folder: Path, *words: str, **options: object) -> dict[str, Any]:
    """results.json of ``det train`` in ``folder``.  A run that has finished is not repeated, one
    that was stopped begins anew."""
    from yolodet.detector.run.folder import is_finished  # importing det sets OURS

    if not is_finished(folder):
        place = {"project": folder.parent, "name": folder.name, "exist_ok": True}
        det("train", *words, "plots=False", "report=False", **place, **options)
    return dict(json.loads((folder / "results.json").read_text(encoding="utf-8")))


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The content of a JSON file, which is made where it is missing."""
    if not path.exists():
        path.write_text(json.dumps(make(), indent=1) + "\n", encoding="utf-8")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def memory(pid: int) -> int:
    """Resident bytes of a process and all below it, now."""
    pages = [_read(Path(f"/proc/{process}/statm")).split() for process in tree(pid)]
    return sum(int(numbers[1]) for numbers in pages if numbers) * resource.getpagesize()


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for process in found:
        with contextlib.suppress(FileNotFoundError):  # it has ended in the meantime
            for task in Path(f"/proc/{process}/task").glob("*/children"):
                found += [int(child) for child in _read(task).split()]
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended in the meantime
        return ""
