"""The studio's web server: the standard library's, on 127.0.0.1, for one user.

Each answer forbids the page to load anything from elsewhere (Content-Security-Policy).  What a
handler raises on purpose becomes a JSON object with ``error``.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from socket import SOCK_STREAM, socket
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ...files.errors import DetError
from ...files.text import one_line
from ...files.version import __version__
from ..options.errors import UsageError
from ..options.studio import PORT
from .asked import Answer, Asked, as_json
from .door import HERE, Door

Handler = Callable[[Asked], Answer]
Routes = Mapping[tuple[str, str], Handler]
"""(method, path) -> what answers it."""

MOST_BODY = 1 << 20
"""Bytes of a body; a larger one is refused before it is read."""
MOST_PICTURE = 32 << 20
TAKES_PICTURES = ("/api/try/drop",)
"""Pages whose body is a picture, which may be larger."""
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
         ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}  # fmt: skip
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MOST_AT_ONCE = 16
"""Requests that are answered at the same time; others wait."""
SECONDS_TO_END = 2.0
"""How long the end of the studio waits for a request."""
SECONDS_IDLE = 60
"""After which a connection that says nothing is closed."""


class Studio(ThreadingHTTPServer):
    """The server of one studio.  door: who may ask.  report: takes the traceback of a bug."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, routes: Routes, port: int | None, report: Callable[[str], None]) -> None:
        self.busy = threading.Semaphore(MOST_AT_ONCE)  # closed where the port is taken
        super().__init__((HERE, free_port() if port is None else port), _Connection)
        self.door = Door(self.server_address[1])
        self.routes = routes
        self.report = report

    def server_close(self) -> None:
        """Close, after the requests that are being answered: a thread that is cut off in OpenCV
        would end the process with an abort."""
        super().server_close()
        for _ in range(MOST_AT_ONCE):
            self.busy.acquire(timeout=SECONDS_TO_END)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes its connection early is no error."""


def free_port() -> int:
    """The usual port where nobody has it, else 0 for any."""
    with socket(type=SOCK_STREAM) as trial:
        return 0 if trial.connect_ex((HERE, PORT)) == 0 else PORT


def open_studio(routes: Routes, port: int | None, report: Callable[[str], None]) -> Studio:
    """The server, listening.  Raises UsageError where the port is taken."""
    try:
        return Studio(routes, port, report)
    except OSError as error:
        raise UsageError(f"port={port}: {error.strerror}; leave it out, or name another") from None


def page_routes() -> dict[tuple[str, str], Handler]:
    """The files of ``pages/``, by name: nothing else of the disk is served."""
    routes: dict[tuple[str, str], Handler] = {}
    for file in (files(__package__) / "pages").iterdir():
        kind = KINDS.get(file.name[file.name.rfind(".") :])
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            routes["GET", path] = partial(_file, file.read_bytes(), kind)
    return routes


def _file(body: bytes, kind: str, asked: Asked) -> Answer:
    return Answer(body, kind)


class _Connection(BaseHTTPRequestHandler):
    server: Studio
    protocol_version = "HTTP/1.1"
    server_version = f"det/{__version__}"
    sys_version = ""
    timeout = SECONDS_IDLE
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def _answer(self, method: str) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError):
            self._send(self._content(method))

    def _content(self, method: str) -> Answer:
        refused = self.server.door.refusal(method, self.path, self.headers)
        if refused is not None:
            self.close_connection = True  # its body is not read
            return as_json({"error": refused}, 403)
        parts = urlsplit(self.path)
        handler = self.server.routes.get((method, parts.path))
        if handler is None:
            self.close_connection = True
            return as_json({"error": "there is no such page"}, 404)
        length = self.headers.get("Content-Length", "0")
        chunked = "Transfer-Encoding" in self.headers
        most = MOST_PICTURE if parts.path in TAKES_PICTURES else MOST_BODY
        if chunked or not (length.isascii() and length.isdecimal()) or int(length[:12]) > most:
            self.close_connection = True
            return as_json({"error": f"more than {most >> 20} MB are refused"}, 413)
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return as_json({"error": "the request was cut short"}, 400)
        query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=100)
        return self._run(handler, Asked(query, body))

    def _run(self, handler: Handler, asked: Asked) -> Answer:
        try:
            with self.server.busy:
                return handler(asked)
        except DetError as error:
            return as_json({"error": str(error)}, getattr(error, "status", 400))
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return as_json({"error": one_line(f"{where}{error.strerror or error}")}, 400)
        except Exception as error:  # noqa: BLE001  one request must not end the studio
            self.server.report("".join(traceback.format_exception(error)))
            return as_json({"error": f"this is a bug in det ({type(error).__name__})"}, 500)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        kept = f"private, max-age={answer.seconds}" if answer.seconds else "no-store"
        self.send_header("Cache-Control", kept)
        self.send_header("Content-Security-Policy", answer.policy or POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        if answer.status == 200 and self.server.door.brings_token(self.path):
            door = self.server.door
            cookie = f"{door.cookie}={door.token}; HttpOnly; SameSite=Strict; Path=/"
            self.send_header("Set-Cookie", cookie)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: their addresses may hold the token."""
