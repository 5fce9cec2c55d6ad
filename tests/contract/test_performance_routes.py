"""Performance, health and the pages' figures: real ones, null where nothing was measured."""

from __future__ import annotations

from typing import Literal

import httpx
import pytest

from infra.errors import ActorUnavailable
from infra.metrics import snapshot
from pipelines.scheduler.client import StoreState
from tests.local import LocalService
from tests.local_monitor import MACHINE

P = "/api/v2/performance"


@pytest.fixture
async def measured(local: LocalService, client: httpx.AsyncClient) -> LocalService:
    """A service that was looked at for two minutes, with forty requests in between."""
    monitor = local.monitor
    await monitor.look(snapshot())
    for _ in range(12):
        for _ in range(3):
            await client.get("/api/v2/technical-analysis/indicators/AAPL")
        await client.get("/api/v2/technical-analysis/indicators/NO.SUCH")
        local.clock.advance(10)
        await monitor.look(snapshot())
    return local


@pytest.mark.parametrize(
    "path",
    [f"{P}/metrics/summary", f"{P}/dashboard", "/api/metrics/current", "/monitoring/status"],
)
async def test_before_the_first_reading_there_is_none(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)

    assert answer.status_code == 404
    assert "first comes within" in answer.json()["detail"]["message"]


async def test_a_reading_says_what_was_asked(
    measured: LocalService, client: httpx.AsyncClient
) -> None:
    current = (await client.get("/api/metrics/current")).json()
    summary = (await client.get(f"{P}/metrics/summary?minutes=5")).json()

    assert current["requests_per_second"] == pytest.approx(0.4)
    assert current["error_rate_percent"] == 0.0  # 404 is the caller's
    assert current["avg_response_time_ms"] > 0
    assert current["memory_usage_percent"] >= MACHINE.memory_percent
    assert summary["response_time"]["count"] == 48
    assert summary["time_window_minutes"] == 5


async def test_the_dashboard_has_what_the_page_shows(
    measured: LocalService, client: httpx.AsyncClient
) -> None:
    body = (await client.get(f"{P}/dashboard")).json()

    assert len(body["series"]) == 12
    assert body["routes"][0]["route"] == "/api/v2/technical-analysis/indicators/{symbol}"
    assert {rule["status"] for rule in body["rules"]} == {"enabled"}
    assert body["alerts"] == body["experiments"] == []
    assert [stage["stage"] for stage in body["stages"]] == ["source", "compute", "hub", "write"]


async def test_history_and_report_are_of_minutes(
    measured: LocalService, client: httpx.AsyncClient
) -> None:
    history = (await client.get("/api/metrics/history?hours=1")).json()
    report = (await client.get(f"{P}/report")).json()

    assert history["total_measurements"] == 2
    assert sum(history["status_distribution"].values()) == 2
    assert report["switches"] == report["tuning"] == []


async def test_readings_outlive_the_process(measured: LocalService) -> None:
    again = type(measured.monitor)(measured.settings, measured.services.store, measured.clock)
    await again.load()

    assert [r.at_s for r in again.performance.minutes] == [
        r.at_s for r in measured.monitor.performance.minutes
    ]


async def test_a_push_goes_to_the_hub_with_each_reading(measured: LocalService) -> None:
    assert [m.topic for m in measured.monitor.told].count("performance:now") == 12


@pytest.mark.parametrize(
    "path", ["/api/metrics/history?hours=0", "/api/metrics/history?hours=25",
             f"{P}/metrics/summary?minutes=0", f"{P}/report?hours=x"],
)  # fmt: skip
async def test_bounds_are_kept(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 422


async def test_health_names_every_part(measured: LocalService, client: httpx.AsyncClient) -> None:
    answer = await client.get("/monitoring/health")
    body = answer.json()
    body = body if answer.status_code == 200 else body["detail"]

    parts = {"feed", "indicators", "hub", "cache", "store", "monitor", "system_resources"}
    assert parts <= body["checks"].keys()
    assert (answer.status_code == 200) == (body["status"] == "healthy")
    for path in ("/monitoring/health/live", "/monitoring/info", "/monitoring/metrics",
                 "/monitoring/status", "/api/health", "/monitoring/directives"):  # fmt: skip
        assert (await client.get(path)).status_code == 200, path


async def test_a_start_without_a_reading_is_healthy(client: httpx.AsyncClient) -> None:
    answer = await client.get("/monitoring/health")
    assert answer.status_code == 200, answer.text
    assert answer.json()["checks"]["monitor"] == {
        "status": "healthy",
        "message": "there is no reading yet: the first comes within ten seconds",
    }


@pytest.mark.parametrize("trouble", ["away", "full", "busy", None])
async def test_health_is_the_worst_of_its_parts(
    local: LocalService,
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Literal["away", "full", "busy"] | None,
) -> None:
    async def store_state() -> StoreState:
        if trouble is None:
            raise ActorUnavailable("scheduler", 1.0)
        return StoreState(trouble, "said", 0.0)

    monkeypatch.setattr(local.services.scheduler, "store_state", store_state)
    ready = await client.get("/health/ready")
    health = await client.get("/monitoring/health")

    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert (health.status_code, health.json()["detail"]["status"]) == (503, "degraded")
    store, told = ready.json()["checks"]["store"], health.json()["detail"]["checks"]["store"]
    assert store["status"] == (trouble or "unknown")
    assert told == {"status": "degraded", "message": store["detail"]}


async def test_log_levels_change_at_run_time(client: httpx.AsyncClient) -> None:
    changed = await client.put("/monitoring/logs/level", json={"level": "DEBUG"})
    wrong = await client.put("/monitoring/logs/level", json={"level": "LOUD"})

    assert changed.json() == {"level": "DEBUG", "configured": "INFO"}
    assert wrong.status_code == 422


async def test_tuning_can_be_switched_and_reset(client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{P}/tuning")).json()["auto_tuning"] is True
    assert (await client.post(f"{P}/tuning/stop")).json()["auto_tuning"] is False
    reset = (await client.post(f"{P}/tuning/reset")).json()
    assert reset["knobs"] == reset["configured"]
    assert (await client.post(f"{P}/tuning/faster")).status_code == 404
