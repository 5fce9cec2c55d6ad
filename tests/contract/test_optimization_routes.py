"""Optimisation rules over HTTP: dependencies, what processes are told, judged and taken back."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import httpx

from actors.monitor.reading import Reading
from infra.metrics import snapshot
from tests.local import LocalService

RULES = "/api/v2/optimization"


async def test_all_are_on_at_first(local: LocalService, client: httpx.AsyncClient) -> None:
    data = (await client.get(f"{RULES}/status")).json()["data"]

    assert (data["total_rules"], data["enabled_rules"], data["baseline_set"]) == (6, 6, False)
    assert local.monitor.rules.off == frozenset()
    one = (await client.get(f"{RULES}/rules/caching_price_data")).json()["data"]
    assert one["performance_threshold"]["cache_hit_rate_minimum"] == 80


async def test_a_switch_is_told_and_kept(local: LocalService, client: httpx.AsyncClient) -> None:
    off = await client.post(
        f"{RULES}/disable", json={"rule_id": "async_api_endpoints", "reason": "x"}
    )

    data = off.json()["data"]
    assert (data["status"], data["optimization_status"]) == ("success", "disabled")
    assert data["dependents"] == ["background_heavy_tasks"]
    assert local.monitor.rules.off == {"async_api_endpoints"}
    assert local.monitor.changes == 1
    again = type(local.monitor)(local.settings, local.services.store, local.clock)
    await again.load()
    assert again.rules.off == {"async_api_endpoints"}
    history = (await client.get(f"{RULES}/history")).json()["history"]
    assert [(h["rule_id"], h["status"]) for h in history] == [("async_api_endpoints", "disabled")]


async def test_a_rule_needs_those_it_depends_on_unless_forced(client: httpx.AsyncClient) -> None:
    ids = ["async_api_endpoints", "background_heavy_tasks"]
    await client.post(f"{RULES}/batch/disable", json={"rule_ids": ids, "reason": "test"})

    refused = await client.post(f"{RULES}/enable", json={"rule_id": ids[1]})
    forced = await client.post(f"{RULES}/enable", json={"rule_id": ids[1], "force": True})
    batch = (
        await client.post(f"{RULES}/batch/enable", json={"rule_ids": [*ids, "no"], "reason": "x"})
    ).json()

    assert refused.status_code == 409
    assert "async_api_endpoints" in refused.json()["detail"]["message"]
    assert forced.status_code == 200
    assert (batch["status"], batch["successful_count"], batch["failed_count"]) == ("partial", 2, 1)


async def test_rules_of_users_come_and_go(client: httpx.AsyncClient) -> None:
    rule = {"id": "my_rule", "name": "Mine", "optimization_type": "caching",
            "dependencies": ["caching_price_data"],
            "performance_threshold": {"response_time_increase_percent": 10}}  # fmt: skip
    assert (await client.post(f"{RULES}/rules", json=rule)).status_code == 200
    assert (await client.post(f"{RULES}/rules", json=rule)).status_code == 422
    wrong: list[dict[str, Any]] = [
        {"id": "other", "optimization_type": "magic"},
        {"id": "other", "dependencies": ["nothing"]},
        {"id": "other", "performance_threshold": {"mood_minimum": 3}},
    ]
    for change in wrong:
        assert (await client.post(f"{RULES}/rules", json=rule | change)).status_code == 422, change
    assert (await client.delete(f"{RULES}/rules/my_rule")).status_code == 200
    assert (await client.delete(f"{RULES}/rules/my_rule")).status_code == 404
    assert (await client.delete(f"{RULES}/rules/caching_price_data")).status_code == 409
    near = (await client.post(f"{RULES}/enable", json={"rule_id": "price_data"})).json()["detail"]
    assert "nearest known: caching_price_data" in near["message"]
    for body in ({"rule_id": "nothing"},):
        assert (await client.post(f"{RULES}/enable", json=body)).status_code == 404
        assert (await client.post(f"{RULES}/disable", json=body)).status_code == 404


async def test_a_baseline_is_measured(local: LocalService, client: httpx.AsyncClient) -> None:
    assert (await client.get(f"{RULES}/baseline")).status_code == 404
    assert (await client.post(f"{RULES}/baseline")).status_code == 409

    await local.monitor.look(snapshot())
    local.clock.advance(10)
    await local.monitor.look(snapshot())
    made = (await client.post(f"{RULES}/baseline")).json()["data"]["baseline"]

    assert made["disk_usage_percent"] == 30.0
    assert (await client.get(f"{RULES}/baseline")).json()["data"]["baseline"] == made


def reading(at_s: float, response_ms: float, like: Reading) -> Reading:
    return replace(like, at_s=at_s, span_s=10.0, avg_response_ms=response_ms, requests=500)


async def test_what_made_it_worse_is_taken_back_and_told(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    draws, performance = random.Random(7), local.monitor.performance
    await local.monitor.look(snapshot())
    local.clock.advance(10)
    await local.monitor.look(snapshot())
    like = performance.fine[-1]
    performance.fine.clear()
    await client.post(f"{RULES}/disable", json={"rule_id": "memory_optimization_basic"})

    async def pass_minutes(minutes: int, response_ms: float) -> None:
        for _ in range(6 * minutes):
            local.clock.advance(10)
            value = response_ms * draws.lognormvariate(0, 0.1)
            performance.fine.append(reading(local.clock.time_s(), value, like))
            await local.monitor.rules.look()

    await pass_minutes(15, 10.0)
    await client.post(f"{RULES}/enable", json={"rule_id": "memory_optimization_basic"})
    await pass_minutes(16, 14.0)

    state = (await client.get(f"{RULES}/rules/memory_optimization_basic")).json()["data"]
    assert state["status"] == "rollback"
    assert "memory_optimization_basic" in local.monitor.rules.off
    alerts = (await client.get("/api/v2/alerts/history")).json()["data"]["alert_history"]
    assert [a["rule_id"] for a in alerts] == ["optimisation_rolled_back"]


async def test_what_is_forced_on_again_is_judged_by_what_comes_of_that(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    rule_id, draws = "memory_optimization_basic", random.Random(7)
    monitor = local.monitor
    await monitor.look(snapshot())
    local.clock.advance(10)
    await monitor.look(snapshot())
    like = monitor.performance.fine[-1]
    monitor.performance.fine.clear()
    await client.post(f"{RULES}/disable", json={"rule_id": rule_id})

    async def pass_minutes(minutes: int, response_ms: float) -> None:
        for _ in range(6 * minutes):
            local.clock.advance(10)
            value = response_ms * draws.lognormvariate(0, 0.1)
            monitor.performance.fine.append(reading(local.clock.time_s(), value, like))
            await monitor.rules.look()

    await pass_minutes(15, 10.0)
    await client.post(f"{RULES}/enable", json={"rule_id": rule_id})
    await pass_minutes(7, 14.0)
    assert rule_id in monitor.rules.off

    forced = {"rule_id": rule_id, "force": True, "reason": "the load was mine"}
    assert (await client.post(f"{RULES}/enable", json=forced)).status_code == 200
    await pass_minutes(16, 14.0)  # the first switch is looked at twice more meanwhile
    assert rule_id not in monitor.rules.off

    again = type(monitor)(local.settings, local.services.store, local.clock)
    await again.load()
    again.performance.fine.extend(monitor.performance.fine)
    await again.rules.look()
    assert rule_id not in again.rules.off
    history = (await client.get(f"{RULES}/history")).json()["history"]
    assert history[0]["reason"] == "the load was mine"


async def test_recommendations_name_what_is_off(client: httpx.AsyncClient) -> None:
    await client.post(f"{RULES}/disable", json={"rule_id": "websocket_streaming"})
    found = (await client.get(f"{RULES}/recommendations")).json()["recommendations"]

    assert [(one["rule_id"], one["priority"]) for one in found] == [
        ("websocket_streaming", "medium")
    ]


async def test_a_switch_that_the_store_does_not_take_is_not_so(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    local.store.is_away = True

    off = await client.post(
        f"{RULES}/disable", json={"rule_id": "async_api_endpoints", "reason": "x"}
    )

    assert off.status_code == 503
    assert (local.monitor.rules.off, local.monitor.changes) == (frozenset(), 0)
    local.store.is_away = False
    assert (await client.get(f"{RULES}/history")).json()["history"] == []
