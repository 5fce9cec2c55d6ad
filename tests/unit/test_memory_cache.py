"""One cache of one process: bounds, lifetimes, and what is true."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.caches.base import CacheStats, Lifetime
from infra.caches.changes import Changes, Mark
from infra.caches.memory import MemoryCache
from infra.caches.sizes import size_bytes
from infra.clock import FakeClock

MIB = 2**20


def cache(
    max_entries: int = 100, max_bytes: int = MIB, changes: Changes | None = None
) -> tuple[MemoryCache, FakeClock]:
    clock = FakeClock()
    return MemoryCache(
        "c", "near", max_entries, max_bytes, 10.0, changes, clock.monotonic_s
    ), clock


def test_a_value_lives_as_long_as_it_was_given() -> None:
    values, clock = cache()
    values.set("default", 1)
    values.set("short", 2, 5)
    values.set("ever", 3, None)
    values.set("never", 4, 0)

    clock.advance(6)
    after_six = [values.get(k) for k in ("default", "short", "ever", "never")]
    clock.advance(1e9)

    assert after_six == [1, None, 3, None]
    assert [values.get(k) for k in ("default", "ever")] == [None, 3]
    assert values.stats().entries == 1


@pytest.mark.parametrize("ttl", [-1, -0.001, float("nan"), True, "10"])
def test_a_lifetime_that_is_none_is_refused(ttl: float) -> None:
    values, _ = cache()

    with pytest.raises(ValueError, match="must be 0"):
        values.set("k", 1, ttl)


@pytest.mark.parametrize("sizes", [(-1, MIB), (1, -1)])
def test_a_negative_size_is_refused(sizes: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be 0"):
        cache(*sizes)


def test_none_is_a_value() -> None:
    values, _ = cache()
    values.set("k", None)

    assert values.get("k", "nothing") is None
    assert values.stats().hits == 1


def test_the_least_recently_used_goes_first() -> None:
    values, _ = cache(max_entries=2)
    values.set("a", 1)
    values.set("b", 2)
    values.get("a")
    values.set("c", 3)

    assert [values.get(k) for k in "abc"] == [1, None, 3]
    assert values.stats().evictions == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3_000)), max_size=80))
def test_bytes_and_entries_never_pass_their_bounds(sets: list[tuple[int, int]]) -> None:
    values, _ = cache(max_entries=7, max_bytes=12_000)

    for key, size in sets:
        kept = values.set(str(key), bytes(size))
        stats = values.stats()
        assert stats.bytes <= 12_000
        assert stats.entries <= 7
        assert kept == (size_bytes(bytes(size)) + size_bytes(str(key)) + 520 <= 3_000)


def test_what_is_too_large_does_not_leave_an_older_value_behind() -> None:
    values, _ = cache(max_bytes=8_000)
    values.set("k", b"small")

    assert not values.set("k", bytes(4_000))
    assert values.get("k") is None
    assert values.stats().refused == 1


def test_a_lifetime_of_zero_takes_the_older_value_away() -> None:
    values, _ = cache()
    values.set("k", "old")

    assert not values.set("k", "new", 0)
    assert values.get("k") is None


def test_a_stale_value_is_found_but_not_got() -> None:
    values, clock = cache()
    values.put("k", 1, Lifetime(5.0, stale_s=5.0))

    clock.advance(6)
    found = values.find("k")

    assert found is not None
    assert found.is_stale
    assert values.get("k") is None
    clock.advance(5)
    assert values.find("k") is None
    stats = values.stats()
    assert (stats.hits, stats.stale_hits, stats.misses, stats.expirations) == (0, 1, 2, 1)


def heard(changes: Changes, offset: int, **symbols: int) -> None:
    changes.on_news(Mark("e", offset), symbols)


def test_new_data_ends_what_was_made_of_the_old() -> None:
    clock = FakeClock()
    changes = Changes(5.0, clock.monotonic_s)
    values = MemoryCache("c", "near", 10, MIB, None, changes, clock.monotonic_s)
    heard(changes, 7, AAPL=3)
    values.put("aapl", 1, Lifetime(None, symbols=("AAPL",), mark=changes.mark))
    values.put("both", 2, Lifetime(None, symbols=("AAPL", "IBM"), mark=changes.mark))
    values.put("ibm", 3, Lifetime(None, symbols=("IBM",), mark=changes.mark))

    heard(changes, 9, AAPL=8)

    assert [values.get(k) for k in ("aapl", "both", "ibm")] == [None, None, 3]
    assert values.stats().invalidations == 2


def test_what_was_begun_before_new_data_is_not_kept_after_it() -> None:
    clock = FakeClock()
    changes = Changes(5.0, clock.monotonic_s)
    values = MemoryCache("c", "near", 10, MIB, None, changes, clock.monotonic_s)
    heard(changes, 7)
    began = changes.mark
    heard(changes, 9, AAPL=8)

    assert not values.put("k", 1, Lifetime(None, symbols=("AAPL",), mark=began))
    assert values.put("k", 1, Lifetime(None, symbols=("IBM",), mark=began))


def test_a_silent_hub_gives_nothing_and_a_new_epoch_drops_all() -> None:
    clock = FakeClock()
    changes = Changes(5.0, clock.monotonic_s)
    values = MemoryCache("c", "near", 10, MIB, None, changes, clock.monotonic_s)
    heard(changes, 7)
    values.put("k", 1, Lifetime(None, symbols=("AAPL",), mark=changes.mark))
    values.put("free", 2, Lifetime(None))

    clock.advance(6)
    silent = values.get("k"), values.get("free")
    heard(changes, 7)
    again = values.get("k")
    changes.on_news(Mark("other", 1), {})

    assert silent == (None, 2)
    assert again == 1
    assert values.get("k") is None
    assert values.purge() == 0


def test_shrinking_drops_the_oldest_and_tells_what_went() -> None:
    values, _ = cache()
    for number in range(10):
        values.set(number, bytes(1_000))
    before = values.bytes

    gone = values.shrink(before // 2)

    assert gone == before - values.bytes
    assert values.bytes <= before // 2
    assert values.get(9) is not None
    assert values.get(0) is None


def test_clearing_zeroes_the_counts() -> None:
    values, _ = cache()
    values.set("a", 1)
    values.get("a")

    assert values.clear() == 1
    assert values.stats() == CacheStats("c", "near", max_entries=100, max_bytes=MIB)


def test_the_keys_read_most_are_told() -> None:
    values, _ = cache()
    for key, reads in (("a", 1), ("b", 3), ("c", 2)):
        values.set(key, key)
        for _ in range(reads):
            values.get(key)

    assert values.top(2) == [("b", 3), ("c", 2)]


def test_sizes_are_those_of_arrays_and_frames() -> None:
    array = np.zeros(10_000)
    frame = pd.DataFrame({"close": array.copy()})

    assert size_bytes(array) >= array.nbytes
    assert size_bytes(array[:10]) >= array.nbytes  # a view keeps its base alive
    assert size_bytes({"a": [array, array]}) < 2 * array.nbytes
    assert size_bytes(frame) >= 80_000
    assert size_bytes([frame, "x" * 5_000]) >= 85_000
    assert size_bytes(pd) == 0
