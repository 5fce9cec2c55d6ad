"""The history of a symbol as a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from infra.clock import utc
from infra.directives import MEMORY_BASIC, is_on
from infra.frames import optimised, unchanged
from infra.symbols import normalise
from pipelines.api import TaskContext, TaskPriority, task
from pipelines.frames import bars_frame, opening_times
from pipelines.tasks.names import Period, Symbol

_LINES = "sma(20),sma(50),rsi(14)"


@task("process_dataset", priority=TaskPriority.HIGH, max_retries=2, timeout_s=300)
async def process_dataset(
    ctx: TaskContext, symbol: Symbol, period: Period = "1y"
) -> dict[str, Any]:
    """Read a symbol's adjusted daily bars with indicators, in as little memory as holds them.

    `memory_usage_mb` is of the frame after that, `memory_before_mb` of the same as it came.
    Raises SymbolUnknown, SourceError.
    """
    name = normalise(symbol)
    ctx.progress(10, "history")
    series = await ctx.services.indicators.history(name, period)
    ctx.progress(50, "indicators")
    table = await ctx.services.indicators.table(name, _LINES, period, "1d", len(series.bars))
    frame = bars_frame(series.bars)
    times = opening_times(table.opened_at_ns)
    for text, outputs in table.lines.items():
        (line,) = outputs.values()
        frame[text] = pd.Series(line, times).reindex(frame.index)
    frame["symbol"] = name
    ctx.progress(80, "memory")
    smaller = optimised(frame) if is_on(MEMORY_BASIC) else unchanged(frame)
    close = frame["close"]
    return {
        "symbol": name,
        "period": period,
        "data_points": len(frame),
        "memory_usage_mb": smaller.after_mb,
        "memory_before_mb": smaller.before_mb,
        "price_range": {
            "min": float(close.min()) if len(close) else None,
            "max": float(close.max()) if len(close) else None,
            "current": float(close.iloc[-1]) if len(close) else None,
        },
        "technical_indicators": {
            "sma_20": _last(frame["sma(20)"]),
            "sma_50": _last(frame["sma(50)"]),
            "rsi": _last(frame["rsi(14)"]),
        },
        "data_version": series.data_version,
        "source": series.source,
        "processed_at": utc(ctx.services.clock.time_s()).isoformat(),
    }


def _last(column: pd.Series) -> float | None:
    return float(column.iloc[-1]) if len(column) and np.isfinite(column.iloc[-1]) else None
