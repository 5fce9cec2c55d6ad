"""What `/health/ready` says of a service that nobody can connect to any more."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from infra.metrics import SOCKETS
from tests.local import LocalService

PROCESSES = ("stream-1", "stream-2")


@pytest.fixture
def most(local: LocalService) -> Iterator[int]:
    for process in PROCESSES:
        SOCKETS.labels(process).set(1)
    yield local.settings.max_sockets
    for process in PROCESSES:
        SOCKETS.remove(process)


async def sockets(client: httpx.AsyncClient) -> tuple[str, str, str]:
    body = (await client.get("/health/ready")).json()
    check = body["checks"]["sockets"]
    return body["status"], check["status"], check["detail"]


async def test_a_process_without_a_free_place_is_degraded(
    client: httpx.AsyncClient, most: int
) -> None:
    assert await sockets(client) == ("ready", "ok", f"2 open, {most} at most in a process")
    SOCKETS.labels(PROCESSES[1]).set(most - 1)
    assert (await sockets(client))[:2] == ("ready", "ok")
    SOCKETS.labels(PROCESSES[1]).set(most)
    assert (await sockets(client))[:2] == ("degraded", "full")
    health = await client.get("/monitoring/health")
    checks = health.json().get("detail", health.json())["checks"]
    assert checks["sockets"]["status"] == "degraded"
