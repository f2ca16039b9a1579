"""Files from the network: one downloader for data sets and weights, with limits, that resumes.

Received bytes are kept beside the target in ``.NAME.part``, with a note of the address and ETag.
The next call requests only the rest, if the server still has the same file (If-Range).  The file
gets its name when it is complete and its hash is correct.  Processes that want
the same file wait for each other.  Every wait has a timeout, and the size limit is enforced during
the transfer.

Addresses, also those of redirects, must be https, or http to this machine.
Not supported: mirrors, parallel transfers, credentials.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .deadline import Deadline
from .errors import DetError
from .json_text import read_json
from .regular import open_to_append

if sys.platform != "win32":
    import fcntl

Progress = Callable[[int, int], None]

CHUNK_BYTES = 1 << 18
LIMIT_BYTES = 2 << 30
"""Larger than every published detector."""
HEADER_SECONDS = 60.0
"""For a connection, its redirects and the headers of the answer."""
SLOW_SECONDS, SLOW_BYTES = 60.0, 60 << 10
"""A server that sends less than SLOW_BYTES in SLOW_SECONDS is given up."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class DownloadError(DetError):
    """A file could not be fetched or an archive could not be unpacked; the message says why."""


def download_file(
    url: str,
    target: Path,
    *,
    limit_bytes: int = LIMIT_BYTES,
    sha256: str | None = None,
    timeout: float = 15.0,
    on_progress: Progress | None = None,
) -> None:
    """Fetch ``url`` to the file ``target``, unless it exists.

    limit_bytes: a longer file is refused.  sha256: the expected hash in hex; a file with another
    one is removed.  timeout: seconds to wait for the connection and for each next piece.
    on_progress: called with (bytes done, bytes in total or 0 if unknown).
    Raises DownloadError; received bytes are kept for the next call.
    """
    check_url(url)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.with_name(f".{target.name}.part")) as part:
            if target.exists():
                return
            _Transfer(url, part, limit_bytes, timeout, on_progress).run()
            _check_hash(part, url, sha256)
            part.replace(target)
            _note_of(part).unlink(missing_ok=True)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"could not download {url}: {_reason(error, timeout)}") from error


def sha256_of(path: Path) -> str:
    """The sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_hash(part: Path, url: str, expected: str | None) -> None:
    if expected is None or (digest := sha256_of(part)) == expected.lower():
        return
    _forget(part)
    raise DownloadError(
        f"{url} is not the expected file: its sha256 is {digest}, expected {expected}"
    )


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[Path]:
    """Create ``part`` and lock it; other processes that download the same file wait.

    The lock is on the partial file itself and not a FileLock, as of export's staging folders: that
    would leave a lock file beside every download, since it cannot be removed while others wait.
    """
    while True:
        with open_to_append(part) as file:
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino != part.stat().st_ino:
                    continue  # the process that held the lock has renamed the file
                try:
                    yield part
                finally:
                    if part.exists() and not part.stat().st_size:
                        _forget(part)
                return


@dataclass
class _Transfer:
    """One attempt: appends the missing bytes of ``url`` to ``part``."""

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
                return  # the file is complete already
            answer = self._ask(0, None)
        with answer:
            rest = answer.status == 206
            place = str(answer.headers.get("Content-Range"))
            if rest and not place.startswith(f"bytes {start}-"):
                raise DownloadError(f"could not download {self.url}: the server sent {place!r}")
            self._receive(answer, start if rest else 0)

    def _known_tag(self) -> str | None:
        """The ETag noted for ``part``; None if it was downloaded from another address."""
        try:
            note = read_json(_note_of(self.part))
            return str(note["etag"]) if note["url"] == _named(self.url) and note["etag"] else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _ask(self, start: int, tag: str | None) -> Any:
        headers = {"User-Agent": "det"}
        if tag and start:
            headers |= {"Range": f"bytes={start}-", "If-Range": tag}
        request = urllib.request.Request(self.url, headers=headers)
        limit = Deadline(HEADER_SECONDS, _CheckedRedirects)
        try:
            with limit:  # only until the answer begins: a large file may take hours
                answer = limit.opener.open(request, timeout=self.timeout)
        except (OSError, http.client.HTTPException) as error:
            if limit.expired:
                raise TimeoutError from error
            raise
        if limit.expired:
            raise TimeoutError
        return answer

    def _receive(self, answer: Any, start: int) -> None:
        """Append the answer from byte ``start`` on."""
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else 0
        self._check_limit(total)
        if start == 0:
            tag = answer.headers.get("ETag") or ""
            strong = "" if tag.startswith("W/") else tag  # weak tags do not identify bytes
            _note_of(self.part).write_text(json.dumps({"url": _named(self.url), "etag": strong}))
        with self.part.open("r+b") as sink:
            sink.truncate(start)
            sink.seek(start)
            done = self._copy(answer, sink, start, total)
        if done != (total or done):
            raise DownloadError(
                f"could not download {self.url}: the connection ended after {done:,} of {total:,} "
                "bytes; they are kept, run the command again to continue"
            )

    def _copy(self, answer: Any, sink: IO[bytes], done: int, total: int) -> int:
        since, before = time.monotonic(), done
        while chunk := answer.read1(CHUNK_BYTES):
            done += len(chunk)
            waited = time.monotonic() - since
            if waited > SLOW_SECONDS and done - before < SLOW_BYTES:
                raise DownloadError(
                    f"could not download {self.url}: only {done - before:,} bytes came in "
                    f"{waited:.0f} s; what has arrived is kept, run the command again"
                )
            if waited > SLOW_SECONDS:
                since, before = time.monotonic(), done
            self._check_limit(done)
            sink.write(chunk)
            if self.on_progress is not None:
                self.on_progress(done, total)
        return done

    def _check_limit(self, num_bytes: int) -> None:
        if num_bytes > self.limit_bytes:
            _forget(self.part)
            raise DownloadError(
                f"could not download {self.url}: {num_bytes:,} bytes are over the limit of "
                f"{self.limit_bytes:,}"
            )


def _named(url: str) -> str:
    """An address without writing down what may be secret in it."""
    return hashlib.sha256(url.encode()).hexdigest()


def _note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note_of(part).unlink(missing_ok=True)


def check_url(url: str) -> None:
    """Raise DownloadError unless ``url`` is https, or http to this machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise DownloadError(f"{url!r} is not an address: {error}") from None
    if not host or (parts.scheme != "https" and (parts.scheme != "http" or host not in LOOPBACK)):
        raise DownloadError(f"{url!r} is refused: expected an address that begins with https://")


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to an address that is as safe as the first one."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:  # fmt: skip
        check_url(newurl)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise DownloadError(f"{req.full_url!r} is refused: it redirects to {newurl!r}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _reason(error: Exception, timeout: float) -> str:
    """What went wrong, in one line."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        text = f"the server answered {error.code} {error.reason}"
    elif isinstance(cause, TimeoutError):
        text = f"no answer within {timeout:g} s; received bytes are kept, run the command again"
    elif isinstance(cause, OSError) and cause.strerror:
        text = f"{cause.strerror}{f' ({cause.filename})' if cause.filename else ''}"
    else:
        text = str(cause)
    return text.strip() or "no answer"
