"""All-time highs and lows of the monitored symbols."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from infra.bars import Quote
from infra.clock import utc
from infra.db.high_records import Kind, Reason, Record
from infra.db.store import BATCH
from infra.db.unit import Unit
from infra.errors import FinstageError
from infra.sources.base import Lane
from pipelines.jobs.base import Job, JobContext, summary
from pipelines.jobs.spec import JobSpec, every

_SAME = 1e-9  # relative: adjusted prices are products


@dataclass(frozen=True, slots=True)
class Extreme:
    """The highest or lowest price known now, and the session (ISO date) that had it."""

    price: float
    session: str


async def keep_records(context: JobContext) -> str:
    """Compare highest and lowest adjusted prices with the records, and note what changed.

    A session under way counts. A record that bars no longer show, after a split or a new run of a
    replay, is replaced by what they show now.
    """
    symbols = await context.monitored()
    references = await context.indicators.references(symbols, Lane.BACKGROUND)
    quotes = await context.feed.quotes(symbols)
    failed = {s: r for s, r in references.items() if isinstance(r, FinstageError)}
    good = [s for s in symbols if s not in failed]
    extremes = {s: extremes_of(references[s], quotes.get(s)) for s in good}
    now = utc(context.clock.time_s())
    source = context.source.name

    async def note(unit: Unit) -> int:
        held = await unit.high_records.latest(source, good)
        new = [
            Record(symbol, source, kind, extreme.price, extreme.session, reason, now, now)
            for symbol, found in extremes.items()
            for kind, extreme in found.items()
            if (reason := reason_of(kind, extreme.price, held.get((symbol, kind)))) is not None
        ]
        await unit.high_records.append(new)
        return len(new)

    noted = await context.store.write(note, limit=BATCH)
    return summary(len(good), f"symbols, {noted} records", failed)


def extremes_of(reference: dict[str, Any], quote: object) -> dict[Kind, Extreme]:
    """Return the highest and lowest of all closed sessions and of the one under way."""
    found: dict[Kind, Extreme] = {}
    if reference["all_time_high"] is not None:
        found["high"] = Extreme(reference["all_time_high"], reference["record_date"])
        found["low"] = Extreme(reference["all_time_low"], reference["low_date"])
    if isinstance(quote, Quote) and not quote.stale:
        session = quote.session.isoformat()
        if "high" not in found or quote.high > found["high"].price:
            found["high"] = Extreme(quote.high, session)
        if "low" not in found or quote.low < found["low"].price:
            found["low"] = Extreme(quote.low, session)
    return found


def reason_of(kind: Kind, price: float, held: Record | None) -> Reason | None:
    """Return why a record must be noted, None if the one held stands."""
    if held is None:
        return "first"
    if abs(price - held.price) <= _SAME * abs(held.price):
        return None
    return "beaten" if (price > held.price) == (kind == "high") else "rebased"


JOBS = (
    Job(
        JobSpec(
            "records.extremes",
            "Keep all-time highs and lows.",
            every(60),
            timeout_s=300,
            grace_s=3_600,
        ),
        keep_records,
    ),
)
