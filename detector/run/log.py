"""Messages of a run: the only place besides the command line that prints.

Messages go to stderr; stdout is for results.  A terminal gets colors and a live progress bar, a
file or pipe gets plain lines and no bar.  Once ``to_file`` has named the run's log.txt, all
messages are written there as plain text, also earlier ones and those that ``verbose=False`` keeps
from the terminal.
"""

from __future__ import annotations

import contextlib
import io
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...files.version import __version__

if TYPE_CHECKING:  # rich takes longer to import than a refused command needs altogether
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

PLAIN_WIDTH = 120
"""Columns of a table in a file or pipe."""


class Update(Protocol):
    """Reports progress; fits every ``on_progress`` callback.  note: live text after the bar."""

    def __call__(self, done: int, total: int = 0, note: str = "") -> None: ...


class Log:
    """Writes messages to stderr and to a file.

    verbose: False leaves only warnings on stderr.  bare: nothing but the result is wanted on the
    terminal.  ``mute``: no messages from now on, for all ranks of a run but rank 0.
    """

    def __init__(
        self, verbose: bool = True, file: Path | None = None, *, bare: bool = False
    ) -> None:
        self.verbose = verbose
        self.bare = bare
        self.mute = False
        self.warnings: list[str] = []
        """Every warning so far, for the machine-readable result."""
        self._lock = threading.RLock()
        self._file: Path | None = None
        self._said: list[str] = []
        self._progress: Progress | None = None
        self._widths: list[int] = []
        self._separator = "  "
        if file is not None:
            self.to_file(file)

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        console = Console(stderr=True, highlight=False)
        if not console.is_terminal:
            console.width = PLAIN_WIDTH
        return console

    def loading_torch(self) -> None:
        """Say why nothing happens for some seconds, before torch is imported."""
        if self.verbose and not self.bare and not self.mute and "torch" not in sys.modules:
            sys.stderr.write(f"det {__version__}, loading PyTorch ...\n")
            sys.stderr.flush()

    def info(self, text: str) -> None:
        """A message."""
        from rich.text import Text

        self._say(Text(text), text)

    def warn(self, text: str) -> None:
        """A warning: also shown with verbose=False, and kept for the result."""
        from rich.text import Text

        self.warnings.append(text)
        line = Text.assemble((" WARNING ", "bold black on yellow"), " ", (text, "yellow"))
        self._say(
            line if self._console.color_system else Text(f"WARNING: {text}"),
            f"WARNING: {text}",
            always=True,
        )

    def message(self, text: str) -> None:
        """A message of code that has no log: a warning if it begins with ``WARNING: ``."""
        if text.startswith("WARNING: "):
            self.warn(text.removeprefix("WARNING: "))
        else:
            self.info(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table with a title; the first column is text, the others are numbers."""
        table = make_table(title, columns, rows)
        self._say(table, render_plain(table))

    def epoch_header(self, columns: Sequence[str]) -> None:
        """Name the columns of the lines that ``epoch_row`` prints."""
        from rich.text import Text

        self._widths = [max(len(name), 6) for name in columns]
        wide = sum(self._widths) + 2 * (len(columns) - 1)
        self._separator = "  " if wide <= self._console.width else " "
        line = self._row(columns)
        self._say(Text(line, style="bold"), line)

    def epoch_row(self, values: Sequence[Any], note: str = "") -> None:
        """One epoch in one line, under the names of ``epoch_header``; floats to four digits."""
        from rich.text import Text

        texts = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        line = self._row(texts) + (f"  {note}" if note else "")
        self._say(Text(line), line)

    def _row(self, texts: Sequence[str]) -> str:
        widths = self._widths or [6] * len(texts)
        return self._separator.join(text.rjust(n) for text, n in zip(texts, widths, strict=True))

    @contextlib.contextmanager
    def progress(self, description: str, total: int, *, report: bool = False) -> Iterator[Update]:
        """A progress bar while the context lasts, moved by the yielded callable.

        total: 0 where not known yet; the callable may give it later.  report: at the end, print a
        line with the count and the time; a file or pipe gets only this line.
        """
        started = time.perf_counter()
        with self._bar(description, total) as update:
            counted = _Counted(update)
            yield counted
        if report:
            self.info(f"{description}: {counted.done} in {time.perf_counter() - started:.1f} s")

    @contextlib.contextmanager
    def _bar(self, description: str, total: int) -> Iterator[Update]:
        if self.mute or not (self.verbose and self._console.is_interactive):
            yield _nothing
            return
        with self._lock:
            owner = self._progress is None
            bars = self._progress = self._progress or _bars(self._console)
            if owner:
                bars.start()
            task = bars.add_task(description, total=total or None, note="")
        try:
            yield lambda done, total=0, note="": bars.update(
                task, completed=done, note=note, **({"total": total} if total else {})
            )
        finally:
            with self._lock:
                bars.remove_task(task)
                if owner:
                    bars.stop()
                    self._progress = None

    def to_file(self, path: Path) -> None:
        """Also write all messages to ``path`` from now on, beginning with the earlier ones."""
        with self._lock:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path
            self._append("".join(self._said))
            self._said.clear()

    def _append(self, text: str) -> None:
        assert self._file is not None
        with self._file.open("a", encoding="utf-8") as file:
            file.write(text)

    def _say(self, shown: Text | Table, plain: str, *, always: bool = False) -> None:
        if self.mute:
            return
        with self._lock:
            if self._file is None:
                self._said.append(plain + "\n")
            else:
                self._append(plain + "\n")
            if self.verbose or always:
                # soft_wrap: a long line stays one line, so that it can be searched and copied
                self._console.print(shown, soft_wrap=not hasattr(shown, "columns"))


class _Counted:
    """Moves a bar and remembers its position."""

    def __init__(self, update: Update) -> None:
        self.update = update
        self.done = 0

    def __call__(self, done: int, total: int = 0, note: str = "") -> None:
        self.done = done
        self.update(done, total, note)


def _nothing(done: int, total: int = 0, note: str = "") -> None:
    """No bar to move."""


def _bars(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", style="dim"),
        console=console,
        transient=True,
        redirect_stdout=False,  # stdout is for results: it must not come out on stderr
    )


def make_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A table of texts and numbers: the first column to the left, the others to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title), title_justify="left", title_style="bold", header_style="bold",
        box=box.SIMPLE, pad_edge=False,
    )
    for index, name in enumerate(columns):
        table.add_column(Text(name), justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    return table


def render_plain(table: Table) -> str:
    """A table as lines without colors."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=PLAIN_WIDTH, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
