"""A quote survives being told."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import orjson
import pytest

from infra.bars import Quote
from infra.quotes import price_update, quote_of

QUOTE = Quote(
    symbol="AAPL",
    price=187.25,
    previous_close=185.0,
    open=185.5,
    high=188.0,
    low=185.1,
    volume=1_234_567,
    session=date(2025, 11, 26),
    traded_at_ns=1_764_170_123_456_000_000,
    market_status="open",
    source="yahoo",
    synthetic=False,
    data_version="yahoo-1d-abc",
    received_at_ns=1_764_170_123_500_000_000,
    session_part="post",
    currency="USD",
)


@pytest.mark.parametrize("quote", [QUOTE, replace(QUOTE, received_at_ns=0, previous_close=None)])
def test_what_was_told_can_be_read_back(quote: Quote) -> None:
    told = orjson.loads(orjson.dumps(price_update(quote, 186.0)))

    assert quote_of(told) == quote
    assert told["previous_price"] == 186.0


def test_changes_are_against_the_close_before() -> None:
    told = price_update(QUOTE, None)

    assert told["change_amount"] == pytest.approx(2.25)
    assert told["change_percent"] == pytest.approx(2.25 / 185 * 100)
    assert price_update(replace(QUOTE, previous_close=None), None)["change_percent"] is None
