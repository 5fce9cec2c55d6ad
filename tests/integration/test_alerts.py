"""Price alerts of a running service: in the store, on the stream, once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any

import psutil

import finstage
from infra.db.store import Store
from infra.db.url import store_url
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
    keys = [(a.symbol, a.rule_id) for a in stored.values()]
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
    keys = [(a.symbol, a.rule_id) for a in after.values()]
    assert len(keys) == len(set(keys))
