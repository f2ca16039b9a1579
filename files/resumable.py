"""A file from the network, in as many attempts as it takes.

What has arrived stays beside the target as ``.NAME.part``, with a note of where it came from; the
next call asks for the rest, and only if the server still has the very same file (If-Range with its
ETag).  The file gets its name when it is whole and its hash is right.  Several processes that want
the same file wait for each other.

Data sets have a downloader of their own (files/download.py): the two rooms share no code.  Left
out: mirrors, parallel pieces, credentials.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .errors import DetError

if sys.platform != "win32":
    import fcntl

Progress = Callable[[int, int], None]

CHUNK_BYTES = 1 << 18
LIMIT_BYTES = 2 << 30
"""No published detector is larger."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class DownloadFailed(DetError):
    """A file could not be fetched; the message says why and what is kept for the next attempt."""


def download(
    url: str,
    target: Path,
    *,
    limit_bytes: int = LIMIT_BYTES,
    sha256: str | None = None,
    timeout: float = 15.0,
    on_progress: Progress | None = None,
) -> str:
    """Fetch ``url`` to ``target`` unless it is there; returns the sha256 of the file.

    limit_bytes: a longer file is refused.  sha256: expected, in hex; a file that differs is
    removed.  timeout: seconds to wait for the connection and for each next piece.  on_progress:
    called with (bytes done, bytes in all or 0).  Raises DownloadFailed; what has arrived is kept.
    """
    _check_url(url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.with_name(f".{target.name}.part")) as part:
            if not target.exists():
                _Transfer(url, part, limit_bytes, timeout, on_progress).run()
                digest = _checked(part, url, sha256)
                part.replace(target)
                _note_of(part).unlink(missing_ok=True)
                return digest
        return sha256_of(target)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadFailed(f"could not download {url}: {_reason(error, timeout)}") from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(part: Path, url: str, sha256: str | None) -> str:
    digest = sha256_of(part)
    if sha256 is not None and digest != sha256.lower():
        part.unlink()
        raise DownloadFailed(f"{url} is not the file it should be: sha256 {digest}, not {sha256}")
    return digest


@contextlib.contextmanager
def _alone(part: Path) -> Iterator[Path]:
    """``part`` exists and is locked inside: others who want it wait."""
    while True:
        with part.open("ab") as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino != part.stat().st_ino:
                    continue  # who held it has renamed it
                try:
                    yield part
                finally:
                    if part.exists() and not part.stat().st_size:
                        part.unlink()
                return


@dataclass
class _Transfer:
    """One attempt: what is still missing of ``url``, appended to ``part``."""

    url: str
    part: Path
    limit_bytes: int
    timeout: float
    on_progress: Progress | None

    def run(self) -> None:
        tag = self._known_tag()
        start = self.part.stat().st_size if tag else 0
        try:
            answer = self._ask(start, tag)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not start:
                raise
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return  # there is no more: it has all arrived
            answer = self._ask(0, None)
        with answer:
            rest = answer.status == 206
            place = str(answer.headers.get("Content-Range"))
            if rest and not place.startswith(f"bytes {start}-"):
                raise DownloadFailed(f"could not download {self.url}: the server sent {place!r}")
            self._receive(answer, start if rest else 0)

    def _known_tag(self) -> str | None:
        """The ETag under which ``part`` was begun, where it was of this address."""
        try:
            note = json.loads(_note_of(self.part).read_text())
            return str(note["etag"]) if note["url"] == self.url and note["etag"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _ask(self, start: int, tag: str | None) -> Any:
        headers = {"User-Agent": "det"}
        if tag and start:
            headers |= {"Range": f"bytes={start}-", "If-Range": tag}
        request = urllib.request.Request(self.url, headers=headers)
        opener = urllib.request.build_opener(_CheckedRedirects)
        return opener.open(request, timeout=self.timeout)

    def _receive(self, answer: Any, start: int) -> None:
        """Append the answer from byte ``start`` on."""
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else 0
        if total > self.limit_bytes:
            raise DownloadFailed(
                f"could not download {self.url}: {total:,} bytes are over the limit of "
                f"{self.limit_bytes:,}"
            )
        if start == 0:
            tag = answer.headers.get("ETag") or ""
            strong = "" if tag.startswith("W/") else tag  # a weak tag does not name the bytes
            _note_of(self.part).write_text(json.dumps({"url": self.url, "etag": strong}))
        with self.part.open("r+b") as sink:
            sink.truncate(start)
            sink.seek(start)
            done = self._copy(answer, sink, start, total)
        if done != (total or done):
            raise DownloadFailed(
                f"could not download {self.url}: the connection ended after {done:,} of {total:,} "
                "bytes; they are kept, run the command again to go on"
            )

    def _copy(self, answer: Any, sink: IO[bytes], done: int, total: int) -> int:
        while chunk := answer.read1(CHUNK_BYTES):
            done += len(chunk)
            if done > self.limit_bytes:
                raise DownloadFailed(
                    f"could not download {self.url}: it is over the limit of {self.limit_bytes:,}"
                    " bytes"
                )
            sink.write(chunk)
            if self.on_progress is not None:
                self.on_progress(done, total)
        return done


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _check_url(url: str) -> None:
    """Raise DownloadFailed unless ``url`` is https, or http to this very machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise DownloadFailed(f"{url!r} is not an address: {error}") from None
    if not host or (parts.scheme != "https" and (parts.scheme != "http" or host not in LOOPBACK)):
        raise DownloadFailed(f"{url!r} is refused: expected an address that begins with https://")


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to an address as safe as the one it came from."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        _check_url(newurl)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise DownloadFailed(f"{req.full_url!r} is refused: it redirects to {newurl!r}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _reason(error: Exception, timeout: float) -> str:
    """What went wrong, in one line without control characters of a server."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        text = f"the server answered {error.code} {error.reason}"
    elif isinstance(cause, TimeoutError):
        text = f"no answer within {timeout:g} s; what has arrived is kept, run the command again"
    elif isinstance(cause, OSError) and cause.strerror:
        text = f"{cause.strerror}{f' ({cause.filename})' if cause.filename else ''}"
    else:
        text = str(cause)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "no answer"
