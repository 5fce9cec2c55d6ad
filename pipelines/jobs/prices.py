"""The monitored symbols' prices against their references, and the alerts of that."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from infra.bars import Quote
from infra.clock import utc
from infra.db.alert_logs import AlertLog
from infra.db.snapshots import Snapshot
from infra.db.unit import Unit
from infra.errors import FinstageError
from infra.universe import Thresholds
from pipelines.jobs.base import Job, JobContext, summary
from pipelines.scheduler.core import JobSpec
from pipelines.scheduler.triggers import every

_DAY, _SIX_HOURS = timedelta(minutes=1_440), timedelta(minutes=360)
COOL_DOWN = {
    "price_rise": _DAY,
    "price_drop": _DAY,
    "new_high": _SIX_HOURS,
    "drop_from_high": _SIX_HOURS,
    "break_prev_high": _DAY,
    "break_prev_low": _DAY,
}


async def monitor_prices(context: JobContext) -> str:
    """Keep the alerts that prices give now, each again only after its cool-down."""
    symbols = await context.monitored()
    quotes = await context.feed.quotes(symbols)
    references = await context.indicators.references(symbols)
    failed = {s: a for s, a in (quotes | references).items() if isinstance(a, FinstageError)}
    good = [s for s in symbols if s not in failed]
    now = utc(context.clock.time_s())
    source = context.source.name

    async def keep(unit: Unit) -> int:
        snapshots = await unit.snapshots.latest(source, good)
        newest = await unit.alert_logs.newest(source, good)
        found = [
            alert
            for symbol in good
            if isinstance(quote := quotes[symbol], Quote) and not quote.stale
            for alert in alerts_of(
                quote,
                references[symbol],
                snapshots.get(symbol),
                context.universe.thresholds(symbol),
                now,
            )
        ]
        new = [alert for alert in found if is_due(alert, newest, now)]
        await unit.alert_logs.append(new)
        return len(new)

    kept = await context.store.write(keep, once=True)
    return summary(len(good), f"symbols, {kept} alerts", failed)


def is_due(alert: AlertLog, newest: dict[tuple[str, str, str], datetime], now: datetime) -> bool:
    """Return whether the cool-down of an alert is over."""
    last = newest.get((alert.symbol, alert.alert_type, alert.base_type))
    return last is None or now - last >= COOL_DOWN[alert.alert_type]


def alerts_of(
    quote: Quote,
    reference: dict[str, Any],
    snapshot: Snapshot | None,
    limits: Thresholds,
    now: datetime,
) -> list[AlertLog]:
    """Return the alerts that a price gives, whatever was given before.

    Bases are adjusted, as the price is: the previous close, the highest price of all closed
    sessions, high and low of the last one where a snapshot has them.
    """
    price, found = quote.price, []

    def note(kind: str, base_type: str, base: float, threshold: float) -> None:
        percent = (price - base) / base * 100
        found.append(
            AlertLog(
                quote.symbol,
                kind,
                base_type,
                base,
                now,
                price,
                abs(threshold),
                percent,
                quote.source,
                now,
            )
        )

    close, high = quote.previous_close, reference["all_time_high"]
    if close:
        change = (price - close) / close * 100
        if change >= limits.price_rise_pct:
            note("price_rise", "prev_close", close, limits.price_rise_pct)
        if change <= limits.price_drop_pct:
            note("price_drop", "prev_close", close, limits.price_drop_pct)
    if high and price > high:
        note("new_high", "all_time_high", high, 0.0)
    if high and (price - high) / high * 100 <= limits.drop_from_high_pct:
        note("drop_from_high", "all_time_high", high, limits.drop_from_high_pct)
    if snapshot is not None and snapshot.high and price > snapshot.high:
        note("break_prev_high", "prev_high", snapshot.high, 0.0)
    if snapshot is not None and snapshot.low and price < snapshot.low:
        note("break_prev_low", "prev_low", snapshot.low, 0.0)
    return found


JOBS = (
    Job(
        JobSpec(
            "prices.monitor",
            "Check prices against their references, keep the alerts.",
            every(2),
            timeout_s=100,
            grace_s=60,
            market_hours=True,
        ),
        monitor_prices,
    ),
)
