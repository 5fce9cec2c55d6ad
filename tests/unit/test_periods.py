"""Periods, ranges and longer bars, against pandas."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.bars import Bars
from infra.errors import ParameterInvalid
from infra.periods import (
    DAILY_INTERVALS,
    INTERVALS,
    PERIODS,
    check_interval,
    check_period,
    day_ns,
    resample,
    rows_of_period,
    rows_of_range,
)

OFFSETS = {
    "1mo": pd.DateOffset(months=1),
    "3mo": pd.DateOffset(months=3),
    "6mo": pd.DateOffset(months=6),
    "1y": pd.DateOffset(years=1),
    "2y": pd.DateOffset(years=2),
    "5y": pd.DateOffset(years=5),
    "10y": pd.DateOffset(years=10),
}
FREQUENCIES = {"1wk": "W-SUN", "1mo": "M", "3mo": "Q-DEC"}

# Gaps of up to ten days: weekends, holidays, and weeks without a session.
gaps = st.lists(st.integers(1, 10), min_size=1, max_size=150)
first_days = st.dates(date(1960, 1, 1), date(2040, 1, 1))


def bars_on(days: list[date], seed: int = 0) -> Bars:
    """Return bars of random prices on these days."""
    rng = np.random.default_rng(seed)
    open_, close = rng.uniform(10, 20, (2, len(days)))
    high, low = np.maximum(open_, close) + 1, np.minimum(open_, close) - 1
    stamps = np.array([day_ns(day) for day in days], np.int64)
    volume = rng.integers(0, 10**9, len(days))
    return Bars(stamps, open_, high, low, close, volume)


def days_of(bars: Bars) -> list[date]:
    """Return the sessions of bars."""
    return [bars.session(row) for row in range(len(bars))]


@st.composite
def daily_bars(draw: st.DrawFn) -> Bars:
    """Draw bars of up to 150 sessions, anywhere in time."""
    offsets = np.cumsum(draw(gaps)).tolist()
    first_day = draw(first_days)
    return bars_on([first_day + timedelta(days=offset) for offset in offsets])


def frame_of(bars: Bars) -> pd.DataFrame:
    """Return bars as a frame with the sessions as index."""
    columns = {name: getattr(bars, name) for name in Bars.__slots__}
    return pd.DataFrame(columns, index=pd.to_datetime(bars.opened_at_ns))


# -- periods and ranges --------------------------------------------------------------------


@given(bars=daily_bars(), period=st.sampled_from(sorted(OFFSETS)))
def test_months_and_years_reach_back_to_the_same_day_not_included(bars: Bars, period: str) -> None:
    index = frame_of(bars).index

    chosen = bars[rows_of_period(bars, period)]

    expected = index[index > index[-1] - OFFSETS[period]]
    assert days_of(chosen) == [stamp.date() for stamp in expected]


@given(bars=daily_bars())
def test_days_are_the_last_sessions_whatever_lies_between(bars: Bars) -> None:
    assert days_of(bars[rows_of_period(bars, "1d")]) == days_of(bars)[-1:]
    assert days_of(bars[rows_of_period(bars, "5d")]) == days_of(bars)[-5:]


@given(bars=daily_bars())
def test_the_year_to_date_is_that_of_the_last_bar(bars: Bars) -> None:
    year = days_of(bars)[-1].year

    chosen = days_of(bars[rows_of_period(bars, "ytd")])

    assert chosen == [day for day in days_of(bars) if day.year == year]


def test_the_year_to_date_has_the_first_of_january() -> None:
    bars = bars_on([date(2011, 12, 30), date(2012, 1, 1), date(2012, 1, 2)])

    assert days_of(bars[rows_of_period(bars, "ytd")]) == [date(2012, 1, 1), date(2012, 1, 2)]


def test_a_month_back_from_the_31st_ends_with_the_shorter_month() -> None:
    bars = bars_on([date(2013, 2, 27), date(2013, 2, 28), date(2013, 3, 1), date(2013, 3, 31)])

    assert days_of(bars[rows_of_period(bars, "1mo")]) == [date(2013, 3, 1), date(2013, 3, 31)]


@given(bars=daily_bars(), period=st.sampled_from(PERIODS))
def test_a_period_ends_with_the_last_bar_and_has_one_at_least(bars: Bars, period: str) -> None:
    rows = rows_of_period(bars, period)

    assert rows.stop == len(bars)
    assert 0 <= rows.start < rows.stop
    if period == "max":
        assert rows.start == 0


@pytest.mark.parametrize("period", PERIODS)
def test_no_bars_have_no_rows_in_any_period(period: str) -> None:
    assert len(Bars.empty()[rows_of_period(Bars.empty(), period)]) == 0


@given(
    bars=daily_bars(),
    start=st.none() | first_days | st.sampled_from((date.min, date.max)),
    end=st.none() | first_days | st.sampled_from((date.min, date.max)),
)
def test_a_range_has_its_start_and_not_its_end(
    bars: Bars, start: date | None, end: date | None
) -> None:
    chosen = days_of(bars[rows_of_range(bars, start, end)])

    assert chosen == [
        day
        for day in days_of(bars)
        if (start is None or start <= day) and (end is None or day < end)
    ]


@given(bars=daily_bars(), data=st.data())
def test_a_range_between_two_sessions_is_cut_at_them(bars: Bars, data: st.DataObject) -> None:
    first, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(bars) - 1)] * 2)))
    days = days_of(bars)

    assert days_of(bars[rows_of_range(bars, days[first], days[stop])]) == days[first:stop]


# -- longer bars ---------------------------------------------------------------------------


@given(bars=daily_bars(), interval=st.sampled_from(sorted(FREQUENCIES)), has_open=st.booleans())
def test_calendar_bars_are_those_of_pandas(bars: Bars, interval: str, has_open: bool) -> None:
    # Given the same sessions as a frame
    frame = frame_of(bars)
    daily, open_bar = (bars[:-1], bars[-1:]) if has_open else (bars, Bars.empty())

    # When both make longer bars
    closed, opened = resample(daily, open_bar, interval)
    groups = frame.groupby(pd.DatetimeIndex(frame.index).to_period(FREQUENCIES[interval]))
    expected = groups.agg(
        {
            "opened_at_ns": "first", "open": "first", "high": "max", "low": "min",
            "close": "last", "volume": "sum",
        }
    )  # fmt: skip

    # Then they are the same, and only the last one is open
    assert len(opened) == 1
    both = Bars.concat(closed, opened)
    for name in Bars.__slots__:
        assert getattr(both, name).tolist() == expected[name].tolist()


@given(bars=daily_bars(), has_open=st.booleans())
def test_blocks_of_five_are_open_until_their_fifth_session_is_over(
    bars: Bars, has_open: bool
) -> None:
    daily, open_bar = (bars[:-1], bars[-1:]) if has_open else (bars, Bars.empty())

    closed, opened = resample(daily, open_bar, "5d")

    frame = frame_of(bars)
    groups = frame.groupby(np.arange(len(frame)) // 5)
    both = Bars.concat(closed, opened)
    assert len(closed) == len(daily) // 5
    assert len(opened) == (0 if len(bars) % 5 == 0 and not has_open else 1)
    assert both.open.tolist() == groups["open"].first().tolist()
    assert both.high.tolist() == groups["high"].max().tolist()
    assert both.low.tolist() == groups["low"].min().tolist()
    assert both.close.tolist() == groups["close"].last().tolist()
    assert both.volume.tolist() == groups["volume"].sum().tolist()


@pytest.mark.parametrize(
    ("interval", "friday", "monday"),
    [
        ("1wk", date(2012, 9, 7), date(2012, 9, 10)),
        ("1mo", date(2012, 8, 31), date(2012, 9, 3)),
        ("3mo", date(2012, 9, 28), date(2012, 10, 1)),
    ],
)
def test_a_bar_closes_when_a_session_of_the_next_one_is_under_way(
    interval: str, friday: date, monday: date
) -> None:
    bars = bars_on([friday - timedelta(days=1), friday, monday])

    before = resample(bars[:1], bars[1:2], interval)
    after = resample(bars[:2], bars[2:3], interval)

    assert (len(before[0]), len(before[1])) == (0, 1)
    assert days_of(after[0]) == [friday - timedelta(days=1)]
    assert days_of(after[1]) == [monday]


@pytest.mark.parametrize("interval", DAILY_INTERVALS)
def test_no_bars_stay_no_bars(interval: str) -> None:
    closed, opened = resample(Bars.empty(), Bars.empty(), interval)

    assert len(closed) == len(opened) == 0


def test_daily_bars_are_handed_on_as_they_are() -> None:
    bars = bars_on([date(2012, 8, 29), date(2012, 8, 30)])
    daily, open_bar = bars[:1], bars[1:]

    closed, opened = resample(daily, open_bar, "1d")

    assert closed is daily
    assert opened is open_bar


# -- names ---------------------------------------------------------------------------------


def test_only_known_periods_and_supported_intervals_are_taken() -> None:
    assert [check_period(period) for period in PERIODS] == list(PERIODS)
    assert check_interval("1wk", DAILY_INTERVALS) == "1wk"
    assert set(DAILY_INTERVALS) < set(INTERVALS)
    with pytest.raises(ParameterInvalid, match="'7y' is not allowed"):
        check_period("7y")
    with pytest.raises(ParameterInvalid, match="'1m' is not allowed"):
        check_interval("1m", DAILY_INTERVALS)
