"""Memory measured, told and given back."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Callable

import numpy as np
import psutil
import pytest
from scipy import stats as scipy_stats  # type: ignore[import-untyped]

from actors.reporting import Order, obey
from actors.telemetry.memory_book import MemoryBook, Sample
from infra.caches.hit_rate import Reads
from infra.caches.named import NamedCaches
from infra.memory.decorators import auto_memory_optimization, measure_time, memory_monitor
from infra.memory.health import cache_health, recommendations, status_of, worries
from infra.memory.own import check_memory_health, get_memory_status, start_memory_monitoring
from infra.memory.shedding import shed
from infra.memory.trend import change_of, is_leak, slope_of
from infra.memory.usage import MIB, MemoryUse, memory_use, objects, tree_bytes

GIB = 2**30


def use(system_pct: float = 50.0, available: int = 8 * GIB) -> MemoryUse:
    return MemoryUse(100 * MIB, 200 * MIB, 1.0, system_pct, available, 16 * GIB)


def sample(at_s: float, rss: int = 100 * MIB, **changed: object) -> Sample:
    values: dict[str, object] = {
        "at_s": at_s, "use": use(), "processes_bytes": {"feed-1": rss}, "tree_bytes": rss,
        "tree_processes": 1, "store_used_bytes": 0, "store_bytes": 0, "cached_items": 1,
        "cache_bytes": 10, "reads": Reads(), "new_reads": Reads(), "uncollectable": 0,
    }  # fmt: skip
    return Sample(**(values | changed))  # type: ignore[arg-type]


def test_shedding_gives_the_system_what_it_says() -> None:
    own = NamedCaches()
    for number in range(400):
        own.named("price_data").set(str(number), np.full(20_000, number))  # 64 MB asked, 32 kept

    done = shed(aggressive=True, chosen=own)

    assert done.estimate_bytes > 20 * MIB
    assert done.freed_bytes >= 0.6 * done.estimate_bytes, done
    assert sum(s.bytes for s in own.stats()) < 4 * MIB


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (use(), "healthy"),
        (use(76), "warning"),
        (use(91), "critical"),
        (use(50, 900 * MIB), "warning"),
        (use(50, 400 * MIB), "critical"),
    ],
)
def test_health_is_of_the_machine(found: MemoryUse, word: str) -> None:
    assert status_of(worries(found)) == word


def test_advice_names_what_to_do() -> None:
    full = use(95, 400 * MIB)

    advice = recommendations(full, 20.0, 300 * MIB, worries(full))

    assert any("POST /api/memory/optimize" in line for line in advice)
    assert any("FINSTAGE_CACHES" in line for line in advice)
    assert recommendations(use(), 90.0, 0, []) == []
    assert [cache_health(rate) for rate in (None, 20, 60, 90)] == [
        "unknown", "critical", "warning", "healthy",
    ]  # fmt: skip


def test_a_lasting_worry_is_one_alert() -> None:
    book = MemoryBook(30.0)
    for minute in range(0, 30, 5):
        book.take(sample(60.0 * minute, use=use(80.0 + minute / 10)))
    book.take(sample(2_000.0))
    book.take(sample(2_300.0, use=use(82.0)))

    assert [alert["level"] for alert in book.alerts] == ["warning", "warning"]


def test_a_low_hit_rate_warns_once_enough_was_read() -> None:
    book = MemoryBook(30.0)
    few = book.take(sample(0.0, new_reads=Reads(5, 44)))
    many = book.take(sample(300.0, new_reads=Reads(100, 900)))

    assert few == []
    assert [worry.message for worry in many] == ["caches found 10 % of 1000 reads"]


def test_the_last_hour_is_held_against_the_one_before() -> None:
    times = [60.0 * minute for minute in range(0, 120, 5)]
    values = [100.0 if t < 3_600 else 110.0 for t in times]

    change = change_of(times, values, 7_199.0)

    assert change is not None
    assert (change.before, change.recent, round(change.pct, 6)) == (100.0, 110.0, 10.0)
    assert change_of(times[:10], values[:10], 3_000.0) is None


def test_the_slope_is_theils_with_sens_interval() -> None:
    draws = np.random.default_rng(7)
    times = np.arange(0, 6 * 3_600, 300.0)
    values = 100 + 3 * times / 3_600 + draws.normal(0, 1, len(times))
    values[10] += 500  # a peak

    found = slope_of(list(times), list(values))
    scipys = scipy_stats.theilslopes(values, times / 3_600, 0.95)

    assert found is not None
    assert found.per_h == pytest.approx(scipys.slope)
    assert found.low_per_h == pytest.approx(scipys.low_slope, rel=0.01)
    assert found.high_per_h == pytest.approx(scipys.high_slope, rel=0.01)
    assert is_leak(found, 110.0)


@pytest.mark.parametrize(("mb_per_h", "leaks"), [(0.0, False), (5.0, True)])
def test_what_grows_for_hours_is_named(mb_per_h: float, leaks: bool) -> None:
    draws = np.random.default_rng(3)
    book = MemoryBook(30.0)
    for step in range(48):  # four hours
        size = 100 + mb_per_h * step / 12 + draws.normal(0, 0.5)
        book.take(sample(300.0 * step, int(size * MIB)))

    found = book.trend(300.0 * 47)

    assert bool(found.leaks) == leaks
    assert [a["message"].startswith("feed-1 grows") for a in book.alerts] == [True] * leaks


def test_a_day_is_kept() -> None:
    book = MemoryBook(30.0)
    for step in range(400):
        book.take(sample(300.0 * step))

    assert len(book.samples) == 289
    assert len(book.since(1.0, 300.0 * 399)) == 13


def test_this_process_is_measured() -> None:
    own, counted = memory_use(), objects()

    assert abs(own.rss_bytes - psutil.Process().memory_info().rss) < 64 * MIB
    assert counted.total >= sum(counted.generations) > 0
    assert tree_bytes(psutil.Process())[psutil.Process().pid] > MIB


def test_orders_are_obeyed_in_the_process() -> None:
    own = NamedCaches()
    own.named("news").set("a", 1)
    own.named("news").set("b", 2, 0.001)
    time.sleep(0.01)

    purged = obey(Order(1, "purge"), own)
    unknown = obey(Order(2, "clear", "nothing"), own)
    cleared = obey(Order(3, "clear", "news"), own)

    assert (purged, unknown) == ({"purged": {"news": 1}}, {"cleared": {}})
    assert cleared == {"cleared": {"news": 1}}


@pytest.mark.parametrize(
    "over", [memory_monitor(1.0), auto_memory_optimization(0.001), measure_time()]
)
async def test_decorators_keep_the_functions_kind(over: Callable[..., object]) -> None:
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number

    def now(number: int) -> int:
        return number

    wrapped_later, wrapped_now = over(later), over(now)

    assert inspect.iscoroutinefunction(wrapped_later)
    assert not inspect.iscoroutinefunction(wrapped_now)
    assert (await wrapped_later(1), wrapped_now(2)) == (1, 2)  # type: ignore[operator]
    with pytest.raises(TypeError, match="over a function"):
        over(3)


def test_a_call_over_the_threshold_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    memory_monitor(1.0)(lambda: 1)()
    memory_monitor(1e6)(lambda: 1)()

    levels = [r.levelname for r in caplog.records if r.message == "memory.call"]
    assert levels == ["WARNING", "INFO"]


@pytest.mark.parametrize(
    "make", [lambda: memory_monitor(0), lambda: auto_memory_optimization(101),
             lambda: start_memory_monitoring(0)]
)  # fmt: skip
def test_thresholds_that_cannot_be_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match="threshold|positive"):
        make()


def test_scripts_see_their_own_memory() -> None:
    status = get_memory_status()
    watching = start_memory_monitoring(60)
    watching.stop()

    assert status["system_memory"]["rss_mb"] > 10
    assert check_memory_health()["status"] in ("healthy", "warning", "critical")
