"""Who may ask which route, on every port and however its path is spelled."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from starlette.types import Message

from serve.edge.gate import Gate
from serve.ws.app import Upstream, create_stream
from serve.ws.roster import Roster
from serve.ws.sockets import SocketTable
from tests.contract.test_wire import Alone, live, published
from tests.local import LocalService
from tests.settings import made_settings

KEYS = "bot:0123456789"
FOR_OPERATORS = {"/ws/clients", "/ws/status"}
OPEN = {
    "/health/live", "/health/ready", "/metrics", "/metrics/memory", "/monitoring/health",
    "/monitoring/health/live", "/monitoring/health/ready", "/monitoring/metrics", "/openapi.json",
    "/docs", "/", "/ws/demo", "/tasks", "/performance-dashboard",
    "/api/v2/performance/dashboard/html",
}  # fmt: skip
COMPUTING = {
    "/api/v2/technical-analysis/batch/indicators",
    "/api/v2/technical-analysis/analysis/comprehensive",
    "/api/v2/market-price/batch/current",
    "/api/v2/technical-analysis/screen",
}
CHANGING = ("POST", "PUT", "DELETE")


def stream(folder: Path, **settings: Any) -> Any:
    given = made_settings(data_dir=folder, api_keys=KEYS, **settings)
    table = SocketTable()
    upstream = Upstream(None, live, published, Alone())
    return create_stream(given, table, Gate(given), upstream, Roster(table, "s", Alone()))


def rest(folder: Path, **settings: Any) -> Any:
    return LocalService(folder, api_keys=KEYS, **settings).app


def endpoints(app: Any) -> dict[Any, str]:
    """Return the declared path of every endpoint; pages and mounts too."""
    known = {}
    for context in iter_route_contexts(app.routes):
        known[context.endpoint or context.original_route.app] = context.path or ""  # type: ignore[attr-defined]
    return known


def spellings(declared: str) -> Iterator[tuple[str, str]]:
    """Yield how a path may come in a scope, with its root, on each of the ports.

    Past Serve without a root, through Serve with `/ws`, through its fallback proxy with `/ws`
    before the whole path; on a replica's own port with anything.
    """
    path = re.sub(r"\{.*?\}", "AAPL", declared)
    ways = {
        path, path + "/", path + "\n", path + "\0", "/" + path, path.upper(), "/." + path,
        path.replace("/", "//"), "/ws" + path, path.removeprefix("/ws") or "/", path + "%0a",
        "/assets/.." + path,
    }  # fmt: skip
    for way in sorted(ways):
        for root in ("", "/ws"):
            yield way, root


async def reached(app: Any, method: str, path: str, root: str) -> tuple[int, Any]:
    """Ask without a key; return the status, and the endpoint that the request came to."""
    status = 0
    coming = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        return next(coming, {"type": "http.disconnect"})

    async def send(message: Message) -> None:
        nonlocal status
        status = message.get("status", status)

    scope: dict[str, Any] = {
        "type": "http", "method": method, "path": path, "root_path": root,
        "headers": [(b"host", b"localhost")], "raw_path": path.encode(), "query_string": b"",
        "scheme": "http", "http_version": "1.1", "server": ("localhost", 80),
        "client": ("127.0.0.1", 1), "extensions": {},
    }  # fmt: skip
    await app(scope, receive, send)
    return status, scope.get("endpoint")


async def came_through(app: Any, methods: tuple[str, ...]) -> tuple[set[str], int]:
    """Return the routes that answered somebody without a key, and how often none did."""
    known = endpoints(app)
    through, refused = set(), 0
    for declared in sorted(set(known.values())):
        for path, root in spellings(declared):
            for method in methods:
                status, endpoint = await reached(app, method, path, root)
                if endpoint is not None and status not in (404, 405):
                    through.add(known[endpoint])
                refused += status == 401
    return through, refused


@pytest.mark.parametrize("make", [rest, stream])
async def test_without_a_key_only_open_routes_are_read_where_reads_need_one(
    tmp_path: Path, make: Any
) -> None:
    app = make(tmp_path, key_for_reads=True)
    through, refused = await came_through(app, ("GET",))

    assert through == OPEN & set(endpoints(app).values())
    assert refused > len(endpoints(app))


@pytest.mark.parametrize(("make", "computing"), [(rest, COMPUTING), (stream, set())])
async def test_without_a_key_nothing_is_changed(tmp_path: Path, make: Any, computing: Any) -> None:
    app = make(tmp_path)
    through, refused = await came_through(app, CHANGING)

    assert through == computing
    assert refused > len(endpoints(app))


@pytest.mark.parametrize(
    ("body", "headers"),
    [({"save_results": True}, {}), ({}, {"prefer": "respond-async"})],
)
async def test_without_a_key_what_computes_keeps_nothing_and_queues_nothing(
    tmp_path: Path, body: dict[str, Any], headers: dict[str, str]
) -> None:
    transport = httpx.ASGITransport(rest(tmp_path))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        url = "/api/v2/technical-analysis/analysis/comprehensive"
        answer = await client.post(url, json={"symbols": ["AAPL"]} | body, headers=headers)

    assert (answer.status_code, answer.json()["detail"]["code"]) == (401, "key_required")


async def test_without_a_key_nobody_reads_of_other_clients(tmp_path: Path) -> None:
    through, refused = await came_through(stream(tmp_path), ("GET", "HEAD"))

    assert through == {"/ws/demo", "/ws/sse"}
    assert refused > len(FOR_OPERATORS)
