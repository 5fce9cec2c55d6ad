"""What is asked for is made plain, and what is answered becomes frames of fixed types."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import cast

import numpy as np
import pandas as pd
import pytest

from actors.feed.client import FeedClient
from actors.indicators.client import IndicatorClient
from infra.errors import ParameterInvalid, RangeInvalid, SymbolUnknown
from pipelines.driver import market
from pipelines.driver.connect import ActorMarket
from pipelines.driver.market import (
    AsyncMarket,
    Quoted,
    as_day,
    asked_symbols,
    chosen_period,
    chunks,
    history_frame,
    quotes_frame,
)
from tests.local import LocalService

DAY_NS = 86_400 * 10**9


@pytest.fixture
def actors(local: LocalService) -> AsyncMarket:
    return ActorMarket(cast(FeedClient, local.feed), cast(IndicatorClient, local.indicators))


def frame(days: int) -> pd.DataFrame:
    prices = np.arange(days, dtype=np.float64)
    prices.flags.writeable = False
    columns = {name: prices for name in ("open", "high", "low", "close")}
    return history_frame(
        np.arange(days, dtype=np.int64) * DAY_NS,
        columns,
        np.arange(days, dtype=np.int64),
        symbol="AAPL",
        source="replay",
        data_version="v1",
    )


@pytest.mark.parametrize("days", [0, 1, 3])
def test_a_history_has_the_same_types_however_long_it_is(days: int) -> None:
    bars = frame(days)

    assert bars.index.name == "opened_at"
    assert str(bars.index.dtype) == "datetime64[ns, UTC]"
    assert {n: str(t) for n, t in bars.dtypes.items()} == {
        "open": "float64",
        "high": "float64",
        "low": "float64",
        "close": "float64",
        "volume": "int64",
    }
    assert len(bars) == days


def test_a_history_says_where_it_comes_from_and_when_bars_opened() -> None:
    bars = frame(2)

    assert bars.attrs == {"symbol": "AAPL", "source": "replay", "data_version": "v1"}
    assert bars.index[1] == pd.Timestamp("1970-01-02", tz="UTC")


def test_a_history_is_the_callers_to_change() -> None:
    bars = frame(2)

    bars.loc[bars.index[0], "close"] = 5.0

    assert bars["close"].iloc[0] == 5.0


@pytest.mark.parametrize(
    "rows",
    [
        {"AAPL": Quoted(1.5, "2012-08-31T13:51:07.500+00:00", "replay")},
        {"NOPE": Quoted(error="symbol_unknown")},
        {
            "NOPE": Quoted(error="symbol_unknown"),
            "AAPL": Quoted(1.5, "2012-08-31T13:51:07+00:00", "replay"),
            "IBM": Quoted(2, "2012-08-31T13:51:07.500+00:00", "replay"),
        },
    ],
)
def test_quotes_have_the_same_types_whatever_failed(rows: dict[str, Quoted]) -> None:
    quotes = quotes_frame(rows)

    assert list(quotes.index) == list(rows)
    assert {n: str(t) for n, t in quotes.dtypes.items()} == {
        "price": "float64",
        "as_of": "datetime64[ns, UTC]",
        "source": "str",
        "error": "object",
    }
    assert list(quotes["error"]) == [row.error for row in rows.values()]
    assert list(quotes["price"].isna()) == [row.error is not None for row in rows.values()]
    assert list(quotes["as_of"].isna()) == [row.error is not None for row in rows.values()]


def test_symbols_are_asked_for_once_in_capitals_and_in_order() -> None:
    assert list(asked_symbols([" msft", "AAPL", "MSFT"])) == ["MSFT", "AAPL"]
    assert list(asked_symbols("ibm,aapl")) == ["IBM", "AAPL"]


def test_a_symbol_that_cannot_be_fails_alone() -> None:
    asked = asked_symbols(["AAPL", "no such"])

    assert asked["AAPL"] is None
    assert isinstance(asked["no such"], SymbolUnknown)
    assert list(chunks(asked)) == [["AAPL"]]


@pytest.mark.parametrize("nothing", [[], ()])
def test_no_symbols_are_refused(nothing: list[str]) -> None:
    with pytest.raises(RangeInvalid, match="at least one"):
        asked_symbols(nothing)


def test_long_lists_are_cut_and_lose_nothing() -> None:
    names = [f"S{number}" for number in range(1_201)]

    pieces = list(chunks(dict.fromkeys(names)))

    assert [len(piece) for piece in pieces] == [500, 500, 201]
    assert sum(pieces, []) == names


@pytest.mark.parametrize(
    "given", ["2012-08-31", date(2012, 8, 31), datetime(2012, 8, 31, 9, tzinfo=UTC)]
)
def test_a_day_can_be_written_in_three_ways(given: market.Day) -> None:
    assert as_day("start", given) == date(2012, 8, 31)


def test_a_day_that_is_none_is_told() -> None:
    with pytest.raises(ParameterInvalid, match="start '31.8.2012' is not allowed; use one of a"):
        as_day("start", "31.8.2012")


def test_a_period_or_a_range_is_chosen() -> None:
    day, later = date(2012, 8, 1), date(2012, 8, 2)

    assert chosen_period(None, None, None) == "1mo"
    assert chosen_period("5d", None, None) == "5d"
    assert chosen_period(None, day, later) is None
    with pytest.raises(ParameterInvalid):
        chosen_period("5d", day, None)
    with pytest.raises(RangeInvalid):
        chosen_period(None, later, day)


async def test_the_actors_give_frames(actors: AsyncMarket) -> None:
    bars = await actors.history("aapl", period="5d")
    quotes = await actors.quotes(["AAPL", "NOPE"])

    assert len(bars) == 5
    assert bars.attrs["symbol"] == "AAPL"
    assert list(quotes["error"]) == [None, "symbol_unknown"]


async def test_the_actors_give_every_indicator_unless_some_are_named(
    actors: AsyncMarket,
) -> None:
    every = await actors.indicators("AAPL")
    some = await actors.indicators("AAPL", indicators="rsi, sma")

    assert set(every["indicators"]) == {"sma", "ema", "rsi", "macd", "bollinger", "stochastic"}
    assert set(some["indicators"]) == {"sma", "rsi"}
    with pytest.raises(ParameterInvalid, match="use one of rsi"):
        await actors.indicators("AAPL", indicators="rsy(3)")


async def test_the_actors_analyse_what_they_know_and_name_the_rest(actors: AsyncMarket) -> None:
    analyses = await actors.analyze(["MSFT", "APPL", "b@d", "AAPL"])

    assert list(analyses) == ["MSFT", "APPL", "b@d", "AAPL"]
    assert analyses["AAPL"]["current_price"] > 0
    assert analyses["APPL"]["error"]["context"] == {"nearest": ["AAPL"]}
    assert analyses["b@d"]["error"]["code"] == "symbol_unknown"
