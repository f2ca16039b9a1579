"""Who may ask the studio: a browser or script that holds the token, from the studio's own pages.

Other users of this machine, other pages that the browser has open and names that point to
127.0.0.1 (DNS rebinding) are refused before anything is read.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, field
from email.message import Message
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

HERE = "127.0.0.1"
NAMES = (HERE, "localhost")
"""Names in the address bar: an SSH tunnel may have another port, never another name."""


@dataclass(frozen=True)
class Door:
    """The token of one studio.  port: it makes the cookie's name, because cookies of 127.0.0.1
    are shared by all ports."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def cookie(self) -> str:
        """Name of the cookie."""
        return f"det-studio-{self.port}"

    @property
    def address(self) -> str:
        """What the user opens."""
        return f"http://{HERE}:{self.port}/?token={self.token}"

    def brings_token(self, target: str) -> bool:
        """Whether a request opens the first page with the token in its address."""
        parts = urlsplit(target)
        return parts.path == "/" and self._fits(parse_qs(parts.query).get("token", [""])[0])

    def refusal(self, method: str, target: str, headers: Message) -> str | None:
        """Why a request is refused; None where it is answered."""
        host = headers.get("Host", "")
        name, _, port = host.partition(":")
        if name not in NAMES or not (port or "80").isdecimal():
            return f"this studio answers to {HERE} and localhost only"
        origin = headers.get("Origin")
        if origin is not None and origin != f"http://{host}":
            return "requests from other pages are refused"
        opens = method == "GET" and self.brings_token(target)
        site = headers.get("Sec-Fetch-Site", "none")
        if site not in ("same-origin", "none") and not opens:
            return "requests from other pages are refused"
        if opens or self._fits(headers.get("Authorization", "").removeprefix("Bearer ")):
            return None
        if not self._fits(self._in_cookie(headers.get("Cookie", ""))):
            return "the token is missing: open the address that det studio has printed"
        if method != "GET" and origin is None:
            return "a request that changes something must name its origin"
        return None

    def _in_cookie(self, text: str) -> str:
        try:
            found = SimpleCookie(text).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _fits(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())
