"""Weights from the network: whole or not there, and never fetched twice."""

from __future__ import annotations

import hashlib
import resource
import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from local_server import serve
from yolodet.files.resumable import DownloadFailed, download

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


def fetch(files: Callable, target: Path, **options) -> str:
    with serve({"/w.pt": files}) as site:
        return download(f"{site.url}/w.pt", target, **options)


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_arrives_whole_and_says_how_far_it_is(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    target = tmp_path / "new" / "w.pt"
    digest = fetch(
        Files(), target, sha256=DIGEST.upper(), on_progress=lambda *now: seen.append(now)
    )
    assert digest == DIGEST and target.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen)
    assert leftovers(target.parent) == ["w.pt"]


def test_a_broken_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    files, target = Files(cuts=2), tmp_path / "w.pt"
    with serve({"/w.pt": files}) as site:
        for _ in range(2):
            with pytest.raises(DownloadFailed, match="they are kept, run the command again"):
                download(f"{site.url}/w.pt", target)
            assert not target.exists()
        download(f"{site.url}/w.pt", target, sha256=DIGEST)
    third = len(BODY) // 3
    again = third + (len(BODY) - third) // 3
    assert files.asked == [None, f"bytes={third}-", f"bytes={again}-"]
    assert target.read_bytes() == BODY and leftovers(tmp_path) == ["w.pt"]


@pytest.mark.parametrize("change", ["another file", "no ranges", "another address", "no tag"])
def test_what_has_arrived_is_used_for_the_same_file_only(tmp_path: Path, change: str) -> None:
    files, target = Files(cuts=1), tmp_path / "w.pt"
    if change == "no tag":
        files.tag = 'W/"weak"'
    with serve({"/w.pt": files, "/other.pt": files}) as site:
        with pytest.raises(DownloadFailed):
            download(f"{site.url}/w.pt", target)
        if change == "another file":
            files.body, files.tag = BODY[::-1], '"version-2"'
        files.ranges = change != "no ranges"
        name = "other" if change == "another address" else "w"
        download(f"{site.url}/{name}.pt", target)
    assert target.read_bytes() == files.body


def test_a_file_that_had_arrived_but_got_no_name_is_not_fetched_again(tmp_path: Path) -> None:
    files, target = Files(cuts=1), tmp_path / "w.pt"
    with serve({"/w.pt": files}) as site:
        with pytest.raises(DownloadFailed):
            download(f"{site.url}/w.pt", target)
        (tmp_path / ".w.pt.part").write_bytes(BODY)
        download(f"{site.url}/w.pt", target, sha256=DIGEST)
        files.body = BODY[:-10]  # shorter than what is there: begin again
        (tmp_path / "w.pt").rename(tmp_path / ".w.pt.part")
        (tmp_path / ".w.pt.part.json").write_text(f'{{"url": "{site.url}/w.pt", "etag": null}}')
        download(f"{site.url}/w.pt", target)
    assert files.asked[1] == f"bytes={len(BODY)}-" and target.read_bytes() == BODY[:-10]


def test_a_file_that_is_there_is_not_asked_for(tmp_path: Path) -> None:
    files, target = Files(), tmp_path / "w.pt"
    target.write_bytes(BODY)
    assert fetch(files, target) == DIGEST and files.asked == []


def test_a_wrong_hash_leaves_nothing_that_could_be_used(tmp_path: Path) -> None:
    with pytest.raises(DownloadFailed, match="not the file it should be"):
        fetch(Files(), tmp_path / "w.pt", sha256="0" * 64)
    assert "w.pt" not in leftovers(tmp_path) and ".w.pt.part" not in leftovers(tmp_path)


def test_what_is_over_the_limit_is_refused(tmp_path: Path) -> None:
    files = Files()
    with pytest.raises(DownloadFailed, match="over the limit of 1,000"):
        fetch(files, tmp_path / "w.pt", limit_bytes=1000)

    def without_length(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(BODY)

    with pytest.raises(DownloadFailed, match="over the limit"):
        fetch(without_length, tmp_path / "x.pt", limit_bytes=1000)
    assert not (tmp_path / "w.pt").exists() and not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize(
    ("status", "header", "said"),
    [
        (404, (), "the server answered 404"),
        (302, ("Location", "http://example.com/w.pt"), "is refused"),
        (206, ("Content-Range", "bytes 7-9/10"), "the server sent"),
    ],
)
def test_a_server_that_misbehaves_is_an_error(tmp_path: Path, status, header, said) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        if header:
            request.send_header(*header)
        request.send_header("Content-Length", "0")
        request.end_headers()

    with pytest.raises(DownloadFailed, match=said):
        fetch(answer, tmp_path / "w.pt")
    assert leftovers(tmp_path) == []


def test_a_server_that_stops_talking_is_waited_for_no_longer_than_told(tmp_path: Path) -> None:
    def stall(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        request.wfile.write(b"x" * 10)
        request.wfile.flush()
        time.sleep(0.6)

    with pytest.raises(DownloadFailed, match=r"no answer within 0\.2 s"):
        fetch(stall, tmp_path / "w.pt", timeout=0.2)


@pytest.mark.parametrize("url", ["http://example.com/w.pt", "file:///etc/passwd", "ftp://x/y", "w"])
def test_only_safe_addresses_are_asked(tmp_path: Path, url: str) -> None:
    with pytest.raises(DownloadFailed, match="expected an address that begins with https"):
        download(url, tmp_path / "w.pt")


def test_two_who_want_the_same_file_fetch_it_once(tmp_path: Path) -> None:
    files, results = Files(), []

    def slow(request: BaseHTTPRequestHandler) -> None:
        time.sleep(0.2)
        files(request)

    with serve({"/w.pt": slow}) as site:
        target, url = tmp_path / "w.pt", f"{site.url}/w.pt"
        pair = [
            threading.Thread(target=lambda: results.append(download(url, target)))
            for _ in range(2)
        ]
        for thread in pair:
            thread.start()
        for thread in pair:
            thread.join()
    assert results == [DIGEST, DIGEST] and len(files.asked) == 1
    assert leftovers(tmp_path) == ["w.pt"]


def test_a_full_disk_is_said_and_the_rest_fetched_later(tmp_path: Path) -> None:
    """The quota is a real one: the kernel refuses to let a file grow past it."""
    files, target = Files(), tmp_path / "w.pt"
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serve({"/w.pt": files}) as site:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, limits[1]))
        try:
            with pytest.raises(DownloadFailed, match="File too large"):
                download(f"{site.url}/w.pt", target)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert not target.exists()
        download(f"{site.url}/w.pt", target, sha256=DIGEST)
    assert str(files.asked[1]).startswith("bytes=")
