"""Splits and dividends are found in what a new version did to the factors of old bars."""

from __future__ import annotations

from datetime import date

import pytest

from actors.feed.rescaling import actions_between
from infra.bars import History
from infra.clock import FakeClock
from infra.sources.replay import REPLAYED_SESSIONS, Record, ReplaySource, load_records

START_S = 1_700_000_000.0


def history_on(symbol: str, day: date) -> History:
    """Return the history as it stood during a session."""
    record = load_records()[symbol]
    days = [record.bars.session(row) for row in range(len(record.bars))]
    end = days.index(day) + REPLAYED_SESSIONS
    rows = slice(0, end)
    cut = Record(record.bars[rows], record.price_step[rows], record.split[rows])
    return ReplaySource({symbol: cut}, FakeClock(START_S), START_S).history_now(symbol)


def test_a_split_is_found_on_its_day() -> None:
    before, after = history_on("AAPL", date(2005, 2, 25)), history_on("AAPL", date(2005, 2, 28))

    (action,) = actions_between(before, after)

    assert (action.kind, action.value, action.ex_date) == ("split", 2.0, date(2005, 2, 28))


def test_a_dividend_is_found_without_its_amount() -> None:
    before, after = history_on("IBM", date(2012, 8, 7)), history_on("IBM", date(2012, 8, 8))

    (action,) = actions_between(before, after)

    assert (action.kind, action.value, action.ex_date) == ("dividend", None, date(2012, 8, 8))
    assert action.price_step == pytest.approx(1.004, abs=0.001)


def test_an_ordinary_day_has_none() -> None:
    before, after = history_on("AAPL", date(2005, 2, 24)), history_on("AAPL", date(2005, 2, 25))

    assert actions_between(before, after) == []


def test_histories_that_share_no_bar_say_nothing() -> None:
    assert (
        actions_between(history_on("IBM", date(2001, 1, 3)), history_on("AAPL", date(2000, 9, 5)))
        == []
    )
