"""What the book derives from a history, and how long it keeps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from actors.indicators.bar_store import BarStore
from infra.bars import Bars, History
from infra.errors import ParameterInvalid
from infra.periods import day_ns

MONDAY = date(2024, 1, 1)


def days(first: date, close: list[float], high: list[float] | None = None) -> Bars:
    """Return one bar of 100 shares for each close, on consecutive days."""
    opened_at_ns = [day_ns(first + timedelta(days=n)) for n in range(len(close))]
    closes, highs = np.array(close), np.array(high or close)
    volume = np.full(len(close), 100, np.int64)
    return Bars(
        np.array(opened_at_ns, np.int64), closes.copy(), highs, closes.copy(), closes, volume
    )


def history(
    bars: Bars,
    open_bar: Bars | None = None,
    version: str = "v1",
    price_factor: list[float] | None = None,
    volume_factor: list[float] | None = None,
) -> History:
    """Return a history of AAPL, without adjustment unless factors are given."""
    ones = [1.0] * len(bars)
    return History(
        "AAPL",
        bars,
        Bars.empty() if open_bar is None else open_bar,
        np.array(price_factor or ones),
        np.array(volume_factor or ones),
        version,
        0.0,
        "test",
    )


def book_of(held: History) -> BarStore:
    """Return a book that holds one history."""
    book = BarStore()
    book.put(held)
    return book


def test_book_gives_back_what_was_put_until_it_is_forgotten() -> None:
    held = history(days(MONDAY, [1.0]))
    book = book_of(held)

    assert book.get("AAPL") is held
    assert list(book.symbols) == ["AAPL"]

    book.forget("AAPL")
    book.forget("AAPL")

    assert book.get("AAPL") is None
    assert not book.symbols


def test_adjusted_bars_are_multiplied_by_their_factors() -> None:
    bars = days(MONDAY, [10.0, 12.0, 7.0], high=[14.0, 16.0, 8.0])
    book = book_of(history(bars, None, "v1", [0.5, 0.5, 1.0], [2.0, 2.019, 1.0]))

    adjusted = book.closed("AAPL")

    assert adjusted.close.tolist() == [5.0, 6.0, 7.0]
    assert adjusted.open.tolist() == [5.0, 6.0, 7.0]
    assert adjusted.low.tolist() == [5.0, 6.0, 7.0]
    assert adjusted.high.tolist() == [7.0, 8.0, 8.0]
    assert adjusted.volume.tolist() == [200, 202, 100]
    assert adjusted.volume.dtype == np.int64
    assert book.closed("AAPL", "1d", adjusted=False).close.tolist() == [10.0, 12.0, 7.0]


def test_longer_bars_are_made_of_adjusted_days() -> None:
    bars = days(MONDAY, [10.0, 12.0, 7.0, 8.0])
    held = history(bars, days(date(2024, 1, 8), [9.0]), "v1", [0.5, 0.5, 1.0, 1.0])
    book = book_of(held)

    assert book.closed("AAPL", "1wk").high.tolist() == [8.0]
    assert book.closed("AAPL", "1wk").low.tolist() == [5.0]
    assert book.closed("AAPL", "1wk", adjusted=False).high.tolist() == [12.0]
    assert book.open_bar("AAPL", "1wk").close.tolist() == [9.0]


def test_open_bar_is_never_adjusted_but_merges_with_days_that_are() -> None:
    bars = days(MONDAY, [10.0, 12.0])
    book = book_of(history(bars, days(date(2024, 1, 3), [5.0]), "v1", [0.5, 0.5]))

    assert book.open_bar("AAPL").close.tolist() == [5.0]
    assert book.open_bar("AAPL", "1wk").high.tolist() == [6.0]
    assert book.open_bar("AAPL", "1wk", adjusted=False).high.tolist() == [12.0]
    assert book.open_bar("AAPL", "1wk").volume.tolist() == [300]


def test_derived_bars_are_computed_once_for_a_version() -> None:
    book = book_of(history(days(MONDAY, [1.0] * 20)))
    week, day = book.closed("AAPL", "1wk"), book.closed("AAPL")

    book.put(history(days(MONDAY, [1.0] * 20)))

    assert book.closed("AAPL", "1wk") is week
    assert book.closed("AAPL") is day
    assert book.open_bar("AAPL", "1wk") is book.open_bar("AAPL", "1wk")


def test_a_new_version_replaces_all_that_was_derived() -> None:
    book = book_of(history(days(MONDAY, [1.0] * 20)))
    assert book.closed("AAPL", "1wk").close.tolist() == [1.0, 1.0]
    assert book.extremes("AAPL") == ((1.0, MONDAY), (1.0, MONDAY))

    book.put(history(days(MONDAY, [2.0] * 20), version="v2"))

    assert book.closed("AAPL").close.tolist() == [2.0] * 20
    assert book.closed("AAPL", "1wk").close.tolist() == [2.0, 2.0]
    assert book.open_bar("AAPL", "1wk").close.tolist() == [2.0]
    assert book.extremes("AAPL") == ((2.0, MONDAY), (2.0, MONDAY))


def test_another_price_of_the_session_leaves_closed_bars_alone() -> None:
    book = book_of(history(days(MONDAY, [1.0] * 9), days(date(2024, 1, 10), [3.0])))
    week = book.closed("AAPL", "1wk")
    assert book.open_bar("AAPL", "1wk").close.tolist() == [3.0]

    book.set_open_bar("AAPL", days(date(2024, 1, 10), [4.0]))

    assert book.open_bar("AAPL").close.tolist() == [4.0]
    assert book.open_bar("AAPL", "1wk").close.tolist() == [4.0]
    assert book.closed("AAPL", "1wk") is week
    held = book.get("AAPL")
    assert held is not None
    assert held.open_bar.close.tolist() == [4.0]


def test_a_session_of_the_next_week_closes_the_week_before() -> None:
    book = book_of(history(days(MONDAY, [1.0] * 5)))
    assert len(book.closed("AAPL", "1wk")) == 0
    day = book.closed("AAPL")

    book.set_open_bar("AAPL", days(date(2024, 1, 8), [4.0]))

    assert book.closed("AAPL", "1wk").volume.tolist() == [500]
    assert book.open_bar("AAPL", "1wk").volume.tolist() == [100]
    assert book.closed("AAPL") is day


def test_the_end_of_a_session_takes_its_open_bar_away() -> None:
    book = book_of(history(days(MONDAY, [1.0]), days(date(2024, 1, 2), [2.0])))
    assert len(book.open_bar("AAPL")) == 1

    book.set_open_bar("AAPL", Bars.empty())

    assert len(book.open_bar("AAPL")) == 0
    assert book.open_bar("AAPL", "1wk").close.tolist() == [1.0]


def test_a_late_tick_of_a_closed_session_is_left_out() -> None:
    book = book_of(history(days(MONDAY, [1.0, 2.0])))

    book.set_open_bar("AAPL", days(date(2024, 1, 2), [9.0]))

    assert len(book.open_bar("AAPL")) == 0
    assert book.open_bar("AAPL", "1wk").close.tolist() == [2.0]


def test_extremes_are_adjusted_and_of_the_first_day_that_had_them() -> None:
    bars = days(MONDAY, [10.0, 4.0, 4.0], high=[12.0, 8.0, 8.0])
    book = book_of(history(bars, days(date(2024, 1, 4), [99.0]), "v1", [0.5, 1.0, 1.0]))

    assert book.extremes("AAPL") == ((8.0, date(2024, 1, 2)), (4.0, date(2024, 1, 2)))


def test_no_bars_have_no_extremes() -> None:
    book = book_of(history(Bars.empty()))

    assert book.extremes("AAPL") is None
    assert len(book.closed("AAPL", "1mo")) == 0
    assert len(book.open_bar("AAPL", "1mo")) == 0


def test_intervals_that_do_not_exist_are_refused_and_hours_are_not_made_of_days() -> None:
    book = book_of(history(days(MONDAY, [1.0] * 20)))

    for ask in (book.closed, book.open_bar):
        with pytest.raises(ParameterInvalid):
            ask("AAPL", "2d")
        with pytest.raises(KeyError):
            ask("AAPL", "1h")


def test_hours_are_held_beside_days_and_replaced_alone() -> None:
    daily = history(days(MONDAY, [1.0] * 20))
    hourly = replace(daily, bars=daily.bars[:7], price_factor=daily.price_factor[:7])
    hourly = replace(hourly, volume_factor=daily.volume_factor[:7], interval="1h")
    book = book_of(daily)
    book.put(hourly)

    assert len(book.closed("AAPL", "1h")) == 7
    assert len(book.closed("AAPL", "1d")) == 20
    assert book.get("AAPL", "1h") is not None
    assert book.get("AAPL", "5m") is None


def test_a_symbol_that_is_not_held_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        BarStore().set_open_bar("AAPL", Bars.empty())
