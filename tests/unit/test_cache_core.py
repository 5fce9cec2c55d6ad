"""The shared cache: bounded in entries and bytes, least recently used goes first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.cache.core import CacheCore
from infra.clock import FakeClock


def cache(max_bytes: int = 10_000, max_entries: int = 100) -> tuple[CacheCore, FakeClock]:
    clock = FakeClock()
    return CacheCore(max_bytes, max_entries, clock.monotonic_s), clock


def test_a_value_lives_as_long_as_it_was_given() -> None:
    core, clock = cache()
    core.set("short", b"1", ttl_s=10)
    core.set("ever", b"2", ttl_s=None)

    clock.advance(9)
    before = core.get("short")
    clock.advance(2)

    assert before == b"1"
    assert core.get("short") is None
    assert core.get("ever") == b"2"


def test_a_lifetime_of_zero_stores_nothing_and_a_negative_one_is_refused() -> None:
    core, _ = cache()

    assert core.set("k", b"v", ttl_s=0) is False
    assert core.get("k") is None
    with pytest.raises(ValueError, match="negative"):
        core.set("k", b"v", ttl_s=-1)


def test_the_least_recently_used_goes_first() -> None:
    core, _ = cache(max_entries=2)
    core.set("a", b"1", None)
    core.set("b", b"2", None)
    core.get("a")

    core.set("c", b"3", None)

    assert (core.get("a"), core.get("b"), core.get("c")) == (b"1", None, b"3")
    assert core.stats()["evictions"] == 1


def test_hits_and_misses_are_counted_as_they_happen() -> None:
    core, _ = cache()
    core.set("a", b"1", None)
    core.get("a")
    core.get("nothing")

    stats = core.stats()

    assert (stats["hits"], stats["misses"], stats["entries"]) == (1, 1, 1)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3_000)), max_size=80))
def test_bytes_and_entries_never_pass_their_bounds(sets: list[tuple[int, int]]) -> None:
    core, _ = cache(max_bytes=5_000, max_entries=7)

    for key, size in sets:
        core.set(str(key), bytes(size), None)
        stats = core.stats()
        assert stats["bytes"] <= 5_000
        assert stats["entries"] <= 7
