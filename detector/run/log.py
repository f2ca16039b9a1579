"""Messages of a run: the only place besides the command line that prints.

Messages go to stderr; stdout is for results.  A terminal gets colors and a live progress bar, a
file or pipe gets plain lines and no bar.  Once ``to_file`` has named the run's log.txt, all
messages are written there as plain text, also earlier ones and those that ``verbose=False`` keeps
from the terminal.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...files.atomic import append_whole
from ...files.text import one_line
from ...files.version import __version__

if TYPE_CHECKING:  # rich takes longer to import than a refused command needs altogether
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

BEST_MARK = " best"
"""Ends the line of an epoch that is the best so far."""
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

    def __init__(self, verbose: bool = True, *, bare: bool = False) -> None:
        self.began = time.monotonic()
        """When the command began: a log is made before torch is loaded."""
        self.verbose = verbose
        self.bare = bare
        self.mute = False
        self.warnings: list[str] = []
        """Every warning so far, for the machine-readable result."""
        self._lock = threading.RLock()
        self._stdout = sys.stdout  # a command prints its result there, a library may not
        self._file: Path | None = None
        self._earlier: list[str] = []
        self._progress: Progress | None = None
        self._widths: list[int] = []
        self._separator = "  "

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console

        class Lasting(Console):
            def on_broken_pipe(_console) -> None:  # rich would close stdout and end the process
                self._leave_terminal()

        console = Lasting(stderr=True, highlight=False)
        if not console.is_terminal:
            console.width = PLAIN_WIDTH
        return console

    def loading_torch(self) -> None:
        """Say why nothing happens for some seconds, before torch is imported."""
        if self.verbose and not self.bare and not self.mute and "torch" not in sys.modules:
            sys.stderr.write(f"det {__version__}, loading PyTorch ...\n")
            sys.stderr.flush()

    def info(self, text: str) -> None:
        """A message of one line."""
        self._write(one_line(text))

    def always(self, text: str) -> None:
        """A message that verbose=False does not keep from the terminal: it is the result.  text:
        one line that is clean; an address in it keeps its token."""
        self._write(text, always=True)

    def detail(self, text: str) -> None:
        """A message for log.txt only: what few ask for, such as caches and constants."""
        if not self.mute:
            with self._lock:
                self._append(text + "\n")

    def warn(self, text: str) -> None:
        """A warning: also shown with verbose=False, and kept for the result."""
        text = one_line(text)
        self.warnings.append(text)
        self._write(f"WARNING: {text}", style="yellow", always=True)

    def once(self, texts: Sequence[str]) -> None:
        """Warnings, those that have been given before left out."""
        for text in texts:
            if text not in self.warnings:
                self.warn(text)

    @contextlib.contextmanager
    def repeating(self) -> Iterator[None]:
        """Print nothing while the context lasts: its work is done again, and all has been said."""
        muted, known = self.mute, len(self.warnings)
        self.mute = True
        try:
            yield
        finally:
            self.mute = muted
            del self.warnings[known:]

    def message(self, text: str) -> None:
        """A message of code that has no log: a warning if it begins with ``WARNING: ``."""
        if text.startswith("WARNING: "):
            self.warn(text.removeprefix("WARNING: "))
        else:
            self.info(text)

    def event(self, facts: Mapping[str, Any]) -> None:
        """One line of JSON on stdout, for programs (``log=json``)."""
        from .files import plain

        self._stdout.write(json.dumps(plain(facts), allow_nan=False) + "\n")
        self._stdout.flush()

    def table(
        self,
        title: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[Any]],
        shown: Sequence[str] | None = None,
    ) -> None:
        """A table with a title; the first column is text, the others are numbers.

        shown: the columns that a terminal has room for; the file has them all.
        """
        places = [columns.index(name) for name in shown or columns]
        brief = [[row[place] for place in places] for row in rows]
        table = make_table(title, [columns[place] for place in places], brief)
        self._write(render_plain(make_table(title, columns, rows)), table)

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self._console.width

    def epoch_header(self, columns: Sequence[str]) -> None:
        """Name the columns of the lines that ``epoch_row`` prints."""
        self._widths = [max(len(name), 6) for name in columns]
        wide = sum(self._widths) + 2 * (len(columns) - 1)
        self._separator = "  " if wide + len(BEST_MARK) <= self._console.width else " "
        self.epoch_row(columns, style="bold")

    def epoch_row(self, values: Sequence[str], style: str = "", *, best: bool = False) -> None:
        """One epoch in one line, under the names of ``epoch_header``.  best: mark the line."""
        widths = self._widths or [6] * len(values)
        cells = [value.rjust(width) for value, width in zip(values, widths, strict=True)]
        line = one_line(self._separator.join(cells))
        self._write(line + BEST_MARK, style="green") if best else self._write(line, style=style)

    @contextlib.contextmanager
    def progress(self, description: str, total: int, *, report: bool = False) -> Iterator[Update]:
        """A progress bar while the context lasts, moved by the yielded callable.

        total: 0 where not known yet; the callable may give it later.  report: at the end, print a
        line with the count and the time; a file or pipe gets only this line.
        """
        started, count = time.perf_counter(), 0
        with self._bar(description, total) as update:

            def counted(done: int, total: int = 0, note: str = "") -> None:
                nonlocal count
                count = done
                update(done, total, note)

            yield counted
        if report:
            self.info(f"{description}: {count} in {time.perf_counter() - started:.1f} s")

    @contextlib.contextmanager
    def _bar(self, description: str, total: int) -> Iterator[Update]:
        if self.mute or not (self.verbose and self._console.is_interactive):
            yield lambda done, total=0, note="": None
            return
        with self._lock:
            owner = self._progress is None
            bars = self._progress = self._progress or _bars(self._console)
            if owner:
                bars.start()
            task = bars.add_task(one_line(description), total=total or None, note="")
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
            self._append("".join(self._earlier))
            self._earlier.clear()

    def _leave_terminal(self) -> None:
        """Let everything on stderr go nowhere from now on; the file goes on."""
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())

    def _append(self, text: str) -> None:
        if self._file is None:
            self._earlier.append(text)
            return
        append_whole(self._file, text.encode("utf-8", "backslashreplace"))

    def _write(
        self, text: str, table: Table | None = None, *, style: str = "", always: bool = False
    ) -> None:
        """A text, which a terminal shows in a style, or a table with its text for the file."""
        if self.mute:
            return
        from rich.text import Text

        with self._lock:
            self._append(text + "\n")
            if self.verbose or always:
                # soft_wrap: a long line stays one line, so that it can be searched and copied
                shown = table or Text(text, style=style)
                try:
                    self._console.print(shown, soft_wrap=table is None)
                except OSError:  # a terminal that is gone is no reason to lose a run
                    self._leave_terminal()


def _bars(console: Console) -> Progress:
    """Progress bars without colors: a color on a terminal is to mean something."""
    from rich.progress import BarColumn, Progress, Task, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Count(TextColumn):
        """``4/10``; nothing where the total is not known."""

        def render(self, task: Task) -> Text:
            known = task.total is not None
            return Text(f"{task.completed:.0f}/{task.total:.0f}" if known else "")

    class Left(TimeRemainingColumn):
        """The time that the bar still takes, where its total is known."""

        def render(self, task: Task) -> Text:
            shown = super().render(task)
            return Text("" if task.total is None else shown.plain)

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(24, style="dim", complete_style="default", finished_style="default",
                  pulse_style="dim"),
        Count("", table_column=Column(no_wrap=True)),
        Left(elapsed_when_finished=True),
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
        title=Text(one_line(title)), title_justify="left", title_style="bold", header_style="bold",
        box=box.SIMPLE, pad_edge=False,
    )
    for index, name in enumerate(columns):
        head = Text(one_line(name))
        table.add_column(head, justify="left" if index == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(str(value))) for value in row))
    return table


def render_plain(table: Table) -> str:
    """A table as lines without colors."""
    from rich.console import Console

    text = io.StringIO()
    Console(file=text, width=PLAIN_WIDTH, color_system=None, force_terminal=False).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
