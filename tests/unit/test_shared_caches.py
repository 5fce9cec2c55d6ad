"""The shared level: one maker for all, one bound for all, nothing older than the hub's word."""

from __future__ import annotations

import asyncio

from actors.cache.core import SharedCaches
from infra.caches.base import Found, Lifetime
from infra.caches.changes import Changes, Mark
from infra.clock import FakeClock

FOR_A_MINUTE = Lifetime(60.0)


def shared(max_bytes: int = 2**20, max_entries: int = 100) -> tuple[SharedCaches, FakeClock]:
    clock = FakeClock()
    changes = Changes(5.0, clock.monotonic_s)
    return SharedCaches(max_bytes, max_entries, changes, clock), clock


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def value(found: Found | None) -> bytes | None:
    return None if found is None else found.value


async def test_one_makes_it_and_the_others_wait_for_it() -> None:
    caches, _ = shared()
    first = await caches.fetch("c", "k", 30.0)
    others = [asyncio.create_task(caches.fetch("c", "k", 30.0)) for _ in range(100)]
    await settled()
    waited = [task.done() for task in others]

    caches.give("c", "k", b"made", FOR_A_MINUTE)

    assert first is None
    assert not any(waited)
    assert [value(found) for found in await asyncio.gather(*others)] == [b"made"] * 100


async def test_who_could_not_make_it_lets_the_next_try() -> None:
    caches, _ = shared()
    await caches.fetch("c", "k", 30.0)
    others = [asyncio.create_task(caches.fetch("c", "k", 30.0)) for _ in range(3)]
    await settled()

    caches.release("c", "k")
    await settled()

    assert [task.done() for task in others].count(True) == 1
    caches.give("c", "k", b"made", FOR_A_MINUTE)
    assert sorted(map(str, map(value, await asyncio.gather(*others)))) == [
        "None", "b'made'", "b'made'",
    ]  # fmt: skip


async def test_a_maker_that_died_holds_up_nobody_for_ever() -> None:
    caches, clock = shared()
    await caches.fetch("c", "k", 30.0)
    other = asyncio.create_task(caches.fetch("c", "k", 30.0))
    await settled()

    clock.advance(31)

    assert await other is None


async def test_who_is_late_ends_nobody_elses_claim() -> None:
    caches, clock = shared()
    assert await caches.fetch("c", "k", 30.0, "late") is None
    clock.advance(31)
    assert await caches.fetch("c", "k", 30.0, "second") is None

    caches.release("c", "k", "late")
    assert not caches.give("c", "k", b"too large" * 2**20, FOR_A_MINUTE, "late")
    third = asyncio.create_task(caches.fetch("c", "k", 30.0, "third"))
    await settled()

    assert not third.done()
    caches.give("c", "k", b"made", FOR_A_MINUTE, "second")
    assert value(await third) == b"made"


async def test_what_a_late_one_gives_is_had_by_those_who_wait() -> None:
    caches, clock = shared()
    assert await caches.fetch("c", "k", 30.0, "late") is None
    clock.advance(31)
    assert await caches.fetch("c", "k", 30.0, "second") is None
    third = asyncio.create_task(caches.fetch("c", "k", 30.0, "third"))
    await settled()

    assert caches.give("c", "k", b"made", FOR_A_MINUTE, "late")
    await settled()

    assert third.done()
    assert value(await third) == b"made"


async def test_a_lifetime_of_zero_takes_the_older_value_away() -> None:
    caches, _ = shared()
    caches.give("c", "k", b"old", FOR_A_MINUTE)

    assert not caches.give("c", "k", b"new", Lifetime(0.0))
    assert await caches.fetch("c", "k", 0.0) is None


async def test_a_stale_value_is_made_anew_by_one_and_given_to_the_rest() -> None:
    caches, clock = shared()
    caches.give("c", "k", b"old", Lifetime(10.0, stale_s=60.0))
    clock.advance(11)

    assert await caches.fetch("c", "k", 30.0) is None
    found = await caches.fetch("c", "k", 30.0)

    assert found is not None
    assert (found.value, found.is_stale) == (b"old", True)


async def test_what_is_made_of_old_data_is_not_kept() -> None:
    clock = FakeClock()
    changes = Changes(5.0, clock.monotonic_s)
    caches = SharedCaches(2**20, 100, changes, clock)
    changes.on_news(Mark("e", 10), {"AAPL": 9})
    old = Lifetime(60.0, symbols=("AAPL",), mark=Mark("e", 8))
    new = Lifetime(60.0, symbols=("AAPL",), mark=Mark("e", 9))

    assert not caches.give("c", "old", b"1", old)
    assert caches.give("c", "new", b"2", new)
    changes.on_news(Mark("e", 12), {"AAPL": 11})

    assert await caches.fetch("c", "new", 0.0) is None


async def test_all_caches_together_stay_within_one_bound() -> None:
    caches, _ = shared(max_bytes=100_000, max_entries=20)
    for number in range(60):
        caches.give(f"c{number % 3}", str(number), bytes(4_000), FOR_A_MINUTE)

    stats = list(caches.stats())

    assert sum(s.bytes for s in stats) <= 100_000
    assert sum(s.entries for s in stats) <= 20
    assert {s.name for s in stats} == {"c0", "c1", "c2"}
    assert value(await caches.fetch("c2", "59", 0.0)) == bytes(4_000)
