"""Price alerts that were given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import price_alert_logs as table


@dataclass(frozen=True, slots=True)
class AlertLog:
    """One alert: a price against a base, percents of the base."""

    symbol: str
    alert_type: str
    base_type: str
    base_price: float
    base_time: datetime
    current_price: float
    threshold_percent: float
    actual_percent: float
    source: str
    triggered_at: datetime


class AlertLogs:
    """The table of alerts, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def append(self, alerts: Sequence[AlertLog]) -> None:
        """Add alerts."""
        if alerts:
            await self._connection.execute(insert(table), [asdict(alert) for alert in alerts])

    async def newest(
        self, source: str, symbols: Sequence[str]
    ) -> dict[tuple[str, str, str], datetime]:
        """Return when each alert was last given, by symbol, alert type and base type."""
        key = (table.c.symbol, table.c.alert_type, table.c.base_type)
        query = (
            select(*key, func.max(table.c.triggered_at))
            .where(table.c.source == source, table.c.symbol.in_(symbols))
            .group_by(*key)
        )
        rows = await self._connection.execute(query)
        return {(symbol, kind, base): at for symbol, kind, base, at in rows}

    async def since(self, at: datetime, limit: int = 1_000) -> list[AlertLog]:
        """Return the alerts from an instant on, newest first."""
        columns = [table.c[name] for name in AlertLog.__slots__]
        query = (
            select(*columns)
            .where(table.c.triggered_at >= at)
            .order_by(table.c.triggered_at.desc(), table.c.id.desc())
            .limit(limit)
        )
        return [AlertLog(*row) for row in await self._connection.execute(query)]
