"""Files from the network and what is inside them: fetched with a limit, unpacked with suspicion.

An address is data, never code.  A download has a timeout for every wait and a size limit that is
enforced while it runs; it appears under its name only when it is whole.  A zip is checked member
by member before the first byte is written, unpacked beside its destination and renamed, so that
the destination is either absent or complete.  Left out: resuming, tar archives, credentials.
"""

from __future__ import annotations

import hashlib
import http.client
import lzma
import os
import shutil
import stat
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any

from .errors import DetError

Progress = Callable[[int, int], None]

CHUNK_BYTES = 1 << 18
LOOPBACK = ("127.0.0.1", "localhost", "::1")
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
"""What zipfile raises over a damaged, encrypted or exotic archive (besides OSError)."""


class DownloadError(DetError):
    """A file could not be fetched or an archive could not be unpacked; the message says why."""


def check_url(url: str) -> None:
    """Raise DownloadError unless ``url`` is https, or http to this very machine."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise DownloadError(f"{url!r} is not an address: {error}") from None
    if parts.scheme == "https" and host:
        return
    if parts.scheme == "http" and host in LOOPBACK:
        return
    raise DownloadError(f"{url!r} is refused: expected an address that begins with https://")


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to an address as safe as the one it came from."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any,
        newurl: str,
    ) -> urllib.request.Request | None:
        check_url(newurl)
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise DownloadError(f"{req.full_url!r} is refused: it redirects to {newurl!r}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download_file(
    url: str,
    target: Path,
    *,
    timeout: float = 5.0,
    limit_bytes: int,
    sha256: str | None = None,
    on_progress: Progress | None = None,
) -> Path:
    """Fetch ``url`` to the file ``target`` and return it; nothing is left behind on failure.

    timeout: seconds to wait for the connection and for each next piece.  limit_bytes: a longer
    answer is refused, at once where the server announces it.  sha256: expected hash in hex.
    on_progress: called with (bytes done, bytes announced or 0).  Raises DownloadError.
    """
    check_url(url)
    opener = urllib.request.build_opener(_CheckedRedirects)
    request = urllib.request.Request(url, headers={"User-Agent": "det"})
    part: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with opener.open(request, timeout=timeout) as answer:
            handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            part = Path(name)
            with os.fdopen(handle, "wb") as sink:
                digest = _stream(url, answer, sink, limit_bytes, on_progress)
        if sha256 is not None and digest != sha256.lower():
            raise DownloadError(f"could not use {url}: its sha256 is {digest}, expected {sha256}")
        os.replace(part, target)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"could not download {url}: {_reason(error, timeout)}") from error
    finally:
        if part is not None:
            part.unlink(missing_ok=True)
    return target


def _stream(
    url: str, answer: Any, sink: IO[bytes], limit_bytes: int, on_progress: Progress | None
) -> str:
    """Copy the answer to ``sink`` and return its sha256."""
    announced = int(answer.headers.get("Content-Length") or 0)
    if announced > limit_bytes:
        raise DownloadError(
            f"could not download {url}: {announced:,} bytes are over the limit of {limit_bytes:,}"
        )
    digest, done = hashlib.sha256(), 0
    while chunk := answer.read1(CHUNK_BYTES):
        done += len(chunk)
        if done > limit_bytes:
            raise DownloadError(
                f"could not download {url}: it is over the limit of {limit_bytes:,} bytes"
            )
        digest.update(chunk)
        sink.write(chunk)
        if on_progress is not None:
            on_progress(done, announced)
    if announced and done < announced:
        raise DownloadError(
            f"could not download {url}: the connection ended after {done:,} of {announced:,} bytes"
        )
    return digest.hexdigest()


def _reason(error: Exception, timeout: float) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return _one_line(f"the server answered {error.code} {error.reason}")
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {timeout:g} s"
    return _one_line(str(cause)) or type(cause).__name__


def _one_line(text: str) -> str:
    """Words of a server as they may be shown: no line breaks and no commands to the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def extract_zip(
    archive: Path, folder: Path, *, limit_bytes: int, limit_files: int = 1_000_000
) -> Path:
    """Unpack ``archive`` as the new folder ``folder`` and return it.

    Refused before anything is written: members that would land outside the folder (absolute
    paths, drive letters, ``..``), links and other special files, encrypted or repeated members,
    more than ``limit_files`` members, more than ``limit_bytes`` when unpacked.
    Raises DownloadError, also where ``folder`` exists or the archive is damaged.
    """
    if folder.exists():
        raise DownloadError(f"{folder} exists: an archive is unpacked into a new folder only")
    scratch: Path | None = None
    try:
        with zipfile.ZipFile(archive) as source:
            members = _checked_members(source, limit_bytes, limit_files)
            folder.parent.mkdir(parents=True, exist_ok=True)
            scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
            for member in members:
                _write_member(source, member, scratch)
        scratch.chmod(0o755)  # mkdtemp makes it private; a data set is like any other folder
        os.replace(scratch, folder)
    except (OSError, *BROKEN_ZIP) as error:
        if isinstance(error, DownloadError):
            raise DownloadError(f"{archive.name} is refused: {error}") from None
        raise DownloadError(f"could not unpack {archive.name}: {_one_line(str(error))}") from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


def _checked_members(
    source: zipfile.ZipFile, limit_bytes: int, limit_files: int
) -> list[zipfile.ZipInfo]:
    members = source.infolist()
    if not members:
        raise DownloadError("it is empty")
    if len(members) > limit_files:
        raise DownloadError(f"{len(members):,} members are over the limit of {limit_files:,}")
    # zipfile never yields more than the announced size of a member, so the sum can be trusted.
    total = sum(member.file_size for member in members)
    if total > limit_bytes:
        raise DownloadError(f"it unpacks to {total:,} bytes, over the limit of {limit_bytes:,}")
    names: set[str] = set()
    for member in members:
        fault = _member_fault(member)
        if member.filename in names:
            fault = "is there twice"
        if fault:
            raise DownloadError(f"member {member.filename!r} {fault}")
        names.add(member.filename)
    return members


def _member_fault(member: zipfile.ZipInfo) -> str | None:
    """What is wrong with a member, or None."""
    name = member.filename.replace("\\", "/")
    parts = PurePosixPath(name).parts
    if name.startswith("/") or PureWindowsPath(name).drive:
        return "has an absolute path"
    if ".." in parts:
        return "would be written outside the folder"
    if not parts:
        return "has no name"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is not a plain file"
    if member.flag_bits & 1:
        return "is encrypted"
    return None


def _write_member(source: zipfile.ZipFile, member: zipfile.ZipInfo, scratch: Path) -> None:
    target = scratch / member.filename.replace("\\", "/")
    if member.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with source.open(member) as content, open(target, "xb") as sink:
        shutil.copyfileobj(content, sink, CHUNK_BYTES)
