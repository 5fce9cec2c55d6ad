"""The monitored symbols' prices, for the alerts of those that do not stream."""

from __future__ import annotations

from infra.bars import Quote
from infra.errors import FinstageError
from infra.quotes import price_update
from pipelines.jobs.base import Job, JobContext, summary
from pipelines.jobs.spec import JobSpec, every


async def monitor_prices(context: JobContext) -> str:
    """Let the alert engine hold the monitored prices against its rules."""
    symbols = await context.monitored()
    quotes = await context.feed.quotes(symbols)
    failed = {s: a for s, a in quotes.items() if isinstance(a, FinstageError)}
    updates = [price_update(q, None) for q in quotes.values() if isinstance(q, Quote)]
    given = await context.alerts.check(updates) if updates else 0
    return summary(len(updates), f"symbols, {given} alerts", failed)


JOBS = (
    Job(
        JobSpec(
            "prices.monitor",
            "Hold monitored prices against the alert rules.",
            every(2),
            timeout_s=100,
            grace_s=60,
            market_hours=True,
        ),
        monitor_prices,
    ),
)
