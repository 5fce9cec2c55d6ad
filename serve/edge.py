"""Answers cached GETs before Serve's machinery sees them; passes everything else on.

Serve installs `middlewares` in each replica and in its own fallback proxy (see
docs/decisions/0002). The deployment's constructor runs before the replica's server starts and
calls `open_site`: the one module global of the project. A process without a site passes HTTP
through and refuses sockets, since a socket that the fallback proxy accepts stays behind it for
life. Without this hook the service is slower, never wrong.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.context import new_request_id
from infra.errors import FinstageError
from infra.metrics import HTTP_REQUESTS, NEAR_CACHE
from serve.errors import error_body, error_headers
from serve.gate import Gate
from serve.near import NearCache, Rendered

_REQUEST_ID = b"x-request-id"


@dataclass(slots=True)
class Site:
    """What the edge of one replica needs: who may, and what is known."""

    gate: Gate
    near: NearCache
    gzip_above_bytes: int
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)

    def flush_counts(self) -> None:
        """Move the counts of cached answers into the metrics; cheap integers until then."""
        for (route, status), count in self.answered.items():
            HTTP_REQUESTS.labels("GET", route, status).inc(count)
            NEAR_CACHE.labels("edge").inc(count)
        self.answered.clear()


_site: Site | None = None


def open_site(site: Site) -> None:
    """Let the edge of this process answer from `site`."""
    global _site
    _site = site


def close_site() -> None:
    """Let the edge of this process pass everything on."""
    global _site
    _site = None


def middlewares() -> list[Middleware]:
    """Return what Serve is to install; named in RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH."""
    return [Middleware(Edge)]


class Edge:
    """The ASGI application around everything else in the process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory, or pass on."""
        site = _site
        if site is None:
            if scope["type"] == "websocket":
                await _refuse_socket(send)
            else:
                await self._app(scope, receive, send)
            return
        if scope["type"] == "http" and scope["method"] == "GET":
            entry = site.near.lookup(scope["path"], scope["query_string"])
            if entry is not None and await _answer(site, entry, scope, send):
                return
        if scope["type"] in ("http", "websocket"):
            _set_request_id(scope)
        await self._app(scope, receive, send)


async def _answer(site: Site, entry: Rendered, scope: Scope, send: Send) -> bool:
    """Send a cached answer; False if the request is one for the application (CORS)."""
    zips = matches = False
    given = ""
    for name, value in scope["headers"]:
        if name == b"accept-encoding":
            zips = b"gzip" in value
        elif name == b"if-none-match":
            matches = value == entry.etag or entry.etag in value
        elif name == b"origin":
            return False
        elif name == _REQUEST_ID:
            given = value.decode("latin-1")
    request_id = (_REQUEST_ID, new_request_id(given).encode())
    try:
        site.gate.admit(scope)
    except FinstageError as error:
        await _send_error(error, request_id, send)
        return True
    status, headers, body = 200, entry.headers, entry.body
    if matches:
        status, headers, body = 304, entry.headers_304, b""
    elif zips and len(entry.body) > site.gzip_above_bytes:
        body = entry.zip()
        headers = entry.headers_zipped
    site.answered[entry.route, str(status)] += 1
    start = {"type": "http.response.start", "status": status, "headers": [*headers, request_id]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
    return True


async def _send_error(error: FinstageError, request_id: tuple[bytes, bytes], send: Send) -> None:
    body = error_body(error)
    headers = [(k.encode(), v.encode()) for k, v in error_headers(error).items()]
    headers += [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        request_id,
    ]
    start = {"type": "http.response.start", "status": error.status_code, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})


def _set_request_id(scope: Scope) -> None:
    headers = scope["headers"]
    for index, (name, value) in enumerate(headers):
        if name == _REQUEST_ID:
            headers[index] = (name, new_request_id(value.decode("latin-1")).encode())
            return
    scope["headers"] = [*headers, (_REQUEST_ID, new_request_id().encode())]


async def _refuse_socket(send: Send) -> None:
    start = {
        "type": "websocket.http.response.start",
        "status": 503,
        "headers": [(b"retry-after", b"1"), (b"content-length", b"0")],
    }
    await send(start)
    await send({"type": "websocket.http.response.body", "body": b""})
