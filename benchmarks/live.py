"""The live engine: a tick for each of ten thousand symbols, beside talipp and TA-Lib anew."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import talib
from talipp.indicators import ADX, ATR, BB, CCI, EMA, MACD, OBV, ROC, RSI, SMA, WMA, StdDev, Stoch
from talipp.ohlcv import OHLCV

from actors.indicators.expressions import Call
from actors.indicators.live.engine import LiveEngine
from actors.indicators.live.registry import LIVE_INDICATORS
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary, ratio
from infra.bars import NS_PER_DAY, Bars

NAME = "live"
_HISTORY = 300
_RECOMPUTED = 250
_LEAST_OF_TALIPP, _LEAST_OF_TALIB = 100.0, 50.0
_MOST_NS, _MOST_SINGLE_US = 40.0, 20.0
_SHARED = (
    "sma", "ema", "wma", "rsi", "macd", "bollinger", "stochastic", "atr", "adx", "cci", "roc",
    "obv", "stddev",
)  # fmt: skip

_METHOD = """No Ray. Every symbol holds 300 bars; then ticks come for all of them at once, bars
under way and now and then a closed one, through `LiveEngine.update`: bars written, one kernel call
a set, values kept. Peers compute the same thirteen indicators: talipp adds a bar to each of its
objects, TA-Lib computes its functions over the last 250 bars anew; both are timed on fewer symbols
and scaled, which favours them (their data stays in the caches). ns: time of a set's kernel over
all symbols / symbols / outputs."""


def run(bench: Bench) -> Report:
    """Measure in this process; the service is not needed."""
    is_tiny = bench.given is not None
    symbols, rounds = (50, 2) if is_tiny else (10_000, 15)
    bench.tell(f"warming {symbols} symbols")
    book = _bars()
    keys = [Call(n, i.params([])) for n, i in LIVE_INDICATORS.items() if not i.intraday_only]
    shared = [key for key in keys if key.name in _SHARED]
    whole_ms, kernels_ns = _ticks(book, symbols, keys, rounds)
    shared_ms, _ = _ticks(book, symbols, shared, rounds)
    bench.tell("a single symbol")
    single_us = _single(book, keys, 50 if is_tiny else 2_000)
    few_us = _single(book, shared[:6], 50 if is_tiny else 2_000)
    bench.tell("peers")
    peers = min(symbols, 100)
    talipp_ms = _scaled(_talipp(book, peers), peers, symbols, rounds)
    talib_ms = _scaled(_talib(book, peers), peers, symbols, rounds)
    return _report(
        symbols, len(keys), whole_ms, shared_ms, kernels_ns, single_us, few_us, talipp_ms, talib_ms
    )


def _bars() -> Bars:
    draws = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(draws.normal(0, 0.01, _HISTORY)))
    reach = draws.uniform(0, 1, (2, _HISTORY))
    stamps = 19_000 * NS_PER_DAY + np.arange(_HISTORY, dtype=np.int64) * NS_PER_DAY
    volume = draws.integers(1, 10**6, _HISTORY)
    return Bars(stamps, close, close + reach[0], close - reach[1], close, volume)


def _engine(book: Bars, symbols: int, keys: list[Call]) -> LiveEngine:
    engine = LiveEngine(lambda _: book)
    for key in keys:
        engine.add(key)
    for number in range(symbols):
        engine.hold(f"S{number}")
    return engine


def _columns(book: Bars, symbols: int, draws: np.random.Generator) -> list[np.ndarray]:
    close = book.close[-1] * (1 + draws.normal(0, 0.01, symbols))
    return [close, close + 1, close - 1, close, np.full(symbols, 1e4)]


def _ticks(
    book: Bars, symbols: int, keys: list[Call], rounds: int
) -> tuple[list[float], dict[str, list[float]]]:
    """Return the ms of an update of all symbols, and the ns of each set by symbol and output."""
    engine = _engine(book, symbols, keys)
    rows = engine.rows_of(engine.symbols)
    draws = np.random.default_rng(2)
    taken_ms: list[float] = []
    kernels_ns: dict[str, list[float]] = {key.name: [] for key in keys}
    for number in range(rounds):
        day = int(book.opened_at_ns[-1]) + (1 + number // 5) * NS_PER_DAY
        stamps = np.full(symbols, day, np.int64)
        final = np.full(symbols, number % 5 == 4)
        columns = _columns(book, symbols, draws)
        began_s = time.perf_counter()
        engine.update(rows, stamps, columns, final)
        taken_ms.append((time.perf_counter() - began_s) * 1_000)
        if not final.any():
            for key in keys:
                kernels_ns[key.name].append(_kernel_ns(engine, key, rows))
    return taken_ms, kernels_ns


def _kernel_ns(engine: LiveEngine, key: Call, rows: np.ndarray) -> float:
    live = engine._sets[key]
    out = np.empty((len(rows), live.value.shape[1]))
    index, final = engine._count[rows], np.zeros(len(rows), np.bool_)
    began_s = time.perf_counter()
    live.indicator.kernel(rows, index, final, engine._columns.arrays, live.state, live.params, out)
    return (time.perf_counter() - began_s) * 1e9 / out.size


def _single(book: Bars, keys: list[Call], count: int) -> list[float]:
    engine = _engine(book, 3, keys)
    row = int(engine.rows_of(["S1"])[0])
    stamp = int(book.opened_at_ns[-1]) + NS_PER_DAY
    values = [float(column[0]) for column in _columns(book, 1, np.random.default_rng(3))]
    taken = []
    for _ in range(count):
        began_s = time.perf_counter()
        engine.tick(row, stamp, values)
        taken.append((time.perf_counter() - began_s) * 1e6)
    return taken


def _scaled(one: Callable[[], None], peers: int, symbols: int, rounds: int) -> list[float]:
    taken = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        one()
        taken.append((time.perf_counter() - began_s) * 1_000 * symbols / peers)
    return taken


def _talipp(book: Bars, symbols: int) -> Callable[[], None]:
    def made() -> tuple[list, list]:  # type: ignore[type-arg]
        of_closes = [
            SMA(20), EMA(20), WMA(20), RSI(14), MACD(12, 26, 9), BB(20, 2.0), ROC(10),
            StdDev(5),
        ]  # fmt: skip
        return of_closes, [Stoch(14, 3), ATR(14), ADX(14, 14), CCI(14), OBV()]

    sets = [made() for _ in range(symbols)]
    rows = zip(book.open, book.high, book.low, book.close, book.volume, strict=True)
    history = [OHLCV(*map(float, row)) for row in rows]
    for of_closes, of_bars in sets:
        for bar in history:
            for indicator in of_closes:
                indicator.add(bar.close)
            for indicator in of_bars:
                indicator.add(bar)
    tick = history[-1]

    def once() -> None:
        for of_closes, of_bars in sets:
            for indicator in of_closes:
                indicator.add(tick.close)
            for indicator in of_bars:
                indicator.add(tick)

    return once


def _talib(book: Bars, symbols: int) -> Callable[[], None]:
    high, low, close = (getattr(book, n)[-_RECOMPUTED:].copy() for n in ("high", "low", "close"))
    volume = book.volume[-_RECOMPUTED:].astype(np.float64)

    def once() -> None:
        for _ in range(symbols):
            talib.SMA(close, 20)
            talib.EMA(close, 20)
            talib.WMA(close, 20)
            talib.RSI(close, 14)
            talib.MACD(close)
            talib.BBANDS(close, 20)
            talib.STOCHF(high, low, close, 14, 3)
            talib.ATR(high, low, close, 14)
            talib.ADX(high, low, close, 14)
            talib.PLUS_DI(high, low, close, 14)
            talib.MINUS_DI(high, low, close, 14)
            talib.CCI(high, low, close, 14)
            talib.ROC(close, 10)
            talib.OBV(close, volume)
            talib.STDDEV(close, 5)

    return once


def _report(
    symbols: int,
    sets: int,
    whole_ms: list[float],
    shared_ms: list[float],
    kernels_ns: dict[str, list[float]],
    single_us: list[float],
    few_us: list[float],
    talipp_ms: list[float],
    talib_ms: list[float],
) -> Report:
    medians_ns = {name: float(np.median(values)) for name, values in kernels_ns.items()}
    median_ns = float(np.median(list(medians_ns.values())))
    faster, again = ratio(talipp_ms, shared_ms), ratio(talib_ms, shared_ms)
    single, few = float(np.median(single_us)), float(np.median(few_us))
    claims = [
        Claim(
            f"{symbols:,} ticks, at least {_LEAST_OF_TALIPP:g} x talipp",
            f"{faster:.0f} x",
            faster >= _LEAST_OF_TALIPP,
        ),
        Claim(
            f"{symbols:,} ticks, at least {_LEAST_OF_TALIB:g} x TA-Lib over {_RECOMPUTED} bars",
            f"{again:.0f} x",
            again >= _LEAST_OF_TALIB,
        ),
        Claim(
            f"at most {_MOST_NS:g} ns a symbol and output, in the median",
            f"{median_ns:.1f} ns",
            median_ns <= _MOST_NS,
        ),
        Claim(
            f"a single symbol's tick of all {sets} sets under {_MOST_SINGLE_US:g} us",
            f"{single:.1f} us; of six {few:.1f} us",
            single < _MOST_SINGLE_US,
        ),
    ]
    times = Table(
        f"{symbols:,} symbols, ms",
        ("what", "median (range)"),
        [
            (f"all {sets} sets", Summary.of(whole_ms).shown(1)),
            (f"the {len(_SHARED)} that peers have", Summary.of(shared_ms).shown(1)),
            ("talipp, the same", Summary.of(talipp_ms).shown(0)),
            ("TA-Lib anew, the same", Summary.of(talib_ms).shown(0)),
        ],
    )
    singles = Table(
        "one symbol, us",
        ("what", "median (range)"),
        [
            (f"all {sets} sets", Summary.of(single_us).shown(1)),
            ("six sets", Summary.of(few_us).shown(1)),
        ],
    )
    rows = [(name, f"{value:.1f}") for name, value in sorted(medians_ns.items())]
    kernels = Table("ns a symbol and output", ("indicator", "median"), rows)
    samples = {
        "whole_ms": whole_ms,
        "shared_ms": shared_ms,
        "talipp_ms": talipp_ms,
        "talib_ms": talib_ms,
        "single_us": single_us,
        "few_us": few_us,
        "kernels_ns": kernels_ns,
    }
    return Report(NAME, "Live indicators", _METHOD, claims, [times, singles, kernels], samples)
