"""Every live indicator, found in the registry, equals its oracle on every bar of every data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.indicators.expressions import Call
from actors.indicators.live.engine import KEPT, STRIDE, LiveEngine
from actors.indicators.live.kernel import LiveIndicator
from actors.indicators.live.registry import LIVE_INDICATORS
from infra.bars import NS_PER_DAY, NS_PER_MINUTE, Bars
from infra.errors import ParameterInvalid, RangeInvalid
from infra.sources.replay import load_records
from tests.oracles import BESIDE, ORACLES, Line, Prices

NAMES = sorted(LIVE_INDICATORS)
CLOSE = 1e-9


def params_of(indicator: LiveIndicator) -> list[tuple[float, ...]]:
    """Return the defaults, the smallest parameters, and odd ones."""
    odd = {0: 7.0, 1: 3.0, 2: 4.0}
    smallest = indicator.params(
        [p.least if p.is_whole else p.default for p in indicator.parameters]
    )
    given_odd = [
        min(max(odd.get(i, 5.0), p.least), p.most) if p.is_whole else 1.5 * p.default
        for i, p in enumerate(indicator.parameters)
    ]
    return list(dict.fromkeys([indicator.params([]), smallest, indicator.params(given_odd)]))


CASES = [(name, params) for name in NAMES for params in params_of(LIVE_INDICATORS[name])]


def prices_of(bars: Bars) -> Prices:
    return Prices(
        bars.open, bars.high, bars.low, bars.close, bars.volume.astype(np.float64),
        (bars.opened_at_ns // NS_PER_DAY).astype(np.float64),
    )  # fmt: skip


def real_bars(count: int = 330) -> Bars:
    return load_records()["AAPL"].bars[-count:]


def random_bars(seed: int, count: int = 200, step_ns: int = NS_PER_DAY) -> Bars:
    """Return a walk with flat runs, bars without volume, equal highs, and bars of one price."""
    draws = np.random.default_rng(seed)
    moves = draws.normal(0, 0.02, count) * (draws.random(count) > 0.2)
    moves[count // 3 : count // 3 + draws.integers(0, 40)] = 0.0
    close = np.round(100 * np.exp(np.cumsum(moves)), 2)
    spread = np.round(draws.exponential(0.5, (2, count)) * (draws.random((2, count)) > 0.3), 2)
    open_ = np.round(np.clip(np.roll(close, 1), close - spread[1], close + spread[0]), 2)
    volume = draws.integers(0, 10**6, count) * (draws.random(count) > 0.15)
    return Bars(
        19_000 * NS_PER_DAY + np.arange(count, dtype=np.int64) * step_ns,
        open_,
        np.maximum(close, open_) + spread[0],
        np.minimum(close, open_) - spread[1],
        close,
        volume.astype(np.int64),
    )


_FIELDS = ("open", "high", "low", "close", "volume")


def engine_over(bars: Bars, key: Call, held: int = 0) -> LiveEngine:
    """Return an engine that holds the first bars of one symbol."""
    engine = LiveEngine(lambda _: bars[:held])
    engine.hold("X")
    engine.add(key)
    return engine


def feed(engine: LiveEngine, bars: Bars, row: int, final: bool = True) -> None:
    engine.update(
        engine.rows_of(["X"]),
        bars.opened_at_ns[row : row + 1],
        [np.asarray(getattr(bars, name)[row : row + 1], np.float64) for name in _FIELDS],
        np.array([final]),
    )


def followed(bars: Bars, key: Call, held: int = 0) -> list[Line]:
    """Return what the engine says after each bar, NaN for the bars that it held from the start."""
    engine = engine_over(bars, key, held)
    rows = [np.full(len(LIVE_INDICATORS[key.name].outputs), np.nan)] * held
    for row in range(held, len(bars)):
        feed(engine, bars, row)
        rows.append(engine.column(key)[0].copy())
    return list(np.array(rows).reshape(len(bars), -1).T)


def check(
    found: list[Line],
    wanted: tuple[Line, ...],
    bars: Bars,
    tolerance: float = CLOSE,
    first: int = 0,
) -> None:
    """Compare each output bar by bar; near 0 what counts is the size of prices."""
    scale = float(np.abs(bars.high).max())
    for number, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
        np.testing.assert_array_equal(
            np.isnan(mine[first:]), np.isnan(theirs[first:]), f"{number}"
        )
        np.testing.assert_allclose(
            mine[first:], theirs[first:], rtol=tolerance, atol=tolerance * 1e-3 * scale
        )


def test_every_indicator_has_an_oracle() -> None:
    assert set(ORACLES) == set(LIVE_INDICATORS)
    for indicator in LIVE_INDICATORS.values():
        assert indicator.formula
        assert indicator.source


@pytest.mark.parametrize(("name", "params"), CASES)
def test_live_equals_its_oracle_on_every_bar_of_real_prices(
    name: str, params: tuple[float, ...]
) -> None:
    bars = real_bars()

    found = followed(bars, Call(name, params))

    check(found, ORACLES[name](prices_of(bars), *params), bars)
    if name in BESIDE:
        check(found, BESIDE[name](prices_of(bars), *params), bars, 1e-8)


@pytest.mark.parametrize(("name", "params"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_live_equals_its_oracle_on_flat_runs_and_empty_bars(
    name: str, params: tuple[float, ...], seed: int
) -> None:
    bars = random_bars(seed)

    check(followed(bars, Call(name, params)), ORACLES[name](prices_of(bars), *params), bars)


@pytest.mark.parametrize("name", NAMES)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_live_equals_its_oracle_whatever_comes(name: str, data: st.DataObject) -> None:
    indicator = LIVE_INDICATORS[name]
    given_params = [
        data.draw(st.integers(int(p.least), 12)) if p.is_whole else p.default
        for p in indicator.parameters
    ]
    key = Call(name, indicator.params(given_params))
    seed, count = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(1, 150))
    step = data.draw(st.sampled_from([NS_PER_DAY, 90 * NS_PER_MINUTE]))
    bars = random_bars(seed, count, step)

    check(followed(bars, key), ORACLES[name](prices_of(bars), *key.params), bars)


@pytest.mark.parametrize(("name", "params"), CASES)
def test_a_jump_of_a_million_times_leaves_no_trace_in_a_window(
    name: str, params: tuple[float, ...]
) -> None:
    bars = random_bars(5, 160)
    jump = np.ones(160)
    jump[40:43] = 1e6
    open_, high, low, close = (getattr(bars, n) * jump for n in ("open", "high", "low", "close"))
    jumped = Bars(bars.opened_at_ns, open_, high, low, close, bars.volume)
    indicator, key = LIVE_INDICATORS[name], Call(name, params)
    found = followed(jumped, key)
    wanted = ORACLES[name](prices_of(jumped), *params)

    check(found, wanted, jumped, 1e-6)
    if indicator.state_size(params) == 0 or name == "sma":
        left = 43 + indicator.window(params)
        check(found, wanted, bars, CLOSE, left)


@pytest.mark.parametrize("name", NAMES)
def test_a_bar_under_way_changes_nothing_until_it_closes(name: str) -> None:
    bars, key = random_bars(1), Call(name, LIVE_INDICATORS[name].params([]))
    engine, plain = engine_over(bars, key, 150), engine_over(bars, key, 150)
    wilder = Bars(
        bars.opened_at_ns, bars.open, bars.high * 3, bars.low / 3, bars.close * 2, bars.volume + 1
    )
    for row in range(150, 170):
        for _ in range(3):
            feed(engine, wilder, row, final=False)
            feed(engine, bars, row, final=False)
        under_way = engine.column(key)[0].copy()
        feed(plain, bars, row)
        if row % 2:
            feed(engine, bars, row)  # else the next bar closes it
            np.testing.assert_array_equal(engine.column(key, closed=True), plain.column(key))
        np.testing.assert_array_equal(under_way, plain.column(key)[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("back", [1, 5, STRIDE - 1, STRIDE + 3, (KEPT - 1) * STRIDE])
def test_a_revised_bar_gives_what_a_run_with_it_would_have(name: str, back: int) -> None:
    count = 6 * STRIDE + 17
    bars, key = random_bars(2, count), Call(name, LIVE_INDICATORS[name].params([]))
    close, row = bars.close.copy(), count - 1 - back
    close[row] = bars.low[row] + 0.25 * (bars.high[row] - bars.low[row])
    revised = Bars(bars.opened_at_ns, bars.open, bars.high, bars.low, close, bars.volume)
    engine, plain = engine_over(bars, key, 200), engine_over(revised, key, 200)
    for later in range(200, count):
        feed(engine, bars, later)
        feed(plain, revised, later)
    feed(engine, bars, count - 1, final=False)  # late: left out

    values = [float(getattr(revised, n)[row]) for n in ("open", "high", "low", "close", "volume")]
    assert engine.revise("X", int(bars.opened_at_ns[row]), values)

    np.testing.assert_allclose(engine.column(key), plain.column(key), rtol=1e-12)
    np.testing.assert_allclose(engine.column(key, closed=True), plain.column(key), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_history_and_ticks_give_the_same(name: str) -> None:
    bars, key = random_bars(3, 400), Call(name, LIVE_INDICATORS[name].params([]))

    warmed = engine_over(bars, key, 400)
    found = followed(bars, key, 130)

    np.testing.assert_allclose(warmed.column(key)[0], [line[-1] for line in found], rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_many_symbols_do_not_touch_each_other(name: str) -> None:
    key = Call(name, LIVE_INDICATORS[name].params([]))
    books = {f"S{n}": random_bars(n, 90) for n in range(40)}
    engine = LiveEngine(lambda symbol: books[symbol][:80])
    for symbol in books:
        engine.hold(symbol)
    engine.add(key)
    for row in range(80, 90):
        rows = engine.rows_of(books)
        columns = [
            np.array([float(getattr(b, n)[row]) for b in books.values()])
            for n in ("open", "high", "low", "close", "volume")
        ]
        opened = np.array([b.opened_at_ns[row] for b in books.values()])
        engine.update(rows, opened, columns, np.ones(40, np.bool_))

    for number, (symbol, bars) in enumerate(books.items()):
        alone = [line[-1] for line in followed(bars, key, 80)]
        np.testing.assert_allclose(engine.column(key)[number], alone, rtol=1e-12, err_msg=symbol)


# -- the engine --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_tick_of_one_symbol_is_an_update_of_it(name: str) -> None:
    bars, key = random_bars(6, 130), Call(name, LIVE_INDICATORS[name].params([]))
    engine, plain = engine_over(bars, key, 120), engine_over(bars, key, 120)
    for row in range(120, 130):
        values = [float(getattr(bars, n)[row]) for n in ("open", "high", "low", "close", "volume")]
        engine.tick(0, int(bars.opened_at_ns[row]), [v * 1.01 for v in values])
        engine.tick(0, int(bars.opened_at_ns[row]), values)
        engine.tick(0, int(bars.opened_at_ns[row - 5]), values)  # late: left out
        feed(plain, bars, row, final=False)
        np.testing.assert_array_equal(engine.column(key), plain.column(key))
        np.testing.assert_array_equal(engine.column(key, True), plain.column(key, True))


def test_sets_and_symbols_come_and_go_in_any_order() -> None:
    books = {f"S{n}": random_bars(n, 300) for n in range(3)}
    engine = LiveEngine(books.__getitem__)
    small, large = Call("sma", (5.0,)), Call("sma", (500.0,))
    engine.hold("S0")
    engine.add(small)
    engine.hold("S1")
    engine.add(large)
    engine.hold("S2")

    for symbol, bars in books.items():
        mean = bars.close[-5:].mean()
        assert engine.values(symbol, small)["sma"] == pytest.approx(mean, rel=1e-12)
        assert not engine.ready(symbol, large)
        assert engine.ready(symbol, small)
        assert np.isnan(engine.values(symbol, large)["sma"])
    engine.drop(small)
    assert engine.sets == (large,)
    assert not engine.ready("S0", small)


def test_symbols_that_go_leave_the_others_as_they_were() -> None:
    books = {f"S{n}": random_bars(n, 300) for n in range(70)}
    keys = (Call("macd", (12.0, 26.0, 9.0)), Call("ema", (9.0,)))
    engine, plain = (LiveEngine(lambda symbol: books[symbol][:290]) for _ in range(2))
    gone = [f"S{n}" for n in range(70) if n not in (3, 20, 68, 69)]
    for symbol in books:
        engine.hold(symbol)
    for key in keys:
        engine.add(key)
        plain.add(key)
    kept = [symbol for symbol in books if symbol not in gone]
    for symbol in kept:
        plain.hold(symbol)

    def feed_all(row: int, final: bool) -> None:
        for made, symbols in ((engine, engine.symbols), (plain, plain.symbols)):
            columns = [
                np.array([float(getattr(books[s], n)[row]) for s in symbols]) for n in _FIELDS
            ]
            opened = np.array([books[s].opened_at_ns[row] for s in symbols])
            is_final = np.full(len(symbols), final)
            made.update(made.rows_of(symbols), opened, columns, is_final)

    feed_all(290, final=True)
    feed_all(291, final=False)
    before = engine.state_bytes
    engine.forget([*gone, "NOPE"])
    assert set(engine.symbols) == set(kept)
    assert engine.state_bytes < before / 4
    engine.hold("S7")  # comes again, on a row that was another's
    plain.hold("S7")
    feed_all(292, final=False)
    feed_all(293, final=True)
    close = books["S69"].close.copy()
    close[291] *= 1.01
    for made in (engine, plain):
        values = [float(getattr(books["S69"], n)[291]) for n in _FIELDS]
        assert made.revise(
            "S69", int(books["S69"].opened_at_ns[291]), [*values[:3], *close[291:292], 1]
        )
        made.add(Call("sma", (250.0,)))

    for symbol in (*kept, "S7"):
        for key in (*keys, Call("sma", (250.0,))):
            for closed in (False, True):
                assert engine.values(symbol, key, closed) == plain.values(symbol, key, closed)
        assert engine.newest(symbol) == plain.newest(symbol)


def test_a_set_is_not_there_before_it_is_warm_and_misses_nothing_meanwhile() -> None:
    books = {f"S{n}": random_bars(n, 300) for n in range(20)}
    closed = dict.fromkeys(books, 200)
    engine = LiveEngine(lambda symbol: books[symbol][: closed[symbol]])
    for symbol in tuple(books)[:19]:
        engine.hold(symbol)
    key = Call("macd", (12.0, 26.0, 9.0))
    for number, _ in enumerate(engine.adding(key)):
        assert key not in engine.sets
        if number == 3:
            engine.hold("S19")
        if number % 7 == 0 and number < 70:
            symbol = f"S{number % 5}"
            bar = books[symbol][closed[symbol] : closed[symbol] + 1]
            columns = [np.array([float(getattr(bar, n)[0])]) for n in _FIELDS]
            rows, is_final = engine.rows_of([symbol]), np.ones(1, np.bool_)
            engine.update(rows, bar.opened_at_ns, columns, is_final)
            closed[symbol] += 1

    plain = LiveEngine(lambda symbol: books[symbol][: closed[symbol]])
    plain.add(key)
    for symbol in engine.symbols:
        plain.hold(symbol)
    assert sum(closed.values()) > 20 * 200
    np.testing.assert_array_equal(engine.column(key), plain.column(key))


def test_the_value_of_the_bar_before_is_kept() -> None:
    bars, key = random_bars(11, 300), Call("ema", (20.0,))
    (found,) = followed(bars, key)
    engine = engine_over(bars, key, 200)
    assert engine.before(key)[0, 0] == found[198]
    feed(engine, bars, 200, final=False)
    assert engine.before(key)[0, 0] == found[198]
    feed(engine, bars, 200)
    assert engine.before(key)[0, 0] == found[199]
    engine.revise(
        "X", int(bars.opened_at_ns[199]), [float(getattr(bars, n)[199]) for n in _FIELDS]
    )
    assert engine.before(key)[0, 0] == found[199]


def test_a_wider_window_keeps_the_bar_under_way() -> None:
    bars = random_bars(7, 300)
    engine = engine_over(bars, Call("sma", (3.0,)), 299)
    feed(engine, bars, 299, final=False)

    engine.add(Call("sma", (250.0,)))

    wanted = bars.close[-250:].mean()
    assert engine.values("X", Call("sma", (250.0,)))["sma"] == pytest.approx(wanted, rel=1e-12)


def test_state_is_bounded_by_symbols_and_not_by_time() -> None:
    bars = random_bars(8, 1_500)
    engine = engine_over(bars, Call("macd", (12.0, 26.0, 9.0)), 100)
    before = engine.state_bytes
    for row in range(100, 1_500):
        feed(engine, bars, row)

    assert engine.state_bytes == before


def test_a_revision_of_an_unknown_bar_is_no_revision() -> None:
    bars = random_bars(9, 50)
    engine = engine_over(bars, Call("sma", (3.0,)), 50)

    assert not engine.revise("X", 1, [1.0] * 5)


def test_a_revision_older_than_the_checkpoints_goes_by_the_history() -> None:
    bars, key = random_bars(10, 900), Call("ema", (20.0,))
    close = bars.close.copy()
    close[3] = bars.high[3]
    revised = Bars(bars.opened_at_ns, bars.open, bars.high, bars.low, close, bars.volume)
    held = [bars]
    engine = LiveEngine(lambda _: held[0])
    engine.hold("X")
    engine.add(key)
    held[0] = revised

    assert engine.revise("X", int(bars.opened_at_ns[3]), [0.0] * 5)

    fresh = LiveEngine(lambda _: revised)
    fresh.hold("X")
    fresh.add(key)
    np.testing.assert_array_equal(engine.column(key), fresh.column(key))


# -- parameters --------------------------------------------------------------------------------


def test_parameters_have_defaults_and_bounds() -> None:
    sma = LIVE_INDICATORS["sma"]

    assert sma.params([]) == (20.0,)
    assert sma.params([5]) == (5.0,)
    for wrong in (0, 501, 2.5, -3):
        with pytest.raises(RangeInvalid, match="period must be a whole number from 1 to 500"):
            sma.params([wrong])
    with pytest.raises(ParameterInvalid, match=r"sma\(period\)"):
        sma.params([1, 2])
    assert LIVE_INDICATORS["bollinger"].params([10, 2.5]) == (10.0, 2.5)
    assert Call("bollinger", (20.0, 2.5)).text == "bollinger(20,2.5)"
