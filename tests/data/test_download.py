"""Downloads against a local server, and archives that want to do harm."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import time
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from local_server import serve
from yolodet.files.download import DownloadError, check_url, download_file, extract_zip

BODY = bytes(range(256)) * 40  # 10,240 bytes


def head(handler: BaseHTTPRequestHandler, length: int | None) -> None:
    handler.send_response(200)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


def cut(handler: BaseHTTPRequestHandler) -> None:
    head(handler, len(BODY))
    handler.wfile.write(BODY[:1000])


def endless(handler: BaseHTTPRequestHandler) -> None:
    head(handler, None)
    try:
        for _ in range(1000):
            handler.wfile.write(BODY)
    except OSError:
        return  # hung up on, as it should be


def stalled(handler: BaseHTTPRequestHandler) -> None:
    head(handler, len(BODY))
    handler.wfile.write(BODY[:1000])
    handler.wfile.flush()
    time.sleep(0.5)


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(0.5)


def moved(target: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"hello\x1b[2J\r\n\r\n")


ROUTES = {
    "/good": BODY,
    "/cut": cut,
    "/endless": endless,
    "/stalled": stalled,
    "/silent": silent,
    "/nonsense": nonsense,
    "/here": moved("/good"),
    "/file": moved("file:///etc/passwd"),
    "/plain": moved("http://example.org/x"),
    "/loop": moved("/loop"),
}


def test_download_is_whole_checked_and_reports_progress(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    target = tmp_path / "new" / "file.bin"
    with serve(ROUTES) as site:
        download_file(
            f"{site.url}/here",
            target,
            limit_bytes=len(BODY),
            sha256=hashlib.sha256(BODY).hexdigest().upper(),
            on_progress=lambda done, total: steps.append((done, total)),
        )
    assert target.read_bytes() == BODY
    assert steps[-1] == (len(BODY), len(BODY))
    assert os.listdir(target.parent) == ["file.bin"]


@pytest.mark.parametrize(
    ("route", "limit", "message"),
    [
        ("/none", 20_000, "the server answered 404 Not Found"),
        ("/good", 10_239, "10,240 bytes are over the limit of 10,239"),
        ("/endless", 50_000, "it is over the limit of 50,000 bytes"),
        ("/cut", 20_000, "the connection ended after 1,000 of 10,240 bytes"),
        ("/stalled", 20_000, "no answer within 0.2 s"),
        ("/silent", 20_000, "no answer within 0.2 s"),
        ("/nonsense", 20_000, "hello"),
        ("/file", 20_000, "to url 'file:///etc/passwd' is not allowed"),
        ("/plain", 20_000, "'http://example.org/x' is refused"),
        ("/loop", 20_000, "the server answered 302"),
    ],
)
def test_failed_download_says_why_and_leaves_nothing(
    tmp_path: Path, route: str, limit: int, message: str
) -> None:
    with serve(ROUTES) as site, pytest.raises(DownloadError) as caught:
        download_file(f"{site.url}{route}", tmp_path / "x", limit_bytes=limit, timeout=0.2)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()  # one line, no commands to the terminal
    assert list(tmp_path.iterdir()) == []
    assert caught.value.exit_code == 1


def test_wrong_hash_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old")
    with serve(ROUTES) as site, pytest.raises(DownloadError, match=r"sha256 is .*, expected 00"):
        download_file(f"{site.url}/good", tmp_path / "x", limit_bytes=20_000, sha256="00")
    assert (tmp_path / "x").read_text() == "old"
    assert os.listdir(tmp_path) == ["x"]


def test_refused_connection_and_unwritable_target(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
        with pytest.raises(DownloadError, match="refused"):
            download_file(url, tmp_path / "x", limit_bytes=9)
    (tmp_path / "file").write_text("")
    with serve(ROUTES) as site, pytest.raises(DownloadError, match="could not download"):
        download_file(f"{site.url}/good", tmp_path / "file" / "x", limit_bytes=20_000)


@pytest.mark.parametrize(
    "url",
    ["http://example.org/a.zip", "ftp://example.org/a.zip", "file:///etc/passwd", "a.zip", "",
     "https:///a.zip", "http://127.0.0.1.example.org/a.zip", "https://[::1/a.zip"],
)  # fmt: skip
def test_only_safe_addresses_are_asked(url: str) -> None:
    with pytest.raises(DownloadError):
        check_url(url)


def test_https_and_loopback_are_allowed() -> None:
    check_url("https://example.org/a.zip")
    check_url("http://127.0.0.1:8000/a.zip")
    check_url("http://[::1]:8000/a.zip")


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


@pytest.mark.parametrize(
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
    with pytest.raises(DownloadError, match="'x' is there twice"):
        extract_zip(tmp_path / "a.zip", tmp_path / "out", limit_bytes=99)


def patched_size(content: bytes) -> bytes:
    """A zip whose lists say 10 bytes while the member unpacks to more."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb", content)
    return buffer.getvalue().replace(len(content).to_bytes(4, "little"), (10).to_bytes(4, "little"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:200],
        lambda data: b"<html>please log in</html>",
        lambda data: b"",
        lambda data: data.replace(data[40:80], bytes(40)),
        lambda data: patched_size(bytes(1_000_000)),
    ],
    ids=["cut", "html", "empty", "changed", "lying"],
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
