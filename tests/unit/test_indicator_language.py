"""Indicators and conditions are read as people write them, and errors point at the place."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st

from actors.indicators.correlation import correlation
from actors.indicators.expressions import Condition, Value
from actors.indicators.functions import function_named, functions
from actors.indicators.language import (
    MOST_LEVELS,
    parse_calls,
    parse_condition,
    parse_value,
)
from actors.indicators.screen import Screening
from actors.indicators.tails import Tails
from infra.bars import NS_PER_DAY, Bars
from infra.errors import ExpressionInvalid, ParameterInvalid, RangeInvalid, RequestError
from infra.sources.replay import load_records
from tests.contract.test_live_indicators import random_bars

AAPL = load_records()["AAPL"].bars[-400:]


def made(closes: list[float]) -> Bars:
    close = np.array(closes)
    stamps = np.arange(len(close), dtype=np.int64) * NS_PER_DAY
    return Bars(stamps, close, close + 1, close - 1, close, np.full(len(close), 100, np.int64))


def asked(node: Condition | Value, *histories: Bars) -> Screening:
    """Ask of symbols 0, 1, 2 that have these histories."""
    held = {str(number): bars for number, bars in enumerate(histories)}
    tails = Tails(held.__getitem__, lambda bars: bars, lambda: 0)
    screening = Screening(node, tails, tuple(held))
    for _ in screening.steps():
        pass
    return screening


def holds(expression: str, closes: list[float]) -> bool:
    return bool(asked(parse_condition(expression), made(closes)).matches())


# -- lists -------------------------------------------------------------------------------------


def test_a_list_names_indicators_with_their_parameters() -> None:
    calls = parse_calls(" RSI(21), bbands(20,2.5) ,cdlengulfing,macd(8,21),sma ")

    assert [call.text for call in calls] == [
        "rsi(21)",
        "bbands(20,2.5,2.5,0)",
        "cdlengulfing",
        "macd(8,21,9)",
        "sma(20)",
    ]


def test_an_indicator_named_twice_is_one() -> None:
    assert len(parse_calls("sma(20),sma,sma( 20.0 )")) == 1


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("rsi(1)", RangeInvalid, "period must be a whole number from 2 to 500, got 1"),
        ("rsi(2.5)", RangeInvalid, "whole"),
        ("rsi(1e9)", RangeInvalid, "to 500"),
        ("rsy(14)", ParameterInvalid, "use one of rsi"),
        ("sma(1,2)", ParameterInvalid, r"sma\(period\)"),
        ("rsi(14", ExpressionInvalid, r"the end: `\)` is missing"),
        ("rsi(,14)", ExpressionInvalid, "a number is missing"),
        ("rsi 14", ExpressionInvalid, "column 5, at '14': `,` is missing"),
        ("rsi(14),", ExpressionInvalid, "the end"),
        ("close", ExpressionInvalid, "is a price"),
        ("", ExpressionInvalid, "the end: a name is missing"),
        ("a$b", ExpressionInvalid, "column 2"),
        ("sma," * 600, ExpressionInvalid, "at most 2000 characters"),
        (",".join(["sma"] * 51), ExpressionInvalid, "at most 50 indicators"),
    ],
)
def test_what_is_wrong_with_a_list_is_said(
    text: str, error: type[RequestError], said: str
) -> None:
    with pytest.raises(error, match=said):
        parse_calls(text)


# -- conditions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "closes", "wanted"),
    [
        ("close > 3", [1, 2, 4], True),
        ("close > 3", [4, 4, 3], False),
        ("close >= close[1] and close[1] >= close[2]", [1, 2, 2], True),
        ("close * 2 - 1 == 7", [1, 4], True),
        ("-close < -3", [1, 4], True),
        ("close / 2 + 1 * 2 == 4", [4], True),
        ("(close + 1) * 2 == 10", [4], True),
        ("close > 100 or close < 5 and close != 4", [3], True),
        ("(close > 100 or close < 5) and close != 4", [4], False),
        ("not close > 3", [1], True),
        ("not (close > 3 or close < 1)", [2], True),
        ("close > sma(3)", [1, 2, 6], True),
        ("sma(2)[1] == 1.5", [1, 2, 6], True),
        ("(close - sma(2))[1] == 0.5", [1, 2, 6], True),
        ("close crossed_above 3", [2, 4], True),
        ("close crossed_above 3", [4, 5], False),
        ("close crossed_above 3", [2, 4, 5], False),
        ("close crossed_above 3 within 2", [2, 4, 5], True),
        ("close crossed_below sma(2) within 3", [1, 5, 4, 3], True),
        ("3 crossed_below close", [2, 4], True),
        ("bollinger(2,2).upper >= close", [1, 2], True),
        ("volume == 100 and high > low and open == close", [1], True),
    ],
)
def test_a_condition_means_what_it_says(
    expression: str, closes: list[float], wanted: bool
) -> None:
    assert holds(expression, closes) is wanted


@pytest.mark.parametrize(
    "expression",
    [
        "close > sma(9)",
        "not close > sma(9)",
        "close[5] > 0",
        "close / (close - close) > 1",
        "not close / (close - close) > 1",
        "close crossed_above sma(9)",
        "close > 0 and close > sma(9)",
    ],
)
def test_what_cannot_be_said_does_not_hold_either_way(expression: str) -> None:
    assert holds(expression, [1, 2, 3]) is False
    assert holds("close > 0", []) is False


def test_one_part_that_holds_is_enough_where_another_cannot_be_said() -> None:
    assert holds("close > sma(9) or close > 1", [1, 2, 3])
    assert not holds("close > sma(9) and close > 100", [1, 2, 3])


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("rsi(14) <", "the end: a value is missing"),
        ("rsi(14) < 30 an close > 3", "column 14, at 'an close > 3': `and` or `or` is missing"),
        ("close = 5", "column 7, at '= 5': use `==`"),
        ("close => 5", "use `>=`"),
        ("close > 200 && open > 1", "column 13, at '&& open > 1': use `and`"),
        ("close > 200 || open > 1", "use `or`"),
        ("!close > 3", "use `not`"),
        ("rsi(14 < 30", r"column 8, at '< 30': `\)` is missing"),
        ("rsi(14)) < 30", r"column 8, at '\) < 30': no `\(` goes before it"),
        ("close[3 > 1", "`]` is missing"),
        ("close[x] > 1", "a whole number is missing"),
        ("1 < 2", "column 3, at '< 2': names no value of the market"),
        ("close > 1 or 2 * 3 crossed_above -1", "names no value of the market"),
        ("close > 1 / 0", "column 11, at '/ 0': divides by 0"),
        ("close / (2 - 2) > 1", "column 7, .*: divides by 0"),
        ("macd.foo > 1", "column 6.*macd has macd, signal, histogram"),
        ("close.upper > 1", "close has no outputs"),
        ("close", "the end: a comparison is missing"),
        ("close crossed_above 5 within 9999", "within 1 to 500 bars"),
        ("close[501] > 1", "at most 500 bars before"),
        ("close > 3 within 2", "column 11"),
        ("__import__('os') > 1", "column 1"),
    ],
)
def test_what_is_wrong_with_a_condition_is_said_with_its_place(expression: str, said: str) -> None:
    with pytest.raises(ExpressionInvalid, match=said):
        parse_condition(expression)


NESTED: dict[str, Callable[[int], str]] = {
    "parentheses": lambda n: "(" * n + "close > 1" + ")" * n,
    "nots": lambda n: "not " * n + "close > 1",
    "signs": lambda n: "close > " + "-" * n + "1",
    "terms": lambda n: "close > " + "+".join(["1"] * n),
}


@pytest.mark.parametrize("kind", NESTED)
def test_what_is_nested_too_deeply_is_refused_and_all_else_can_be_asked(kind: str) -> None:
    with pytest.raises(ExpressionInvalid, match=f"at most {MOST_LEVELS} levels"):
        parse_condition(NESTED[kind](400))

    # Parentheses are two levels each; all of it from where an actor is called.
    node = deep_down(150, lambda: parse_condition(NESTED[kind](50)))
    deep_down(150, lambda: asked(pickle.loads(pickle.dumps(node)), AAPL).matches())


def deep_down(calls: int, ask: Callable[[], object]) -> Any:
    """Return what a question gives with so many functions under way."""
    return ask() if calls == 0 else deep_down(calls - 1, ask)


@given(st.text(alphabet="close sma(20)><=andornt.[]+-*/1356,rsi_within", max_size=40))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    for parse in (parse_condition, parse_value, parse_calls):
        try:
            parse(text)
        except RequestError as error:
            said = error.message
            assert said


@pytest.mark.parametrize(
    ("value", "said"),
    [("2 * 3", "names no value of the market"), ("close sma(5)", "one of . - . / is missing")],
    ids=["numbers", "no sign"],
)
def test_what_is_wrong_with_a_value_is_said(value: str, said: str) -> None:
    with pytest.raises(ExpressionInvalid, match=said):
        parse_value(value)


def test_matches_carry_the_values_of_what_was_asked() -> None:
    condition = parse_condition("rsi(14) > 0 and close > macd.signal")

    (match,) = asked(condition, made([]), AAPL, made([1.0, 2.0])).matches()

    values = match.values
    assert match.symbol == "1"
    assert match.session == AAPL.session(-1).isoformat()
    assert values["rsi(14)"] == pytest.approx(talib.RSI(AAPL.close, 14)[-1], rel=1e-9)
    assert values["macd(12,26,9).signal"] == pytest.approx(talib.MACD(AAPL.close)[1][-1])
    assert values["close"] == AAPL.close[-1]


def test_a_ranking_takes_any_value() -> None:
    value = parse_value("close / sma(50) - 1")

    ranked = asked(value, AAPL[:-30], AAPL[:10], AAPL).ranked()

    wanted = {"2": AAPL, "0": AAPL[:-30]}
    found = {match.symbol: match.values["value"] for match in ranked}
    assert found == pytest.approx(
        {name: bars.close[-1] / bars.close[-50:].mean() - 1 for name, bars in wanted.items()}
    )
    assert list(found) == sorted(found, key=lambda name: -(found[name] or 0))


def test_only_what_changed_is_computed_again() -> None:
    held = {"A": AAPL, "B": AAPL[:-1]}
    revision = [0]
    tails = Tails(held.__getitem__, lambda bars: bars, lambda: revision[0])
    symbols, node = ("A", "B"), parse_value("sma(20)")

    def steps() -> int:
        return sum(1 for _ in Screening(node, tails, symbols).steps())

    assert steps() == 4  # two symbols, closes and averages
    assert steps() == 0
    held["B"] = AAPL
    assert steps() == 0  # nobody said so
    revision[0] += 1
    assert steps() == 2
    ranked = Screening(node, tails, symbols).ranked()
    assert ranked[0].values == ranked[1].values


def test_a_deeper_question_makes_longer_columns() -> None:
    closes = [float(n) for n in range(1, 40)]
    held = {"A": made(closes)}
    tails = Tails(held.__getitem__, lambda bars: bars, lambda: 0)
    for expression in ("close == 39", "close[30] == 9", "close crossed_above 10 within 35"):
        screening = Screening(parse_condition(expression), tails, ("A",))
        assert sum(1 for _ in screening.steps()) in (0, 1)
        assert len(screening.matches()) == 1


# -- the catalogue -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(functions()))
def test_every_indicator_gives_what_its_entry_says(name: str) -> None:
    entry = function_named(name)
    described, params = entry.described(), entry.params([])

    lines = entry.compute(AAPL, params)

    assert tuple(lines) == entry.outputs == tuple(described["outputs"])
    first = min(np.flatnonzero(np.isfinite(line)).min(initial=10**6) for line in lines.values())
    assert {len(line) for line in lines.values()} == {len(AAPL)}
    if name in ("acos", "asin"):  # of prices above 1 there is none
        return
    assert any(np.isfinite(line).any() for line in lines.values())
    if "Pattern" not in entry.group and entry.group != "Live":
        assert first <= entry.warm_up(params)
    for parameter in entry.parameters:
        assert parameter.least <= parameter.default <= parameter.most


@pytest.mark.parametrize("name", sorted(functions()))
@pytest.mark.parametrize("count", [0, 1, 2, 40])
def test_no_indicator_breaks_on_few_flat_or_empty_bars(name: str, count: int) -> None:
    entry = function_named(name)
    price = np.full(count, 5.0)
    stamps = np.arange(count, dtype=np.int64) * NS_PER_DAY
    flat = Bars(stamps, price, price, price, price, np.zeros(count, np.int64))
    for bars in (flat, random_bars(1, 40)[:count]):
        lines = entry.compute(bars, entry.params([]))
        assert {len(line) for line in lines.values()} == {count}


def test_all_of_talib_is_there() -> None:
    names = {name.lower() for name in talib.get_functions()}  # type: ignore[no-untyped-call]

    assert names <= set(functions())
    assert len(functions()) > 201


def test_bounds_of_talib_are_its_own() -> None:
    with pytest.raises(RangeInvalid):
        parse_calls("mama(2)")
    with pytest.raises(RangeInvalid, match="from 0 to"):
        parse_calls("bbands(20,2,2,99)")


# -- correlation -------------------------------------------------------------------------------


def test_correlation_is_of_returns_on_common_bars() -> None:
    stamps = np.arange(50, dtype=np.int64)
    walk = np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.01, 50)))
    other = np.exp(np.cumsum(np.random.default_rng(2).normal(0, 0.01, 50)))
    flat = np.ones(50)

    found = correlation(
        {
            "A": (stamps, walk),
            "B": (stamps[5:], other[5:]),
            "C": (stamps, 3 / walk),
            "D": (stamps, flat),
        }
    )

    assert found.bars == 45
    assert found.matrix[0, 2] == pytest.approx(-1)
    wanted = np.corrcoef(np.diff(np.log(walk[5:])), np.diff(np.log(other[5:])))[0, 1]
    assert found.matrix[0, 1] == pytest.approx(wanted)
    assert np.isnan(found.matrix[3]).all()
    none = correlation({"A": (stamps[:2], walk[:2]), "B": (stamps[:2], walk[:2])})
    assert np.isnan(none.matrix).all()
