"""A start decides by what is now: a day of readings is kept as history only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from actors.monitor.knobs import Change, Knobs, Trigger
from actors.monitor.performance_service import READING
from actors.monitor.plain import plain
from actors.monitor.reviews import REVIEW_AFTER_S
from actors.monitor.sampling import Machine
from infra.clock import utc
from infra.db.happenings import Happening
from infra.db.unit import Unit
from infra.errors import StoreBusy
from infra.metrics import snapshot
from tests.local import LocalService
from tests.local_monitor import MACHINE, LocalMonitor
from tests.unit.test_readings import reading

POOR: dict[str, Any] = {"cpu_percent": 99.0, "memory_percent": 97.0, "avg_response_ms": 6_000.0}


async def keep_minutes(local: LocalService, count: int, before_s: float) -> None:
    """Put poor minutes into the store, the last of them so long ago."""
    now_s = local.clock.time_s()
    ats = [now_s - before_s - 60.0 * number for number in range(count)][::-1]
    happened = [
        Happening(READING, "", utc(at_s), plain(replace(reading(**POOR), at_s=at_s)))
        for at_s in ats
    ]

    async def work(unit: Unit) -> None:
        await unit.happenings.add(happened)

    await local.store.write(work)


async def started(local: LocalService) -> LocalMonitor:
    monitor = LocalMonitor(local.settings, local.services.store, local.clock)
    await monitor.load()
    return monitor


@pytest.mark.parametrize("before_s", [30.0, 86_000.0])
async def test_minutes_of_another_run_decide_nothing(local: LocalService, before_s: float) -> None:
    await keep_minutes(local, 5, before_s)
    for rule_id in ("caching_price_data", "async_api_endpoints"):
        await local.monitor.rules.disable(rule_id, "by hand")
    monitor = await started(local)
    for _ in range(14):  # two minutes and some, all of them calm
        await monitor.look(snapshot(), MACHINE)
        local.clock.advance(10)
    assert await monitor.tuning.history(24) == []
    knobs = await monitor.tuning.status()
    assert knobs["knobs"] == knobs["configured"]
    assert monitor.rules.off == {"caching_price_data", "async_api_endpoints"}
    assert await monitor.alerts.history(24) == []
    assert (await monitor.performance.dashboard())["recommendations"] == []
    assert (await monitor.performance.history(24))["total_measurements"] >= 5


async def test_its_own_poor_minutes_do_decide(local: LocalService) -> None:
    monitor = await started(local)
    poor = replace(MACHINE, cpu_percent=99.0, memory_percent=97.0)
    for _ in range(40):
        await monitor.look(snapshot(), poor)
        local.clock.advance(10)
    names = [change["name"] for change in await monitor.tuning.history(24)]
    assert names == ["force_auto_tuning_completed", "auto_tuning_completed"]
    assert monitor.sheds == 1


async def test_a_change_of_another_run_is_not_undone_by_what_was_then(
    local: LocalService,
) -> None:
    await keep_minutes(local, 12, 80_000.0)  # poor from two minutes after the change on
    now_s = local.clock.time_s()
    before = Knobs(batch_ms=3.0, task_at_once=4)
    after = replace(before, task_at_once=2)
    trigger = Trigger("api_response_time_ms", 1_600.0, 1_500.0)
    change = Change(now_s - 80_000.0 - 800.0, before, after, "slow", (trigger,))
    calm = [
        replace(reading(avg_response_ms=100.0), at_s=change.at_s - 60.0 * number)
        for number in range(10)
    ]
    happened = [Happening(READING, "", utc(one.at_s), plain(one)) for one in calm]
    await local.store.write(lambda unit: unit.happenings.add(happened))
    state = {
        "knobs": plain(after),
        "is_on": True,
        "tuner": {"pending": plain(change), "changed_s": change.at_s},
    }
    await local.store.write(lambda unit: unit.documents.put("tuning", "", state, utc(now_s)))
    monitor = await started(local)
    assert (await monitor.tuning.status())["under_review"] is not None
    for _ in range(14):
        await monitor.look(snapshot(), MACHINE)
        local.clock.advance(10)
    assert await monitor.tuning.history(48) == []
    status = await monitor.tuning.status()
    assert status["under_review"] is None
    assert status["knobs"]["task_at_once"] == 2


async def minute(monitor: LocalMonitor, machine: Machine = MACHINE) -> None:
    """Measure until there is a new minute of this process."""
    for _ in range(7):
        await monitor.performance.take(snapshot(), machine)
        monitor.clock.advance(10)


async def busy(_work: object) -> None:
    raise StoreBusy("the store is busy")


async def test_an_undo_that_the_store_did_not_take_is_made_the_next_minute(
    local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = local.clock.time_s()
    before = Knobs(batch_ms=3.0, task_at_once=4)
    after = replace(before, task_at_once=2)
    at_s = now_s - REVIEW_AFTER_S
    trigger = Trigger("api_response_time_ms", 1_600.0, 1_500.0)
    change = Change(at_s, before, after, "slow", (trigger,), ("async_api_endpoints",))
    measured = [(at_s - 60.0 * n, 100.0 + n % 3) for n in range(9)]
    measured += [(at_s + 130.0 + 50.0 * n, 900.0 + n % 3) for n in range(11)]
    happened = [
        Happening(READING, "", utc(s), plain(replace(reading(avg_response_ms=ms), at_s=s)))
        for s, ms in sorted(measured)
    ]
    await local.store.write(lambda unit: unit.happenings.add(happened))
    state = {
        "knobs": plain(after),
        "is_on": True,
        "tuner": {"pending": plain(change), "changed_s": change.at_s},
    }
    await local.store.write(lambda unit: unit.documents.put("tuning", "", state, utc(now_s)))
    monitor = await started(local)
    await minute(monitor)
    with monkeypatch.context() as patched:
        patched.setattr(local.services.store, "write", busy)
        with pytest.raises(StoreBusy):
            await monitor.tuning.look()
    assert monitor.tuning.knobs == after

    await minute(monitor)
    await monitor.tuning.look()

    assert monitor.tuning.knobs == before
    assert "async_api_endpoints" in monitor.rules.off
    assert [one["name"] for one in await monitor.tuning.history(1)] == ["auto_tuning_undone"]


async def test_what_the_store_did_not_take_is_not_tuned(
    local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = await started(local)
    first = monitor.tuning.knobs
    poor = replace(MACHINE, cpu_percent=99.0, memory_percent=97.0)
    for _ in range(5):
        await minute(monitor, poor)
    with monkeypatch.context() as patched:
        patched.setattr(local.services.store, "write", busy)
        with pytest.raises(StoreBusy):
            await monitor.tuning.look()
        with pytest.raises(StoreBusy):
            await monitor.tuning.switch(on=False)
    status = await monitor.tuning.status()
    assert (status["auto_tuning"], status["under_review"]) == (True, None)
    assert monitor.tuning.knobs == first

    await minute(monitor, poor)
    await monitor.tuning.look()

    assert monitor.tuning.knobs != first
