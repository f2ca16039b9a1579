"""A studio on a free port, and a client that asks it as the browser does."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from yolodet.detector.studio.pages_of import AllPages
from yolodet.detector.studio.server import Studio


@dataclass
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Client:
    port: int
    token: str
    bugs: list[str] = field(default_factory=list)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request with exactly these headers beside Host and Content-Length."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), answer.headers)
        finally:
            connection.close()

    @property
    def page_headers(self) -> dict[str, str]:
        """What the browser sends from a page of the studio."""
        return {
            "Cookie": f"det-studio-{self.port}={self.token}",
            "Origin": f"http://127.0.0.1:{self.port}",
            "Sec-Fetch-Site": "same-origin",
        }

    def get(self, path: str, **query: Any) -> Any:
        """The JSON of a page that must answer."""
        words = f"?{urlencode(query, doseq=True)}" if query else ""
        reply = self.ask("GET", path + words, headers=self.page_headers)
        assert reply.status == 200, reply.body
        return reply.json if reply.headers["Content-Type"] == "application/json" else reply.body

    def post(self, path: str, **content: Any) -> Reply:
        return self.ask("POST", path, json.dumps(content).encode(), self.page_headers)

    def ready(self, name: str) -> None:
        """Open a data set, and wait until all is known of it."""
        until = time.monotonic() + 60
        while (state := self.get("/api/data/state", set=name))["doing"]:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert not state["failed"], state


@contextmanager
def opened(folder: Path) -> Iterator[Client]:
    bugs: list[str] = []
    pages = AllPages(folder.resolve())
    studio = Studio(pages.routes(), 0, bugs.append)
    thread = threading.Thread(target=studio.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Client(studio.door.port, studio.door.token, bugs)
    finally:
        studio.shutdown()
        thread.join()
        studio.server_close()
        pages.close()
    assert not bugs, bugs[0]
