"""The memory routes: real figures, under both prefixes."""

from __future__ import annotations

import httpx
import pytest

TA = "/api/v2/technical-analysis"


@pytest.mark.parametrize("prefix", ["/api/memory", "/system/memory"])
@pytest.mark.parametrize(
    "path",
    [
        "/status", "/health", "/diagnostics", "/cache/stats", "/performance/history?hours=168",
        "/optimization/history?limit=100", "/alerts?limit=1", "/monitoring/status",
    ],
)  # fmt: skip
async def test_every_route_answers(client: httpx.AsyncClient, prefix: str, path: str) -> None:
    answer = await client.get(prefix + path)

    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/performance/history?hours=0", "/performance/history?hours=169",
        "/optimization/history?limit=101", "/alerts?limit=0",
    ],
)  # fmt: skip
async def test_bounds_are_kept(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get("/api/memory" + path)).status_code == 422


async def test_technical_statistics_are_those_of_the_cache(client: httpx.AsyncClient) -> None:
    alone = (await client.get(f"{TA}/cache/stats")).json()
    among = (await client.get("/api/memory/cache/stats")).json()

    assert alone["cache_name"] == "technical_analysis"
    assert alone["statistics"] == among["technical_analysis"]


async def test_an_unknown_cache_is_404_with_the_list(client: httpx.AsyncClient) -> None:
    answer = await client.post("/api/memory/cache/clear?cache_name=nothing")

    detail = answer.json()["detail"]
    assert answer.status_code == 404
    assert detail["code"] == "cache_unknown"
    assert "technical_analysis" in detail["message"]


async def test_clearing_says_where_nobody_answered(client: httpx.AsyncClient) -> None:
    one = (await client.post("/api/memory/cache/clear?cache_name=news")).json()
    every = (await client.post("/api/memory/cache/clear")).json()

    assert (one["cleared_cache"], one["cache_count"], one["success"]) == ("news", 1, False)
    assert every["cleared_caches"] == "all"
    assert every["cache_count"] >= 5


async def test_optimising_tells_by_how_much(client: httpx.AsyncClient) -> None:
    done = (await client.post("/system/memory/optimize?aggressive=true")).json()
    history = (await client.get("/api/memory/optimization/history")).json()

    performed = done["system_optimization"]["optimizations_performed"]
    assert done["success"] is True
    assert [p["process"] for p in performed] == ["local"]
    assert history["record_count"] == 1
    assert history["optimization_history"][0]["reason"] == "asked"


async def test_cleanup_counts(client: httpx.AsyncClient) -> None:
    answer = (await client.post("/api/memory/cache/cleanup")).json()

    assert answer["success"] is True
    assert answer["total_expired_items"] == sum(answer["cache_details"].values())


async def test_prometheus_lines_are_names_and_numbers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics/memory")

    lines = dict(line.split(" ") for line in answer.text.splitlines())
    assert answer.headers["content-type"].startswith("text/plain")
    assert {"memory_usage_percent", "memory_available_mb", "cached_items_total"} <= set(lines)
    assert all(float(value) >= 0 for value in lines.values())
