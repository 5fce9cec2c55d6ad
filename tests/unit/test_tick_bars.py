"""Minute bars: closed once, revised when they turn out to be others, repaired after a gap."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.bars import NS_PER_MINUTE, Bars
from infra.tick_bars import GRACE_NS, KEEP_BARS, BarBuilder, BarUpdate

DAY = date(2025, 11, 26)
OPEN_NS = 1_764_167_400 * 10**9  # 14:30 UTC, a whole minute

Tick = tuple[int, float, int]  # nanoseconds since the open, price, volume of the session so far


def feed(builder: BarBuilder, ticks: list[Tick]) -> list[BarUpdate]:
    updates: list[BarUpdate] = []
    for at_ns, price, day_volume in ticks:
        updates += builder.add("AAPL", OPEN_NS + at_ns, price, day_volume, DAY)
    return updates


def s(seconds: float) -> int:
    return int(seconds * 1e9)


def test_a_bar_closes_with_the_first_tick_of_a_later_minute() -> None:
    builder = BarBuilder()

    ticks = [(s(1), 10.0, 100), (s(20), 12.0, 150), (s(59), 11.0, 160), (s(125), 11.5, 200)]
    (closed,) = feed(builder, ticks)

    assert closed == BarUpdate("AAPL", OPEN_NS, 10.0, 12.0, 10.0, 11.0, 60, 0)


def test_a_bar_closes_some_seconds_after_its_minute_without_a_tick() -> None:
    builder = BarBuilder()
    feed(builder, [(s(1), 10.0, 100)])

    assert builder.close_due(OPEN_NS + NS_PER_MINUTE + GRACE_NS - 1) == []
    assert len(builder.close_due(OPEN_NS + NS_PER_MINUTE + GRACE_NS)) == 1
    assert builder.close_due(OPEN_NS + 10 * NS_PER_MINUTE) == []


def test_a_late_tick_revises_its_bar() -> None:
    builder = BarBuilder()
    feed(builder, [(s(1), 10.0, 100), (s(61), 11.0, 110)])

    (revised,) = feed(builder, [(s(30), 9.0, 110)])

    assert (revised.opened_at_ns, revised.low, revised.close, revised.revision) == (
        OPEN_NS,
        9.0,
        9.0,
        1,
    )


def test_a_tick_out_of_order_within_its_minute_changes_neither_open_nor_close() -> None:
    builder = BarBuilder()
    feed(builder, [(s(5), 10.0, 1), (s(50), 11.0, 2), (s(20), 12.0, 2), (s(20), 12.0, 2)])

    (closed,) = feed(builder, [(s(61), 11.0, 3)])

    assert (closed.open, closed.high, closed.close) == (10.0, 12.0, 11.0)


def test_a_new_session_counts_its_volume_anew() -> None:
    builder = BarBuilder()
    feed(builder, [(s(1), 10.0, 5_000)])
    next_day = OPEN_NS + 1_440 * NS_PER_MINUTE

    builder.add("AAPL", next_day, 10.0, 70, date(2025, 11, 27))
    (closed,) = builder.close_due(next_day + 2 * NS_PER_MINUTE)

    assert closed.volume == 70


def test_bars_are_bounded() -> None:
    builder = BarBuilder()
    feed(builder, [(minute * NS_PER_MINUTE, 10.0, minute) for minute in range(KEEP_BARS + 50)])

    assert len(builder.bars("AAPL")) == KEEP_BARS - 1  # the last one is open


def columns(bars: Bars) -> list[list[float]]:
    return [getattr(bars, name).tolist() for name in Bars.__slots__]


@st.composite
def tick_series(draw: st.DrawFn) -> list[Tick]:
    count = draw(st.integers(2, 60))
    seconds = sorted(draw(st.lists(st.integers(0, 600), min_size=count, max_size=count)))
    prices = draw(st.lists(st.integers(900, 1_100), min_size=count, max_size=count))
    volumes = np.cumsum(draw(st.lists(st.integers(0, 50), min_size=count, max_size=count)))
    rows = zip(seconds, prices, volumes.tolist(), strict=True)
    return [(s(second), price / 100, int(volume)) for second, price, volume in rows]


@given(tick_series(), st.data())
def test_after_a_gap_and_its_repair_bars_are_those_of_a_run_without_the_gap(
    ticks: list[Tick], data: st.DataObject
) -> None:
    whole, broken = BarBuilder(), BarBuilder()
    end_ns = OPEN_NS + 20 * NS_PER_MINUTE
    feed(whole, ticks)
    whole.close_due(end_ns)
    first = data.draw(st.integers(0, len(ticks) - 1))
    last = data.draw(st.integers(first, len(ticks) - 1))

    told = feed(broken, ticks[:first] + ticks[last:])
    told += broken.close_due(end_ns)
    told += broken.repair("AAPL", whole.bars("AAPL"))

    assert columns(broken.bars("AAPL")) == columns(whole.bars("AAPL"))
    # ... and whoever keeps the highest revision of each bar has the same:
    latest: dict[int, BarUpdate] = {}
    for update in told:
        before = latest.get(update.opened_at_ns)
        assert update.revision == (0 if before is None else before.revision + 1)
        latest[update.opened_at_ns] = update
    assert [u.close for _, u in sorted(latest.items())] == whole.bars("AAPL").close.tolist()
    assert [u.volume for _, u in sorted(latest.items())] == whole.bars("AAPL").volume.tolist()


def test_a_repair_that_finds_nothing_tells_nothing() -> None:
    builder = BarBuilder()
    feed(builder, [(s(1), 10.0, 1), (s(61), 11.0, 2)])
    bars = builder.bars("AAPL")
    nearly = Bars(
        bars.opened_at_ns, bars.open * (1 + 1e-8), bars.high, bars.low, bars.close, bars.volume
    )

    assert builder.repair("AAPL", nearly) == []


def test_volume_before_the_first_tick_is_not_counted() -> None:
    builder = BarBuilder()
    feed(builder, [(s(1), 10.0, 1_000_000), (s(10), 10.0, 1_000_010)])

    (closed,) = builder.close_due(OPEN_NS + 5 * NS_PER_MINUTE)

    assert closed.volume == pytest.approx(10)
