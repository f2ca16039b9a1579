"""A table of cases is one test: one test per rule, and a failure names the row it fails on."""

from __future__ import annotations

import functools
import inspect
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest


def each(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[..., Any]:
    """Run the decorated test with every row of a table, as one test.

    Written like ``pytest.mark.parametrize``.  Every row gets empty folders as ``tmp_path``,
    ``place`` and cache, its own ``monkeypatch`` and, with ``capsys``, nothing that was printed
    before.  Other fixtures are those of the test: all rows share them.
    """
    table = list(rows)
    keys = (names,) if isinstance(names, str) else names

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(test)

        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            for number, row in enumerate(table):
                values = (row,) if isinstance(names, str) else row
                try:
                    with pytest.MonkeyPatch.context() as monkeypatch:
                        own = _own(fixtures, number, monkeypatch)
                        test(**own, **dict(zip(keys, values, strict=True)))
                except BaseException as error:
                    error.add_note(f"row {number} of {keys}: {row!r:.500}")
                    raise

        kept = [p for name, p in signature.parameters.items() if name not in keys]
        run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        del run.__wrapped__
        return run

    assert table, "a table without rows proves nothing"
    return decorate


def _own(fixtures: dict[str, Any], number: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The fixtures, with those of one row in the place of what a row would leave to the next."""
    own = dict(fixtures)
    before = Path(os.environ["DET_CACHE"])
    before.mkdir(parents=True, exist_ok=True)
    cache = Path(tempfile.mkdtemp(prefix="row", dir=before))
    monkeypatch.setenv("DET_CACHE", str(cache))
    for name, value in fixtures.items():
        if name in ("tmp_path", "place"):
            own[name] = value / str(number)
            own[name].mkdir()
        elif isinstance(value, Path) and value == before:
            own[name] = cache
    if "place" in own:
        monkeypatch.setenv("DET_CACHE", str(own["place"] / "cache"))
        (own["place"] / "here").mkdir()
        monkeypatch.chdir(own["place"] / "here")
    if "monkeypatch" in own:
        own["monkeypatch"] = monkeypatch
    if "capsys" in own:
        own["capsys"].readouterr()
    return own
