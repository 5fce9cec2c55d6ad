"""The answers of the core, and the result dictionaries that they are made of."""

from __future__ import annotations

import json
import pickle
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
import talib

from actors.indicators import results
from actors.indicators.bar_store import BarStore
from actors.indicators.core import IndicatorCore
from actors.indicators.names import NAMES, parse_names
from infra.bars import NS_PER_DAY, Bars, Floats, History
from infra.errors import ParameterInvalid, SymbolUnknown
from infra.periods import day_ns

FIRST = date(2023, 1, 2)
CHANGED_AT_S = 1_700_000_000.0
SHAPE = {
    "sma": ["5", "10", "20", "50", "200"],
    "ema": ["12", "26"],
    "rsi": ["current", "previous"],
    "macd": ["macd", "signal", "histogram"],
    "bollinger": ["upper", "middle", "lower"],
    "stochastic": ["k_percent", "d_percent"],
}


def days(first: date, close: Floats) -> Bars:
    """Return one bar for each close on consecutive days, one unit high and low around it."""
    opened_at_ns = day_ns(first) + np.arange(len(close), dtype=np.int64) * NS_PER_DAY
    volume = np.full(len(close), 100, np.int64)
    return Bars(opened_at_ns, close.copy(), close + 1, close - 1, close, volume)


def walk(count: int, seed: int = 7) -> Floats:
    """Return prices around 100 of a seeded random walk."""
    return 100 + np.cumsum(np.random.default_rng(seed).normal(0, 0.5, count))


def history_of(symbol: str, close: Floats, price_factor: float = 1.0) -> History:
    """Return closed bars, and a session under way the day after at a price of 500."""
    bars = days(FIRST, close)
    open_bar = days(FIRST + timedelta(days=len(close)), np.array([500.0]))
    factor = np.full(len(close), price_factor)
    return History(symbol, bars, open_bar, factor, 1 / factor, "v1", CHANGED_AT_S, "test")


def core_of(*histories: History) -> IndicatorCore:
    """Return a core whose book holds these histories."""
    book = BarStore()
    for history in histories:
        book.put(history)
    return IndicatorCore(book)


def ask(core: IndicatorCore, symbol: str = "AAPL", **changes: Any) -> dict[str, Any]:
    """Return the indicators of one month of days, unless `changes` say otherwise."""
    arguments: dict[str, Any] = {
        "period": "1mo",
        "interval": "1d",
        "names": NAMES,
        "method": "standard",
        "open_bar": False,
    }
    return core.indicators(symbol, **(arguments | changes))


def test_answer_has_the_documented_shape_and_is_json() -> None:
    answer = ask(core_of(history_of("AAPL", walk(300))))

    assert {name: list(values) for name, values in answer["indicators"].items()} == SHAPE
    assert all(
        type(value) is float
        for values in answer["indicators"].values()
        for value in values.values()
    )
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    del answer["indicators"]
    assert answer == {
        "symbol": "AAPL",
        "period": "1mo",
        "interval": "1d",
        "data_points": 30,  # 29 September to 28 October
        "as_of": "2023-10-28T00:00:00+00:00",
        "session": "2023-10-28",
        "last_updated": "2023-11-14T22:13:20+00:00",
        "data_version": "v1",
        "source": "test",
        "stale": False,
        "method": "standard",
    }


def test_values_come_from_all_bars_however_short_the_period() -> None:
    close = walk(300)
    answer = ask(core_of(history_of("AAPL", close)), period="5d")

    assert answer["data_points"] == 5
    assert answer["indicators"]["sma"]["200"] == pytest.approx(close[-200:].mean())
    assert answer["indicators"]["ema"]["26"] == pytest.approx(talib.EMA(close, 26)[-1], rel=1e-12)


def test_values_are_of_adjusted_prices() -> None:
    close = walk(300)

    answer = ask(core_of(history_of("AAPL", close, price_factor=0.25)))

    assert answer["indicators"]["sma"]["5"] == pytest.approx(close[-5:].mean() / 4)


def test_open_bar_counts_only_when_asked_for() -> None:
    close = walk(300)
    core = core_of(history_of("AAPL", close))

    without, together = ask(core), ask(core, open_bar=True)

    assert without["indicators"]["sma"]["5"] == pytest.approx(close[-5:].mean())
    assert together["indicators"]["sma"]["5"] == pytest.approx((close[-4:].sum() + 500) / 5)
    assert (without["session"], together["session"]) == ("2023-10-28", "2023-10-29")


def test_longer_intervals_are_dated_by_their_first_session() -> None:
    core = core_of(history_of("AAPL", walk(300)))

    closed, under_way = ask(core, interval="1mo"), ask(core, interval="1mo", open_bar=True)

    assert (closed["session"], under_way["session"]) == ("2023-09-01", "2023-10-01")
    assert closed["indicators"]["sma"]["10"] is None
    assert under_way["indicators"]["sma"]["10"] is not None


def test_reference_method_changes_only_what_the_former_service_did_otherwise() -> None:
    core = core_of(history_of("AAPL", walk(300)))

    standard = ask(core)["indicators"]
    former = ask(core, method="reference")["indicators"]

    assert [name for name in NAMES if former[name] == standard[name]] == [
        "sma",
        "ema",
        "stochastic",
    ]
    # the two MACD differ by their seeds, which after 300 bars weigh next to nothing
    assert former["macd"] == pytest.approx(standard["macd"], abs=1e-5)


def test_only_names_asked_for_are_answered_in_catalogue_order() -> None:
    answer = ask(core_of(history_of("AAPL", walk(300))), names=("rsi", "sma"))

    assert list(answer["indicators"]) == ["sma", "rsi"]


def test_a_row_without_a_close_does_not_spoil_the_values_after_it() -> None:
    close = walk(300)
    with_hole = np.insert(close, 100, np.nan)

    answer = ask(core_of(history_of("AAPL", with_hole)))

    assert answer["indicators"] == ask(core_of(history_of("AAPL", close)))["indicators"]


def test_no_bars_give_an_answer_without_values() -> None:
    answer = ask(core_of(history_of("AAPL", walk(0))))

    assert (answer["data_points"], answer["as_of"], answer["session"]) == (0, None, None)
    assert {v for values in answer["indicators"].values() for v in values.values()} == {None}


def test_unknown_symbol_is_told_the_nearest_known_one() -> None:
    core = core_of(history_of("AAPL", walk(30)), history_of("IBM", walk(30)))

    with pytest.raises(SymbolUnknown) as caught:
        ask(core, symbol="APPL")

    assert caught.value.nearest == ["AAPL"]


@pytest.mark.parametrize(
    "changes", [{"period": "7y"}, {"interval": "1h"}, {"interval": "1y"}, {"method": "other"}]
)
def test_parameters_that_are_not_allowed_are_refused(changes: dict[str, str]) -> None:
    core = core_of(history_of("AAPL", walk(30)))

    with pytest.raises(ParameterInvalid) as caught:
        ask(core, **changes)

    assert {caught.value.location[-1]: caught.value.value} == changes


def test_comprehensive_answers_each_symbol_and_names_the_unknown_ones() -> None:
    close = walk(300)
    core = core_of(history_of("AAPL", close), history_of("IBM", walk(3)))

    answers = core.comprehensive(["AAPL", "APPL", "IBM"], "1mo", "1d", "standard", False)

    assert list(answers) == ["AAPL", "APPL", "IBM"]
    unknown = answers["APPL"]
    assert isinstance(unknown, SymbolUnknown)
    assert pickle.loads(pickle.dumps(unknown)).nearest == ["AAPL"]
    known = answers["AAPL"]
    assert isinstance(known, dict)
    assert list(known["indicators"]) == list(NAMES)
    assert list(known["indicators"]["macd"]) == [
        "current_macd",
        "current_signal",
        "current_histogram",
    ]
    assert known["indicators"]["sma"] == ask(core)["indicators"]["sma"]
    json.dumps([known, answers["IBM"]], allow_nan=False)


def test_one_bar_has_no_signals() -> None:
    answer = core_of(history_of("AAPL", np.array([10.0]))).comprehensive(
        ["AAPL"], "1mo", "1d", "standard", False
    )["AAPL"]

    assert isinstance(answer, dict)
    assert answer["signals"] == {"rsi": None, "macd": None}


# Changes of one unit up and down keep Wilder's RSI near 50; one of 19 takes it past 70 or 30.
QUIET = [100.0, 101.0] * 20


@pytest.mark.parametrize(
    ("close", "signal"),
    [
        ([*QUIET, 120.0], "overbought"),
        ([*QUIET, 120.0, 121.0], None),
        ([*QUIET, 80.0], "oversold"),
        ([*QUIET, 80.0, 79.0], None),
        (QUIET, None),
    ],
)
def test_rsi_signals_when_it_crosses_a_level_and_not_while_it_stays(
    close: list[float], signal: str | None
) -> None:
    found = results.comprehensive(days(FIRST, np.array(close)), "standard")

    assert found["signals"]["rsi"] == signal


@pytest.mark.parametrize(
    ("close", "signal"),
    [
        (np.linspace(10, 20, 60) ** 2, "bullish"),
        (500 - np.linspace(10, 20, 60) ** 2, "bearish"),
        (np.full(60, 64.0), None),  # a power of two: its averages have no rounding
        (np.linspace(10, 20, 33) ** 2, None),
    ],
)
def test_macd_signals_its_side_of_the_signal_line(close: Floats, signal: str | None) -> None:
    found = results.comprehensive(days(FIRST, close), "standard")

    assert found["signals"]["macd"] == signal


def test_history_selects_a_period_or_a_range() -> None:
    core = core_of(history_of("AAPL", walk(300), price_factor=0.5))
    start, end = date(2023, 3, 1), date(2023, 3, 4)

    week, version, *_ = core.history("AAPL", "5d", None, None, "1d", True, False)
    march, *_ = core.history("AAPL", None, start, end, "1d", True, False)
    traded, *_ = core.history("AAPL", None, start, end, "1d", False, False)
    last, *_ = core.history("AAPL", None, date(2023, 10, 28), None, "1d", True, True)

    assert (len(week), version) == (5, "v1")
    assert [march.session(0), march.session(-1)] == [start, date(2023, 3, 3)]
    assert march.close == pytest.approx(traded.close / 2)
    assert last.close[-1] == 500.0
    assert len(last) == 2


@pytest.mark.parametrize(
    ("close", "expected"),
    [
        (np.arange(100.0, 160.0), "bullish"),
        (np.arange(160.0, 100.0, -1), "bearish"),
        (np.r_[np.arange(100.0, 160.0), 110.0], "neutral"),
        (np.r_[np.arange(160.0, 100.0, -1), 150.0], "neutral"),
        (np.full(60, 64.0), "neutral"),
        (np.arange(100.0, 149.0), None),
    ],
)
def test_trend_needs_the_averages_and_the_close_to_agree(
    close: Floats, expected: str | None
) -> None:
    answer = core_of(history_of("AAPL", close)).trend("AAPL", "1mo", "1d")

    assert answer["trend"] == expected
    assert answer["ma_20"] == pytest.approx(close[-20:].mean())
    assert answer["ma_50"] == (None if expected is None else pytest.approx(close[-50:].mean()))


def test_references_are_of_closed_adjusted_sessions() -> None:
    core = core_of(
        history_of("AAPL", np.array([10.0, 30.0, 20.0]), 0.5), history_of("IBM", walk(0))
    )

    answers = core.references(["AAPL", "IBM", "NONE"])

    assert answers["AAPL"] == {
        "previous_close": 10.0,
        "previous_session": "2023-01-04",
        "previous_high": 10.5,
        "previous_low": 9.5,
        "all_time_high": 15.5,
        "record_date": "2023-01-03",
        "all_time_low": 4.5,
        "low_date": "2023-01-02",
        "data_version": "v1",
    }
    assert answers["IBM"] == {
        "previous_close": None,
        "previous_session": None,
        "previous_high": None,
        "previous_low": None,
        "all_time_high": None,
        "record_date": None,
        "all_time_low": None,
        "low_date": None,
        "data_version": "v1",
    }
    assert isinstance(answers["NONE"], SymbolUnknown)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("all", NAMES),
        ("rsi", ("rsi",)),
        ("stochastic, sma ,rsi,sma", ("sma", "rsi", "stochastic")),
    ],
)
def test_names_are_parsed_in_catalogue_order(text: str, names: tuple[str, ...]) -> None:
    assert parse_names(text) == names


@pytest.mark.parametrize(
    ("text", "value"), [("", ""), ("sma,", ""), ("sma,ma", "ma"), ("RSI", "RSI")]
)
def test_unknown_or_empty_names_are_refused(text: str, value: str) -> None:
    with pytest.raises(ParameterInvalid) as caught:
        parse_names(text)

    assert caught.value.location == ("query", "indicators")
    assert caught.value.value == value
    assert list(caught.value.allowed) == [*NAMES, "all"]
