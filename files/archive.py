"""Downloaded zip archives: every member is checked, then all or none are unpacked.

An archive is unpacked beside its destination and renamed, so that the destination is either absent
or complete.  Not supported: tar archives.
"""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from .download import CHUNK_BYTES, DownloadError
from .staging import staging

BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
"""What zipfile raises for a damaged, encrypted or exotic archive (besides OSError)."""


def extract_zip(
    archive: Path, folder: Path, *, limit_bytes: int, limit_files: int = 1_000_000
) -> Path:
    """Unpack ``archive`` as the new folder ``folder`` and return it.

    Refused before anything is written: members that would land outside the folder (absolute
    paths, drive letters, ``..``), links and other special files, encrypted or repeated members,
    more than ``limit_files`` members, more than ``limit_bytes`` when unpacked.
    Raises DownloadError, also if ``folder`` exists or the archive is damaged.
    """
    if folder.exists():
        raise DownloadError(f"{folder} exists: an archive is unpacked into a new folder only")
    try:
        with zipfile.ZipFile(archive) as source:
            members = _checked_members(source, limit_bytes, limit_files)
            with staging(folder) as hidden:
                scratch = hidden / "content"
                scratch.mkdir()
                for member in members:
                    _write_member(source, member, scratch)
                os.replace(scratch, folder)
    except DownloadError as error:
        raise DownloadError(f"{archive.name} is refused: {error}") from None
    except (OSError, *BROKEN_ZIP) as error:
        raise DownloadError(f"could not unpack {archive.name}: {error}") from error
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
            fault = "occurs twice"
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
