"""Daily bars of the monitored symbols, kept with their gaps filled."""

from __future__ import annotations

import asyncio

import numpy as np

from infra.bars import IMPORT, NS_PER_DAY, Bars, History
from infra.db.bulk import upsert_bars
from infra.errors import FinstageError
from infra.sources.base import Lane
from pipelines.jobs.base import Job, JobContext, summary
from pipelines.jobs.spec import JobSpec, every

_VALUES = ("open", "high", "low", "close", "volume")
_AT_ONCE = 8


async def keep_daily_bars(context: JobContext) -> str:
    """Fetch the history of each symbol and write the bars that the store lacks or has otherwise.

    One request a symbol brings all sessions, so a gap is filled whenever the source can, and a
    holiday is asked for by nobody. Bars are kept as traded, `keep_bars_days` back.
    """
    symbols = await context.monitored()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(symbol: str) -> int | FinstageError:
        async with gate:
            try:
                return await _keep(context, symbol)
            except FinstageError as error:
                return error

    answers = dict(zip(symbols, await asyncio.gather(*map(one, symbols)), strict=True))
    failed = {s: a for s, a in answers.items() if isinstance(a, FinstageError)}
    written = sum(a for a in answers.values() if not isinstance(a, FinstageError))
    return summary(len(symbols) - len(failed), f"symbols, {written:,} bars written", failed)


async def _keep(context: JobContext, symbol: str) -> int:
    history = (await context.feed.histories([symbol], lane=Lane.BACKGROUND))[symbol]
    if not isinstance(history, History):
        raise history
    bars = _recent(fetched(history), context.settings.keep_bars_days)
    held = await context.store.read(lambda unit: unit.bars.read(symbol, "1d"))
    return await upsert_bars(context.store, symbol, "1d", history.source, changed(bars, held))


def fetched(history: History) -> Bars:
    """Return the bars that are the source's: a user's are in the store already."""
    if history.source == IMPORT:
        return Bars.empty()
    if history.imported_ns is None:
        return history.bars
    return history.bars[~np.isin(history.bars.opened_at_ns, history.imported_ns)]


def _recent(bars: Bars, days: int) -> Bars:
    if not len(bars) or not days:
        return bars
    return bars[bars.opened_at_ns > bars.opened_at_ns[-1] - days * NS_PER_DAY]


def changed(bars: Bars, held: Bars) -> Bars:
    """Return the bars that are not held so; both are in order of time."""
    if not len(held) or not len(bars):
        return bars
    rows = np.searchsorted(held.opened_at_ns, bars.opened_at_ns)
    inside = np.minimum(rows, len(held) - 1)
    same = held.opened_at_ns[inside] == bars.opened_at_ns
    for name in _VALUES:
        same &= getattr(held, name)[inside] == getattr(bars, name)
    return bars[~same]


JOBS = (
    Job(
        JobSpec(
            "bars.daily",
            "Keep daily bars of the monitored symbols, gaps filled.",
            every(240, 20),
            timeout_s=1_800,
            grace_s=86_400,
        ),
        keep_daily_bars,
    ),
)
