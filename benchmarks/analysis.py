"""The contract's six indicators of 500 symbols by one call, beside TA-Lib's bare functions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import talib

from benchmarks.driver import joined
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary, ratio, ratio_interval
from infra.bars import Bars, BarSeries
from tests.fakes.yahoo import serving_in_thread
from tests.fakes.yahoo_data import Market

if TYPE_CHECKING:
    from actors.indicators.client import IndicatorClient

NAME = "analysis"
_SYMBOLS, _BARS = 500, 252
_MOST_OF_BARE = 1.5

_METHOD = """A service on a fake Yahoo with 252 daily bars of each symbol. A Python driver asks the
indicators for `comprehensive` of all of them: one call to the actor, values of six indicators from
all bars held, signals, where they come from, and the pickled answer back in the driver. The peer
is bare TA-Lib in the driver, over the same bars: the eleven calls that give the same values
(five SMA, two EMA, RSI, MACD, BBANDS, STOCHF), each over the whole history, with nothing kept.
The two take turns."""


def run(bench: Bench) -> Report:
    """Measure on one service."""
    if bench.given is not None:
        return asyncio.run(_measured(bench, bench.given.settings.data_dir, ["AAPL", "IBM"]))
    symbols = [f"S{number:03d}" for number in range(_SYMBOLS)]
    market = Market.until(datetime.now(UTC).date())
    bars = market.books["AAPL"].record.bars[-_BARS:]
    for symbol in symbols:
        market.set_bars(symbol, "1d", bars)
    with serving_in_thread(market=market, now_s=time.time) as fake:
        environ = {
            "FINSTAGE_SOURCE": "yahoo",
            "FINSTAGE_YAHOO_URL": fake.url,
            "FINSTAGE_YAHOO_STREAM_URL": fake.stream_url,
            "FINSTAGE_YAHOO_REQUESTS_PER_S": "1000",
            "FINSTAGE_SYMBOLS": "S000",
            "FINSTAGE_RAY_DASHBOARD": "false",
        }
        with bench.service(**environ) as target:
            return asyncio.run(_measured(bench, target.settings.data_dir, symbols))


async def _measured(bench: Bench, data_dir: Path, symbols: Sequence[str]) -> Report:
    rounds = 2 if bench.given is not None else 15
    with joined(data_dir):
        from actors.indicators.client import IndicatorClient

        client = IndicatorClient(30.0)
        bench.tell(f"loading {len(symbols)} histories")
        held = await _histories(client, symbols)
        ours_ms: list[float] = []
        bare_ms: list[float] = []
        for number in range(-2, rounds):
            bench.tell(f"round {number + 1} of {rounds}")
            began_s = time.perf_counter()
            answers = await client.comprehensive(symbols, "1y")
            middle_s = time.perf_counter()
            for bars in held:
                _bare(bars)
            ended_s = time.perf_counter()
            assert all(isinstance(answer, dict) for answer in answers.values())
            if number >= 0:  # two to warm up
                ours_ms.append((middle_s - began_s) * 1_000)
                bare_ms.append((ended_s - middle_s) * 1_000)
    return _report(len(symbols), held, ours_ms, bare_ms)


async def _histories(client: IndicatorClient, symbols: Sequence[str]) -> list[Bars]:
    held: list[Bars] = []
    for first in range(0, len(symbols), 50):
        series = await client.histories(symbols[first : first + 50], "max")
        held += [one.bars for one in series.values() if isinstance(one, BarSeries)]
    assert len(held) == len(symbols)
    return held


def _bare(bars: Bars) -> None:
    close, high, low = bars.close, bars.high, bars.low
    for count in (5, 10, 20, 50, 200):
        talib.SMA(close, count)
    for count in (12, 26):
        talib.EMA(close, count)
    talib.RSI(close, 14)
    talib.MACD(close, 12, 26, 9)
    talib.BBANDS(close, 20, 2.0, 2.0)
    talib.STOCHF(high, low, close, 14, 3)


def _report(
    symbols: int, held: Sequence[Bars], ours_ms: Sequence[float], bare_ms: Sequence[float]
) -> Report:
    times = ratio(ours_ms, bare_ms)
    low, high = ratio_interval(ours_ms, bare_ms)
    claim = Claim(
        f"{symbols} symbols by an actor's call: at most {_MOST_OF_BARE:g} x bare TA-Lib",
        f"{times:.2f} x ({low:.2f} to {high:.2f})",
        times <= _MOST_OF_BARE,
    )
    bars = max(len(one) for one in held)
    table = Table(
        f"{symbols} symbols, {bars} bars each, ms",
        ("what", "median (range)"),
        [
            ("comprehensive, through the actor", Summary.of(ours_ms).shown(1)),
            ("bare TA-Lib in the driver", Summary.of(bare_ms).shown(1)),
        ],
    )
    samples = {"ours_ms": list(ours_ms), "bare_ms": list(bare_ms)}
    return Report(NAME, "Analysis of whole histories", _METHOD, [claim], [table], samples)
