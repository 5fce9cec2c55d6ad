"""What every request that reaches the application passes: its id, the gate, the counts."""

from __future__ import annotations

import logging
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from infra.context import bound_request_id, new_request_id
from infra.errors import BodyTooLarge, FinstageError
from infra.metrics import HTTP_REQUESTS, HTTP_SECONDS
from serve.edge.errors import error_response
from serve.edge.gate import Gate
from serve.edge.routes import Routes
from serve.edge.scope import DIRECT, KEY_NAME, REQUEST_ID, TOO_LARGE

logger = logging.getLogger(__name__)


_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


class RequestMiddleware:
    """Bind the request id, admit, count and time.

    The id is put into the answer's headers too, unless Serve does that: `behind_serve`, and the
    request did not come past it (`DIRECT` in the scope).
    """

    def __init__(self, app: ASGIApp, gate: Gate, behind_serve: bool, max_body_bytes: int) -> None:
        self._app = app
        self._gate = gate
        self._max_body_bytes = max_body_bytes
        self._behind_serve = behind_serve
        self._routes: Routes | None = None  # of the application that this is a part of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or handshake."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        # Serve's prefix, which a request past Serve has not: routes are declared with it.
        scope["root_path"] = ""
        given = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"")
        request_id = scope[REQUEST_ID] = new_request_id(given.decode("latin-1"))
        with bound_request_id(request_id):
            try:
                scope[KEY_NAME] = self._gate.admit(scope, self._answering)
                _check_length(scope, self._max_body_bytes)
            except FinstageError as error:
                await self._refuse(error, request_id, scope, receive, send)
                return
            if scope["type"] == "websocket":
                await self._app(scope, receive, send)
            else:
                await self._count(request_id, scope, receive, send)

    def _answering(self, scope: Scope) -> str:
        if self._routes is None:
            self._routes = Routes(scope["app"].routes)
        return self._routes.answering(scope["path"], scope.get("method", ""))

    def _adds_request_id(self, scope: Scope) -> bool:
        return DIRECT in scope or not self._behind_serve

    async def _count(self, request_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        started_s = time.perf_counter()
        status = 500
        if scope["method"] not in _WITHOUT_BODY:
            receive = _bounded(receive, scope, self._max_body_bytes)

        adds_request_id = self._adds_request_id(scope)

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if adds_request_id:
                    header = (b"x-request-id", request_id.encode())
                    message["headers"] = [*message["headers"], header]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            took_s = time.perf_counter() - started_s
            route = getattr(scope.get("route"), "path", "unmatched")
            HTTP_REQUESTS.labels(scope["method"], route, str(status)).inc()
            HTTP_SECONDS.labels(route).observe(took_s)
            logger.info(
                "request.answered",
                extra={
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "took_ms": round(took_s * 1_000, 2),
                    "key": scope[KEY_NAME],
                },
            )

    async def _refuse(
        self, error: FinstageError, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        response = error_response(error)
        if self._adds_request_id(scope):
            response.headers["x-request-id"] = request_id
        if scope["type"] == "http":
            HTTP_REQUESTS.labels(scope["method"], "refused", str(error.status_code)).inc()
            await response(scope, receive, send)
        elif "websocket.http.response" in scope.get("extensions", {}):
            start = {
                "type": "websocket.http.response.start",
                "status": error.status_code,
                "headers": response.raw_headers,
            }
            await send(start)
            await send({"type": "websocket.http.response.body", "body": response.body})
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": error.message[:120]})


def _check_length(scope: Scope, limit_bytes: int) -> None:
    """Raise BodyTooLarge if the request says that its body is too long."""
    length = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
    if length.isdigit() and int(length) > limit_bytes:
        raise BodyTooLarge(limit_bytes)


def _bounded(receive: Receive, scope: Scope, limit_bytes: int) -> Receive:
    """Return a `receive` that ends a body which grew too long without having said so.

    FastAPI makes its own error of it, so the reason is left in the scope.
    """
    left_bytes = limit_bytes

    async def bounded() -> Message:
        nonlocal left_bytes
        message = await receive()
        left_bytes -= len(message.get("body", b""))
        if left_bytes < 0:
            scope[TOO_LARGE] = BodyTooLarge(limit_bytes)
            raise BodyTooLarge(limit_bytes)
        return message

    return bounded
