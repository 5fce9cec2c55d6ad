"""Answers cached GETs, and hands everything else to the application, past Serve's machinery.

Serve installs `middlewares` in each replica and in its own fallback proxy (see
docs/decisions/0002). The deployment's constructor runs before the replica's server starts and
calls `open_site`: the one module global of the project. A process without a site passes HTTP
through and refuses sockets, since a socket that the fallback proxy accepts stays behind it for
life. Without this hook the service is slower, never wrong.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from prometheus_client import Histogram
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.context import bound_request_id, new_request_id
from infra.directives import ASYNC_ENDPOINTS, following, is_on
from infra.errors import FinstageError
from infra.metrics import HTTP_REQUESTS, HTTP_SECONDS
from serve.edge.errors import error_body, error_headers
from serve.edge.gate import Gate
from serve.edge.near import NearCache, Rendered
from serve.edge.scope import DIRECT
from serve.edge.trials import Trials

logger = logging.getLogger(__name__)

_REQUEST_ID = b"x-request-id"
_SERVES_OWN = "/-/"  # HAProxy asks /-/healthz here whether the replica is up


Quick = Callable[[str, bytes], Callable[[], Awaitable[Rendered]] | None]


@dataclass(slots=True)
class Site:
    """What the edge of one replica needs: who may, what is known, and who answers the rest.

    `app` takes what is not answered here, in the place of Serve's machinery; `quick` returns what
    answers a plain question that memory does not, or None. All of it belongs to `loop`: where
    Serve runs its server on another one, everything is passed on.
    """

    gate: Gate
    near: NearCache
    gzip_above_bytes: int
    app: ASGIApp
    loop: asyncio.AbstractEventLoop
    quick: Quick = field(default=lambda _path, _query: None)
    trials: Trials = field(default_factory=lambda: Trials(lambda _: ""))
    answered: Counter[tuple[str, str]] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)

    _timers: dict[str, Histogram] = field(default_factory=dict)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from memory, or hand on to the application."""
        if (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and is_on(ASYNC_ENDPOINTS)
            and await _answers(self, scope, send)
        ):
            return
        _set_request_id(scope)
        scope[DIRECT] = True
        await self.app(scope, receive, send)

    def timer(self, route: str) -> Histogram:
        """Return the clock of a route's answers."""
        timer = self._timers.get(route)
        if timer is None:
            timer = self._timers[route] = HTTP_SECONDS.labels(route)
        return timer

    def flush_counts(self) -> None:
        """Move the counts of cached answers into the metrics; cheap integers until then."""
        for (route, status), count in self.answered.items():
            HTTP_REQUESTS.labels("GET", route, status).inc(count)
        self.answered.clear()
        for route, count in self.hits.items():
            self.near.count_hits(route, count)
        self.hits.clear()


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
        kind = scope["type"]
        if (
            kind not in ("http", "websocket")
            or scope["path"].startswith(_SERVES_OWN)
            or site.loop is not asyncio.get_running_loop()
        ):
            await self._app(scope, receive, send)
        elif kind == "http" and site.trials.run:
            await site.trials.through(site.handle, scope, receive, send)
        else:
            await site.handle(scope, receive, send)


async def _answers(site: Site, scope: Scope, send: Send) -> bool:
    """Send the answer to a plain question; False if it is one for the application."""
    began_s = time.perf_counter()
    path, query = scope["path"], scope["query_string"]
    entry = site.near.lookup(path, query)
    ask = site.quick(path, query) if entry is None else None
    if entry is None and ask is None:
        return False
    given = _Given(scope)
    if given.origin or given.wants_table:  # CORS and other formats are the application's
        return False
    request_id = new_request_id(given.request_id)
    header = (_REQUEST_ID, request_id.encode())
    with bound_request_id(request_id):
        try:
            site.gate.admit(scope)
            if entry is not None:
                site.hits[entry.route] += 1
            elif ask is not None:
                entry = await ask()
        except FinstageError as error:
            HTTP_REQUESTS.labels("GET", "refused", str(error.status_code)).inc()
            await _send_error(error, header, send)
            return True
        except Exception:  # a bug: the application asks its gate, and has the words
            logger.exception("edge.failed", extra={"path": path})
            return False
    if entry is None:
        return False
    await _send_entry(site, entry, given, header, send)
    if following.now.watches:
        site.timer(entry.route).observe(time.perf_counter() - began_s)
    return True


class _Given:
    """What the edge reads from a request's headers."""

    __slots__ = ("etags", "origin", "request_id", "wants_table", "zips")

    def __init__(self, scope: Scope) -> None:
        self.zips = self.origin = self.wants_table = False
        self.etags = b""
        self.request_id = ""
        for name, value in scope["headers"]:
            if name == b"accept-encoding":
                self.zips = b"gzip" in value
            elif name == b"if-none-match":
                self.etags = value
            elif name == b"origin":
                self.origin = True
            elif name == b"accept":
                self.wants_table = b"csv" in value or b"apache" in value
            elif name == _REQUEST_ID:
                self.request_id = value.decode("latin-1")


async def _send_entry(
    site: Site, entry: Rendered, given: _Given, request_id: tuple[bytes, bytes], send: Send
) -> None:
    status, headers, body = 200, entry.headers, entry.body
    if entry.etag in given.etags:
        status, headers, body = 304, entry.headers_304, b""
    elif given.zips and len(entry.body) > site.gzip_above_bytes:
        body = entry.zip()
        headers = entry.headers_zipped
    site.answered[entry.route, str(status)] += 1
    start = {"type": "http.response.start", "status": status, "headers": [*headers, request_id]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


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
