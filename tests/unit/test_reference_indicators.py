"""The former service's variants against pandas formulas and a table worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infra
from actors.indicators import reference, standard
from infra.bars import NS_PER_DAY, Bars, Floats

DATA = Path(infra.__file__).parent / "data" / "daily_bars.parquet"

# Fourteen changes; their gains add up to 15 and their losses to 9.
CHANGES = [1, -2, 3, 0, -1, 2, 2, -3, 1, 1, -1, 4, -2, 1]


def bars_of(close: list[float] | Floats) -> Bars:
    """Return daily bars that opened, peaked and bottomed at their close."""
    closes = np.array(close, np.float64)
    opened_at_ns = np.arange(len(closes), dtype=np.int64) * NS_PER_DAY
    volume = np.ones(len(closes), np.int64)
    return Bars(opened_at_ns, closes.copy(), closes.copy(), closes.copy(), closes, volume)


def real_close(symbol: str) -> Floats:
    """Return all closes of the data that the project ships, as traded."""
    rows = pd.read_parquet(DATA).query("symbol == @symbol")
    return rows["close"].to_numpy(np.float64)


def pandas_rsi(close: Floats) -> pd.Series:
    """Return the formula as the former service wrote it."""
    delta = pd.Series(close).diff()
    gain = delta.where(delta > 0, 0).rolling(window=14).mean()
    loss = (-delta.where(delta < 0, 0)).rolling(window=14).mean()
    return 100 - 100 / (1 + gain / loss)


@pytest.mark.parametrize("symbol", ["AAPL", "META", "^GSPC"])
@pytest.mark.parametrize("rows", [16, 20, 100, None])
def test_rsi_equals_the_pandas_formula(symbol: str, rows: int | None) -> None:
    close = real_close(symbol)[:rows]

    assert reference.rsi(bars_of(close)) == pytest.approx(
        (pandas_rsi(close).iloc[-1], pandas_rsi(close).iloc[-2]), rel=1e-9
    )


def test_rsi_equals_a_table_by_hand() -> None:
    close = 100.0 + np.cumsum([0, *CHANGES])

    current, previous = reference.rsi(bars_of(close))

    assert current == pytest.approx(100 * 15 / 24)
    assert previous == pytest.approx(100 * 14 / 23)  # the first bar's 0, without the last gain


@pytest.mark.parametrize(
    ("rows", "known"), [(13, (False, False)), (14, (True, False)), (15, (True, True))]
)
def test_rsi_starts_at_bar_fourteen(rows: int, known: tuple[bool, bool]) -> None:
    values = reference.rsi(bars_of(real_close("AAPL")[:rows]))

    assert tuple(value is not None for value in values) == known


def test_rsi_of_gains_only_is_a_hundred_and_of_flat_prices_unknown() -> None:
    assert reference.rsi(bars_of(np.arange(1.0, 31.0))) == (100.0, 100.0)
    assert reference.rsi(bars_of([7.0] * 30)) == (None, None)
    assert reference.rsi(bars_of([7.0] * 30 + [8.0])) == (100.0, None)


def test_macd_equals_weighted_means_by_hand() -> None:
    close = np.array([10.0, 11.0, 13.0])

    def mean(values: Floats, span: int) -> float:
        weights = (1 - 2 / (span + 1)) ** np.arange(len(values))[::-1]
        return float(np.average(values, weights=weights))

    line = np.array([mean(close[:n], 12) - mean(close[:n], 26) for n in (1, 2, 3)])
    signal = mean(line, 9)

    assert reference.macd(bars_of(close)) == pytest.approx(
        (line[-1], signal, line[-1] - signal), rel=1e-9
    )


def test_macd_of_one_bar_is_zero_and_of_none_unknown() -> None:
    assert reference.macd(bars_of([10.0])) == (0.0, 0.0, 0.0)
    assert reference.macd(bars_of([])) == (None, None, None)


def test_macd_differs_from_the_standard_at_first_and_meets_it_later() -> None:
    close = real_close("^GSPC")

    early, late = bars_of(close[:40]), bars_of(close)

    assert reference.macd(early) != pytest.approx(standard.macd(early), rel=1e-2)
    assert reference.macd(late) == pytest.approx(standard.macd(late), rel=1e-9)


def test_bollinger_takes_the_deviation_of_a_sample() -> None:
    close = real_close("AAPL")[:60]
    window = pd.Series(close).rolling(20)
    mean, deviation = window.mean().iloc[-1], window.std().iloc[-1]

    assert reference.bollinger(bars_of(close)) == pytest.approx(
        (mean + 2 * deviation, mean, mean - 2 * deviation), rel=1e-9
    )


def test_bollinger_needs_twenty_bars() -> None:
    close = real_close("AAPL")

    assert reference.bollinger(bars_of(close[:19])) == (None, None, None)
    assert None not in reference.bollinger(bars_of(close[:20]))


@given(st.lists(st.integers(-5, 5), min_size=15, max_size=60))
def test_rsi_of_random_changes_equals_sums_of_the_last_fourteen(changes: list[int]) -> None:
    close = 1000.0 + np.cumsum(changes)
    last = np.diff(close, prepend=close[0])[-14:]
    gain, loss = last[last > 0].sum(), -last[last < 0].sum()

    expected = None if gain + loss == 0 else pytest.approx(100 * gain / (gain + loss))

    assert reference.rsi(bars_of(close))[0] == expected
