"""`finstage dashboard`: the operators' page on a port of its own, for a service elsewhere too."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import uvicorn
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from rich.console import Console
from starlette.responses import FileResponse, Response

from infra.errors import ConfigError
from serve.web.pages import ASSETS, HEADERS, assets

_EVERY_S = 10.0
_PASSED_ON = ("/api/v2/performance/", "/api/v2/alerts/", "/api/metrics/", "/health/")
_KEPT_HEADERS = ("content-type", "cache-control")


def create_dashboard(url: str, api_key: str = "", every_s: float = _EVERY_S) -> FastAPI:
    """Return an application that shows the page and asks the service at `url` for its figures."""

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        headers = {"X-API-Key": api_key} if api_key else {}
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=10, trust_env=False
        ) as client:
            app.state.client = client
            yield

    app = FastAPI(lifespan=life, openapi_url=None)

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(ASSETS / "performance.html", headers=HEADERS)

    @app.get("/api/health")
    async def health() -> Response:
        return await _passed_on(app, "GET", "/api/health")

    @app.api_route("/api/{path:path}", methods=["GET", "PUT"])
    async def passed_on(request: Request) -> Response:
        path = request.url.path
        if not path.startswith(_PASSED_ON):
            return Response(status_code=404)
        query = f"?{request.url.query}" if request.url.query else ""
        return await _passed_on(app, request.method, path + query)

    @app.websocket("/ws")
    @app.websocket("/ws/realtime")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        reader = asyncio.create_task(_listen(socket))
        try:
            while not reader.done():
                data = await _current(app)
                if data is not None:
                    message = {"type": "metrics_update", "data": data}
                    await socket.send_text(orjson.dumps(message).decode())
                await asyncio.wait({reader}, timeout=every_s)
        except (WebSocketDisconnect, RuntimeError):
            return
        finally:
            reader.cancel()

    app.mount("/assets", assets())
    return app


async def _listen(socket: WebSocket) -> None:
    """Return when the client is gone; what it says is of no matter here."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive_text()


async def _passed_on(app: FastAPI, method: str, path: str) -> Response:
    client: httpx.AsyncClient = app.state.client
    try:
        answer = await client.request(method, path)
    except httpx.HTTPError as error:
        detail = {"code": "service_unreachable", "message": f"no answer: {type(error).__name__}"}
        body = orjson.dumps({"detail": detail | {"retryable": True}})
        return Response(body, 503, media_type="application/json")
    headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
    return Response(answer.content, answer.status_code, headers)


async def _current(app: FastAPI) -> dict[str, Any] | None:
    client: httpx.AsyncClient = app.state.client
    try:
        answer = await client.get("/api/metrics/current")
    except httpx.HTTPError:
        return None
    return answer.json() if answer.status_code == 200 else None


def run_dashboard(url: str, api_key: str, host: str, port: int, console: Console) -> int:
    """Serve the page until Ctrl-C; return the exit code. Raises ConfigError for a taken port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "is taken: stop what uses it, or choose another with --port"
        else:
            why = f"of {host} cannot be had: {error.strerror}"
        raise ConfigError(f"port {port} {why}") from None
    with listening:
        console.print(f"dashboard of {url} at http://{host}:{port}/; Ctrl-C ends it")
        app = create_dashboard(url, api_key)
        config = uvicorn.Config(app, log_level="warning", ws_per_message_deflate=False)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listening])
    return 0
