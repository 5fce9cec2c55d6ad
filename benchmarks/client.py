"""One kept connection that costs little: the same for everything that it times."""

from __future__ import annotations

import socket
import time
from typing import Self
from urllib.parse import urlsplit

_END = b"\r\n\r\n"


class Connection:
    """Sends one request after the other; answers need a Content-Length."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.netloc
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), 30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def get(self, target: str) -> bytes:
        """Return the body of a 200; raises RuntimeError for anything else."""
        return self._ask(f"GET {target} HTTP/1.1\r\nhost: {self._host}\r\n\r\n".encode())

    def post(self, target: str, body: bytes) -> bytes:
        """Return the body of a 200 to a JSON body; raises RuntimeError for anything else."""
        head = (
            f"POST {target} HTTP/1.1\r\nhost: {self._host}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return self._ask(head.encode() + body)

    def timed_get(self, target: str) -> float:
        """Return how many milliseconds a GET takes."""
        started_s = time.perf_counter()
        self.get(target)
        return (time.perf_counter() - started_s) * 1e3

    def timed_post(self, target: str, body: bytes) -> float:
        """Return how many milliseconds a POST takes."""
        started_s = time.perf_counter()
        self.post(target, body)
        return (time.perf_counter() - started_s) * 1e3

    def _ask(self, request: bytes) -> bytes:
        self._socket.sendall(request)
        got = self._more(b"")
        while _END not in got:
            got = self._more(got)
        head, _, body = got.partition(_END)
        wanted = _length(head)
        while len(body) < wanted:
            body = self._more(body)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{head.splitlines()[0]!r}: {body[:300]!r}")
        return body

    def _more(self, got: bytes) -> bytes:
        part = self._socket.recv(65_536)
        if not part:
            raise ConnectionError("the connection was closed")
        return got + part


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    raise RuntimeError("an answer without Content-Length")
