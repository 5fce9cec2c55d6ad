"""Alerts in the store, on both databases: each is given once, whoever sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.db.alerts import Alert, AlertState
from infra.db.store import Store
from infra.db.unit import Unit
from infra.sources.runs import Run
from tests.databases import KINDS, database

NOW = datetime(2026, 3, 4, 15, 30, 12, 345678, tzinfo=UTC)
DAY = timedelta(days=1)
ALERT = Alert(
    "price_rise", "AAPL", "price_rise", "prev_close", 100.0, 104.0, 3.0, 4.0, "info",
    "AAPL rose", "test", False, NOW, NOW,
)  # fmt: skip


@pytest.fixture(params=KINDS)
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Store]]:
    """Two processes' stores of one database."""
    async with database(request.param, tmp_path) as url:
        made = [Store(url), Store(url)]
        await made[0].migrate()
        yield made
        for store in made:
            await store.close()


async def give(
    store: Store, alert: Alert, session: str = "2026-03-04", once: bool = False
) -> bool:
    async def work(unit: Unit) -> bool:
        return isinstance(await unit.alerts.give(alert, session, DAY, once), int)

    return await store.write(work)


async def test_of_many_who_see_the_same_one_gives_it(stores: list[Store]) -> None:
    seen = [replace(ALERT, triggered_at=NOW + n * timedelta.resolution) for n in range(20)]
    given = await asyncio.gather(*(give(stores[n % 2], one) for n, one in enumerate(seen)))
    assert sum(given) == 1
    kept = await stores[0].read(lambda unit: unit.alerts.after(0, 10))
    assert [alert for _, alert in kept] == [one for one, is_given in zip(seen, given, strict=True)
                                            if is_given]  # fmt: skip


@pytest.mark.parametrize("cool_down", [timedelta(), DAY], ids=["none", "a day"])
async def test_the_same_again_is_the_one_that_is_there(
    stores: list[Store], cool_down: timedelta
) -> None:
    later = replace(ALERT, triggered_at=NOW + 2 * DAY)

    async def work(unit: Unit) -> list[int | AlertState]:
        return [await unit.alerts.give(one, "x", cool_down, False) for one in (ALERT, later)]

    first = await stores[0].write(work)  # its answer may be lost: it is given again
    again = await asyncio.gather(*(store.write(work) for store in stores for _ in range(3)))
    kept = await stores[0].read(lambda unit: unit.alerts.after(0, 10))
    assert [number for number, _ in kept] == first
    assert again == [first] * 6


async def test_what_hinders_an_alert_is_told(stores: list[Store]) -> None:
    assert await give(stores[0], ALERT)
    soon = replace(ALERT, triggered_at=NOW + timedelta(hours=1))
    hinders = await stores[1].write(lambda unit: unit.alerts.give(soon, "y", DAY, False))
    assert hinders == AlertState("price_rise", "AAPL", NOW, "2026-03-04", False)


async def test_it_comes_again_after_its_cool_down(stores: list[Store]) -> None:
    store = stores[0]
    soon = replace(ALERT, triggered_at=NOW + DAY - timedelta(microseconds=1))
    later = replace(ALERT, triggered_at=NOW + DAY)
    assert await give(store, ALERT)
    assert not await give(store, soon)
    assert not await give(store, later, once=True)  # still the same session
    assert await give(store, later, "2026-03-05", once=True)
    states = await store.read(lambda unit: unit.alerts.states("test"))
    assert states == [AlertState("price_rise", "AAPL", NOW + DAY, "2026-03-05", False)]
    assert await store.read(lambda unit: unit.alerts.states("another")) == []
    await store.write(lambda unit: unit.alerts.rearm("test", "price_rise", "AAPL"))
    (armed,) = await store.read(lambda unit: unit.alerts.states("test"))
    assert armed.is_armed


async def test_symbols_and_rules_do_not_hinder_each_other(stores: list[Store]) -> None:
    store = stores[0]
    others = [replace(ALERT, symbol="IBM"), replace(ALERT, rule_id="surge", alert_type="surge")]
    for alert in (ALERT, *others):
        assert await give(store, alert)
    kept = await store.read(lambda unit: unit.alerts.after(0, 10))
    numbers = [number for number, _ in kept]
    assert numbers == sorted(numbers)
    assert await store.read(lambda unit: unit.alerts.newest()) == numbers[-1]
    rest = await store.read(lambda unit: unit.alerts.after(numbers[0], 10))
    assert [alert for _, alert in rest] == others
    newest_first = await store.read(lambda unit: unit.alerts.since(NOW, 10))
    assert [n for n, _ in newest_first] == numbers[::-1]
    of_ibm = await store.read(lambda unit: unit.alerts.since(NOW, 10, "IBM"))
    assert [alert.symbol for _, alert in of_ibm] == ["IBM"]


async def test_what_was_undone_may_be_given_again(stores: list[Store]) -> None:
    async def work(unit: Unit) -> None:
        assert await unit.alerts.give(ALERT, "2026-03-04", DAY, False)
        raise LookupError

    with pytest.raises(LookupError):
        await stores[0].write(work)
    assert await stores[0].read(lambda unit: unit.alerts.newest()) == 0
    assert await give(stores[1], ALERT)


async def test_what_a_run_before_gave_neither_hinders_nor_shows(stores: list[Store]) -> None:
    store = stores[0]
    service = replace(ALERT, symbol="", rule_id="system_status:feed", source="replay")
    live = replace(ALERT, symbol="IBM", source="yahoo")
    past = replace(ALERT, source="replay", traded_at=NOW - 4_000 * DAY)
    for alert in (past, service, live):
        assert await give(store, alert)
    began = NOW + timedelta(minutes=1)
    again = replace(past, triggered_at=began + timedelta(minutes=1))
    assert not await give(store, again)

    async def in_run(alert: Alert) -> bool:
        given = await store.write(
            lambda unit: unit.alerts.give(alert, "2026-03-04", DAY, True, began)
        )
        return isinstance(given, int)

    assert await in_run(again)
    later = replace(again, triggered_at=again.triggered_at + timedelta(minutes=1))
    assert not await in_run(later)  # in its own run it has its cool-down

    async def shown(run: Run) -> list[Alert]:
        past_any = await store.read(lambda unit: unit.alerts.after(0, 10, run=run))
        since = await store.read(lambda unit: unit.alerts.since(NOW - DAY, 10, run=run))
        assert sorted(since) == sorted(past_any)
        return [alert for _, alert in past_any]

    assert await shown(Run("replay", began)) == [service, live, again]
    assert await shown(Run("replay")) == [past, service, live, again]
    assert await shown(Run("yahoo")) == [service, live]
