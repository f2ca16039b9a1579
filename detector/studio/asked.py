"""One request to the studio and its answer, apart from sockets."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...files.errors import InputError
from ...files.json_text import parse_json
from ..run.files import plain


class BadRequest(InputError):
    """A request that cannot be understood; status: the HTTP status of the answer."""

    status = 400


class NotThere(BadRequest):
    """What is asked for does not exist here."""

    status = 404


class Outside(BadRequest):
    """A name that points outside the opened folder."""

    status = 403


@dataclass(frozen=True)
class Asked:
    """query: the words of the address.  body: what was sent with it."""

    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    body: bytes = b""

    def text(self, name: str, default: str | None = None) -> str:
        """A word of the address.  Raises BadRequest where it is missing and has no default."""
        found = self.query.get(name)
        if found:
            return found[0]
        if default is None:
            raise BadRequest(f"{name}= is missing")
        return default

    def number(self, name: str, default: int | None = None) -> int:
        """A whole number from 0 in the address.  Raises BadRequest."""
        text = self.text(name, None if default is None else str(default))
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise BadRequest(f"{name}={text}: expected a whole number")
        return int(text)

    def sent(self) -> dict[str, Any]:
        """The object in the body.  Raises BadRequest."""
        try:
            content = parse_json(self.body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise BadRequest("expected a JSON object in the body of the request")
        return content


def text_of(sent: Mapping[str, Any], name: str) -> str:
    """A text of what was sent.  Raises BadRequest."""
    text = sent.get(name)
    if not isinstance(text, str):
        raise BadRequest(f"{name}: expected a text")
    return text


def whole_of(sent: Mapping[str, Any], name: str) -> int:
    """A whole number of what was sent.  Raises BadRequest."""
    number = sent.get(name)
    if type(number) is not int or not 0 <= number < 1 << 53:
        raise BadRequest(f"{name}: expected a whole number")
    return number


@dataclass(frozen=True)
class Answer:
    """body and its type; seconds: how long the browser may keep it.  policy: what the page may
    load, "" for the policy of the studio's own pages."""

    body: bytes
    kind: str = "application/json"
    status: int = 200
    seconds: int = 0
    policy: str = ""


def as_json(content: Any, status: int = 200) -> Answer:
    """A JSON answer; numbers that are not finite become null."""
    return Answer(json.dumps(plain(content), allow_nan=False).encode(), status=status)
