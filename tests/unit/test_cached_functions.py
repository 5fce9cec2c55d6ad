"""Functions whose results are kept: keys by value, one run for all, no value altered."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from infra.caches import decorators
from infra.caches.changes import Mark
from infra.caches.codec import decoded, encoded
from infra.caches.decorators import (
    cache_api_response,
    cache_news_data,
    cache_price_data,
    cache_result,
    cache_technical_analysis,
)
from infra.caches.manager import CacheManager
from infra.caches.named import NamedCaches
from infra.clock import FakeClock
from infra.errors import CacheUnknown, KeyUnusable, SymbolUnknown, ValueNotShareable


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(autouse=True)
def own_caches(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> NamedCaches:
    """Give each test caches of its own, whose time stands still."""
    fresh = NamedCaches(clock.monotonic_s)
    monkeypatch.setattr(decorators, "caches", fresh)
    return fresh


def test_a_call_in_another_spelling_is_the_same_call() -> None:
    calls = []

    @cache_result()
    def mean(symbol: str, period: str = "1y", *, round_to: int = 2) -> int:
        calls.append(symbol)
        return len(calls)

    answers = {mean("AAPL"), mean("AAPL", "1y"), mean(symbol="AAPL", round_to=2, period="1y")}

    assert answers == {1}
    assert mean("IBM") == 2
    assert mean.cache_key("AAPL").endswith("mean(symbol='AAPL', period='1y', round_to=2)")


def test_it_keeps_kind_name_and_signature() -> None:
    @cache_result()
    async def prices(symbol: str, days: int = 3) -> list[int]:
        """Tell prices."""
        return [days]

    assert inspect.iscoroutinefunction(prices)
    assert prices.__name__ == "prices"  # type: ignore[attr-defined]
    assert prices.__doc__ == "Tell prices."
    assert list(inspect.signature(prices).parameters) == ["symbol", "days"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (1, True),
        (1, 1.0),
        ("1", 1),
        ((1, 2), [1, 2]),
        (date(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array([1, 2]), np.array([[1, 2]])),
        (np.zeros(2, "int32"), np.zeros(4, "int16")),
        (pd.Series([1.0, 2.0]), pd.Series([1.0, 2.0], name="close")),
        (pd.DataFrame({"a": range(2_000)}), pd.DataFrame({"a": [*range(1_999), 0]})),
        (pd.DataFrame({"a": ["x"]}), pd.DataFrame({"a": ["y"]})),
    ],
)
def test_arguments_count_by_value_and_type(first: Any, second: Any) -> None:
    calls = []

    @cache_result()
    def seen(value: Any) -> int:
        calls.append(value)
        return len(calls)

    assert seen(first) == seen(first)
    assert seen(second) != seen(first)


def test_equal_frames_share_an_entry_and_equal_dicts_in_any_order() -> None:
    calls = []

    @cache_result()
    def seen(value: Any) -> int:
        calls.append(value)
        return len(calls)

    frame = pd.DataFrame(
        {"close": np.arange(100.0)}, index=pd.date_range("2026-01-01", periods=100)
    )

    assert seen(frame) == seen(frame.copy())
    assert seen({"a": 1, "b": [2]}) == seen({"b": [2], "a": 1})
    assert len(calls) == 2


class Session:
    """Something without a value."""


def test_an_argument_without_a_value_is_refused_at_the_call() -> None:
    @cache_result()
    def read(session: Session, symbol: str) -> str:
        return symbol

    @cache_result(ignore=("session",))
    def read_anyway(session: Session, symbol: str) -> str:
        return symbol

    with pytest.raises(KeyUnusable, match=r"argument 'session'.*ignore=\('session',\)"):
        read(Session(), "AAPL")
    assert read_anyway(Session(), "AAPL") == "AAPL"


class Book:
    def __init__(self, name: str) -> None:
        self.name = name

    def cache_key(self) -> str:
        return self.name

    @cache_result()
    def title(self, number: int) -> str:
        return f"{self.name} {number}"


def test_methods_are_told_apart_by_their_objects_value() -> None:
    assert (Book("a").title(1), Book("b").title(1)) == ("a 1", "b 1")
    assert Book("a").title(1) == "a 1"


@pytest.mark.parametrize(
    "make",
    [
        lambda: cache_result(ttl=-1),
        lambda: cache_result("a name"),
        lambda: cache_result(stale=-1),
        lambda: cache_result(ignore=("nothing",))(len),
        lambda: CacheManager(max_entries=-1),
        lambda: CacheManager("redish"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_declaration_is_refused_at_once(make: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|letters|argument"):
        make()


def test_generators_are_refused() -> None:
    def rows() -> Iterator[int]:
        yield 1

    with pytest.raises(TypeError, match="one by one"):
        cache_result()(rows)
    with pytest.raises(TypeError, match="parentheses"):
        cache_result(len)  # type: ignore[arg-type]


def test_errors_and_none_are_kept_only_when_asked() -> None:
    calls: list[str] = []

    def find(symbol: str) -> None:
        calls.append(symbol)
        if symbol == "ZZZZ":
            raise SymbolUnknown(symbol)

    plain = cache_result()(find)
    asked = cache_result("news", none=True, errors=SymbolUnknown)(find)
    for function in (plain, plain, asked, asked):
        function("NONE")
        with pytest.raises(SymbolUnknown, match="ZZZZ"):
            function("ZZZZ")

    assert calls.count("NONE") == calls.count("ZZZZ") == 3


@pytest.mark.parametrize(
    ("preset", "name", "ttl_s"),
    [
        (cache_technical_analysis, "technical_analysis", 600),
        (cache_news_data, "news", 300),
        (cache_price_data, "price_data", 3_600),
        (cache_api_response, "api_response", 180),
    ],
)
def test_presets_have_their_cache_and_lifetime(
    preset: Any, name: str, ttl_s: float, clock: FakeClock
) -> None:
    calls = []

    @preset()  # type: ignore[untyped-decorator]
    def value(number: int) -> int:
        calls.append(number)
        return number

    value(1)
    clock.advance(ttl_s - 1)
    value(1)
    clock.advance(2)
    value(1)

    assert value.cache_name == name
    assert calls == [1, 1]


def test_new_data_of_a_symbol_ends_its_results_only(own_caches: NamedCaches) -> None:
    calls: list[str] = []

    @cache_technical_analysis()
    def trend(symbol: str) -> int:
        calls.append(symbol)
        return len(calls)

    own_caches.changes.on_news(Mark("e", 1), {})
    trend("aapl")
    trend("ibm")
    own_caches.changes.on_news(Mark("e", 2), {"AAPL": 2})
    trend("aapl")
    trend("ibm")

    assert calls == ["aapl", "ibm", "aapl"]


def test_what_a_caller_alters_is_its_own() -> None:
    @cache_result()
    def prices(kind: str) -> Any:
        if kind == "frame":
            return pd.DataFrame({"close": [1.0, 2.0]})
        return {"close": [1.0, 2.0]} if kind == "dict" else np.array([1.0, 2.0])

    first, made = prices("frame"), prices("dict")
    first.loc[0, "close"] = -1.0
    made["close"].append(3.0)

    assert prices("frame")["close"].tolist() == [1.0, 2.0]
    assert prices("dict") == {"close": [1.0, 2.0]}
    prices("array")
    with pytest.raises(ValueError, match="read-only"):
        prices("array")[0] = -1.0


def test_a_thousand_threads_that_miss_make_one_run() -> None:
    runs = []
    gate = threading.Barrier(50)

    @cache_result()
    def slow(number: int) -> int:
        runs.append(number)
        return number

    def ask(_: int) -> int:
        gate.wait()
        return slow(7)

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(1_000)))

    assert answers == [7] * 1_000
    assert runs == [7]


async def test_a_thousand_coroutines_that_miss_make_one_run() -> None:
    runs = []
    release = asyncio.Event()

    @cache_result()
    async def slow(number: int) -> int:
        runs.append(number)
        await release.wait()
        return number

    asking = [asyncio.create_task(slow(7)) for _ in range(1_000)]
    await asyncio.sleep(0)
    asking[0].cancel()  # who leads and leaves takes nobody along
    release.set()
    answers = await asyncio.gather(*asking[1:])

    assert answers == [7] * 999
    assert runs == [7]


async def test_an_error_reaches_all_who_wait_and_the_next_asks_again() -> None:
    runs = []

    @cache_result()
    async def broken() -> int:
        runs.append(1)
        await asyncio.sleep(0)
        raise ValueError("no")

    answers = await asyncio.gather(*(broken() for _ in range(10)), return_exceptions=True)
    with pytest.raises(ValueError, match="no"):
        await broken()

    assert all(isinstance(a, ValueError) for a in answers)
    assert len(runs) == 2


async def test_a_stale_value_is_given_while_the_new_one_is_made(clock: FakeClock) -> None:
    runs = []
    again = asyncio.Event()

    @cache_result(ttl=10, stale=60)
    async def value() -> int:
        runs.append(1)
        if len(runs) > 1:
            await again.wait()
        return len(runs)

    assert await value() == 1
    clock.advance(11)
    stale = [await value() for _ in range(5)]
    again.set()
    for _ in range(10):
        await asyncio.sleep(0)

    assert await value() == 2
    assert stale == [1] * 5
    assert len(runs) == 2


def test_a_stale_value_is_renewed_beside_plain_code_too(clock: FakeClock) -> None:
    runs = []
    renewed = threading.Event()

    @cache_result(ttl=10, stale=60)
    def value() -> int:
        runs.append(1)
        if len(runs) > 1:
            renewed.set()
        return len(runs)

    value()
    clock.advance(11)

    assert value() == 1
    assert renewed.wait(10)


def test_a_lifetime_of_zero_never_stores() -> None:
    runs = []

    @cache_result(ttl=0)
    def value() -> int:
        runs.append(1)
        return len(runs)

    assert (value(), value()) == (1, 2)


def test_a_name_is_a_cache_once_it_is_used(own_caches: NamedCaches) -> None:
    cache_result("mine")(lambda: 1)()

    assert "mine" in own_caches.names()
    assert own_caches.clear("mine") == {"mine": 1}
    with pytest.raises(CacheUnknown, match="technical_analysis"):
        own_caches.clear("nothing")


def test_the_cache_with_the_fewest_hits_for_its_bytes_is_cut_first(
    own_caches: NamedCaches,
) -> None:
    for name in ("used", "unused"):
        for number in range(20):
            own_caches.named(name).set(str(number), bytes(10_000))
    for _ in range(100):
        own_caches.named("used").get("1")

    own_caches.shrink(0.5)
    held = {stats.name: stats.entries for stats in own_caches.stats()}

    assert held == {"used": 20, "unused": 0}


def test_names_are_bounded(own_caches: NamedCaches) -> None:
    for number in range(64 - len(own_caches.names())):
        own_caches.named(f"c{number}")

    with pytest.raises(ValueError, match="64 caches already"):
        own_caches.named("one-more")


async def test_a_manager_gets_or_sets_plain_and_async() -> None:
    manager = CacheManager(name="hand")
    runs = []

    async def later() -> str:
        runs.append(1)
        return "later"

    assert manager.get_or_set(("AAPL", 1), lambda: "made") == "made"
    assert manager.get_or_set(("AAPL", 1), lambda: "again") == "made"
    assert [await manager.get_or_set("k", later) for _ in range(2)] == ["later"] * 2
    assert manager.get_or_set("never", lambda: 1, 0) == 1
    assert manager.get("never") is None
    assert manager.top_accessed(1)[0][0] == "('AAPL',1)"
    assert len(runs) == 1


@dataclass
class Own:
    number: int


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1, 2**80, -1.5, "ü", b"x", [1, [2]], (1, (2, [3])), {"a": 1, 2: "b"}, {1, 2},
        frozenset({"a"}), date(2026, 1, 2), datetime(2026, 1, 2, 3, tzinfo=UTC),
        datetime(2026, 1, 2, 3), timedelta(days=1, seconds=2), Decimal("1.10"), np.float32(1.5),
    ],
)  # fmt: skip
def test_what_is_shared_comes_back_equal_with_its_type(value: Any) -> None:
    back = decoded(encoded(value))

    assert back == value
    assert type(back) is type(value)


def test_frames_and_arrays_come_back_as_they_were() -> None:
    index = pd.date_range("2026-01-01", periods=3, tz="UTC", name="opened_at")
    frame = pd.DataFrame(
        {"close": [1.0, np.nan, 3.0], "volume": [1, 2, 2**40], "kind": ["a", "b", "a"]}, index
    )
    frame["kind"] = frame["kind"].astype("category")

    pd.testing.assert_frame_equal(decoded(encoded(frame)), frame, check_freq=False)
    series = decoded(encoded(frame["close"]))
    pd.testing.assert_series_equal(series, frame["close"], check_freq=False)
    array = decoded(encoded(np.arange(6.0).reshape(2, 3)))
    assert array.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


@pytest.mark.parametrize("value", [Own(1), {"a": Own(1)}, object(), np.array([Own(1)])])
def test_what_has_no_form_stays_in_its_process(value: Any) -> None:
    with pytest.raises(ValueNotShareable):
        encoded(value)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\x80\x04\x95pickle"])
def test_bytes_of_others_are_no_value(data: bytes) -> None:
    with pytest.raises(ValueError, match="no value"):
        decoded(data)
