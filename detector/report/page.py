"""report.html: a run on one page that opens from disk and needs no network.

Jinja escapes every value, and each text goes through ``one_line`` first, so that names of files
and classes stay text.  The page forbids itself to load anything (Content-Security-Policy).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files.errors import DetError
from ...files.text import one_line
from ..run.files import write_text
from ..run.folder import PAGE
from .contents import NoRun, contents

if TYPE_CHECKING:
    from jinja2 import Environment


def write_report(folder: Path) -> Path:
    """Write report.html into a run folder, atomically.  Returns where it is.

    Raises NoRun where the folder holds no finished run, or its files are not those of one.
    """
    try:
        text = render(contents(folder))
    except DetError:  # some are a ValueError too
        raise
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise NoRun(
            f"{folder}: its files are not those of a run of this version of det "
            f"({type(error).__name__}: {error})"
        ) from error
    write_text(folder / PAGE, text)
    return folder / PAGE


def render(parts: dict[str, Any], template: str = "page.html") -> str:
    """A page of its parts: those that ``contents`` gives, or those of another template."""
    return str(_environment().get_template(template).render(parts))


@functools.cache
def _environment() -> Environment:
    """Jinja, which keeps the templates that it has compiled."""
    from jinja2 import Environment, FileSystemLoader  # other commands start without it

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: one_line(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    return environment


def number(value: float | None) -> str:
    """Three decimals; a dash where there is no number."""
    return "-" if value is None else f"{value:.3f}"
