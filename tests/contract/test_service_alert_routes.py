"""Alerts about the service: rules, one alert for what lasts, and who is told."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from infra.db.store import BATCH
from infra.messages import Batch, Position, Snapshot
from infra.metrics import snapshot
from serve.ws.protocol import Session, Terms
from serve.ws.sockets import SocketTable
from tests.local import LocalService
from tests.local_monitor import MACHINE

A = "/api/v2/alerts"
HOOK = "https://hooks.example.org/finstage"
FAR = datetime(2100, 1, 1, tzinfo=UTC)
EMAIL = {"smtp_server": "mail.example.com", "smtp_port": 25, "from_email": "a@example.com"}
RULE = {
    "id": "full_disk", "name": "Disk", "metric_name": "disk_usage_percent", "condition": ">",
    "threshold": 90, "severity": "critical", "channels": ["websocket", "log"],
}  # fmt: skip


async def look(local: LocalService, times: int, disk: float = 95.0) -> None:
    for _ in range(times):
        local.clock.advance(30)
        await local.monitor.look(snapshot(), replace(MACHINE, disk_usage_percent=disk))


async def active(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    data = (await client.get(f"{A}/")).json()["data"]
    assert data["total_count"] == len(data["active_alerts"])
    found: list[dict[str, Any]] = data["active_alerts"]
    return found


def told(local: LocalService) -> list[str]:
    pushed = [
        orjson.loads(m.payload) for m in local.monitor.told if m.topic == "performance:alerts"
    ]
    return [body["event"] for body in pushed]


async def test_a_lasting_condition_is_one_alert_that_ends(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    assert (await client.post(f"{A}/rules", json=RULE)).status_code == 200
    await look(local, 20)
    (alert,) = await active(client)
    assert (alert["rule_id"], alert["current_value"], alert["acknowledged"]) == (
        "full_disk", 95.0, False,
    )  # fmt: skip

    done = await client.put(f"{A}/alerts/{alert['id']}/acknowledge")
    assert done.json()["alert_id"] == alert["id"]
    assert (await active(client))[0]["acknowledged"]

    await look(local, 4, disk=20.0)
    assert await active(client) == []
    history = (await client.get(f"{A}/history")).json()["data"]["alert_history"]
    assert [(a["id"], "resolved_at" in a) for a in history] == [(alert["id"], True)]
    assert told(local) == ["triggered", "resolved"]
    statistics = (await client.get(f"{A}/statistics")).json()
    assert statistics["rule_breakdown"] == {"full_disk": 1}
    assert (await client.put(f"{A}/alerts/{alert['id']}/acknowledge")).status_code == 404


@pytest.mark.parametrize("kind", ["all", "alerts", "performance"])
async def test_each_socket_is_told_of_an_alert_once(
    local: LocalService, client: httpx.AsyncClient, kind: str
) -> None:
    table = SocketTable()
    table.on_snapshot(Snapshot(Position("e", 0), ()))
    outbox = table.open()
    session = Session("c", table, outbox, Terms("replay", 10))
    session.reply(orjson.dumps({"action": "subscribe", "type": kind}), 1.0)
    await client.post(f"{A}/rules", json=RULE)
    await look(local, 5)
    messages = tuple(m for m in local.monitor.told if b'"service_alert"' in m.payload)

    table.on_batch(Batch(Position("e", len(messages)), messages))

    frames = [orjson.loads(frame.payload) for frame in outbox.take(lambda: 0.0)]
    assert [(f["event"], f["alert"]["rule_id"]) for f in frames] == [("triggered", "full_disk")]


async def test_alerts_outlive_the_process(local: LocalService, client: httpx.AsyncClient) -> None:
    await client.post(f"{A}/rules", json=RULE)
    await look(local, 5)
    before = await active(client)

    again = type(local.monitor)(local.settings, local.services.store, local.clock)
    await again.load()

    assert len(before) == 1
    assert [a["id"] for a in await again.alerts.active()] == [before[0]["id"]]


async def test_there_are_rules_from_the_start(client: httpx.AsyncClient) -> None:
    rules = (await client.get(f"{A}/rules")).json()["data"]["alert_rules"]

    by_id = {rule["id"]: rule for rule in rules}
    assert by_id["high_cpu_usage"]["threshold"] == 80
    assert by_id["critical_memory_usage"]["severity"] == "critical"
    assert by_id["many_haproxy_processes"]["threshold"] == 3


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"metric_name": "mood"}, "cpu_percent"),
        ({"condition": "=>"}, ">="),
        ({"severity": "loud"}, "warning"),
        ({"channels": ["smoke"]}, "websocket"),
        ({"channels": []}, "channel"),
        ({"id": "No Spaces"}, ""),
        ({"cooldown_minutes": -1}, ""),
    ],
)
async def test_a_rule_that_cannot_be_is_refused_with_what_can(
    client: httpx.AsyncClient, change: dict[str, Any], word: str
) -> None:
    answer = await client.post(f"{A}/rules", json=RULE | change)

    assert answer.status_code == 422, answer.text
    assert word in answer.text


@pytest.mark.parametrize(
    ("channel", "how"),
    [
        ("email", "/api/v2/alerts/config/email"),
        ("webhook", "/api/v2/alerts/config/webhook"),
        ("apprise", "FINSTAGE_NOTIFY_TARGETS"),
    ],
)
async def test_a_rule_that_would_tell_nobody_says_what_to_set(
    client: httpx.AsyncClient, channel: str, how: str
) -> None:
    answer = await client.post(f"{A}/rules", json=RULE | {"channels": ["log", channel]})

    assert answer.status_code == 422
    (item,) = answer.json()["detail"]
    assert item["loc"] == ["body", "channels"]
    assert how in item["msg"]
    rules = (await client.get(f"{A}/rules")).json()["data"]["alert_rules"]
    assert "full_disk" not in [rule["id"] for rule in rules]
    if channel == "email":
        assert (await client.post(f"{A}/config/email", json=EMAIL)).status_code == 200
        again = await client.post(f"{A}/rules", json=RULE | {"channels": ["log", channel]})
        assert again.status_code == 200


async def test_rules_are_switched_and_deleted(client: httpx.AsyncClient) -> None:
    assert (await client.put(f"{A}/rules/high_cpu_usage/disable")).status_code == 200
    rules = (await client.get(f"{A}/rules")).json()["data"]["alert_rules"]
    assert [r["enabled"] for r in rules if r["id"] == "high_cpu_usage"] == [False]
    assert (await client.delete(f"{A}/rules/high_cpu_usage")).status_code == 200
    for method, path in (("PUT", "enable"), ("PUT", "disable"), ("DELETE", "")):
        answer = await client.request(method, f"{A}/rules/nothing/{path}".rstrip("/"))
        assert answer.status_code == 404


async def test_channels_are_configured_and_secrets_are_not_shown(tmp_path: Any) -> None:
    local = LocalService(tmp_path, notify_private=True)
    transport = httpx.ASGITransport(local.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        email = {"smtp_server": "localhost", "smtp_port": 2525, "from_email": "a@example.com",
                 "username": "ops", "password": "hush-hush"}  # fmt: skip
        assert (await client.post(f"{A}/config/email", json=email)).status_code == 200
        url = "http://127.0.0.1:9/hook"
        added = await client.post(f"{A}/config/webhook", json={"webhook_url": url})
        assert added.json()["secret"].startswith("whsec_")
        config = await client.get(f"{A}/config")
        assert "hush-hush" not in config.text
        assert added.json()["secret"] not in config.text
        assert config.json()["email_config"]["password"] == "***"

        rule = RULE | {"channels": ["webhook", "email"]}
        assert (await client.post(f"{A}/rules", json=rule)).status_code == 200
        await look(local, 5)
        found = await local.services.store.read(lambda unit: unit.deliveries.due(FAR, 10))
        assert [delivery.target.partition(":")[0] for delivery in found] == ["mailto", "http"]

        gone = await client.request("DELETE", f"{A}/config/webhook", json={"webhook_url": url})
        again = await client.request("DELETE", f"{A}/config/webhook", json={"webhook_url": url})
        assert (gone.status_code, again.status_code) == (200, 404)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "10.0.0.1", "127.1", "2130706433", "0177.0.0.1", "0x7f000001", "localhost",
        "LOCALHOST.", "::1", "[::1]", "a.localhost", "127.0.0.1.",
    ],
)  # fmt: skip
async def test_private_addresses_are_refused(client: httpx.AsyncClient, host: str) -> None:
    name = f"[{host}]" if ":" in host and "[" not in host else host
    hook = await client.post(f"{A}/config/webhook", json={"webhook_url": f"http://{name}/x"})
    mail = await client.post(f"{A}/config/email", json=EMAIL | {"smtp_server": host})

    for answer, field in ((hook, "webhook_url"), (mail, "smtp_server")):
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"][0]["loc"] == ["body", field]
    config = (await client.get(f"{A}/config")).json()
    assert (config["email_config"], config["webhook_urls"]) == (None, [])


@pytest.mark.parametrize(
    "host",
    ["mail.example.com:25/?smtp=127.0.0.1&x=", "a@b.example", "a b", "", "%31", "fe80::1%/?x="],
)
async def test_a_server_is_a_host_and_nothing_more(client: httpx.AsyncClient, host: str) -> None:
    mail = await client.post(f"{A}/config/email", json=EMAIL | {"smtp_server": host})
    assert mail.status_code == 422, mail.text
    assert mail.json()["detail"][0]["loc"] == ["body", "smtp_server"]


async def test_a_webhook_is_removed_by_the_words_that_added_it(client: httpx.AsyncClient) -> None:
    for url in ("https://Hooks.Example.org", " https://hooks.example.org:443/a%2fb?x=1#y "):
        body = {"webhook_url": url}
        assert (await client.post(f"{A}/config/webhook", json=body)).status_code == 200
        gone = await client.request("DELETE", f"{A}/config/webhook", json=body)
        assert gone.status_code == 200, gone.text
    assert (await client.get(f"{A}/config")).json()["webhook_urls"] == []


async def test_looking_can_be_stopped(local: LocalService, client: httpx.AsyncClient) -> None:
    await client.post(f"{A}/rules", json=RULE)
    assert (await client.post(f"{A}/monitoring/stop")).status_code == 200
    await look(local, 5)
    assert await active(client) == []
    assert (await client.post(f"{A}/monitoring/start?check_interval=5")).status_code == 422
    await client.post(f"{A}/monitoring/start?check_interval=30")
    await look(local, 5)
    assert len(await active(client)) == 1


async def test_alerts_are_told_while_the_store_is_away_and_kept_when_it_is_back(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    added = await client.post(f"{A}/config/webhook", json={"webhook_url": HOOK})
    assert added.status_code == 200
    rule = RULE | {"channels": ["websocket", "log", "webhook"]}
    assert (await client.post(f"{A}/rules", json=rule)).status_code == 200
    await look(local, 1, disk=20.0)
    local.store.is_away = True
    for _ in range(5):
        local.clock.advance(30)
        reading, _ = await local.monitor.performance.take(
            snapshot(), replace(MACHINE, disk_usage_percent=95.0)
        )
        assert reading is not None
        await local.monitor.alerts.look(reading)

    assert told(local) == ["triggered"]

    local.store.is_away = False
    await look(local, 1)
    history = (await client.get(f"{A}/history")).json()["data"]["alert_history"]
    due = await local.store.read(lambda unit: unit.deliveries.due(FAR, 10))
    assert [alert["rule_id"] for alert in history] == ["full_disk"]
    assert [one.target for one in due] == [HOOK]
    assert told(local) == ["triggered"]


async def test_a_store_that_hangs_holds_up_no_word_and_no_change(
    local: LocalService, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.monitor.alert_service._WRITTEN_WITHIN_S", 0.01)
    await client.post(f"{A}/rules", json=RULE)
    await look(local, 1, disk=20.0)
    real, is_free = local.store.write, asyncio.Event()

    async def write(work: Any, **more: Any) -> Any:
        if more.get("limit") is BATCH:
            await is_free.wait()
        return await real(work, **more)

    monkeypatch.setattr(local.store, "write", write)
    async with asyncio.timeout(30):
        await look(local, 5)
        assert told(local) == ["triggered"]
        (alert,) = await active(client)
        changes = [
            await client.put(f"{A}/alerts/{alert['id']}/acknowledge"),
            await client.put(f"{A}/rules/full_disk/disable"),
            await client.post(f"{A}/monitoring/stop"),
        ]
    assert [answer.status_code for answer in changes] == [200] * 3
    assert told(local) == ["triggered", "resolved"]
    alerts = local.monitor.alerts
    writing = alerts._writing
    assert writing is not None
    is_free.set()
    await writing

    again = type(local.monitor)(local.settings, local.services.store, local.clock)
    await again.load()
    (kept,) = await again.alerts.history(1)
    assert (kept["id"], kept["acknowledged"]) == (alert["id"], True)
    assert kept["resolved_at"]
    assert await again.alerts.config() == await alerts.config()
    assert (await alerts.config())["monitoring_status"] == "stopped"


async def test_what_is_told_once_does_not_wait_for_the_store(
    local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = local.store.write, list[list[str]]()

    async def write(work: Any, **more: Any) -> Any:
        seen.append(told(local))
        return await real(work, **more)

    monkeypatch.setattr(local.store, "write", write)
    await local.monitor.alerts.say("rolled_back", "warning", "Rolled back", "it was worse")
    assert seen == [["triggered"]]


async def test_a_rule_that_the_store_does_not_take_is_not_so(
    local: LocalService, client: httpx.AsyncClient
) -> None:
    before = (await client.get(f"{A}/rules")).json()
    local.store.is_away = True

    added = await client.post(f"{A}/rules", json=RULE)
    removed = await client.delete(f"{A}/rules/high_error_rate")

    assert {added.status_code, removed.status_code} == {503}
    assert (await client.get(f"{A}/rules")).json()["data"] == before["data"]
