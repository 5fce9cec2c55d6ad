"""Price alerts of a running service: in the store, on the stream, once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import psutil
from aiohttp import web

import finstage
from infra.db.store import Store
from infra.db.url import store_url
from infra.notify.signing import is_signed
from tests.service import Service, wait_until


async def kept(service: Service) -> list[tuple[int, Any]]:
    settings = service.settings
    store = Store(store_url(settings.database_url.get_secret_value(), settings.data_dir))
    try:
        return await store.read(lambda unit: unit.alerts.after(0, 10_000))
    finally:
        await store.close()


def engine_pid(service: Service) -> int:
    """Return the process of the alert engine; 0 while there is none."""
    for process in psutil.Process(service.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended while it was looked at
            if "AlertActor" in " ".join(process.cmdline()):
                return process.pid
    return 0


async def test_alerts_are_in_the_store_and_on_the_stream_each_once(service: Service) -> None:
    stream = finstage.StreamClient(service.url)
    got: list[dict[str, Any]] = []
    updates = stream.subscribe([], type="alerts")
    async with asyncio.timeout(150), contextlib.aclosing(updates):
        async for alert in updates:
            got.append(alert)
            if len(got) == 3:
                break
    stored = {number: alert for number, alert in await kept(service)}
    for alert in got:
        row = stored[alert["alert_id"]]
        assert (row.symbol, row.alert_type) == (alert["symbol"], alert["alert_type"])
        assert row.message == alert["message"]
    again = ("user", "system_status")
    keys = [(a.symbol, a.rule_id) for a in stored.values() if a.alert_type not in again]
    assert len(keys) == len(set(keys)), "each has a cool-down of an hour at least"


async def test_a_killed_engine_neither_loses_nor_doubles(service: Service) -> None:
    pid = await asyncio.to_thread(engine_pid, service)
    before = dict(await kept(service))

    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        return engine_pid(service) not in (0, pid)

    await asyncio.to_thread(wait_until, is_back, 10, "the alert engine again")
    stream = finstage.StreamClient(service.url)
    updates = stream.subscribe("*", type="alerts")
    async with asyncio.timeout(60), contextlib.aclosing(updates):
        first = await anext(updates)
    assert first["alert_id"] in dict(await kept(service))
    after = dict(await kept(service))
    assert before.items() <= after.items()
    keys = [(a.symbol, a.rule_id) for a in after.values() if a.alert_type != "user"]
    assert len(keys) == len(set(keys))


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
    """A real receiver of webhooks, which answers 500 the first time."""
    came: list[tuple[dict[str, str], bytes]] = []

    async def take(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        came.append((headers, await request.read()))
        return web.Response(status=500 if len(came) == 1 else 204)

    app = web.Application()
    app.router.add_post("/hook", take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", came
    finally:
        await runner.cleanup()


async def test_a_users_rule_fires_once_over_socket_and_webhook(
    service: Service, http: httpx.Client
) -> None:
    stream = finstage.StreamClient(service.url)
    updates = stream.subscribe("MSFT", type="alerts")
    async with asyncio.timeout(150), receiver() as (url, came), contextlib.aclosing(updates):
        waiting = asyncio.ensure_future(_first(updates, "user"))
        body = {
            "name": "MSFT has a price",
            "symbols": ["MSFT"],
            "expression": "price > 1 and rsi(14) > 0",
            "targets": [url],
        }
        answer = await asyncio.to_thread(http.post, "/api/v2/alerts/price", json=body)
        assert answer.status_code == 201, answer.text
        rule = answer.json()
        alert = await waiting
        await asyncio.to_thread(wait_until, lambda: len(came) >= 2, 6, "a webhook tried again")

    assert (alert["rule_id"], alert["alert_type"]) == (rule["id"], "user")
    assert alert["message"].endswith("MSFT has a price")
    for headers, text in came:
        assert is_signed(rule["secret"], headers, text, time.time())
        told = orjson.loads(text)
        assert (told["id"], told["data"]["alert_id"]) == (
            f"alert-{alert['alert_id']}",
            alert["alert_id"],
        )
    left = (await asyncio.to_thread(http.get, f"/api/v2/alerts/price/{rule['id']}")).json()
    assert left["enabled"] is False
    path = f"/api/v2/alerts/fired/{alert['alert_id']}/deliveries"

    def is_sent() -> bool:
        (delivery,) = http.get(path).json()["items"]
        return bool(delivery["state"] == "sent" and delivery["tries"] == 2)

    await asyncio.to_thread(wait_until, is_sent, 5, "the delivery noted")
    gone = await asyncio.to_thread(http.delete, f"/api/v2/alerts/price/{rule['id']}")
    assert gone.status_code == 200


async def _first(updates: Any, alert_type: str) -> dict[str, Any]:
    async for alert in updates:
        if alert["alert_type"] == alert_type:
            return dict(alert)
    raise AssertionError("the stream ended")


def test_a_rule_that_cannot_be_is_refused(http: httpx.Client) -> None:
    nobody = {"symbols": ["NOPE"], "expression": "price > 1"}
    unknown = http.post("/api/v2/alerts/price", json=nobody)
    assert unknown.status_code == 404, unknown.text
    for expression, interval, field in (
        ("price >", "1d", "expression"),
        ("rsj(14) > 1", "1d", "expression"),
        ("cdlengulfing > 0", "1d", "expression"),
        ("vwap > 0", "1d", "expression"),
        ("rsi(14) > 0", "3d", "interval"),
    ):
        body = {"symbols": ["AAPL"], "expression": expression, "interval": interval}
        answer = http.post("/api/v2/alerts/price", json=body)
        assert answer.status_code == 422, (body, answer.text)
        assert answer.json()["detail"][0]["loc"] == ["body", field], answer.text
    assert http.get("/api/v2/alerts/price").json()["items"] == []


def test_a_part_that_restarts_is_an_alert(service: Service, http: httpx.Client) -> None:
    checks = http.get("/health/ready").json()["checks"]
    os.kill(int(checks["indicators"]["detail"].removeprefix("pid ")), signal.SIGKILL)

    def told() -> bool:
        items = http.get("/api/v2/alerts/fired?limit=1000").json()["items"]
        mine = [item for item in items if item["alert_type"] == "system_status"]
        return any(item["message"] == "indicators restarted" for item in mine)

    wait_until(told, 10, "an alert about the restart")
