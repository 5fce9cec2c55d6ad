"""Sessions go by each exchange's calendar: half days, daylight saving, markets round the clock."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from infra.calendars import Market, calendar_for, market_state

NEW_YORK = "America/New_York"


def at(text: str, zone: str = NEW_YORK) -> int:
    """Return an instant of a zone's clock as Unix nanoseconds."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 10**9


def utc_hours(market: Market, day: date) -> tuple[str, str]:
    hours = market.hours(day)
    assert hours is not None
    opens, closes = (datetime.fromtimestamp(ns / 1e9, UTC).strftime("%d %H:%M") for ns in hours)
    return opens, closes


@pytest.mark.parametrize(
    ("symbol", "exchange", "kind", "name"),
    [
        ("AAPL", None, None, "XNYS"),
        ("BRK-B", "NYQ", None, "XNYS"),
        ("^GSPC", None, None, "XNYS"),
        ("^N225", None, None, "XTKS"),
        ("VOD.L", None, None, "XLON"),
        ("7203.T", None, None, "XTKS"),
        ("SAP", "GER", None, "XETR"),
        ("NQ=F", None, None, "CMES"),
        ("EURUSD=X", None, None, "currencies"),
        ("BTC-USD", None, None, "crypto"),
        ("WEIRD", None, "cryptocurrency", "crypto"),
    ],
)
def test_a_symbol_has_the_calendar_of_its_market(
    symbol: str, exchange: str | None, kind: str | None, name: str
) -> None:
    assert calendar_for(symbol, exchange, kind).name == name


def test_a_half_day_closes_early_and_its_post_market_too() -> None:
    market, day = calendar_for("AAPL"), date(2025, 11, 28)

    assert utc_hours(market, day) == ("28 14:30", "28 18:00")
    assert market.is_half_day(day)
    assert not market.is_half_day(date(2025, 11, 26))
    parts = [market.part(at(f"2025-11-28 {clock}")) for clock in ("12:59", "13:00", "16:59")]
    assert parts == ["regular", "post", "post"]
    assert market.part(at("2025-11-28 17:00")) == "closed"


def test_pre_and_post_market_of_a_whole_day() -> None:
    market = calendar_for("AAPL")
    clocks = ("03:59", "04:00", "09:29", "09:30", "15:59", "16:00", "19:59", "20:00")

    parts = [market.part(at(f"2025-11-26 {clock}")) for clock in clocks]

    assert parts == ["closed", "pre", "pre", "regular", "regular", "post", "post", "closed"]
    assert market.session_of(at("2025-11-26 05:00")) == date(2025, 11, 26)
    assert market.session_of(at("2025-11-26 21:00")) is None


def test_daylight_saving_moves_new_york_and_london_in_different_weeks() -> None:
    new_york, london = calendar_for("AAPL"), calendar_for("VOD.L")

    assert utc_hours(new_york, date(2013, 3, 8)) == ("08 14:30", "08 21:00")
    assert utc_hours(new_york, date(2013, 3, 11)) == ("11 13:30", "11 20:00")
    # London is on winter time for three more weeks, and still in the one before New York's end.
    assert utc_hours(london, date(2013, 3, 11)) == ("11 08:00", "11 16:30")
    assert utc_hours(london, date(2013, 4, 2)) == ("02 07:00", "02 15:30")
    assert utc_hours(new_york, date(2013, 11, 1)) == ("01 13:30", "01 20:00")
    assert utc_hours(new_york, date(2013, 11, 4)) == ("04 14:30", "04 21:00")


def test_holidays_have_no_session() -> None:
    market = calendar_for("AAPL")

    for day in (date(2012, 10, 29), date(2012, 10, 30), date(2025, 12, 25)):  # a hurricane, too
        assert market.hours(day) is None
        assert market.status(at(f"{day} 12:00")) == "closed"
    assert market.sessions(date(2012, 10, 26), date(2012, 11, 1)) == [
        date(2012, 10, 26),
        date(2012, 10, 31),
    ]
    assert market.previous_session(date(2012, 10, 31)) == date(2012, 10, 26)


def test_tokyo_has_lunch() -> None:
    market = calendar_for("7203.T")

    parts = [
        market.part(at(f"2025-11-26 {clock}", "Asia/Tokyo"))
        for clock in ("09:00", "11:29", "11:30", "12:29", "12:30", "15:29", "15:30")
    ]

    assert parts == ["regular", "regular", "closed", "closed", "regular", "regular", "closed"]


def test_futures_trade_round_the_clock_with_an_hours_break_from_sunday_evening() -> None:
    market, chicago = calendar_for("ES=F"), "America/Chicago"

    assert market.status(at("2025-11-30 16:59", chicago)) == "closed"  # a Sunday
    assert market.status(at("2025-11-30 17:00", chicago)) == "open"
    assert market.session_of(at("2025-11-30 17:00", chicago)) == date(2025, 12, 1)
    assert market.status(at("2025-12-01 15:59", chicago)) == "open"
    assert market.status(at("2025-12-01 16:30", chicago)) == "closed"
    assert market.status(at("2025-12-01 17:00", chicago)) == "open"
    assert market.session_of(at("2025-12-01 17:00", chicago)) == date(2025, 12, 2)


def test_currencies_rest_at_the_weekend() -> None:
    market = calendar_for("EURUSD=X")

    assert market.status(at("2025-11-28 23:59", "Europe/London")) == "open"
    assert market.status(at("2025-11-29 00:00", "Europe/London")) == "closed"
    assert market.status(at("2025-11-30 23:59", "Europe/London")) == "closed"
    assert market.status(at("2025-12-01 00:00", "Europe/London")) == "open"
    # By London's date, also in summer:
    assert market.session_of(at("2025-07-01 23:30", "UTC")) == date(2025, 7, 2)


def test_cryptocurrencies_never_rest() -> None:
    market = calendar_for("BTC-USD")

    assert market.always_open
    for day in ("2025-12-25", "2025-11-29"):
        assert market.status(at(f"{day} 03:00", "UTC")) == "open"
        assert market.session_of(at(f"{day} 03:00", "UTC")) == date.fromisoformat(day)


def test_the_state_of_a_market_names_its_next_open() -> None:
    market = calendar_for("AAPL")

    night = market_state(market, at("2025-11-26 22:00"))
    noon = market_state(market, at("2025-11-28 12:00"))

    assert (night.status, night.session) == ("closed", None)
    assert night.next_open_ns == at("2025-11-28 09:30")  # Thanksgiving lies between
    assert (noon.status, noon.session, noon.is_half_day) == ("open", date(2025, 11, 28), True)
    assert noon.closes_at_ns == at("2025-11-28 13:00")
    assert noon.next_open_ns == at("2025-12-01 09:30")
