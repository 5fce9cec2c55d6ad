"""The Yahoo source against a server that answers, and fails, as Yahoo does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from infra.bars import Quote
from infra.clock import SystemClock
from infra.errors import (
    SourceError,
    SourceLimited,
    SourceMalformed,
    SourceUnavailable,
    SymbolUnknown,
)
from infra.sources.base import Event, Gap, Lane, StreamLost, Tick, Wanted
from infra.sources.breaker import FAILURES_IN_ROW
from infra.sources.budget import Budget
from infra.sources.replay import load_records
from infra.sources.yahoo.source import YahooSource
from tests.fakes.yahoo import FakeYahoo
from tests.fakes.yahoo_faults import (
    ConsentRedirect,
    Fault,
    Html,
    NanRows,
    NullResult,
    OutOfOrderRows,
    Status,
    Truncated,
)

RECORDS = load_records()


class FakesClock(SystemClock):
    """The fake's wall time, and the machine's for waiting."""

    def __init__(self, fake: FakeYahoo) -> None:
        self._fake = fake

    def time_s(self) -> float:
        return self._fake.now_s


@pytest.fixture
async def fake() -> AsyncIterator[FakeYahoo]:
    async with FakeYahoo() as fake:
        yield fake


@pytest.fixture
async def source(fake: FakeYahoo) -> AsyncIterator[YahooSource]:
    source = source_of(fake)
    yield source
    await source.close()


def source_of(fake: FakeYahoo, per_s: float = 1_000.0) -> YahooSource:
    clock = FakesClock(fake)
    budget = Budget("yahoo", clock, per_s, 16, random.Random(1))
    return YahooSource(
        clock, budget, url=fake.url, stream_url=fake.stream_url, poll_s=0.2, rng=random.Random(1)
    )


# -- questions ---------------------------------------------------------------------------------


async def test_history_is_as_traded_with_the_real_splits_and_dividends(
    fake: FakeYahoo, source: YahooSource
) -> None:
    history = await source.history("AAPL")

    record = RECORDS["AAPL"]
    count = len(history.bars)
    np.testing.assert_allclose(history.bars.close, record.bars.close[:count], rtol=1e-9)
    np.testing.assert_array_equal(history.bars.opened_at_ns, record.bars.opened_at_ns[:count])
    split_row = [history.bars.session(r) for r in range(count)].index(date(2005, 2, 25))
    assert history.volume_factor[split_row] == 2.0
    assert (history.source, history.stale_since_s) == ("yahoo", None)


async def test_actions_are_the_real_ones(source: YahooSource) -> None:
    actions = await source.actions("AAPL")

    splits = [(a.ex_date, a.value) for a in actions if a.kind == "split"]
    assert splits == [(date(2000, 6, 21), 2.0), (date(2005, 2, 28), 2.0)]


async def test_prices_of_many_symbols_cost_one_request_and_name_the_unknown(
    fake: FakeYahoo, source: YahooSource
) -> None:
    answers = await asyncio.gather(
        *(source.quotes([symbol]) for symbol in ("AAPL", "IBM", "NO.SUCH", "AAPL"))
    )

    assert isinstance(answers[0]["AAPL"], Quote)
    assert answers[3]["AAPL"] == answers[0]["AAPL"]
    assert isinstance(answers[2]["NO.SUCH"], SymbolUnknown)
    assert fake.requests["quote"] == 1
    assert (fake.requests["cookie"], fake.requests["crumb"]) == (1, 1)


async def test_five_hundred_symbols_of_quotes_make_three_requests(
    fake: FakeYahoo, source: YahooSource
) -> None:
    await source.quotes([f"S{number}" for number in range(500)])

    assert fake.requests["quote"] == 3


async def test_info_says_the_currency_and_the_zone(source: YahooSource) -> None:
    info = await source.info("AAPL")

    assert (info.currency, info.major_currency, info.minor_units) == ("USD", "USD", 1)
    assert info.time_zone == "America/New_York"
    assert info.kind == "equity"


async def test_unknown_symbols_raise(source: YahooSource) -> None:
    assert not await source.knows("NO.SUCH")
    with pytest.raises(SymbolUnknown):
        await source.history("NO.SUCH")


async def test_minutes_are_those_of_the_session(source: YahooSource) -> None:
    history = await source.history("AAPL", "1m")

    assert history.interval == "1m"
    assert len(history.bars) > 30
    assert (np.diff(history.bars.opened_at_ns) % 60_000_000_000 == 0).all()


# -- failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Status(500), SourceUnavailable),
        (ConsentRedirect(), SourceUnavailable),
        (Html(), SourceMalformed),
        (NullResult(), SourceMalformed),
        (Truncated(), SourceError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Fault) else "",
)
async def test_an_answer_that_makes_no_sense_is_an_error_of_the_source(
    fake: FakeYahoo, fault: Fault, error: type[SourceError]
) -> None:
    fake.fail("chart", fault, forever=True)
    source = source_of(fake)

    with pytest.raises(error):
        await source.history("AAPL", lane=Lane.LIVE)
    await source.close()


async def test_a_chart_that_fails_again_and_again_is_no_reason_to_ask_for_no_other(
    fake: FakeYahoo, source: YahooSource
) -> None:
    fake.fail("chart", Html(), forever=True)
    fake.fail("quote", Html(), forever=True)
    for _ in range(FAILURES_IN_ROW):
        with pytest.raises(SourceMalformed):
            await source.history("AAPL")
        with pytest.raises(SourceMalformed):
            await source.info("AAPL")
    fake.heal()

    assert len((await source.history("IBM")).bars)


@pytest.mark.parametrize("fault", [NanRows(), OutOfOrderRows()], ids=lambda f: type(f).__name__)
async def test_rows_that_make_no_sense_are_left_out(
    fake: FakeYahoo, source: YahooSource, fault: Fault
) -> None:
    good = await source.history("AAPL")
    fake.fail("chart", fault)

    history = await source.history("AAPL")

    assert 0 < len(history.bars) <= len(good.bars)
    assert (np.diff(history.bars.opened_at_ns) > 0).all()
    assert np.isfinite(history.bars.close).all()


async def test_a_crumb_that_is_refused_is_fetched_once_more(
    fake: FakeYahoo, source: YahooSource
) -> None:
    await source.quotes(["AAPL"])
    fake.crumb = "an.Other1crumb"

    assert isinstance((await source.quotes(["IBM"]))["IBM"], Quote)
    assert fake.requests["crumb"] == 2


async def test_a_429_on_the_crumb_is_no_crumb(fake: FakeYahoo, source: YahooSource) -> None:
    fake.fail("crumb", Status(429, retry_after=1))

    quote = (await source.quotes(["AAPL"]))["AAPL"]  # after the second that was asked for

    assert isinstance(quote, Quote)
    assert all("Too" not in str(symbols) for _, symbols, _ in fake.log)


async def test_a_429_stops_everybody_until_its_time_is_over(fake: FakeYahoo) -> None:
    source = source_of(fake)
    fake.fail("chart", Status(429, retry_after=3_600), forever=True)

    with pytest.raises(SourceLimited) as caught:
        await source.history("AAPL")
    assert caught.value.retry_after_s > 3_000
    asked = sum(fake.requests.values())
    for _ in range(20):
        with pytest.raises(SourceLimited):
            await source.history("IBM")
    assert sum(fake.requests.values()) == asked
    await source.close()


# -- the stream --------------------------------------------------------------------------------


class Stream:
    """The events of a source's stream, read in the background."""

    def __init__(self, source: YahooSource, wanted: Wanted) -> None:
        self.events: list[Event] = []
        self._more = asyncio.Event()
        self._task = asyncio.ensure_future(self._read(source, wanted))

    async def _read(self, source: YahooSource, wanted: Wanted) -> None:
        async for events in source.stream(wanted):
            self.events += events
            self._more.set()

    def quotes(self, symbol: str) -> list[Quote]:
        return [e.quote for e in self.events if isinstance(e, Tick) and e.quote.symbol == symbol]

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, holds: object) -> None:
        assert callable(holds)
        async with asyncio.timeout(30):
            while not holds():
                self._more.clear()
                if not holds():
                    await self._more.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def subscribed(fake: FakeYahoo, *symbols: str) -> None:
    async with asyncio.timeout(30):
        while not fake.subscriptions.issuperset(symbols):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.01)


async def test_ticks_come_as_the_streamer_sends_them_on_top_of_the_first_poll(
    fake: FakeYahoo, source: YahooSource
) -> None:
    stream = Stream(source, Wanted(["AAPL"]))
    await stream.until(lambda: stream.quotes("AAPL"))
    polled = stream.quotes("AAPL")[0]
    await subscribed(fake, "AAPL")

    price = round(polled.high + 1, 2)
    await fake.send_tick("AAPL", price, int(fake.now_s * 1_000) + 1_000, polled.volume + 500)
    await stream.until(lambda: stream.quotes("AAPL")[-1].price == price)

    tick = stream.quotes("AAPL")[-1]
    assert tick == replace(
        polled,
        price=price,
        high=price,
        volume=polled.volume + 500,
        traded_at_ns=tick.traded_at_ns,
        received_at_ns=tick.received_at_ns,
    )
    await stream.close()


async def test_ticks_out_of_order_are_left_out(fake: FakeYahoo, source: YahooSource) -> None:
    stream = Stream(source, Wanted(["AAPL"]))
    await stream.until(lambda: stream.quotes("AAPL"))
    await subscribed(fake, "AAPL")
    at_ms = int(fake.now_s * 1_000) + 1_000

    await fake.send_tick("AAPL", 600.0, at_ms, 0)
    await fake.send_tick("AAPL", 500.0, at_ms - 60_000, 0)
    await fake.send_tick("AAPL", 601.0, at_ms + 1_000, 0)
    await stream.until(lambda: stream.quotes("AAPL")[-1].price == 601.0)

    assert 500.0 not in [quote.price for quote in stream.quotes("AAPL")]
    await stream.close()


@pytest.mark.parametrize("how", ["clean", "abrupt"])
async def test_a_stream_that_was_lost_comes_back_with_a_gap(
    fake: FakeYahoo, source: YahooSource, how: str
) -> None:
    stream = Stream(source, Wanted(["AAPL", "IBM"]))
    await subscribed(fake, "AAPL", "IBM")
    await stream.until(lambda: stream.quotes("AAPL") and stream.quotes("IBM"))

    if how == "clean":
        await fake.close_streams()
    else:
        fake.abort_streams()
    await stream.until(lambda: stream.of(StreamLost))
    await subscribed(fake, "AAPL", "IBM")
    await fake.send_tick("IBM", 200.0, int(fake.now_s * 1_000) + 1_000)  # the first news is back
    await stream.until(lambda: stream.of(Gap))

    (gap,) = stream.of(Gap)
    assert isinstance(gap, Gap)
    assert gap.symbols == ("AAPL", "IBM")
    assert gap.from_ns <= gap.until_ns
    await stream.close()


async def test_what_becomes_wanted_is_polled_and_subscribed_to_at_once(
    fake: FakeYahoo, source: YahooSource
) -> None:
    wanted = Wanted()
    stream = Stream(source, wanted)
    await asyncio.sleep(0.05)
    assert fake.stream_connections == 0

    wanted.replace(["META"])
    await subscribed(fake, "META")
    await stream.until(lambda: stream.quotes("META"))

    assert fake.stream_connections == 1
    await stream.close()


async def test_polls_that_fail_do_not_end_the_stream(fake: FakeYahoo, source: YahooSource) -> None:
    fake.fail("quote", Html(), Html(), Html(), Html())
    stream = Stream(source, Wanted(["AAPL"]))

    await stream.until(lambda: stream.quotes("AAPL"))

    await stream.close()
