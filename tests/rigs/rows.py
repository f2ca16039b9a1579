"""A table of cases is one test: one test per rule, and a failure names the row it fails on."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def each(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[..., Any]:
    """Run the decorated test with every row of a table, as one test.

    Written like ``pytest.mark.parametrize``.  Every row gets an empty folder as ``tmp_path`` or
    ``place``, its own ``monkeypatch`` and, with ``capsys``, nothing that was printed before.
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
    for name in {"tmp_path", "place"} & own.keys():
        own[name] = own[name] / str(number)
        own[name].mkdir()
    if "monkeypatch" in own:
        own["monkeypatch"] = monkeypatch
    if "capsys" in own:
        own["capsys"].readouterr()
    return own
