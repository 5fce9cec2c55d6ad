"""A steady source gives the last good value while upstream fails, and asks once for everybody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import date

import pytest

from infra.bars import History, Quote
from infra.clock import FakeClock
from infra.errors import FinstageError, SourceError, SourceUnavailable, SymbolUnknown
from infra.periods import INTERVALS
from infra.sources.base import (
    Action,
    Event,
    Found,
    Lane,
    StreamLost,
    SymbolInfo,
    Tick,
    Wanted,
    WithoutExtras,
)
from infra.sources.replay import ReplaySource, load_records
from infra.sources.steady import UNKNOWN_FOR_S, Limits, SteadySource

START_S = 1_700_000_000.0
LIMITS = Limits(quote_fresh_s=5.0, quote_stale_s=60.0, history_stale_s=3_600.0)


class Upstream(WithoutExtras):
    """A source that counts its questions and can be broken: real bars of the replay behind it."""

    synthetic = False
    is_open = True
    intervals: tuple[str, ...] = INTERVALS

    def __init__(self, clock: FakeClock, name: str = "one") -> None:
        self.name = name
        self.asked: Counter[str] = Counter()
        self.broken: SourceError | None = None
        self.events: asyncio.Queue[tuple[Event, ...]] = asyncio.Queue()
        self._behind = ReplaySource(load_records(), clock, START_S)

    def symbols(self) -> tuple[str, ...]:
        return ()

    async def knows(self, symbol: str) -> bool:
        return await self._behind.knows(symbol)

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        self._count("quotes")
        quotes = await self._behind.quotes(symbols)
        return {
            s: replace(q, source=self.name) if isinstance(q, Quote) else q
            for s, q in quotes.items()
        }

    async def history(
        self,
        symbol: str,
        interval: str = "1d",
        start: date | None = None,
        end: date | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> History:
        self._count("history")
        await asyncio.sleep(0)  # others may ask meanwhile
        return await self._behind.history(symbol)

    async def stream(self, wanted: Wanted) -> AsyncIterator[tuple[Event, ...]]:
        while True:
            yield await self.events.get()

    async def actions(self, symbol: str) -> tuple[Action, ...]:
        return await self._behind.actions(symbol)

    async def info(self, symbol: str) -> SymbolInfo:
        return await self._behind.info(symbol)

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        self._count("search")
        return await self._behind.search(text, count)

    def _count(self, what: str) -> None:
        self.asked[what] += 1
        if self.broken is not None:
            raise self.broken


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START_S)


@pytest.fixture
def upstream(clock: FakeClock) -> Upstream:
    return Upstream(clock)


@pytest.fixture
def source(clock: FakeClock, upstream: Upstream) -> SteadySource:
    return SteadySource([upstream], clock, LIMITS)


async def quote(source: SteadySource, symbol: str = "AAPL") -> Quote:
    answer = (await source.quotes([symbol]))[symbol]
    assert isinstance(answer, Quote), answer
    return answer


async def test_a_price_is_asked_again_only_when_it_is_no_longer_fresh(
    source: SteadySource, upstream: Upstream, clock: FakeClock
) -> None:
    await quote(source)
    clock.advance(4.9)
    await quote(source)
    assert upstream.asked["quotes"] == 1

    clock.advance(0.2)
    await quote(source)
    assert upstream.asked["quotes"] == 2


async def test_a_price_is_stale_while_upstream_fails_until_the_limit_and_then_an_error(
    source: SteadySource, upstream: Upstream, clock: FakeClock
) -> None:
    good = await quote(source)
    upstream.broken = SourceUnavailable("down")

    clock.advance(59)
    assert await quote(source) == replace(good, stale=True)

    clock.advance(2)
    assert isinstance((await source.quotes(["AAPL"]))["AAPL"], SourceUnavailable)

    upstream.broken = None
    assert not (await quote(source)).stale


async def test_a_history_is_stale_since_it_was_last_received(
    source: SteadySource, upstream: Upstream, clock: FakeClock
) -> None:
    assert (await source.history("AAPL")).stale_since_s is None
    upstream.broken = SourceUnavailable("down")

    clock.advance(1_000)
    stale = await source.history("AAPL")
    assert stale.stale_since_s == START_S
    assert len(stale.bars) > 3_000

    clock.advance(3_000)
    with pytest.raises(SourceUnavailable):
        await source.history("AAPL")


async def test_a_thousand_who_ask_for_one_history_make_one_question(
    source: SteadySource, upstream: Upstream
) -> None:
    histories = await asyncio.gather(*(source.history("AAPL") for _ in range(1_000)))

    assert upstream.asked["history"] == 1
    assert len({id(history) for history in histories}) == 1
    assert sum(cache.sets for cache in source.kept.stats()) == 1


async def test_an_unknown_symbol_costs_one_question_an_hour(
    source: SteadySource, upstream: Upstream, clock: FakeClock
) -> None:
    for _ in range(5):
        assert isinstance((await source.quotes(["NO.SUCH"]))["NO.SUCH"], SymbolUnknown)
        assert not await source.knows("NO.SUCH")
        with pytest.raises(SymbolUnknown):
            await source.history("NO.SUCH")
    assert sum(upstream.asked.values()) == 1

    clock.advance(UNKNOWN_FOR_S)
    await source.quotes(["NO.SUCH"])
    assert sum(upstream.asked.values()) == 2


async def test_the_second_source_answers_while_the_first_does_not(clock: FakeClock) -> None:
    first, second = Upstream(clock, "first"), Upstream(clock, "second")
    source = SteadySource([first, second], clock, LIMITS)
    first.broken = SourceUnavailable("down")

    assert (await quote(source)).source == "second"
    assert not (await quote(source)).stale

    first.broken = None
    clock.advance(6)
    assert (await quote(source)).source == "first"


async def test_streamed_prices_are_fresh_until_the_stream_is_lost(
    source: SteadySource, upstream: Upstream, clock: FakeClock
) -> None:
    stream = source.stream(Wanted(["AAPL"]))
    first = await quote(source)
    streamed = replace(first, price=first.price + 1)
    await upstream.events.put((Tick(streamed, is_streamed=True),))
    await anext(stream)

    clock.advance(3_000)
    assert (await quote(source)).price == streamed.price
    assert upstream.asked["quotes"] == 1

    await upstream.events.put((StreamLost("closed"),))
    await anext(stream)
    await quote(source)
    assert upstream.asked["quotes"] == 2


async def test_a_symbol_that_is_no_longer_wanted_is_polled_again(
    source: SteadySource, upstream: Upstream, clock: FakeClock
) -> None:
    wanted = Wanted(["AAPL"])
    stream = source.stream(wanted)
    first = await quote(source)
    await upstream.events.put((Tick(replace(first, price=1.0), is_streamed=True),))
    await anext(stream)
    assert (await quote(source)).price == 1.0

    wanted.replace([])
    clock.advance(60)

    assert (await quote(source)).price != 1.0
    assert upstream.asked["quotes"] == 2


async def test_prices_carry_the_version_of_the_history_that_is_held(
    source: SteadySource, clock: FakeClock
) -> None:
    history = await source.history("AAPL")

    assert (await quote(source)).data_version == history.data_version


async def test_other_answers_outlive_a_failure_too(
    source: SteadySource, upstream: Upstream, clock: FakeClock
) -> None:
    found = await source.search("apple", 3)
    upstream.broken = SourceUnavailable("down")
    clock.advance(3_600)

    assert await source.search("apple", 3) == found
    with pytest.raises(SourceUnavailable):
        await source.search("google", 3)


async def test_an_answer_that_a_tick_overtook_does_not_bring_the_old_price_back(
    source: SteadySource, upstream: Upstream, clock: FakeClock
) -> None:
    stream = source.stream(Wanted(["AAPL"]))
    first = await quote(source)
    later = replace(first, price=first.price + 1, traded_at_ns=first.traded_at_ns + 10**17)
    await upstream.events.put((Tick(later),))
    await anext(stream)
    clock.advance(LIMITS.quote_fresh_s + 1)

    assert (await quote(source)).price == later.price
    assert upstream.asked["quotes"] == 2


async def test_what_is_kept_is_counted_and_can_be_taken_back(
    source: SteadySource, upstream: Upstream
) -> None:
    await source.history("AAPL")
    await source.history("AAPL")
    figures = {stats.name: stats for stats in source.kept.stats()}

    assert {stats.level for stats in figures.values()} == {"source"}
    prices = figures["price_data"]
    assert (prices.entries, prices.hits, prices.misses) == (1, 1, 1)
    assert prices.bytes > 48 * len((await source.history("AAPL")).bars)

    assert source.kept.shrink("price_data", 0) == prices.bytes
    await source.history("AAPL")
    assert upstream.asked["history"] == 2
