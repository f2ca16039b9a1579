"""Downloads from a local server: complete or absent, resumed, never fetched twice."""

from __future__ import annotations

import hashlib
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from local_server import serve
from rows import each
from yolodet.files.download import DownloadError, check_url, download_file, sha256_of

BODY = bytes(range(256)) * 4000
DIGEST = hashlib.sha256(BODY).hexdigest()
TAG = '"version-1"'


class Files:
    """A server that knows ranges, cuts its first ``cuts`` answers short, and keeps what it was
    asked."""

    def __init__(self, cuts: int = 0, *, ranges: bool = True, body: bytes = BODY) -> None:
        self.cuts, self.ranges, self.body, self.tag = cuts, ranges, body, TAG
        self.asked: list[str | None] = []

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        start = 0
        if wanted and self.ranges and request.headers.get("If-Range") == self.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.body):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.body)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        rest = self.body[start:]
        request.send_response(206 if start else 200)
        if start:
            place = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
            request.send_header("Content-Range", place)
        request.send_header("ETag", self.tag)
        request.send_header("Content-Length", str(len(rest)))
        request.end_headers()
        self.cuts -= 1
        request.wfile.write(rest[: len(rest) // 3] if self.cuts >= 0 else rest)


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
    silent(handler)


def silent(handler: BaseHTTPRequestHandler) -> None:
    """Say nothing until the other end has hung up."""
    handler.connection.settimeout(60)
    handler.connection.recv(1)


def moved(target: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def nonsense(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"hello\x1b[2J\r\n\r\n")


def wrong_range(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(206)
    handler.send_header("Content-Range", "bytes 7-9/10")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


ROUTES = {
    "/good": BODY,
    "/range": wrong_range,
    "/cut": cut,
    "/endless": endless,
    "/stalled": stalled,
    "/silent": silent,
    "/nonsense": nonsense,
    "/file": moved("file:///etc/passwd"),
    "/plain": moved("http://example.org/x"),
    "/loop": moved("/loop"),
}


KEPT = [".w.pt.part", ".w.pt.part.json"]


def fetch(files: Callable, target: Path, **options) -> None:
    with serve({"/w.pt": files}) as site:
        download_file(f"{site.url}/w.pt", target, **options)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_complete_through_a_redirect_and_reports_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "new" / "w.pt"
    with serve({"/w.pt": Files(), "/here": moved("/w.pt")}) as site:
        download_file(
            f"{site.url}/here", target, limit_bytes=len(BODY), sha256=DIGEST.upper(),
            on_progress=lambda *now: seen.append(now),
        )  # fmt: skip
    assert target.read_bytes() == BODY and sha256_of(target) == DIGEST
    assert seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen)
    assert leftovers(target.parent) == ["w.pt"]


def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    files, target = Files(cuts=2), tmp_path / "w.pt"
    with serve({"/w.pt": files}) as site:
        for _ in range(2):
            with pytest.raises(DownloadError, match="they are kept, run the command again"):
                download_file(f"{site.url}/w.pt", target)
            assert not target.exists()
        download_file(f"{site.url}/w.pt", target, sha256=DIGEST)
    third = len(BODY) // 3
    again = third + (len(BODY) - third) // 3
    assert files.asked == [None, f"bytes={third}-", f"bytes={again}-"]
    assert target.read_bytes() == BODY and leftovers(tmp_path) == ["w.pt"]


@each("change", ["another file", "no ranges", "another address", "no tag"])
def test_what_has_arrived_is_used_for_the_same_file_only(tmp_path: Path, change: str) -> None:
    files, target = Files(cuts=1), tmp_path / "w.pt"
    if change == "no tag":
        files.tag = 'W/"weak"'
    with serve({"/w.pt": files, "/other.pt": files}) as site:
        with pytest.raises(DownloadError):
            download_file(f"{site.url}/w.pt", target)
        if change == "another file":
            files.body, files.tag = BODY[::-1], '"version-2"'
        files.ranges = change != "no ranges"
        name = "other" if change == "another address" else "w"
        download_file(f"{site.url}/{name}.pt", target)
    assert target.read_bytes() == files.body


def test_a_file_that_had_arrived_but_got_no_name_is_not_fetched_again(tmp_path: Path) -> None:
    files, target = Files(cuts=1), tmp_path / "w.pt"
    with serve({"/w.pt": files}) as site:
        with pytest.raises(DownloadError):
            download_file(f"{site.url}/w.pt", target)
        (tmp_path / ".w.pt.part").write_bytes(BODY)
        download_file(f"{site.url}/w.pt", target, sha256=DIGEST)
        files.body = BODY[:-10]  # shorter than what is there: begin again
        (tmp_path / "w.pt").rename(tmp_path / ".w.pt.part")
        (tmp_path / ".w.pt.part.json").write_text(f'{{"url": "{site.url}/w.pt", "etag": null}}')
        download_file(f"{site.url}/w.pt", target)
    assert files.asked[1] == f"bytes={len(BODY)}-" and target.read_bytes() == BODY[:-10]


def test_a_file_that_is_there_is_not_asked_for(tmp_path: Path) -> None:
    files, target = Files(), tmp_path / "w.pt"
    target.write_bytes(BODY)
    fetch(files, target)
    assert files.asked == []


def test_a_file_with_the_wrong_hash_is_removed(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=f"its sha256 is {DIGEST}, expected 00"):
        fetch(Files(), tmp_path / "w.pt", sha256="00")
    assert leftovers(tmp_path) == []


FAILURES = [
    ("/none", 20_000, "the server answered 404 Not Found", []),
    ("/good", 1_023_999, "1,024,000 bytes are over the limit of 1,023,999", []),
    ("/endless", 50_000, "bytes are over the limit of 50,000", []),
    ("/cut", 2_000_000, "the connection ended after 1,000 of 1,024,000 bytes; they are kept", KEPT),
    ("/silent", 20_000, "no answer within 0.1 s", []),
    ("/nonsense", 20_000, "hello", []),
    ("/range", 20_000, "the server sent 'bytes 7-9/10'", []),
    ("/file", 20_000, "to url 'file:///etc/passwd' is not allowed", []),
    ("/plain", 20_000, "'http://example.org/x' is refused", []),
    ("/loop", 20_000, "the server answered 302", []),
]


@each(("route", "limit", "message", "kept"), FAILURES)
def test_a_failure_says_why_in_one_line_and_keeps_only_what_can_be_continued(
    tmp_path: Path, route: str, limit: int, message: str, kept: list[str]
) -> None:
    with serve(ROUTES) as site, pytest.raises(DownloadError) as caught:
        seconds = 0.1 if route == "/silent" else 60
        download_file(f"{site.url}{route}", tmp_path / "w.pt", limit_bytes=limit, timeout=seconds)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()  # one line, no commands to the terminal
    assert leftovers(tmp_path) == kept
    assert caught.value.exit_code == 1


def test_what_a_server_that_falls_silent_has_sent_is_kept(tmp_path: Path) -> None:
    for seconds in (0.1, 1, 10, 60):  # longer than it takes to send the first bytes
        with serve(ROUTES) as site, pytest.raises(DownloadError, match=f"within {seconds} s"):
            download_file(f"{site.url}/stalled", tmp_path / "w.pt", timeout=seconds)
        if leftovers(tmp_path):
            break
    assert leftovers(tmp_path) == KEPT and (tmp_path / KEPT[0]).read_bytes() == BODY[:1000]


def test_refused_connection_and_unwritable_target(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
        with pytest.raises(DownloadError, match="refused"):
            download_file(url, tmp_path / "x")
    (tmp_path / "file").write_text("")
    with serve(ROUTES) as site, pytest.raises(DownloadError, match="could not download"):
        download_file(f"{site.url}/good", tmp_path / "file" / "x")


@each(
    "url",
    ["http://example.org/a.zip", "ftp://example.org/a.zip", "file:///etc/passwd", "a.zip", "",
     "https:///a.zip", "http://127.0.0.1.example.org/a.zip", "https://[::1/a.zip"],
)  # fmt: skip
def test_only_safe_addresses_are_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadError):
        download_file(url, tmp_path / "w.pt")


def test_https_and_loopback_are_allowed() -> None:
    check_url("https://example.org/a.zip")
    check_url("http://127.0.0.1:8000/a.zip")
    check_url("http://[::1]:8000/a.zip")


def test_two_who_want_the_same_file_fetch_it_once(tmp_path: Path) -> None:
    files, results, both = Files(), [], threading.Barrier(2)

    def slow(request: BaseHTTPRequestHandler) -> None:
        time.sleep(0.2)  # the second one has begun by now, or finds the file
        files(request)

    with serve({"/w.pt": slow}) as site:
        target, url = tmp_path / "w.pt", f"{site.url}/w.pt"

        def fetch_at_once() -> None:
            both.wait(60)
            results.append(download_file(url, target))

        pair = [threading.Thread(target=fetch_at_once) for _ in range(2)]
        for thread in pair:
            thread.start()
        for thread in pair:
            thread.join()
    assert len(results) == 2 and len(files.asked) == 1 and target.read_bytes() == BODY
    assert leftovers(tmp_path) == ["w.pt"]


def test_a_full_disk_is_reported_and_the_rest_fetched_later(tmp_path: Path) -> None:
    """The quota is a real one: the kernel refuses to let a file grow past it."""
    files, target = Files(), tmp_path / "w.pt"
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serve({"/w.pt": files}) as site:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
        try:
            with pytest.raises(DownloadError, match="File too large"):
                download_file(f"{site.url}/w.pt", target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert not target.exists()
        download_file(f"{site.url}/w.pt", target, sha256=DIGEST)
    assert str(files.asked[1]).startswith("bytes=")
