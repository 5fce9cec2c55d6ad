"""The made path of ticks gives back the real bar, exactly."""

from __future__ import annotations

import subprocess
import sys
from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.sources.replay import load_records
from infra.sources.tick_path import SessionBar, make_path, path_rng, price_decimals

DAY = date(2012, 8, 29)
BAR = SessionBar(open=10.0, high=12.5, low=9.25, close=11.11, volume=1_000_003)

cents = st.integers(1, 10_000_000).map(lambda n: n / 100)
points = st.integers(1, 10_000_000).map(lambda n: n / 10_000)
any_price = st.floats(0.01, 1e6)


@st.composite
def session_bars(draw: st.DrawFn) -> SessionBar:
    """Draw bars of real and of odd prices; flat ones are among them."""
    prices = draw(st.sampled_from((cents, points, any_price)))
    low, first, second, high = sorted(draw(st.tuples(prices, prices, prices, prices)))
    if draw(st.booleans()):
        first, second = second, first
    return SessionBar(first, high, low, second, draw(st.integers(0, 2**60)))


@given(bar=session_bars(), ticks=st.integers(4, 300), seed=st.integers(0, 2**32))
def test_ticks_give_the_bar_again_exactly(bar: SessionBar, ticks: int, seed: int) -> None:
    path = make_path(bar, ticks, path_rng(seed, "AAPL", DAY))

    assert len(path) == ticks
    assert path.price[0] == bar.open
    assert path.price.max() == bar.high
    assert path.price.min() == bar.low
    assert path.price[-1] == bar.close
    assert path.high_so_far[-1] == bar.high
    assert path.low_so_far[-1] == bar.low
    assert path.volume_so_far[-1] == bar.volume


@given(bar=session_bars(), ticks=st.integers(4, 100), seed=st.integers(0, 2**32))
def test_columns_so_far_follow_from_the_ticks_before(
    bar: SessionBar, ticks: int, seed: int
) -> None:
    path = make_path(bar, ticks, path_rng(seed, "AAPL", DAY))

    for tick in range(ticks):
        assert path.high_so_far[tick] == path.price[: tick + 1].max()
        assert path.low_so_far[tick] == path.price[: tick + 1].min()
    assert path.volume_so_far[0] >= 0
    assert (np.diff(path.volume_so_far) >= 0).all()


@pytest.mark.parametrize("ticks", [4, 5, 240])
def test_a_flat_day_stays_flat(ticks: int) -> None:
    bar = SessionBar(38.23, 38.23, 38.23, 38.23, 0)

    path = make_path(bar, ticks, path_rng(0, "AAPL", DAY))

    assert set(path.price.tolist()) == {38.23}
    assert not path.volume_so_far.any()


@pytest.mark.parametrize("volume", [0, 1, 2**53 + 1, 2**60 - 65])
def test_volume_is_exact_where_a_float_is_not(volume: int) -> None:
    bar = SessionBar(BAR.open, BAR.high, BAR.low, BAR.close, volume)

    path = make_path(bar, 4, path_rng(0, "AAPL", DAY))

    assert path.volume_so_far[-1] == volume
    assert (np.diff(path.volume_so_far) >= 0).all()


def test_every_real_bar_that_is_played_comes_out_exactly() -> None:
    for symbol, record in load_records().items():
        bars = record.bars[-125:]
        for row in range(len(bars)):
            bar = SessionBar(
                float(bars.open[row]),
                float(bars.high[row]),
                float(bars.low[row]),
                float(bars.close[row]),
                int(bars.volume[row]),
            )

            path = make_path(bar, 16, path_rng(0, symbol, bars.session(row)))

            made = SessionBar(
                float(path.price[0]),
                float(path.price.max()),
                float(path.price.min()),
                float(path.price[-1]),
                int(path.volume_so_far[-1]),
            )
            assert made == bar


def test_prices_have_the_decimals_of_the_day() -> None:
    path = make_path(BAR, 240, path_rng(0, "AAPL", DAY))

    assert path.price.tolist() == [round(price, 2) for price in path.price.tolist()]
    assert len(set(path.price.tolist())) > 50


@pytest.mark.parametrize(
    ("price", "decimals"), [(10.0, 2), (10.12, 2), (10.123, 3), (10.1234, 4), (10.12345, 4)]
)
def test_decimals_are_two_to_four(price: float, decimals: int) -> None:
    assert price_decimals(SessionBar(price, price, price, price, 0)) == decimals


def test_the_seed_the_symbol_and_the_day_each_make_another_path() -> None:
    other = ((1, "AAPL", DAY), (0, "MSFT", DAY), (0, "AAPL", date(2012, 8, 30)))

    first = make_path(BAR, 240, path_rng(0, "AAPL", DAY)).price.tolist()

    assert first == make_path(BAR, 240, path_rng(0, "AAPL", DAY)).price.tolist()
    for arguments in other:
        assert first != make_path(BAR, 240, path_rng(*arguments)).price.tolist()


def test_another_process_draws_the_same_numbers() -> None:
    code = (
        "from datetime import date; from infra.sources.tick_path import path_rng; "
        "print(path_rng(0, 'AAPL', date(2012, 8, 29)).integers(2**62))"
    )

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert int(told.stdout) == path_rng(0, "AAPL", DAY).integers(2**62)


def test_a_path_is_read_only() -> None:
    path = make_path(BAR, 4, path_rng(0, "AAPL", DAY))

    for column in (path.price, path.high_so_far, path.low_so_far, path.volume_so_far):
        assert not column.flags.writeable


def test_a_path_needs_four_ticks() -> None:
    with pytest.raises(ValueError, match="4 ticks"):
        make_path(BAR, 3, path_rng(0, "AAPL", DAY))
