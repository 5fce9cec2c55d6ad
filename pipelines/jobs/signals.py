"""Signals of the monitored symbols, kept, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from actors.indicators.client import BULLISH, Signal
from infra.bars import NS_PER_DAY, Bars, BarSeries
from infra.clock import utc
from infra.db.signals import Outcome, StoredSignal
from infra.db.store import BATCH
from infra.errors import FinstageError
from pipelines.jobs.base import Job, JobContext, summary
from pipelines.jobs.spec import JobSpec, every, hourly

TIMEFRAME = "1d"
_LAST_BARS = 30  # so that days without the service leave no hole
_CHUNK = 500
_OPEN_AT_ONCE = 5_000
HORIZON_DAYS = {"1d": 1, "1w": 7, "1m": 30}  # shorter ones need bars under a day
_FORCED_DAYS = 60


async def keep_signals(context: JobContext) -> str:
    """Keep the signals of each symbol's last 30 closed daily bars; each is kept once."""
    symbols = await context.monitored()
    answers = await context.indicators.signals(symbols, TIMEFRAME, _LAST_BARS)
    failed = {s: a for s, a in answers.items() if isinstance(a, FinstageError)}
    now, source = utc(context.clock.time_s()), context.source.name
    rows = [
        stored(symbol, signal, source, now)
        for symbol, answer in answers.items()
        if not isinstance(answer, FinstageError)
        for signal in answer
    ]
    kept = 0
    for first in range(0, len(rows), _CHUNK):
        part = rows[first : first + _CHUNK]
        kept += await context.store.write(
            lambda unit, part=part: unit.signals.add(part),  # type: ignore[misc]
            limit=BATCH,
        )
    return summary(len(symbols) - len(failed), f"symbols, {kept} new signals", failed)


def stored(symbol: str, signal: Signal, source: str, now: datetime) -> StoredSignal:
    """Return a signal as it is kept."""
    return StoredSignal(
        symbol,
        source,
        signal.type,
        TIMEFRAME,
        utc(signal.opened_at_ns // 10**9),
        signal.price,
        signal.value,
        signal.strength,
        signal.volume,
        now,
    )


async def follow_signals(context: JobContext) -> str:
    """Write what became of signals whose month is not over.

    Entry is the close of the signal's bar, adjusted as of now, so that a split is no return.
    """
    source = context.source.name
    open_ = await context.store.read(lambda unit: unit.signals.open(source, _OPEN_AT_ONCE), BATCH)
    symbols = sorted({signal.symbol for _, signal in open_})
    histories = await context.indicators.histories(symbols, "max") if symbols else {}
    failed = {s: a for s, a in histories.items() if isinstance(a, FinstageError)}
    now = utc(context.clock.time_s())
    outcomes = [
        outcome
        for number, signal in open_
        if isinstance(series := histories[signal.symbol], BarSeries)
        and (outcome := outcome_of(number, signal, series.bars, now)) is not None
    ]
    for part in _parts(outcomes):
        await context.store.write(
            lambda unit, part=part: unit.signals.put_outcomes(part),  # type: ignore[misc]
            limit=BATCH,
        )
    return summary(len(outcomes), "outcomes", failed)


def outcome_of(signal_id: int, signal: StoredSignal, bars: Bars, now: datetime) -> Outcome | None:
    """Return what became of a signal by closed daily bars, None where its own bar is not held.

    A horizon has the bar nearest to it once bars have reached it; of two as near the later one.
    """
    at_ns = int(signal.triggered_at.timestamp()) * 10**9
    row = int(np.searchsorted(bars.opened_at_ns, at_ns))
    if row == len(bars) or bars.opened_at_ns[row] != at_ns:
        return None
    sign = 1.0 if signal.signal_type in BULLISH else -1.0
    entry = float(bars.close[row])
    prices = {
        horizon: float(bars.close[found])
        for horizon, days in HORIZON_DAYS.items()
        if (found := _nearest(bars, row, at_ns + days * NS_PER_DAY)) is not None
    }
    returns = {h: sign * (price / entry - 1) * 100 for h, price in prices.items()}
    month = bars.opened_at_ns <= at_ns + HORIZON_DAYS["1m"] * NS_PER_DAY
    after = sign * (bars.close[month][row + 1 :] / entry - 1) * 100
    age_days = (int(bars.opened_at_ns[-1]) - at_ns) // NS_PER_DAY
    is_complete = len(prices) == len(HORIZON_DAYS) or age_days > _FORCED_DAYS
    return Outcome(
        signal_id,
        prices,
        returns,
        float(after.max()) if len(after) else None,
        float(after.min()) if len(after) else None,
        is_complete,
        now,
    )


def _nearest(bars: Bars, row: int, target_ns: int) -> int | None:
    """Return the row of the bar nearest to an instant after `row`, None before it is reached."""
    if len(bars) <= row + 1 or bars.opened_at_ns[-1] < target_ns:
        return None
    after = int(np.searchsorted(bars.opened_at_ns, target_ns))
    before = max(row + 1, after - 1)
    apart = abs(int(bars.opened_at_ns[before]) - target_ns)
    return before if apart < abs(int(bars.opened_at_ns[after]) - target_ns) else after


def _parts(outcomes: Sequence[Outcome]) -> list[Sequence[Outcome]]:
    return [outcomes[first : first + _CHUNK] for first in range(0, len(outcomes), _CHUNK)]


JOBS = (
    Job(
        JobSpec(
            "signals.daily",
            "Keep the signals of the monitored symbols.",
            every(240, 30),
            timeout_s=600,
            grace_s=86_400,
        ),
        keep_signals,
    ),
    Job(
        JobSpec(
            "signals.outcomes",
            "Follow what became of signals.",
            hourly(50),
            timeout_s=600,
            grace_s=3_600,
        ),
        follow_signals,
    ),
)
