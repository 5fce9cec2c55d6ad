"""A screen of three predicates over ten thousand symbols, beside the same with pandas."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd

from actors.indicators.bar_store import BarStore
from actors.indicators.core import IndicatorCore
from actors.indicators.language import parse_condition
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary, ratio
from infra.bars import NS_PER_DAY, Bars, Floats, History

NAME = "screen"
_EXPRESSION = "rsi(14) < 45 and close crossed_above sma(50) within 5 and volume > 1000"
_BARS = 252
_MOST_MS = 50.0

_METHOD = f"""No Ray: the core that the actor asks, with {_BARS} daily bars of every symbol.
`{_EXPRESSION}`: the first question computes the columns, which stay; then it is asked again, and
again after one symbol in a hundred has other bars. The peer has all closes and volumes in one
pandas frame and computes the same with `rolling` and `ewm`, at each question anew (its RSI begins
otherwise, so the symbols found may differ)."""


def run(bench: Bench) -> Report:
    """Measure in this process; the service is not needed."""
    is_tiny = bench.given is not None
    count, rounds = (100, 2) if is_tiny else (10_000, 15)
    bench.tell(f"{count} symbols")
    book = BarStore()
    histories = [_history(number) for number in range(count)]
    for history in histories:
        book.put(history)
    symbols = tuple(history.symbol for history in histories)
    core = IndicatorCore(book)
    first_ms = _ask(core, symbols)[0]
    again_ms = [_ask(core, symbols)[0] for _ in range(rounds)]
    changed_ms = []
    for number in range(rounds):
        for history in histories[number::100]:
            book.put(_history(int(history.symbol[1:]), f"v{number + 2}"))
        changed_ms.append(_ask(core, symbols)[0])
    found = _ask(core, symbols)[1]
    bench.tell("pandas")
    peer_ms = _pandas(histories, 2 if is_tiny else 3)
    return _report(count, found, first_ms, again_ms, changed_ms, peer_ms)


def _history(number: int, version: str = "v1") -> History:
    draws = np.random.default_rng(number)
    close = 100 * np.exp(np.cumsum(draws.normal(0, 0.015, _BARS)))
    stamps = 19_000 * NS_PER_DAY + np.arange(_BARS, dtype=np.int64) * NS_PER_DAY
    volume = draws.integers(500, 10**6, _BARS)
    bars = Bars(stamps, close, close * 1.01, close * 0.99, close, volume)
    ones = np.ones(_BARS)
    return History(f"S{number}", bars, bars[:0], ones, ones, version, 0.0, "made")


def _ask(core: IndicatorCore, symbols: Sequence[str]) -> tuple[float, int]:
    began_s = time.perf_counter()
    condition, found = parse_condition(_EXPRESSION), 0
    for part in core.screenings(condition, symbols, "1d", None):
        for _ in part.steps():
            pass
        found += len(part.matches())
    return (time.perf_counter() - began_s) * 1_000, found


def _pandas(histories: Sequence[History], rounds: int) -> list[float]:
    def frame(name: str) -> pd.DataFrame:
        return pd.DataFrame({h.symbol: getattr(h.bars, name) for h in histories})

    closes, volumes = frame("close"), frame("volume")
    taken = []
    for _ in range(rounds):
        began_s = time.perf_counter()
        change = closes.diff()
        gain = change.clip(lower=0).ewm(alpha=1 / 14, adjust=False).mean()
        loss = -change.clip(upper=0).ewm(alpha=1 / 14, adjust=False).mean()
        rsi: Floats = (100 * gain / (gain + loss)).to_numpy()[-1]
        above = (closes - closes.rolling(50).mean()).iloc[-6:].to_numpy()
        crossed = ((above[:-1] <= 0) & (above[1:] > 0)).any(axis=0)
        found = (rsi < 45) & crossed & (volumes.to_numpy()[-1] > 1_000)
        assert len(found) == len(histories)
        taken.append((time.perf_counter() - began_s) * 1_000)
    return taken


def _report(
    count: int,
    found: int,
    first_ms: float,
    again_ms: list[float],
    changed_ms: list[float],
    peer_ms: list[float],
) -> Report:
    median_ms = float(np.median(again_ms))
    faster = ratio(peer_ms, again_ms)
    claim = Claim(
        f"three predicates over {count:,} symbols in under {_MOST_MS:g} ms",
        f"{median_ms:.1f} ms, {faster:.0f} x pandas; {found} found",
        median_ms < _MOST_MS,
    )
    rows = [
        ("asked again", Summary.of(again_ms).shown(1)),
        ("after one in a hundred has other bars", Summary.of(changed_ms).shown(1)),
        ("the first time", f"{first_ms:.0f}"),
        ("pandas", Summary.of(peer_ms).shown(0)),
    ]
    table = Table(f"{count:,} symbols, ms", ("what", "median (range)"), rows)
    samples = {
        "first_ms": [first_ms],
        "again_ms": again_ms,
        "changed_ms": changed_ms,
        "peer_ms": peer_ms,
    }
    return Report(NAME, "Screen", _METHOD, [claim], [table], samples)
