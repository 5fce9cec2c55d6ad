"""Whole analyses of the monitored symbols, kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from infra.bars import Quote
from infra.clock import utc
from infra.db.analyses import Analysis
from infra.db.store import BATCH, Store
from infra.errors import FinstageError
from infra.quotes import price_update
from pipelines.driver.analysis import priced_analyses
from pipelines.jobs.base import Job, JobContext, summary
from pipelines.jobs.spec import JobSpec, every

_CHUNK = 200


async def analyse(context: JobContext) -> str:
    """Compute the analysis of each symbol from its daily bars, and keep it by its last bar."""
    symbols = await context.monitored()
    answers = await context.indicators.comprehensive(symbols, "1mo")
    quotes = await context.feed.quotes(symbols)
    prices = {s: price_update(q, None) if isinstance(q, Quote) else q for s, q in quotes.items()}
    now = utc(context.clock.time_s())
    results = priced_analyses(symbols, answers, prices, now.isoformat(timespec="milliseconds"))
    kept = await keep_analyses(context.store, results, "1d", now)
    failed = {s: r for s, r in results.items() if isinstance(r, FinstageError)}
    return summary(kept, "analyses", failed)


async def keep_analyses(
    store: Store,
    results: Mapping[str, dict[str, Any] | FinstageError],
    interval: str,
    now: datetime,
) -> int:
    """Keep the analyses that are none of them errors and have bars; return how many."""
    rows = [
        Analysis(
            symbol,
            interval,
            result["source"],
            datetime.fromisoformat(result["as_of"]),
            result["data_version"],
            orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY).decode(),
            now,
        )
        for symbol, result in results.items()
        if not isinstance(result, FinstageError) and result["as_of"] is not None
    ]
    for part in _parts(rows):
        await store.write(lambda unit, part=part: unit.analyses.put(part), limit=BATCH)  # type: ignore[misc]
    return len(rows)


def _parts(rows: Sequence[Analysis]) -> list[Sequence[Analysis]]:
    return [rows[first : first + _CHUNK] for first in range(0, len(rows), _CHUNK)]


JOBS = (
    Job(
        JobSpec(
            "analysis.technical",
            "Keep a technical analysis of each monitored symbol.",
            every(30, 5),
            timeout_s=600,
            grace_s=1_800,
        ),
        analyse,
    ),
)
