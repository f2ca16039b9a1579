"""Web requests that end: a limit for the whole answer, not only for each piece of it.

A timeout of a socket starts again with every byte, so a server that sends one byte per second holds
a program for ever, in the headers already.  Here a timer closes the connection.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.request
from typing import Any


class Deadline:
    """Closes the connections of ``opener`` after ``seconds``; a context manager."""

    def __init__(self, seconds: float, *handlers: Any) -> None:
        """handlers: for the opener, such as one that checks redirects."""
        self.expired = False
        self._sockets: list[socket.socket] = []
        own = (_Http(self._connect), _Https(self._connect))
        self.opener = urllib.request.build_opener(*own, *handlers)
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        for copy in self._sockets:
            copy.close()

    def _connect(self, *arguments: Any, **options: Any) -> socket.socket:
        made = socket.create_connection(*arguments, **options)
        self._sockets.append(made.dup())  # encryption takes ``made`` over
        return made

    def _expire(self) -> None:
        self.expired = True
        for copy in self._sockets:
            with contextlib.suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)


class _Http(urllib.request.HTTPHandler):
    def __init__(self, connect: Any) -> None:
        super().__init__()
        self._connect = connect

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_with(http.client.HTTPConnection, self._connect), req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, connect: Any) -> None:
        super().__init__()
        self._connect = connect

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_with(http.client.HTTPSConnection, self._connect), req)


def _with(kind: Any, connect: Any) -> Any:
    """A maker of connections that open their sockets with ``connect``."""

    def make(*arguments: Any, **options: Any) -> Any:
        made = kind(*arguments, **options)
        made._create_connection = connect
        return made

    return make
