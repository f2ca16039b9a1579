"""What decoders say about damage, and only say: libjpeg and libtiff print it and go on.

OpenCV returns an image whose rest is gray or noise, and its caller learns nothing.  So the error
output of the process is listened to while one image is decoded; what others write meanwhile is
passed on.  One image at a time in a process, because the output is one for all threads.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator

_LOCK = threading.Lock()
_JPEG = re.compile(r"Corrupt JPEG data: (.*)|(Premature end of JPEG file|Invalid JPEG .*)")
_TIFF = re.compile(r".*(?:TIFF_Error|TIFF_Warning) (.*)")
_EXTRA = re.compile(r"(\d+) extraneous bytes before marker")
HARMLESS = 32
"""Bytes too many that some cameras write before a marker; the image is whole."""


class Heard:
    """damage: what the decoder said, empty where the image is whole."""

    damage = ""


@contextlib.contextmanager
def listen() -> Iterator[Heard]:
    """Listen to the error output (file descriptor 2) of the process inside the context."""
    heard = Heard()
    with _LOCK, tempfile.TemporaryFile() as file:
        try:
            before = os.dup(2)
        except OSError:  # the process has no error output
            yield heard
            return
        os.dup2(file.fileno(), 2)
        try:
            yield heard
        finally:
            os.dup2(before, 2)
            os.close(before)
            file.seek(0)
            text = file.read().decode(errors="replace")
            heard.damage = _damage(text)


def _damage(text: str) -> str:
    """The first line about damage; lines of others are written where they belong."""
    found = ""
    for line in text.splitlines(keepends=True):
        jpeg, tiff = _JPEG.match(line), _TIFF.match(line)
        if jpeg is None and tiff is None:
            with contextlib.suppress(OSError):
                os.write(2, line.encode())
            continue
        said = next(part for part in (jpeg or tiff).groups() if part)  # type: ignore[union-attr]
        extra = _EXTRA.match(said)
        is_warning = tiff is not None and "TIFF_Warning" in line
        if not found and not is_warning and not (extra and int(extra.group(1)) <= HARMLESS):
            found = said.strip()
    return found
