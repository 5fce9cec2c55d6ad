"""The alert engine, in this process: what reaches the hub, and what does not after a restart."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

import actors.alerts.actor as module
import actors.runtime as runtime
from actors.alerts.actor import AlertActor
from actors.alerts.giving import Pending, give
from actors.hub.core import HubCore
from actors.indicators.watching import compiled
from infra.db.alert_rules import StoredRule
from infra.db.alerts import Alert
from infra.db.store import Limit
from infra.db.unit import Unit
from infra.errors import StoreBusy
from infra.messages import ENDED, TECHNICAL, Batch, Kind, Message, Position, Snapshot
from infra.sources.runs import Run
from tests.hub_messages import SAMPLES, price
from tests.service import wait_until
from tests.settings import made_settings

AT = datetime(2026, 3, 4, 14, 30, tzinfo=UTC)
RULE = StoredRule(
    id="r1", name="cheap", symbols=("AAPL",), expression="price > 100 and rsi(14) < 30",
    interval="1d", repeat="again", cooldown_s=0.0, hysteresis_pct=0.0, severity="info", targets=(),
    secret="", enabled=True, created_at=AT, updated_at=AT,
)  # fmt: skip


class Hub:
    """The hub's own core, asked directly; `told` are the alerts that it was told of."""

    def __init__(self) -> None:
        self.core = HubCore("e1", 10**6, 600.0, lambda: 0.0)
        self.told: list[int] = []
        self.is_there = asyncio.Event()
        self.is_there.set()

    async def ping(self) -> int:
        return 1

    async def publish(self, messages: Sequence[Message]) -> Position:
        alerts = [m for m in messages if m.kind is Kind.ALERTS]
        self.told += [orjson.loads(m.payload)["alert_id"] for m in alerts]
        return self.core.publish(messages)

    async def read(
        self, reader: str, position: Position, timeout_s: float, patience: int = 1
    ) -> Batch:
        await asyncio.sleep(0.01)
        return self.core.after(position)

    async def snapshot(self, history_bytes: int = 0) -> Snapshot:
        await self.is_there.wait()
        return self.core.snapshot(history_bytes)


class Others:
    """Feed, indicators and cache, as far as the alert engine asks them."""

    async def ping(self) -> int:
        return 1

    async def references(self, symbols: Sequence[str], *_: Any) -> dict[str, Any]:
        return {}

    async def want(self, symbols: Sequence[str]) -> dict[str, Any]:
        return {}

    async def want_live(self, wants: Sequence[Any]) -> dict[Any, Any]:
        return {}

    async def live_condition(self, text: str) -> Any:
        return compiled(text)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr(module, "HubClient", lambda _: made)
    for name in ("FeedClient", "IndicatorClient", "CacheClient"):
        monkeypatch.setattr(module, name, lambda *_: Others())

    async def nothing(*_: Any) -> None:
        return

    monkeypatch.setattr(module, "report_metrics", nothing)
    monkeypatch.setattr(runtime, "watch_process", nothing)
    for name in ("setup_logs", "steady_interpreter"):
        monkeypatch.setattr(runtime, name, lambda *_: None)
    return made


async def holds(what: Callable[[], object]) -> None:
    await asyncio.to_thread(wait_until, what, 5, "the alert engine")


async def end(actor: AlertActor) -> None:
    tasks = list(actor._tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await actor._store.close()


async def test_it_outlives_the_end_of_live_values_and_tells_nothing_again(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)
    settings = made_settings(data_dir=tmp_path, source="replay")
    first = AlertActor(settings)
    await first._store.migrate()
    await first._changes.add(RULE, 10)
    live = SAMPLES[Kind.TECHNICAL]

    await hub.publish([Message(TECHNICAL + "META:1d", ENDED), Message("nobody:knows", b"{")])
    await hub.publish([price(104.0), live])
    await holds(lambda: hub.told)
    told = list(hub.told)
    await end(first)

    hub.is_there.clear()
    second = AlertActor(settings)
    await second._tell()
    assert hub.told == told  # it waits to hear what this hub was told
    hub.is_there.set()
    await holds(lambda: second._intake.told)
    await hub.publish([price(90.0), price(104.5, "IBM"), SAMPLES[Kind.ENDED]])
    await holds(lambda: len(hub.told) > len(told))
    await end(second)

    assert ends == []
    assert hub.told == sorted(set(hub.told))


def pending(number: int) -> Pending:
    alert = Alert(
        "price_rise", f"S{number}", "price_rise", "prev_close", 100.0, 104.0, 3.0, 4.0, "info",
        "rose", "replay", False, AT, datetime.now(UTC),
    )  # fmt: skip
    return Pending(alert, "2026-03-04", timedelta(days=1))


async def test_a_store_that_takes_few_alerts_in_its_time_gets_them_all_in_parts(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", Limit(60.0, 0.0))  # one try, and no other
    monkeypatch.setattr(module, "_PAUSE_S", 0.0)
    monkeypatch.setattr(module, "_AT_ONCE", 20)
    actor = AlertActor(made_settings(data_dir=tmp_path, source="replay"))
    await actor._store.migrate()
    most, done = 3, Counter[Unit]()

    async def slow(unit: Unit, one: Pending, run: Run) -> bool:
        done[unit] += 1
        if done[unit] > most:
            raise StoreBusy("the store is busy: no answer within its time")
        return await give(unit, one, run)

    monkeypatch.setattr(module, "give", slow)
    actor._intake.add([pending(number) for number in range(30)])
    await holds(lambda: len(hub.told) == 30)

    most = 10_000  # it is quick again: parts grow
    actor._intake.add([pending(number) for number in range(30, 130)])
    await holds(lambda: len(hub.told) == 130)
    assert max(done.values()) == 20
    actor._rules.rearmed |= {("price_rise", f"S{number}") for number in range(130)}
    actor._intake.work.set()
    await holds(lambda: not actor._rules.rearmed)
    states = await actor._store.read(lambda unit: unit.alerts.states("replay"))
    await end(actor)

    assert all(state.is_armed for state in states)
    assert hub.told == sorted(set(hub.told))
