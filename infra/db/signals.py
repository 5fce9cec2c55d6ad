"""Signals, each once, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import HORIZONS, signal_outcomes
from infra.db.tables import technical_signals as table
from infra.db.upsert import New, insert_new, upsert


@dataclass(frozen=True, slots=True)
class StoredSignal:
    """A signal at the close of a bar; `triggered_at` is when that bar opened."""

    symbol: str
    source: str
    signal_type: str
    timeframe: str
    triggered_at: datetime
    current_price: float
    indicator_value: float
    signal_strength: float
    volume: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a signal: price and direction-adjusted return in percent, by horizon.

    A horizon without a bar near it is not there. `max_return` and `max_drawdown` are over the bars
    of a month, so far.
    """

    signal_id: int
    prices: Mapping[str, float]
    returns: Mapping[str, float]
    max_return: float | None
    max_drawdown: float | None
    is_complete: bool
    last_updated_at: datetime


@dataclass(frozen=True, slots=True)
class Performance:
    """How signals of a type did by a horizon; rate and returns in percent.

    `profit_factor`: all gains over all losses, None without a loss.
    """

    signal_type: str
    horizon: str
    samples: int
    success_rate: float
    mean_return: float
    worst_return: float
    best_return: float
    profit_factor: float | None


class Signals:
    """The tables of signals and outcomes, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, signals: Sequence[StoredSignal]) -> int:
        """Keep signals that are not there yet; return how many those are."""
        if not signals:
            return 0
        before = await self._count()
        keys = ("symbol", "source", "signal_type", "timeframe", "triggered_at")
        statement = insert_new(self._connection.dialect.name, table, keys)
        await self._connection.execute(statement, [asdict(signal) for signal in signals])
        return await self._count() - before

    async def latest(
        self,
        source: str,
        symbol: str | None = None,
        signal_type: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
        before: datetime | None = None,
    ) -> list[tuple[int, StoredSignal]]:
        """Return signals with their ids, newest first."""
        columns = [table.c.id, *(table.c[name] for name in StoredSignal.__slots__)]
        query = select(*columns).where(table.c.source == source)
        if symbol is not None:
            query = query.where(table.c.symbol == symbol)
        if signal_type is not None:
            query = query.where(table.c.signal_type == signal_type)
        if since is not None:
            query = query.where(table.c.triggered_at >= since)
        if before is not None:
            query = query.where(table.c.triggered_at < before)
        order = table.c.triggered_at.desc(), table.c.id.desc()
        rows = await self._connection.execute(query.order_by(*order).limit(limit).offset(offset))
        return [(row[0], StoredSignal(*row[1:])) for row in rows]

    async def open(self, source: str, limit: int) -> list[tuple[int, StoredSignal]]:
        """Return the signals whose outcome is not complete, oldest first."""
        columns = [table.c.id, *(table.c[name] for name in StoredSignal.__slots__)]
        outcome = signal_outcomes.c
        query = (
            select(*columns)
            .outerjoin(signal_outcomes, outcome.signal_id == table.c.id)
            .where(
                and_(
                    table.c.source == source,
                    or_(outcome.is_complete.is_(None), outcome.is_complete == 0),
                )
            )
            .order_by(table.c.triggered_at, table.c.id)
            .limit(limit)
        )
        return [(row[0], StoredSignal(*row[1:])) for row in await self._connection.execute(query)]

    async def put_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Write what became of signals; what was written before is replaced."""
        if not outcomes:
            return
        dialect = self._connection.dialect.name
        statement = upsert(dialect, signal_outcomes, ("signal_id",), _replaced)
        await self._connection.execute(statement, [_row(outcome) for outcome in outcomes])

    async def outcome(self, signal_id: int) -> Outcome | None:
        """Return what became of a signal, None where nothing is known yet."""
        query = select(signal_outcomes).where(signal_outcomes.c.signal_id == signal_id)
        row = (await self._connection.execute(query)).mappings().first()
        return None if row is None else _outcome(dict(row))

    async def performance(self, source: str) -> list[Performance]:
        """Return how signals did, by type and horizon; horizons without a sample are left out."""
        found = []
        for horizon in HORIZONS:
            value = signal_outcomes.c[f"return_{horizon}"]
            right = func.sum(func.coalesce(value > 0, 0))
            query = (
                select(
                    table.c.signal_type,
                    func.count(value),
                    right,
                    func.avg(value),
                    func.min(value),
                    func.max(value),
                    func.sum(case((value > 0, value), else_=0)),
                    func.sum(case((value < 0, -value), else_=0)),
                )
                .join(signal_outcomes, signal_outcomes.c.signal_id == table.c.id)
                .where(table.c.source == source, value.is_not(None))
                .group_by(table.c.signal_type)
                .order_by(table.c.signal_type)
            )
            for kind, count, successes, *figures in await self._connection.execute(query):
                rate = float(successes) / count * 100
                mean, least, most, gains, losses = map(float, figures)
                factor = gains / losses if losses else None
                found.append(Performance(kind, horizon, count, rate, mean, least, most, factor))
        return found

    async def _count(self) -> int:
        count = await self._connection.execute(select(func.count()).select_from(table))
        return count.scalar_one()


def _row(outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {
        "signal_id": outcome.signal_id,
        "max_return": outcome.max_return,
        "max_drawdown": outcome.max_drawdown,
        "is_complete": int(outcome.is_complete),
        "last_updated_at": outcome.last_updated_at,
    }
    for horizon in HORIZONS:
        row[f"price_{horizon}"] = outcome.prices.get(horizon)
        row[f"return_{horizon}"] = outcome.returns.get(horizon)
    return row


def _outcome(row: Mapping[str, Any]) -> Outcome:
    def by_horizon(name: str) -> dict[str, float]:
        values = {horizon: row[f"{name}_{horizon}"] for horizon in HORIZONS}
        return {horizon: value for horizon, value in values.items() if value is not None}

    return Outcome(
        row["signal_id"],
        by_horizon("price"),
        by_horizon("return"),
        row["max_return"],
        row["max_drawdown"],
        bool(row["is_complete"]),
        row["last_updated_at"],
    )


def _replaced(new: New) -> dict[str, Any]:
    names = [column.name for column in signal_outcomes.columns if column.name != "signal_id"]
    return {name: new(name) for name in names}
