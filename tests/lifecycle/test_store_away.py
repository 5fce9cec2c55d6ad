"""The database goes and comes: prices do not notice, and nothing stays half done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.away import World
from tests.service import Service, run_finstage, running, wait_until


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def ready(http: httpx.Client) -> tuple[int, str]:
    answer = http.get("/health/ready")
    return answer.status_code, answer.json()["status"]


def run(http: httpx.Client, name: str) -> dict[str, Any]:
    http.post(f"/api/scheduler/jobs/{name}/run").raise_for_status()

    def row() -> dict[str, Any]:
        rows: list[dict[str, Any]] = http.get("/api/scheduler/jobs").json()["jobs"]
        return next(row for row in rows if row["name"] == name)

    wait_until(lambda: not row()["running"], 60, name)
    return row()


def price_time(http: httpx.Client) -> str:
    return str(http.get("/api/v2/async/symbols/AAPL/price").json()["timestamp"])


def import_own(service: Service, folder: Path) -> None:
    file = folder / "own.csv"
    file.write_text("date,open,high,low,close\n2024-03-04,1,2,1,2\n2024-03-05,2,3,2,3\n")
    done = run_finstage("import", str(file), "--symbol", "OWN", env=service.environment)
    assert done.returncode == 0, done.stderr


def test_the_service_starts_without_its_database_and_lives_through_its_outages(
    world: World, tmp_path: Path
) -> None:
    with (
        running(tmp_path, replay_session_s=60, database_url=world.url) as service,
        httpx.Client(base_url=service.url, timeout=60, trust_env=False) as http,
    ):
        # Started with the database down: degraded, prices there, the store's routes say so
        assert ready(http) == (200, "degraded")
        assert "does not answer" in service.output
        assert http.get("/api/v2/technical-analysis/indicators/AAPL").status_code == 200
        refused = http.get("/api/v2/market-price/snapshots/summary")
        assert refused.status_code == 503
        assert refused.json()["detail"]["code"] == "store_unavailable"

        # It comes: the tables are made, jobs write, an import is served
        world.do(world.proxy.up())
        wait_until(lambda: ready(http) == (200, "ready"), 5, "the store was found")
        assert run(http, "snapshots.close")["last_outcome"] == "ok"
        summary = http.get("/api/v2/market-price/snapshots/summary").json()
        assert not summary["stale"]
        assert summary["snapshots"][0]["latest_close"] > 0
        import_own(service, tmp_path)
        url = "/api/v2/prices/OWN/history?period=max"
        wait_until(lambda: http.get(url).status_code == 200, 5, "an import is served")

        # It goes: prices go on, what was read is given as stale, writes fail with a reason
        world.do(world.proxy.down())
        wait_until(lambda: ready(http) == (200, "degraded"), 5, "the outage was noticed")
        before = price_time(http)
        wait_until(lambda: price_time(http) > before, 5, "a price without a store")
        stale = http.get("/api/v2/market-price/snapshots/summary").json()
        assert stale["stale"] is True
        assert stale["snapshots"] == summary["snapshots"]
        assert http.get(url).json()["close"] == [2.0, 3.0]
        failed = run(http, "snapshots.high")
        assert failed["last_outcome"] == "failed"
        assert "does not answer" in failed["last_message"]
        body = {"symbols": ["AAPL"], "save_results": True}
        unsaved = http.post("/api/v2/technical-analysis/analysis/comprehensive", json=body)
        assert unsaved.status_code == 503

        # It comes again
        world.do(world.proxy.up())
        wait_until(lambda: ready(http) == (200, "ready"), 5, "the store was found again")
        assert run(http, "snapshots.high")["last_outcome"] == "ok"
        wait_until(
            lambda: not http.get("/api/v2/market-price/snapshots/summary").json()["stale"],
            5,
            "the store is read again",
        )
