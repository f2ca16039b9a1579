"""Attacks on files and surroundings, counted: ``python tests/rigs/hostile_attacks.py [WORD]``.

Each attack prepares something hostile and runs a command on it, in this process.  It is held when
the command ends within seconds with an expected exit code, calls nothing a bug, says what is wrong
in one line that names the file, prints no character that a terminal acts on and no secret.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from alarms import alarm

SECONDS = 60.0
KEPT = ("log.txt", "results.csv", "transfer.txt", "report.html")
SECRETS = ("s3cret", "tok-abc", "bob-user")
OK, REFUSED = (0,), (1, 2)
EITHER = (0, 1, 2)


@dataclass(frozen=True)
class Attack:
    """prepare: makes the hostile thing in an empty folder and returns the words of a command.
    codes: of an exit that is right.  names: what an error has to mention, one of them.  left: what
    may lie in the folder afterwards, () where it does not matter.  report: errors may stand in the
    report of the command, and not in a line of their own."""

    group: str
    name: str
    prepare: Callable[[Path], Sequence[str]]
    codes: tuple[int, ...] = REFUSED
    names: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    report: bool = False


@dataclass
class Ended:
    """How a command ended.  code: exit code; out, err: printed; kept: text files it left.
    outside: what it wrote elsewhere."""

    code: int
    out: str
    err: str
    seconds: float
    kept: dict[str, str] = field(default_factory=dict)
    outside: list[str] = field(default_factory=list)


class Typed(io.TextIOWrapper):
    """A stream as the command line gets it, read afterwards."""

    def __init__(self, encoding: str = "utf-8", errors: str = "strict") -> None:
        self.bytes = io.BytesIO()
        super().__init__(self.bytes, encoding=encoding, errors=errors, newline="\n")

    @property
    def text(self) -> str:
        self.flush()
        return self.bytes.getvalue().decode("utf-8", "replace")


def run(words: Sequence[str]) -> Ended:
    """``det words`` in this process."""
    from yolodet.cli import main

    out, err = Typed(), Typed(errors="backslashreplace")
    started = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            with alarm(int(3 * SECONDS)):
                code = main(list(words))
        except BaseException as error:  # noqa: BLE001  an escape is a fall
            code = 99
            print(f"Traceback: {type(error).__name__}: {error}", file=err)
    return Ended(code, out.text, err.text, time.monotonic() - started)


def falls(attack: Attack, ended: Ended) -> list[str]:
    """Why an attack was not held; empty where it was."""
    said = ended.out + ended.err
    everything = said + "".join(ended.kept.values())
    errors = [line for line in ended.err.splitlines() if line.startswith("det: error: ")]
    refused = ended.code in (1, 2)
    lines = (0, 1) if attack.report else (1,)
    reasons = {
        f"exit code {ended.code}": ended.code not in attack.codes,
        "called a bug": "bug in det" in said,
        "traceback": "Traceback" in said,
        f"{len(errors)} error lines": refused
        and len(errors) not in lines
        and "--json" not in attack.name,
        "no file named": bool(refused and attack.names and not _mentions(errors, attack.names)),
        "control characters": any(_acts(c) for c in everything),
        "a secret": any(secret in everything for secret in SECRETS),
        f"wrote {ended.outside}": bool(ended.outside),
        f"{ended.seconds:.0f} s": ended.seconds > SECONDS,
        "a line of more than 4000 characters": any(len(x) > 4000 for x in said.splitlines()),
    }
    return [reason for reason, fell in reasons.items() if fell]


def _mentions(errors: Sequence[str], names: Sequence[str]) -> bool:
    return any(name in line for line in errors for name in names)


def _acts(character: str) -> bool:
    """Whether a terminal acts on it; line breaks are ours."""
    return character != "\n" and (
        ord(character) < 32 or 127 <= ord(character) < 160 or character in "\u202e\u2066\u2028"
    )


def carry_out(attack: Attack, root: Path) -> tuple[Ended, list[str]]:
    """One attack in a folder of its own."""
    place = Path(tempfile.mkdtemp(dir=root))
    before = Path.cwd()
    os.chdir(place)
    try:
        words = attack.prepare(place)
        beside = set(os.listdir(root))
        ended = run(words)
        os.chdir(place)
        if attack.left:
            ended.outside = sorted({*os.listdir(place)} - {*attack.left})
            ended.outside += sorted({*os.listdir(root)} - beside - {"cache"})
        for path in place.rglob("*"):
            if path.name in KEPT and path.is_file():
                ended.kept[str(path)] = path.read_text(errors="replace")
        return ended, falls(attack, ended)
    finally:
        os.chdir(before)
        shutil.rmtree(place, ignore_errors=True)


def main() -> int:
    """Carry out every attack whose group or name holds a word; print a table."""
    import hostile_exports
    import hostile_formats
    import hostile_names
    import hostile_options
    import hostile_places
    import hostile_tools
    import hostile_tracks
    from tiny import use_tiny_detector

    rooms = (
        *(hostile_formats, hostile_options, hostile_exports, hostile_names),
        *(hostile_places, hostile_tools, hostile_tracks),
    )
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [a for room in rooms for a in room.attacks() if word in f"{a.group}: {a.name}"]
    counts: dict[str, list[int]] = {}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as root:
        use_tiny_detector(patch)
        patch.setenv("DET_CACHE", f"{root}/cache")
        for attack in chosen:
            ended, reasons = carry_out(attack, Path(root))
            tried = counts.setdefault(attack.group, [0, 0])
            tried[0] += 1
            tried[1] += not reasons
            if reasons or word:
                last = (ended.err.strip().splitlines() or [""])[-1]
                state = "FELL" if reasons else "held"
                print(f"{state} {attack.group}: {attack.name}: {', '.join(reasons)}\n    {last!r}")
    for group, (tried_, held) in counts.items():
        print(f"{group:<28}{tried_:>4} tried {held:>4} held")
    total, held = (sum(row[i] for row in counts.values()) for i in (0, 1))
    print(f"{'all':<28}{total:>4} tried {held:>4} held")
    return int(held < total)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main())
