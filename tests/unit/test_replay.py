"""The replay is a pure function of wall time, and never shows what is to come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.bars import Bars, History, Quote
from infra.clock import FakeClock
from infra.errors import SymbolUnknown
from infra.sources.base import Event, Tick, VersionChanged, Wanted
from infra.sources.replay import (
    REPLAYED_SESSIONS,
    Place,
    Record,
    ReplaySource,
    load_records,
    place_at,
)

START_S = 1_700_000_000.0
SESSION_S = 60.0
TICKS = 8
RECORDS = load_records()
SYMBOLS = ("AAPL", "META")

places = st.builds(
    Place,
    st.integers(0, 3),
    st.integers(0, REPLAYED_SESSIONS - 1),
    st.integers(0, TICKS - 1),
)


def time_of(place: Place, session_s: float = SESSION_S, ticks: int = TICKS) -> float:
    """Return the wall time at which a place begins."""
    return START_S + session_s * (place.session_number + place.tick_index / ticks)


def source_at(now_s: float, symbols: tuple[str, ...] = SYMBOLS) -> tuple[ReplaySource, FakeClock]:
    """Return a source with few ticks that began at START_S, and its clock."""
    clock = FakeClock(now_s)
    records = {symbol: RECORDS[symbol] for symbol in symbols}
    return ReplaySource(records, clock, START_S, SESSION_S, TICKS), clock


def same_bars(first: Bars, second: Bars) -> bool:
    """Return whether all columns are equal."""
    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in Bars.__slots__
    )


def ticks_of(events: tuple[Event, ...]) -> list[Quote]:
    """Return the quotes of the ticks among events."""
    return [event.quote for event in events if isinstance(event, Tick)]


def versions_of(events: tuple[Event, ...]) -> list[VersionChanged]:
    """Return the changed versions among events."""
    return [event for event in events if isinstance(event, VersionChanged)]


# -- the data ------------------------------------------------------------------------------


def test_the_data_that_ship_are_the_seven_symbols() -> None:
    counts = {symbol: len(record.bars) for symbol, record in RECORDS.items()}

    assert counts == {
        "AAPL": 3270, "GOOGL": 2148, "IBM": 3270, "META": 196, "MSFT": 3270,
        "^GSPC": 3562, "^IXIC": 3562,
    }  # fmt: skip
    for record in RECORDS.values():
        assert record.bars.session(len(record.bars) - 1) == date(2013, 3, 1)
        assert record.bars.session(len(record.bars) - REPLAYED_SESSIONS) == date(2012, 8, 29)
        assert len(record.price_step) == len(record.split) == len(record.bars)


def test_history_at_the_start_is_everything_before_the_played_sessions() -> None:
    source = ReplaySource(RECORDS, FakeClock(START_S), START_S)

    assert len(source.history_now("META").bars) == 71
    assert len(source.history_now("AAPL").bars) == 3145
    assert source.history_now("AAPL").open_bar.session(0) == date(2012, 8, 29)


# -- the place -----------------------------------------------------------------------------


@given(
    place=places,
    session_s=st.floats(0.5, 86_400),
    ticks=st.integers(TICKS, 1_000),
    late=st.floats(0, 0.99),
)
def test_a_tick_lasts_from_its_instant_until_the_next(
    place: Place, session_s: float, ticks: int, late: float
) -> None:
    now_s = time_of(place, session_s, ticks) + late * session_s / ticks

    assert place_at(now_s, START_S, session_s, ticks) == place


@given(before_s=st.floats(0, 1e9))
def test_before_the_start_it_is_the_start(before_s: float) -> None:
    assert place_at(START_S - before_s, START_S, SESSION_S, TICKS) == Place(0, 0, 0)


@given(first=places, second=places)
def test_places_compare_in_time_order(first: Place, second: Place) -> None:
    assert (first < second) == (time_of(first) < time_of(second))


# -- history and quote ---------------------------------------------------------------------


@given(place=places)
def test_a_source_built_anew_goes_on_with_the_same_values(place: Place) -> None:
    # Given a source that has run through other places
    used, clock = source_at(START_S)
    used.quote_now("AAPL")
    clock.advance(time_of(place) - START_S)

    # When another is built at the same time
    anew, _ = source_at(clock.time_s())

    # Then all they say is the same
    first, second = used.history_now("AAPL"), anew.history_now("AAPL")
    assert used.quote_now("AAPL") == anew.quote_now("AAPL")
    assert same_bars(first.bars, second.bars)
    assert same_bars(first.open_bar, second.open_bar)
    assert np.array_equal(first.price_factor, second.price_factor)
    assert (first.data_version, first.changed_at_s) == (second.data_version, second.changed_at_s)


@given(place=places)
def test_sessions_to_come_have_no_effect(place: Place) -> None:
    # Given the same records with nonsense after the session under way
    record = RECORDS["AAPL"]
    after = len(record.bars) - REPLAYED_SESSIONS + place.session_index + 1
    past, future = record.bars[:after], record.bars[after:]
    absurd = Bars(
        future.opened_at_ns,
        future.low,
        future.high * 9,
        future.low / 9,
        future.high,
        future.volume,
    )
    steps = np.r_[record.price_step[:after], np.full(len(future), 7.0)]
    changed = {"AAPL": Record(Bars.concat(past, absurd), steps, steps)}

    # When both are asked
    true_source, clock = source_at(time_of(place))
    other = ReplaySource(changed, clock, START_S, SESSION_S, TICKS)

    # Then they say the same
    first, second = true_source.history_now("AAPL"), other.history_now("AAPL")
    assert true_source.quote_now("AAPL") == other.quote_now("AAPL")
    assert same_bars(first.bars, second.bars)
    assert same_bars(first.open_bar, second.open_bar)
    assert np.array_equal(first.price_factor, second.price_factor)


@given(place=places)
def test_the_open_bar_holds_the_ticks_so_far(place: Place) -> None:
    row = len(RECORDS["AAPL"].bars) - REPLAYED_SESSIONS + place.session_index
    source, _ = source_at(time_of(place))

    history, quote = source.history_now("AAPL"), source.quote_now("AAPL")

    assert len(history.bars) == row
    assert len(history.open_bar) == 1
    assert history.open_bar.session(0) == quote.session == RECORDS["AAPL"].bars.session(row)
    so_far = [
        source._quote_at("AAPL", Place(place.run, place.session_index, tick)).price
        for tick in range(place.tick_index + 1)
    ]
    assert history.open_bar.open[0] == quote.open == so_far[0]
    assert history.open_bar.high[0] == quote.high == max(so_far)
    assert history.open_bar.low[0] == quote.low == min(so_far)
    assert history.open_bar.close[0] == quote.price == so_far[-1]
    assert history.open_bar.volume[0] == quote.volume


def test_the_open_bar_of_a_last_tick_is_the_real_bar_that_closes_next() -> None:
    for symbol in SYMBOLS:
        for index in range(REPLAYED_SESSIONS - 1):
            source, clock = source_at(time_of(Place(0, index, TICKS - 1)))
            opened = source.history_now(symbol).open_bar

            clock.advance(SESSION_S / TICKS)

            assert same_bars(opened, source.history_now(symbol).bars[-1:])


def test_a_new_session_changes_version_and_time_for_all_symbols() -> None:
    source, clock = source_at(START_S + 0.5)

    before = {source.history_now(symbol).data_version for symbol in SYMBOLS}
    clock.advance(SESSION_S)
    after = source.history_now("AAPL")

    assert before == {"replay-1700000000-0-0"}
    assert after.data_version == source.quote_now("META").data_version == "replay-1700000000-0-1"
    assert after.changed_at_s == START_S + SESSION_S


def test_after_the_last_session_the_run_starts_over() -> None:
    source, clock = source_at(time_of(Place(0, REPLAYED_SESSIONS - 1, TICKS - 1)))
    assert len(source.history_now("AAPL").bars) == 3145 + 124

    clock.advance(SESSION_S / TICKS)

    history = source.history_now("AAPL")
    assert source.place() == Place(1, 0, 0)
    assert len(history.bars) == 3145
    assert history.data_version == "replay-1700000000-1-0"
    assert history.changed_at_s == START_S + 125 * SESSION_S


def test_a_quote_stands_at_new_york_market_time() -> None:
    summer, _ = source_at(time_of(Place(0, 0, 0)))
    winter, _ = source_at(time_of(Place(0, 124, TICKS // 2)))

    first = datetime.fromtimestamp(summer.quote_now("AAPL").traded_at_ns / 1e9, UTC)
    middle = datetime.fromtimestamp(winter.quote_now("AAPL").traded_at_ns / 1e9, UTC)

    assert first == datetime(2012, 8, 29, 13, 30, tzinfo=UTC)
    assert middle == datetime(2013, 3, 1, 17, 45, tzinfo=UTC)
    assert summer.quote_now("AAPL").market_status == "open"
    assert summer.quote_now("AAPL").synthetic


def test_an_unknown_symbol_is_refused() -> None:
    source, _ = source_at(START_S)

    for call in (source.history_now, source.quote_now):
        with pytest.raises(SymbolUnknown):
            call("aapl")


def test_records_must_reach_over_the_played_sessions() -> None:
    record = RECORDS["META"]
    short = Record(record.bars[:124], record.price_step[:124], record.split[:124])

    with pytest.raises(ValueError, match="META"):
        ReplaySource({"META": short}, FakeClock(), START_S)


def test_a_symbol_may_begin_with_the_first_played_session() -> None:
    record = RECORDS["META"]
    whole = Record(record.bars[-125:], record.price_step[-125:], record.split[-125:])

    source = ReplaySource({"META": whole}, FakeClock(START_S), START_S)

    assert len(source.history_now("META").bars) == 0
    assert source.quote_now("META").previous_close is None


# -- adjustment ----------------------------------------------------------------------------


def adjusted_close_on(history: History, day: date) -> tuple[float, float]:
    """Return the traded and the adjusted close of a session."""
    row = [history.bars.session(row) for row in range(len(history.bars))].index(day)
    close = float(history.bars.close[row])
    return close, close * float(history.price_factor[row])


def test_a_close_before_the_split_is_halved_and_its_volume_doubled() -> None:
    source, _ = source_at(START_S)
    history = source.history_now("AAPL")

    traded, adjusted = adjusted_close_on(history, date(2005, 2, 25))

    row = int(np.flatnonzero(history.bars.close == traded)[-1])
    assert traded == 88.99
    # The dividend of 2012-08-09 takes its 0.4 % as well.
    assert 0.49 < adjusted / traded < 0.5
    assert history.volume_factor[row] == 2.0
    assert history.price_factor[-1] == history.volume_factor[-1] == 1.0


@pytest.mark.parametrize("index", [0, 60, REPLAYED_SESSIONS - 1])
def test_factors_are_the_products_of_the_steps_up_to_the_session_under_way(index: int) -> None:
    source, _ = source_at(time_of(Place(0, index, 0)), ("IBM",))
    record = RECORDS["IBM"]

    history = source.history_now("IBM")

    k = len(history.bars)
    expected = [1 / np.prod(record.price_step[i + 1 : k + 1]) for i in range(k)]
    np.testing.assert_allclose(history.price_factor, expected, rtol=1e-12)
    assert history.volume_factor.tolist() == [1.0] * k
    assert not history.price_factor.flags.writeable


def test_the_previous_close_has_the_ex_date_step_of_the_session_under_way() -> None:
    record = RECORDS["IBM"]
    played = record.price_step[-REPLAYED_SESSIONS:]
    index = int(np.flatnonzero(played > 1)[0])
    source, _ = source_at(time_of(Place(0, index, 0)), ("IBM",))

    previous_close = source.quote_now("IBM").previous_close

    last_close = source.history_now("IBM").bars.close[-1]
    assert previous_close == pytest.approx(last_close / played[index], rel=1e-12)
    assert previous_close < last_close


# -- the stream ----------------------------------------------------------------------------


def test_the_first_batch_is_the_session_so_far() -> None:
    source, _ = source_at(START_S)

    events = source.events_between(None, Place(0, 4, 2))

    assert events[:2] == tuple(
        VersionChanged(symbol, "replay-1700000000-0-4", False) for symbol in SYMBOLS
    )
    assert [quote.symbol for quote in ticks_of(events)] == ["AAPL", "META"] * 3


@given(first=places, second=places)
def test_events_are_in_order_and_of_the_session_under_way(first: Place, second: Place) -> None:
    source, _ = source_at(START_S)

    events = source.events_between(first, second)

    if second <= first:
        assert events == ()
        return
    versions, quotes = versions_of(events), ticks_of(events)
    same_session = first.session_number == second.session_number
    assert events == (*versions, *(Tick(quote) for quote in quotes))
    assert [version.symbol for version in versions] == ([] if same_session else [*SYMBOLS])
    assert {version.restarted for version in versions} <= {first.run != second.run}
    begin = first.tick_index + 1 if same_session else 0
    assert quotes == [
        source._quote_at(symbol, Place(second.run, second.session_index, tick))
        for tick in range(begin, second.tick_index + 1)
        for symbol in SYMBOLS
    ]


@given(cuts=st.lists(st.integers(0, 2 * TICKS - 1), max_size=6))
def test_no_tick_is_lost_or_doubled_however_the_time_is_cut(cuts: list[int]) -> None:
    source, _ = source_at(START_S)
    # A stall over the end of a session loses its rest on purpose, so its last tick is a cut.
    stops = [Place(0, *divmod(cut, TICKS)) for cut in sorted({*cuts, TICKS - 1, 2 * TICKS - 1})]

    quotes: list[Quote] = []
    last = None
    for stop in stops:
        quotes += ticks_of(source.events_between(last, stop))
        last = stop

    prices = [quote.price for quote in quotes if quote.symbol == "AAPL"]
    expected = [
        source._quote_at("AAPL", Place(0, *divmod(tick, TICKS))).price for tick in range(2 * TICKS)
    ]
    assert prices == expected


async def next_after(
    stream: AsyncIterator[tuple[Event, ...]], clock: FakeClock, delay_s: float
) -> tuple[Event, ...]:
    """Wait on the stream, advance the clock, and return the batch that came."""
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not waiting.done()
    clock.advance(delay_s)
    return await asyncio.wait_for(waiting, timeout=5)


async def test_the_stream_tells_each_tick_at_its_instant() -> None:
    source, clock = source_at(START_S)
    stream = source.stream(Wanted())
    assert len(ticks_of(await anext(stream))) == len(SYMBOLS)

    for tick in range(1, 3 * TICKS):
        events = await next_after(stream, clock, SESSION_S / TICKS)

        assert source.place() == Place(0, *divmod(tick, TICKS))
        assert len(versions_of(events)) == (len(SYMBOLS) if tick % TICKS == 0 else 0)
        assert ticks_of(events) == [source.quote_now(symbol) for symbol in SYMBOLS]


async def test_a_stalled_stream_tells_every_tick_that_became_due() -> None:
    source, clock = source_at(START_S)
    stream = source.stream(Wanted())
    await anext(stream)

    events = await next_after(stream, clock, 3.5 * SESSION_S / TICKS)

    assert [quote.symbol for quote in ticks_of(events)] == ["AAPL", "META"] * 3
    assert not versions_of(events)


async def test_a_stream_that_slept_over_a_run_says_that_it_restarted() -> None:
    source, clock = source_at(START_S)
    stream = source.stream(Wanted())
    await anext(stream)

    events = await next_after(stream, clock, time_of(Place(1, 2, 1)) - START_S)

    assert versions_of(events) == [
        VersionChanged(symbol, "replay-1700000000-1-2", True) for symbol in SYMBOLS
    ]
    assert len(ticks_of(events)) == 2 * len(SYMBOLS)


async def test_a_clock_that_is_set_back_stops_the_stream_until_it_has_caught_up() -> None:
    source, clock = source_at(START_S + SESSION_S)
    stream = source.stream(Wanted())
    await anext(stream)

    clock.advance(-SESSION_S / 2)
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    clock.advance(SESSION_S / 2)
    await asyncio.sleep(0)

    assert not waiting.done()
    clock.advance(SESSION_S)
    assert ticks_of(await asyncio.wait_for(waiting, timeout=5))
