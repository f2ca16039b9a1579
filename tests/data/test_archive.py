"""Zip archives: unpacked whole, and refused without a trace where they could do harm."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from rows import each
from yolodet.files.archive import extract_zip
from yolodet.files.download import DownloadError

BODY = bytes(range(256)) * 40  # 10,240 bytes


def make_zip(path: Path, members: dict[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def special(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def test_archive_is_unpacked_whole(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "a.zip", {"d/": b"", "d/x.txt": b"one", "d/e/y.bin": BODY,
                                           "back\\slash.txt": b"two"})  # fmt: skip
    folder = extract_zip(source, tmp_path / "out" / "here", limit_bytes=20_000)
    found = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}
    assert found == {"d/x.txt": b"one", "d/e/y.bin": BODY, "back/slash.txt": b"two"}
    assert os.listdir(folder.parent) == ["here"]


@each(
    ("members", "message"),
    [
        ({"ok": b"1", "../evil": b"2"}, "'../evil' would be written outside the folder"),
        ({"a/../../evil": b"2"}, "would be written outside the folder"),
        ({"a\\..\\..\\evil": b"2"}, "would be written outside the folder"),
        ({"/tmp/evil": b"2"}, "'/tmp/evil' has an absolute path"),
        ({"\\evil": b"2"}, "has an absolute path"),
        ({"C:\\evil": b"2"}, "has an absolute path"),
        ({"C:evil": b"2"}, "has an absolute path"),
        ({special("ln", stat.S_IFLNK | 0o777): b"/etc"}, "'ln' is a link"),
        ({special("pipe", stat.S_IFIFO | 0o600): b""}, "'pipe' is not a plain file"),
        ({"big": bytes(30_000)}, "it unpacks to 30,000 bytes, over the limit of 20,000"),
        ({"a": b"", "b": b"", "c": b"", "d": b""}, "4 members are over the limit of 3"),
        ({"a": b"1", "a/b": b"2"}, "could not unpack"),
        ({}, "it is empty"),
    ],
)
def test_harmful_archive_is_refused_and_nothing_written(
    tmp_path: Path, members: dict[str | zipfile.ZipInfo, bytes], message: str
) -> None:
    source = make_zip(tmp_path / "bad.zip", members)
    with pytest.raises(DownloadError, match="bad") as caught:
        extract_zip(source, tmp_path / "deep" / "out", limit_bytes=20_000, limit_files=3)
    assert message in str(caught.value)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written == [source]


def test_repeated_member_is_refused(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("x", b"1")
        archive.writestr("x", b"2")
    with pytest.raises(DownloadError, match="'x' occurs twice"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out", limit_bytes=99)


def patched_size(content: bytes) -> bytes:
    """A zip whose lists say 10 bytes while the member unpacks to more."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", content)
    return buffer.getvalue().replace(len(content).to_bytes(4, "little"), (10).to_bytes(4, "little"))


@each(
    "damage",
    [
        lambda data: data[:200],
        lambda data: b"<html>please log in</html>",
        lambda data: b"",
        lambda data: data.replace(data[40:80], bytes(40)),
        lambda data: patched_size(bytes(1_000_000)),
    ],
)
def test_damaged_archive_is_an_error_without_a_trace(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    source = make_zip(tmp_path / "a.zip", {"x": os.urandom(5000)})
    source.write_bytes(damage(source.read_bytes()))
    with pytest.raises(DownloadError, match="could not unpack a"):
        extract_zip(source, tmp_path / "out", limit_bytes=20_000)
    assert os.listdir(tmp_path) == ["a.zip"]


def test_existing_folder_is_never_touched(tmp_path: Path) -> None:
    source = make_zip(tmp_path / "a.zip", {"x": b"new"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("mine")
    with pytest.raises(DownloadError, match="exists"):
        extract_zip(source, tmp_path / "out", limit_bytes=99)
    assert (tmp_path / "out" / "x").read_text() == "mine"
