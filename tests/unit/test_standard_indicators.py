"""The standard indicators against TA-Lib's whole lines and against arithmetic by hand."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st

import infra
from actors.indicators import standard
from infra.bars import NS_PER_DAY, Bars, Floats

ALL = (
    standard.sma,
    standard.ema,
    standard.rsi,
    standard.macd,
    standard.bollinger,
    standard.stochastic,
)
DATA = Path(infra.__file__).parent / "data" / "daily_bars.parquet"


def bars_of(
    close: list[float] | Floats,
    high: list[float] | Floats | None = None,
    low: list[float] | Floats | None = None,
) -> Bars:
    """Return daily bars with these prices; high and low are the close unless given."""
    closes = np.array(close, np.float64)
    highs = closes.copy() if high is None else np.array(high, np.float64)
    lows = closes.copy() if low is None else np.array(low, np.float64)
    opened_at_ns = np.arange(len(closes), dtype=np.int64) * NS_PER_DAY
    volume = np.ones(len(closes), np.int64)
    return Bars(opened_at_ns, closes.copy(), highs, lows, closes, volume)


def real_bars(symbol: str) -> Bars:
    """Return all bars of the data that the project ships, as traded."""
    rows = pd.read_parquet(DATA).query("symbol == @symbol")
    return bars_of(*(rows[name].to_numpy(np.float64) for name in ("close", "high", "low")))


def talib_at(bars: Bars) -> list[list[float]]:
    """Return each indicator's values at the last bar, from lines over all bars."""
    close = bars.close
    rsi = talib.RSI(close, 14)
    return [
        [talib.SMA(close, n)[-1] for n in (5, 10, 20, 50, 200)],
        [talib.EMA(close, n)[-1] for n in (12, 26)],
        [rsi[-1], rsi[-2]],
        [line[-1] for line in talib.MACD(close, 12, 26, 9)],
        [line[-1] for line in talib.BBANDS(close, 20, 2.0, 2.0)],
        [line[-1] for line in talib.STOCHF(bars.high, bars.low, close, 14, 3)],
    ]


def wilder(close: Floats) -> float:
    """Return Wilder's RSI by the book: means of 14 changes, then 13 parts old and one new."""
    changes = np.diff(close)
    gain = sum(max(change, 0.0) for change in changes[:14]) / 14
    loss = sum(max(-change, 0.0) for change in changes[:14]) / 14
    for change in changes[14:]:
        gain = (13 * gain + max(change, 0.0)) / 14
        loss = (13 * loss + max(-change, 0.0)) / 14
    return float(100 - 100 / (1 + gain / loss))


def ema_line(values: Floats, count: int, seed_end: int) -> list[float]:
    """Return the EMA from row `seed_end` - 1 on, seeded with the mean of the `count` up to it."""
    line = [float(np.mean(values[seed_end - count : seed_end]))]
    for value in values[seed_end:]:
        line.append(line[-1] + 2 / (count + 1) * (value - line[-1]))
    return line


@pytest.mark.parametrize("symbol", ["AAPL", "GOOGL", "META", "^GSPC"])
@pytest.mark.parametrize("rows", [60, 34, 33, 26, 25, 16, 15, 14, 13, 2, None])
def test_values_equal_the_end_of_talibs_lines(symbol: str, rows: int | None) -> None:
    bars = real_bars(symbol)[:rows]

    expected = [[None if math.isnan(v) else v for v in values] for values in talib_at(bars)]

    for indicator, values in zip(ALL, expected, strict=True):
        assert indicator(bars) == tuple(
            v if v is None else pytest.approx(v, rel=1e-9, abs=1e-7) for v in values
        )


def test_every_prefix_of_a_history_gives_what_talibs_line_has_there() -> None:
    bars = real_bars("META")
    rsi = talib.RSI(bars.close, 14)
    upper = talib.BBANDS(bars.close, 20, 2.0, 2.0)[0]

    for count in range(40, len(bars) + 1):
        current, previous = standard.rsi(bars[:count])
        assert current == pytest.approx(rsi[count - 1], rel=1e-12)
        assert previous == pytest.approx(rsi[count - 2], rel=1e-12)
        assert standard.bollinger(bars[:count])[0] == pytest.approx(upper[count - 1], rel=1e-9)


def test_rsi_equals_wilders_averages_by_hand() -> None:
    close = real_bars("AAPL").close[-300:]

    current, previous = standard.rsi(bars_of(close))

    assert current == pytest.approx(wilder(close), rel=1e-12)
    assert previous == pytest.approx(wilder(close[:-1]), rel=1e-12)


def test_averages_equal_sums_by_hand() -> None:
    close = real_bars("AAPL").close[-300:]
    bars = bars_of(close)

    sma = tuple(math.fsum(close[-n:]) / n for n in (5, 10, 20, 50, 200))
    ema = tuple(ema_line(close, n, seed_end=n)[-1] for n in (12, 26))

    assert standard.sma(bars) == pytest.approx(sma, rel=1e-12)
    assert standard.ema(bars) == pytest.approx(ema, rel=1e-12)


def test_macd_seeds_its_fast_average_where_the_slow_one_is() -> None:
    close = real_bars("AAPL").close[-60:]

    fast, slow = ema_line(close, 12, seed_end=26), ema_line(close, 26, seed_end=26)
    line = np.subtract(fast, slow)
    signal = ema_line(line, 9, seed_end=9)[-1]

    assert standard.macd(bars_of(close)) == pytest.approx(
        (line[-1], signal, line[-1] - signal), rel=1e-9
    )


def test_bollinger_takes_the_deviation_of_the_population() -> None:
    close = real_bars("AAPL").close[-40:]
    mean, deviation = close[-20:].mean(), close[-20:].std(ddof=0)

    assert standard.bollinger(bars_of(close)) == pytest.approx(
        (mean + 2 * deviation, mean, mean - 2 * deviation), rel=1e-9
    )


def test_stochastic_is_the_place_of_the_close_in_its_range() -> None:
    bars = bars_of([10.0] * 13 + [11.0, 12.0, 10.0], [14.0] * 16, [9.0] * 16)

    k_percent, d_percent = standard.stochastic(bars)

    assert k_percent == pytest.approx(20.0)
    assert d_percent == pytest.approx((40.0 + 60.0 + 20.0) / 3)


def test_a_close_at_the_lowest_low_is_zero_and_not_flat() -> None:
    bars = bars_of([10.0] * 15 + [9.0], [12.0] * 16, [9.0] * 16)

    assert standard.stochastic(bars)[0] == 0.0


def test_a_range_that_opens_up_leaves_the_flat_bars_before_it_at_fifty() -> None:
    values = standard.stochastic(bars_of([10.0] * 15 + [9.0]))

    assert values == pytest.approx((0.0, 100 / 3))


def test_flat_prices_are_in_the_middle() -> None:
    bars = bars_of([42.0] * 250)

    assert standard.rsi(bars) == (50.0, 50.0)
    assert standard.stochastic(bars) == (50.0, 50.0)
    assert standard.sma(bars) == pytest.approx((42.0,) * 5)
    assert standard.macd(bars) == pytest.approx((0.0,) * 3, abs=1e-9)
    # a deviation from a difference of squares is exact to the root of a double's precision
    assert standard.bollinger(bars) == pytest.approx((42.0,) * 3, rel=1e-6)


@pytest.mark.parametrize(("step", "expected"), [(1.0, 100.0), (-1.0, 0.0)])
def test_rsi_of_one_direction_only_is_at_the_end_of_its_scale(
    step: float, expected: float
) -> None:
    assert standard.rsi(bars_of([100 + step * n for n in range(40)])) == (expected, expected)


def test_rsi_leaves_fifty_with_the_first_fall_after_flat_prices() -> None:
    assert standard.rsi(bars_of([10.0] * 20 + [9.0])) == (0.0, 50.0)


@pytest.mark.parametrize(
    ("rows", "known"), [(13, (False, False)), (14, (False, False)), (15, (True, False))]
)
def test_rsi_starts_at_bar_fifteen(rows: int, known: tuple[bool, bool]) -> None:
    values = standard.rsi(real_bars("AAPL")[:rows])

    assert tuple(value is not None for value in values) == known


@pytest.mark.parametrize("rows", [0, 1])
def test_one_bar_or_none_has_no_values(rows: int) -> None:
    bars = real_bars("AAPL")[:rows]

    assert {value for indicator in ALL for value in indicator(bars)} == {None}


def test_windows_do_not_remember_dearer_times() -> None:
    recent = 0.01 + 0.0001 * np.sin(np.arange(250))
    bars = bars_of(np.concatenate((np.full(300, 1e6), recent)))

    assert standard.sma(bars)[-1] == pytest.approx(recent[-200:].mean(), rel=1e-9)
    upper = recent[-20:].mean() + 2 * recent[-20:].std()
    assert standard.bollinger(bars)[0] == pytest.approx(upper, rel=1e-9)


def test_rows_without_a_close_are_left_out() -> None:
    bars = bars_of([1.0, math.nan, 3.0])

    assert standard.without_nan(bars).close.tolist() == [1.0, 3.0]
    assert standard.without_nan(bars).opened_at_ns.tolist() == [0, 2 * NS_PER_DAY]


@given(
    st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=260),
    st.sampled_from([1e-6, 0.01, 1.0, 1e3, 1e9, 1e200]),
)
def test_every_value_of_a_random_walk_is_finite_or_none(steps: list[float], start: float) -> None:
    close = start * np.exp(np.cumsum(steps))
    bars = bars_of(close, close * 1.01, close * 0.99)

    values = {indicator.__name__: indicator(bars) for indicator in ALL}

    assert all(v is None or math.isfinite(v) for v in chain(*values.values()))
    assert all(v is None or -1e-9 <= v <= 100 + 1e-9 for v in values["rsi"])
    assert all(v is None or -1e-9 <= v <= 100 + 1e-9 for v in values["stochastic"])
    assert [v is not None for v in values["ema"]] == [len(close) >= n for n in (12, 26)]


@given(st.lists(st.floats(1.0, 1e4), min_size=35, max_size=120))
def test_random_closes_give_what_talib_gives(closes: list[float]) -> None:
    """RSI and stochastic are left out: there TA-Lib's 0 for flat prices is not ours."""
    bars = bars_of(closes)

    # two running sums over different rows differ by the root of a double's precision
    for indicator, expected in zip(ALL, talib_at(bars), strict=True):
        if indicator not in (standard.rsi, standard.stochastic):
            known = [None if math.isnan(v) else v for v in expected]
            assert indicator(bars) == tuple(
                v if v is None else pytest.approx(v, rel=1e-9, abs=1e-2) for v in known
            )
