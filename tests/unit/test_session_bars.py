"""Longer bars are cut by the exchange's sessions, whatever the clock on the wall says."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from infra.bars import NS_PER_DAY, NS_PER_MINUTE, Bars
from infra.calendars import Market, calendar_for
from infra.errors import ParameterInvalid
from infra.session_bars import MINUTES, resample

NEW_YORK = calendar_for("AAPL")
TOKYO = calendar_for("7203.T")
FUTURES = calendar_for("NQ=F")
CRYPTO = calendar_for("BTC-USD")


def minutes(market: Market, days: list[date], seed: int = 1) -> Bars:
    """Return a bar for every minute in which these sessions trade, with random prices."""
    stamps = [
        at_ns
        for day in days
        for at_ns in range(*(market.hours(day) or (0, 0)), NS_PER_MINUTE)
        if market.part(at_ns) == "regular"
    ]
    return priced(stamps, seed)


def priced(stamps: list[int], seed: int = 1) -> Bars:
    random = np.random.default_rng(seed)
    prices = random.uniform(90, 110, (4, len(stamps)))
    return Bars(
        np.array(stamps, np.int64),
        prices[0],
        prices.max(axis=0),
        prices.min(axis=0),
        prices[3],
        random.integers(0, 1_000, len(stamps)),
    )


def openings(bars: Bars, zone: str) -> list[str]:
    stamps = (datetime.fromtimestamp(ns / 1e9, UTC) for ns in bars.opened_at_ns)
    return [stamp.astimezone(ZoneInfo(zone)).strftime("%H:%M") for stamp in stamps]


def both(pair: tuple[Bars, Bars]) -> Bars:
    return Bars.concat(*pair)


def test_hours_of_new_york_start_at_half_past_nine_and_end_with_the_session() -> None:
    closed, open_bar = resample(minutes(NEW_YORK, [date(2024, 3, 5)]), "60m", NEW_YORK)

    assert openings(closed, "America/New_York") == [f"{hour:02}:30" for hour in range(9, 16)]
    assert len(open_bar) == 0


def test_a_half_day_has_half_the_bars() -> None:
    bars = minutes(NEW_YORK, [date(2024, 11, 29)])

    closed, _ = resample(bars, "30m", NEW_YORK)

    assert openings(closed, "America/New_York")[-1] == "12:30"
    assert len(closed) == 7


def test_tokyo_never_holds_both_sides_of_lunch_in_a_bar() -> None:
    closed, _ = resample(minutes(TOKYO, [date(2024, 3, 5)]), "60m", TOKYO)

    assert openings(closed, "Asia/Tokyo") == ["09:00", "10:00", "11:00", "12:30", "13:30", "14:30"]


def test_daylight_saving_moves_no_bar_of_the_exchange() -> None:
    days = [date(2024, 3, 8), date(2024, 3, 11)]  # the clocks changed on the 10th

    closed, _ = resample(minutes(NEW_YORK, days), "90m", NEW_YORK)

    assert (
        openings(closed, "America/New_York") == ["09:30", "11:00", "12:30", "14:00", "15:30"] * 2
    )
    assert openings(closed, "UTC")[::5] == ["14:30", "13:30"]


def test_futures_open_in_the_evening_before_their_date() -> None:
    closed, _ = resample(minutes(FUTURES, [date(2024, 3, 5)]), "1d", FUTURES)
    hours, _ = resample(minutes(FUTURES, [date(2024, 3, 5)]), "60m", FUTURES)

    assert closed.session(0) == date(2024, 3, 5)
    assert openings(hours, "America/Chicago")[0] == "17:00"
    assert len(hours) == 23


def test_cryptocurrencies_are_cut_at_midnight_utc() -> None:
    closed, _ = resample(minutes(CRYPTO, [date(2024, 3, 2), date(2024, 3, 3)]), "90m", CRYPTO)

    assert openings(closed, "UTC")[::16] == ["00:00", "00:00"]
    assert len(closed) == 32


@pytest.mark.parametrize("interval", [i for i in MINUTES if i != "1m"])
@pytest.mark.parametrize("market", [NEW_YORK, TOKYO, FUTURES, CRYPTO], ids=lambda m: m.name)
def test_bars_hold_what_their_minutes_held(market: Market, interval: str) -> None:
    days = market.sessions(date(2024, 3, 4), date(2024, 3, 8))
    given = minutes(market, days)
    thinned = given[np.random.default_rng(7).random(len(given)) < 0.3]

    made = both(resample(thinned, interval, market))

    ends = np.r_[made.opened_at_ns[1:], thinned.opened_at_ns[-1] + 1]
    for row, (opens, stops) in enumerate(zip(made.opened_at_ns, ends, strict=True)):
        part = thinned[(thinned.opened_at_ns >= opens) & (thinned.opened_at_ns < stops)]
        assert made.open[row] == part.open[0]
        assert made.high[row] == part.high.max()
        assert made.low[row] == part.low.min()
        assert made.close[row] == part.close[-1]
        assert made.volume[row] == part.volume.sum()
        assert part.opened_at_ns[-1] < opens + MINUTES[interval] * NS_PER_MINUTE


def test_the_last_bar_is_open_until_its_last_minute_is_there() -> None:
    bars = minutes(NEW_YORK, [date(2024, 3, 5)])

    closed, open_bar = resample(bars[:14], "5m", NEW_YORK)
    whole, none = resample(bars[:15], "5m", NEW_YORK)

    assert (len(closed), len(open_bar)) == (2, 1)
    assert (len(whole), len(none)) == (3, 0)


def test_a_session_is_open_until_its_close() -> None:
    bars = minutes(NEW_YORK, [date(2024, 3, 4), date(2024, 3, 5)])

    closed, open_bar = resample(bars[:-1], "1d", NEW_YORK)

    assert (closed.session(0), open_bar.session(0)) == (date(2024, 3, 4), date(2024, 3, 5))
    assert [len(part) for part in resample(bars, "1d", NEW_YORK)] == [2, 0]


def test_a_bar_of_a_day_is_dated_by_its_session_at_midnight_utc() -> None:
    closed, _ = resample(minutes(TOKYO, [date(2024, 3, 5)]), "1d", TOKYO)

    assert closed.opened_at_ns[0] % NS_PER_DAY == 0
    assert closed.session(0) == date(2024, 3, 5)


def test_a_week_is_made_of_its_sessions() -> None:
    bars = minutes(NEW_YORK, NEW_YORK.sessions(date(2024, 3, 4), date(2024, 3, 16)))

    closed, open_bar = resample(bars, "1wk", NEW_YORK)

    assert [closed.session(0), open_bar.session(0)] == [date(2024, 3, 4), date(2024, 3, 11)]
    assert closed.volume[0] + open_bar.volume[0] == bars.volume.sum()


def test_what_trades_outside_regular_hours_has_bars_of_its_own_or_none() -> None:
    hours = NEW_YORK.hours(date(2024, 3, 5))
    assert hours is not None
    bars = priced(list(range(hours[0] - 40 * NS_PER_MINUTE, hours[1], NS_PER_MINUTE)))

    regular = both(resample(bars, "60m", NEW_YORK))
    extended = both(resample(bars, "60m", NEW_YORK, extended=True))

    assert openings(regular, "America/New_York")[0] == "09:30"
    assert openings(extended, "America/New_York")[:3] == ["08:00", "09:00", "09:30"]
    assert extended[2:].high.tolist() == regular.high.tolist()


def test_what_no_session_covers_is_dropped() -> None:
    sunday = int(datetime(2024, 3, 3, 15, tzinfo=UTC).timestamp()) * 10**9

    assert [len(part) for part in resample(priced([sunday]), "5m", NEW_YORK)] == [0, 0]


def test_daily_bars_make_longer_ones() -> None:
    daily, _ = resample(
        minutes(NEW_YORK, NEW_YORK.sessions(date(2024, 2, 1), date(2024, 3, 1))), "1d", NEW_YORK
    )

    _, month = resample(daily, "1mo", NEW_YORK, given="1d")

    assert month.volume[0] == daily.volume.sum()


@pytest.mark.parametrize(("given", "interval"), [("2m", "5m"), ("1d", "60m"), ("60m", "90m")])
def test_bars_cannot_be_cut_finer_or_askew(given: str, interval: str) -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        resample(Bars.empty(), interval, NEW_YORK, given=given)


def test_an_unknown_interval_is_refused() -> None:
    with pytest.raises(ParameterInvalid):
        resample(Bars.empty(), "7m", NEW_YORK)
