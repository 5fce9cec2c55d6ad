"""A full disk and a locked table: said in time, nothing acknowledged, and over when they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.away import World
from tests.disks import fill, make_room, small_disk
from tests.service import run_finstage, running, wait_until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.do(made.proxy.up())
    yield made
    made.close()


def state(http: httpx.Client) -> tuple[int, str, str]:
    answer = http.get("/health/ready")
    body = answer.json()
    return answer.status_code, body["status"], body["checks"]["store"]["status"]


def monitored_symbols(http: httpx.Client) -> list[str]:
    items = http.get("/api/v2/symbols").json()["items"]
    return [item["symbol"] for item in items if item["monitored"]]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


def test_a_full_disk_and_a_locked_table_are_said_and_pass(world: World, tmp_path: Path) -> None:
    with (
        small_disk(tmp_path, "64m") as disk,
        running(disk, database_url=world.url) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http,
    ):
        wait_until(lambda: state(http) == (200, "ready", "ok"), 5, "all is well")
        monitored = monitored_symbols(http)
        full_disk(http, disk)
        assert monitored_symbols(http) == monitored
        locked_table(http, world)
        assert run_finstage("status", env=service.environment).returncode == 0


def full_disk(http: httpx.Client, disk: Path) -> None:
    fill(disk)

    changes = [
        http.post("/api/scheduler/jobs/bars.daily/pause"),
        http.post("/api/v2/symbols", json={"symbols": ["AAPL"]}),
        http.delete("/api/v2/symbols", params={"symbols": "AAPL"}),
    ]
    assert [code(answer) for answer in changes] == [(503, "store_full")] * 3
    assert not job(http, "bars.daily")["paused"]
    wait_until(lambda: state(http) == (200, "degraded", "full"), 5, "a full disk was noticed")
    detail = http.get("/health/ready").json()["checks"]["store"]["detail"]
    assert "disk" in detail

    make_room(disk)
    wait_until(lambda: state(http) == (200, "ready", "ok"), 5, "room was noticed")
    assert http.post("/api/scheduler/jobs/bars.daily/pause").status_code == 200
    assert job(http, "bars.daily")["paused"]
    assert http.post("/api/scheduler/jobs/bars.daily/resume").status_code == 200


def job(http: httpx.Client, name: str) -> dict[str, Any]:
    rows: list[dict[str, Any]] = http.get("/api/scheduler/jobs").json()["jobs"]
    return next(row for row in rows if row["name"] == name)


def locked_table(http: httpx.Client, world: World) -> None:
    engine = create_async_engine(world.direct)
    connection = world.do(engine.connect().__aenter__())
    world.do(connection.execute(text("LOCK TABLES alerts WRITE")))
    try:
        said_as_busy(http)
    finally:
        world.do(connection.execute(text("UNLOCK TABLES")))
        world.do(connection.close())
        world.do(engine.dispose())
    assert http.get("/api/v2/alerts/fired").status_code == 200
    wait_until(lambda: state(http) == (200, "ready", "ok"), 5, "the end of the lock was noticed")


def said_as_busy(http: httpx.Client) -> None:
    began_s = time.monotonic()
    locked = http.get("/api/v2/alerts/fired")
    took_s = time.monotonic() - began_s
    assert code(locked) == (503, "store_busy")
    assert "restart" not in locked.text
    assert took_s < 3 * 5.0  # 5 s; a slow machine decides no test
    wait_until(lambda: state(http) == (200, "degraded", "busy"), 8, "the lock was noticed")
