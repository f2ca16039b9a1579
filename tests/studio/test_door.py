"""Who the studio answers, and what it refuses before reading anything."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from studio_client import Client, opened
from tiny import write_tiny_data
from yolodet.detector.studio.pages_of import AllPages


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("opened")
    write_tiny_data(folder / "set", train=2, val=2)
    write_tiny_data(folder.with_name("outside"), train=2, val=2)
    (folder / "link").symlink_to(folder.with_name("outside"))
    with opened(folder) as client:
        yield client


def without(client: Client, *names: str, **other: str) -> dict[str, str]:
    """The headers of a page, some left out and some changed."""
    kept = {name: text for name, text in client.page_headers.items() if name not in names}
    return {**kept, **{name.replace("_", "-"): text for name, text in other.items()}}


def test_a_page_of_the_studio_is_answered(client: Client) -> None:
    reply = client.ask("GET", "/api/sets", headers=client.page_headers)
    assert reply.status == 200
    assert reply.json["sets"] == ["set/data.yaml"]
    assert reply.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in reply.headers


def test_the_printed_address_brings_the_cookie(client: Client) -> None:
    cross = {"Sec-Fetch-Site": "cross-site"}  # a click in another page's terminal
    reply = client.ask("GET", f"/?token={client.token}", headers=cross)
    cookie = reply.headers["Set-Cookie"]
    assert reply.status == 200 and b"<main" in reply.body
    assert cookie.startswith(f"det-studio-{client.port}={client.token};")
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie


def test_a_script_may_send_the_token_itself(client: Client) -> None:
    headers = {"Authorization": f"Bearer {client.token}"}
    assert client.ask("GET", "/api/sets", headers=headers).status == 200


ATTACKS = {
    "no token": {},
    "a wrong token": {"Authorization": "Bearer x" * 9},
    "the token of another port": {"Cookie": "det-studio-1=TOKEN"},
    "a broken cookie": {"Cookie": "\x7f=;;==[]"},
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("path", ["/", "/?token=x", "/app.js", "/api/sets", "/api/data/thumb?n=0"])
def test_without_the_token_nothing_is_answered(client: Client, attack: str, path: str) -> None:
    headers = {name: text.replace("TOKEN", client.token) for name, text in ATTACKS[attack].items()}
    assert client.ask("GET", path, headers=headers).status == 403


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "https://example.com"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},  # another port of this machine
        {"Host": "example.com"},
        {"Host": "127.0.0.1.example.com"},
        {"Host": "localhost:8642@example.com"},
    ],
)
def test_other_pages_and_other_names_are_refused(client: Client, changed: dict[str, str]) -> None:
    for method, path in (("GET", "/api/sets"), ("POST", "/api/data/again")):
        assert client.ask(method, path, headers=without(client, **changed)).status == 403


def test_a_change_must_name_its_origin(client: Client) -> None:
    headers = without(client, "Origin")
    assert client.ask("GET", "/api/sets", headers=headers).status == 200
    assert client.ask("POST", "/api/data/again", b"{}", headers).status == 403


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("../outside/data.yaml", 403), ("set/../../outside/data.yaml", 403),
        ("link/data.yaml", 403), ("/etc/passwd", 403), ("~/.ssh", 404), ("..", 403),
        ("..\\outside", 403), ("\0", 403),
        ("nothing.yaml", 404), ("x" * 5000, 404), ("", 403),
    ],
)  # fmt: skip
def test_no_name_leads_out_of_the_folder(client: Client, name: str, status: int) -> None:
    reply = client.ask("GET", f"/api/data/state?set={quote(name)}", headers=client.page_headers)
    assert reply.status == status
    assert client.post("/api/data/again", set=name).status == status


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/door.py", "/..%2f..%2fetc/passwd", "//etc/passwd",
             "/style.css/../../door.py", "/door.py", "/pages/app.js"],
)  # fmt: skip
def test_only_its_own_pages_are_files(client: Client, path: str) -> None:
    assert client.ask("GET", path, headers=client.page_headers).status == 404


def test_a_body_of_100_mb_is_refused_before_it_is_read(client: Client) -> None:
    """Only the headers are sent: an answer comes all the same."""
    head = "".join(f"{name}: {text}\r\n" for name, text in client.page_headers.items())
    for more in ("Content-Length: 104857600", "Transfer-Encoding: chunked", "Content-Length: -1"):
        with socket.create_connection(("127.0.0.1", client.port), 10) as line:
            start = f"POST /api/data/again HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
            line.sendall(f"{start}{head}{more}\r\n\r\n".encode())
            answer = line.makefile("rb").read()  # ends because the studio closes the connection
        assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"[]", 400), (b"{" * 100_000, 400), (b"\xff", 400),
                         (b'{"set": 3}', 400), (b'{"set": ["a"]}', 400)],
)  # fmt: skip
def test_bodies_that_are_no_request_are_refused(client: Client, body: bytes, status: int) -> None:
    reply = client.ask("POST", "/api/data/again", body, client.page_headers)
    assert reply.status == status and reply.json["error"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_other_methods_are_refused(client: Client, method: str) -> None:
    assert client.ask(method, "/api/sets", headers=client.page_headers).status == 501


def every_route(tmp_path: Path) -> list[tuple[str, str]]:
    pages = AllPages(tmp_path)
    routes = list(pages.routes())
    pages.close()
    return routes


def test_every_route_keeps_the_door(client: Client, tmp_path: Path) -> None:
    """Whatever pages are added: the token, the origin and the size of a body are asked for."""
    routes = every_route(tmp_path)
    assert len([path for _, path in routes if path.startswith("/api/")]) > 25
    for method, path in routes:
        body = b"{}" if method == "POST" else None
        assert client.ask(method, path, body).status == 403, path
        for changed in ({"Origin": "https://example.com"}, {"Sec_Fetch_Site": "cross-site"}):
            headers = without(client, **changed)
            assert client.ask(method, path, body, headers).status == 403, path
        other = "GET" if method == "POST" else "POST"
        assert client.ask(other, path, None, client.page_headers).status in (404, 400, 200)
        if method == "POST":
            assert client.ask(method, path, body, without(client, "Origin")).status == 403, path
            with socket.create_connection(("127.0.0.1", client.port), 10) as line:
                head = "".join(f"{n}: {text}\r\n" for n, text in client.page_headers.items())
                start = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{client.port}\r\n"
                line.sendall(f"{start}{head}Content-Length: 104857600\r\n\r\n".encode())
                assert line.makefile("rb").read().startswith(b"HTTP/1.1 413 "), path


NAMES = ("set", "model", "a", "b", "run", "out", "to", "data")
"""Words that name something on the disk, in any request."""


@pytest.mark.parametrize("name", ["../outside/data.yaml", "/etc/passwd", "link/data.yaml", ".."])
def test_no_route_follows_a_name_out_of_the_folder(
    client: Client, tmp_path: Path, name: str
) -> None:
    """Each word that names something leads out once, the others are good."""
    good = {"set": "set/data.yaml", "n": "0", "format": "yolo", "out": "new", "revision": "0"}
    outside = client.get("/api/sets")["folder"] + "/../outside"
    before = sorted(Path(outside).rglob("*"))
    for method, path in every_route(tmp_path):
        if not path.startswith("/api/") or path.startswith("/api/runs/st"):
            continue
        for word in NAMES:
            if word == "to" and path != "/api/labels/move":
                continue
            words = {**good, word: name}
            if method == "GET":
                at = f"{path}?{urlencode(words)}"
                reply = client.ask(method, at, headers=client.page_headers)
            else:
                sent = {**words, "n": 0, "revision": 0, "options": {"data": name}}
                reply = client.post(path, **sent)
            assert reply.status != 500, (path, word, reply.body)
            assert b"root:" not in reply.body, (path, word)
            if reply.status == 200 and word == "set":
                assert path in ("/api/sets", *NO_SET), (path, reply.body[:200])
    assert sorted(Path(outside).rglob("*")) == before


NO_SET = (
    *("/api/runs/list", "/api/runs/curves", "/api/runs/form"),
    *("/api/try/facts", "/api/try/exports"),
)
"""Routes that take no data set."""
