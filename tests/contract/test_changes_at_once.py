"""Many changes at one time, over HTTP: none is lost, none is done twice, none comes back."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable
from dataclasses import replace
from typing import cast

import httpx
import pytest

from actors.turn import Turn
from tests.local import LocalAlerts, LocalService
from tests.local_monitor import LocalMonitor
from tests.unit.test_optimisation_rules import CALM

HOOKS = "/api/v2/alerts/config/webhook"
TESTS = "/api/v2/ab-tests"
RULES = "/api/v2/optimization/rules"
TEST = {
    "id": "worth", "name": "worth", "traffic_split_method": "random", "min_sample_size": 150,
    "target_endpoints": ["/api/v2/prices/{symbol}/history"],
    "variants": [
        {"id": "off", "name": "off", "traffic_percentage": 50, "is_control": True},
        {"id": "on", "name": "on", "traffic_percentage": 50,
         "optimization_rules": ["caching_price_data"]},
    ],
}  # fmt: skip
NOTHING_MORE = {
    "description": "", "target_services": [], "dependencies": [], "performance_threshold": {},
}  # fmt: skip
RULE = {"id": "my_rule", "name": "Mine", "optimization_type": "caching"}


@pytest.fixture(autouse=True)
async def _warm(client: httpx.AsyncClient) -> None:
    """Make the tables before many ask at once."""
    (await client.get("/api/v2/alerts/history")).raise_for_status()


async def after_a_kill(local: LocalService) -> LocalMonitor:
    """Return what another process finds in the store."""
    again = LocalMonitor(local.settings, local.services.store, local.clock)
    await again.load()
    return again


async def statuses(*asked: Awaitable[httpx.Response]) -> Counter[int]:
    return Counter(answer.status_code for answer in await asyncio.gather(*asked))


async def test_every_webhook_that_was_answered_is_kept(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    urls = [f"https://hooks.example.org/{number}" for number in range(30)]
    answers = await asyncio.gather(*(client.post(HOOKS, json={"webhook_url": u}) for u in urls))
    secrets = {answer.json()["secret"] for answer in answers}
    assert len(secrets) == 30
    kept = (await after_a_kill(local)).alerts._channels.webhooks
    assert {secret for _, secret in kept} == secrets
    assert {url for url, _ in kept} == set(urls)
    gone = await statuses(*(client.request("DELETE", HOOKS, json={"webhook_url": urls[0]})
                            for _ in range(5)))  # fmt: skip
    assert gone == {200: 1, 404: 4}


async def test_changes_of_different_kinds_keep_each_other(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    email = {"smtp_server": "mail.example.org", "smtp_port": 25, "from_email": "a@example.org"}
    rule = {"id": "full_disk", "name": "Disk", "metric_name": "disk_usage_percent",
            "condition": ">", "threshold": 90, "severity": "critical",
            "channels": ["log"]}  # fmt: skip
    done = await statuses(
        client.post("/api/v2/alerts/config/email", json=email),
        client.post(HOOKS, json={"webhook_url": "https://hooks.example.org/x"}),
        client.post("/api/v2/alerts/rules", json=rule),
        client.put("/api/v2/alerts/rules/high_cpu_usage/disable"),
        client.put("/api/v2/alerts/rules/low_cache_hit_rate/disable"),
        client.post("/api/v2/alerts/monitoring/start?check_interval=77"),
        client.delete("/api/v2/alerts/rules/high_error_rate"),
    )
    assert done == {200: 7}
    again = (await after_a_kill(local)).alerts
    config = await again.config()
    assert config["email_config"]["smtp_server"] == "mail.example.org"
    assert (len(config["webhook_urls"]), config["check_interval"]) == (1, 77)
    enabled = {r["id"]: r["enabled"] for r in await again.rules()}
    assert enabled == {r["id"]: r["enabled"] for r in await local.monitor.alerts.rules()}
    assert "high_error_rate" not in enabled
    wanted = ("full_disk", "high_cpu_usage", "low_cache_hit_rate")
    assert [enabled[name] for name in wanted] == [True, False, False]


async def test_an_experiment_is_made_once_and_a_rule_too(client: httpx.AsyncClient) -> None:
    assert await statuses(*(client.post(TESTS, json=TEST) for _ in range(12))) == {200: 1, 409: 11}
    made = await statuses(*(client.post(RULES, json=RULE) for _ in range(6)))
    assert made[200] == 1
    assert made.keys() == {200, 422}  # the id is taken
    gone = await statuses(*(client.delete(f"{RULES}/my_rule") for _ in range(6)))
    assert gone == {200: 1, 404: 5}


@pytest.mark.parametrize("order", ["start first", "delete first"])
async def test_started_and_deleted_at_once_is_one_of_both(
    local: LocalService, client: httpx.AsyncClient, order: str
) -> None:
    (await client.post(TESTS, json=TEST)).raise_for_status()
    asked = [client.post(f"{TESTS}/worth/start"), client.delete(f"{TESTS}/worth")]
    asked += [client.delete(f"{TESTS}/worth"), client.post(f"{TESTS}/worth/start")]
    answers = await asyncio.gather(*(asked if order == "start first" else asked[::-1]))
    codes = Counter(answer.status_code for answer in answers)
    assert codes.keys() <= {200, 404, 409}
    assert codes[200] == 1
    is_there = (await client.get(f"{TESTS}/worth")).status_code == 200
    tests = (await (await after_a_kill(local)).experiments.all())["tests"]
    assert [test["id"] for test in tests] == (["worth"] if is_there else [])
    assert local.monitor.experiments.running() == (await after_a_kill(local)).experiments.running()


async def test_what_is_measured_while_a_test_is_deleted_is_not_kept(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    (await client.post(TESTS, json=TEST)).raise_for_status()
    (await client.post(f"{TESTS}/worth/start")).raise_for_status()
    result = {"test_id": "worth", "variant_id": "on", "endpoint": "/api/v2/prices/A/history",
              "user_identifier": "u", "response_time_ms": 5.0, "success": True}  # fmt: skip
    (await client.post(f"{TESTS}/results", json=result)).raise_for_status()
    (await client.post(f"{TESTS}/worth/stop")).raise_for_status()
    local.monitor.experiments._entries["worth"].is_changed = True
    local.clock.advance(60)
    await asyncio.gather(
        client.delete(f"{TESTS}/worth"),
        local.monitor.experiments.keep(),
        local.monitor.experiments.keep(),
    )
    for kind in ("experiment", "experiment_ledger", "experiment_frozen"):
        kept = await local.store.read(lambda unit, kind=kind: unit.documents.all(kind))  # type: ignore[misc]
        assert kept == {}, kind


async def test_a_reset_of_tuning_is_not_undone_by_a_switch(local: LocalService) -> None:
    tuning = local.monitor.tuning
    await asyncio.gather(*(tuning.switch(on) for on in (True, False) * 5), tuning.reset())
    again = (await after_a_kill(local)).tuning
    assert await again.status() == await tuning.status()
    assert (await again.status())["auto_tuning"] is False


async def test_who_has_the_turn_does_not_wait_for_itself() -> None:
    turn, seen = Turn(), []

    async def change(number: int) -> None:
        async with turn:
            seen.append(number)
            await asyncio.sleep(0)
            seen.append(number)

    await asyncio.gather(*(change(number) for number in range(5)))
    assert seen == [n for number in range(5) for n in (number, number)]
    async with turn:
        with pytest.raises(RuntimeError, match="within a change"):
            await turn.__aenter__()
    await change(9)

    async def failing() -> None:
        async with turn:
            raise LookupError

    for wanted in (failing(), failing()):
        with pytest.raises(LookupError):
            await wanted
    await change(10)


PRICE_RULES = "/api/v2/alerts/price"
PRICE_RULE = {"symbols": ["AAPL"], "expression": "price > 1000000"}


async def test_price_rules_are_no_more_than_the_limit(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    limited = local.settings.model_copy(update={"max_alert_rules": 5})
    object.__setattr__(local.services, "settings", limited)
    made = await statuses(*(client.post(PRICE_RULES, json=PRICE_RULE) for _ in range(12)))
    assert made == {201: 5, 422: 7}


async def test_a_price_rule_that_is_deleted_stays_so(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    rules = cast(LocalAlerts, local.services.alerts).rules
    for _ in range(5):
        rule_id = (await client.post(PRICE_RULES, json=PRICE_RULE)).json()["id"]
        one = f"{PRICE_RULES}/{rule_id}"
        codes = await statuses(
            client.put(one, json=PRICE_RULE), client.put(f"{one}/enable"), client.delete(one),
            client.put(f"{one}/disable"), client.put(one, json=PRICE_RULE), client.delete(one),
        )  # fmt: skip
        assert codes.keys() <= {200, 404}
        assert (await client.get(one)).status_code == 404
        assert len(rules) == 0


async def test_what_is_followed_is_what_the_store_has(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    rules = cast(LocalAlerts, local.services.alerts).rules
    one = f"{PRICE_RULES}/{(await client.post(PRICE_RULES, json=PRICE_RULE)).json()['id']}"
    for _ in range(5):
        codes = await statuses(
            *(client.put(f"{one}/{what}") for what in ("enable", "disable") * 3),
            client.put(one, json=PRICE_RULE | {"symbols": ["META"]}),
        )
        assert codes == {200: 7}
        kept = (await client.get(one)).json()
        assert rules.symbols == (tuple(kept["symbols"]) if kept["enabled"] else ())


async def test_what_is_told_at_one_instant_has_an_id_each(local: LocalService) -> None:
    alerts = local.monitor.alerts
    says = (alerts.say("rolled_back", "warning", "Rolled back", str(n)) for n in range(5))
    await asyncio.gather(*says)
    history = await alerts.history(1)
    assert len({alert["id"] for alert in history}) == 5


async def test_a_rule_that_is_removed_during_a_look_does_not_end_it(local: LocalService) -> None:
    rules, readings = local.monitor.rules, local.monitor.performance.fine
    for rule_id in ("first", "second"):
        await rules.add(RULE | NOTHING_MORE | {"id": rule_id})
        await rules.enable(rule_id, force=False)
        local.clock.advance(400)
    now_s = local.clock.time_s()
    readings.extend(replace(CALM, at_s=now_s - 1_200 + 10 * n) for n in range(120))

    await asyncio.gather(rules.disable("second", "asked"), rules.remove("second"), rules.look())

    assert "second" not in rules.known
    judged = {event["rule_id"]: event["performance_after"] for event in await rules.history(1.0)}
    assert judged["first"] is not None
