"""Foreign text made safe to show: names of files and classes, licenses, reason phrases, addresses.

Whatever det has not written itself may hold line breaks, commands to the terminal or a password.
Every error of det, every line of a log and every result on stdout goes through ``one_line``.
"""

from __future__ import annotations

import os
import re
import unicodedata

_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://|(?:https?|ftps?|rtsps?|rtmps?|s3|gs)://?)(?P<host>[^\s/?#'\"]*)(?P<path>[^\s?#'\"]*)"
    r"(?P<rest>[?#](?:[^\s'\"]*[^\s'\":;,])?)?"
)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:]*)(:\d*)?")
_JOINERS = "\u200c\u200d"
"""Characters without ink that Indic and Arabic words, and emoji, are written with."""
LONGEST = 3000
"""Characters of a message."""
NAME_BYTES = 255
"""Longest name of a file on the usual file systems."""
ADDED_BYTES = 48
"""Room for what is added to a name: numbers, a suffix, and the ending of an unfinished file."""


def one_line(text: str) -> str:
    """``text`` as one line that is safe to print.

    Line breaks become a space.  Other characters that a terminal would act on or that have no
    encoding are shown as Python writes them (``\\x1b``), and addresses are shown without user,
    password and query.
    """
    text = re.sub(r"[ \t]*[\n\r\v\f\x85\u2028\u2029]\s*", " ", text)
    if ":/" in text:
        text = _ADDRESS.sub(_without_secrets, text)
    return text if text.isprintable() else "".join(map(_shown, text))


def excerpt(text: str) -> str:
    """The beginning and the end of a text that is too long for a message."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST * 2 // 3]} ... ({len(text):,} characters) ... {text[-LONGEST // 3 :]}"


def without_secrets(address: str) -> str:
    """An address for messages: without user, password, query and fragment."""
    return _ADDRESS.sub(_without_secrets, re.split(r"[?#]", address, maxsplit=1)[0])


def fitting_name(name: str) -> str:
    """``name``, cut where it would be too long for a file with something added to it."""
    whole = os.fsencode(name)
    short = whole[: NAME_BYTES - ADDED_BYTES]
    return name if short == whole else short.decode(errors="ignore")


def _without_secrets(found: re.Match[str]) -> str:
    host = found["host"].rpartition("@")[2]
    if not _HOST.fullmatch(host):  # a slash in a password: what looks like a port is a part of it
        return f"{found['scheme']}..."
    return f"{found['scheme']}{host}{found['path']}"


def _shown(character: str) -> str:
    """A character, or its escape where it is not to be printed."""
    kind = unicodedata.category(character)
    if character.isprintable() or kind == "Zs" or character in _JOINERS:
        return character
    return character.encode("unicode_escape").decode("ascii")
