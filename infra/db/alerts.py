"""Alerts that were given, each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import alert_states, alerts
from infra.db.upsert import insert_new
from infra.sources.runs import REPEATED, Run

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_STATE_KEY = ("source", "rule_id", "symbol")


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. Percents are of the base; a rule without a base has None."""

    rule_id: str
    symbol: str
    alert_type: str
    base_type: str
    base_price: float | None
    current_price: float | None
    threshold_percent: float | None
    actual_percent: float | None
    severity: str
    message: str
    source: str
    synthetic: bool
    traded_at: datetime
    triggered_at: datetime


@dataclass(frozen=True, slots=True)
class AlertState:
    """When a rule last gave an alert for a symbol, and in which session (ISO date)."""

    rule_id: str
    symbol: str
    fired_at: datetime
    session: str
    is_armed: bool


_STATE_COLUMNS = [alert_states.c[name] for name in AlertState.__slots__]


class Alerts:
    """The tables of alerts, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def give(
        self,
        alert: Alert,
        session: str,
        cool_down: timedelta,
        once_a_session: bool,
        began_at: datetime | None = None,
    ) -> int | AlertState:
        """Keep an alert if it is due, and return its number; else what was given so lately.

        What was given before `began_at`, of the source's run, does not count. Of several who give
        the same at the same time one does: the state changes where it is still due, and in the
        same transaction. The state is not armed then. A rule gives one alert for a symbol at one
        `triggered_at`: given again, it has the number that it has.
        """
        key = {"source": alert.source, "rule_id": alert.rule_id, "symbol": alert.symbol}
        never = key | {"fired_at": _NEVER, "session": "", "is_armed": 1}
        made = insert_new(self._connection.dialect.name, alert_states, _STATE_KEY)
        await self._connection.execute(made, [never])
        latest = alert.triggered_at - max(cool_down, timedelta.resolution)
        is_due = alert_states.c.fired_at <= latest
        if once_a_session:
            is_due = and_(is_due, alert_states.c.session != session)
        if began_at is not None:
            is_due = or_(is_due, alert_states.c.fired_at < began_at)
        state = [alert_states.c[name] == value for name, value in key.items()]
        change = update(alert_states).where(*state, is_due)
        changed = await self._connection.execute(
            change.values(fired_at=alert.triggered_at, session=session, is_armed=0)
        )
        if changed.rowcount != 1:
            return await self._number(alert) or await self._state(state)
        row = asdict(alert) | {"synthetic": int(alert.synthetic)}
        added = await self._connection.execute(insert(alerts).values(row))
        number = added.inserted_primary_key
        assert number is not None
        return int(number[0])

    async def _number(self, alert: Alert) -> int | None:
        same = [
            alerts.c[name] == getattr(alert, name)
            for name in ("symbol", "triggered_at", "rule_id", "source")
        ]
        found = await self._connection.execute(select(alerts.c.id).where(*same))
        return found.scalar_one_or_none()

    async def _state(self, of: Sequence[ColumnElement[bool]]) -> AlertState:
        found = await self._connection.execute(select(*_STATE_COLUMNS).where(*of))
        return _state(found.one())

    async def rearm(self, source: str, rule_id: str, symbol: str) -> None:
        """Note that a rule's condition was false since it fired."""
        key = {"source": source, "rule_id": rule_id, "symbol": symbol}
        change = update(alert_states).where(*(alert_states.c[k] == v for k, v in key.items()))
        await self._connection.execute(change.values(is_armed=1))

    async def states(self, source: str) -> list[AlertState]:
        """Return when each rule last gave an alert for each symbol."""
        query = select(*_STATE_COLUMNS).where(
            alert_states.c.source == source, alert_states.c.fired_at > _NEVER
        )
        return [_state(row) for row in await self._connection.execute(query)]

    async def after(
        self, alert_id: int, limit: int, symbol: str | None = None, run: Run | None = None
    ) -> list[tuple[int, Alert]]:
        """Return the alerts past a number, in its order; `run`: none of runs that are over."""
        query = self._select(run).where(alerts.c.id > alert_id)
        if symbol is not None:
            query = query.where(alerts.c.symbol == symbol)
        query = query.order_by(alerts.c.id).limit(limit)
        return [_numbered(row) for row in await self._connection.execute(query)]

    async def since(
        self, at: datetime, limit: int, symbol: str | None = None, run: Run | None = None
    ) -> list[tuple[int, Alert]]:
        """Return the alerts from an instant on, newest first; `run` as for `after`."""
        query = self._select(run).where(alerts.c.triggered_at >= at)
        if symbol is not None:
            query = query.where(alerts.c.symbol == symbol)
        query = query.order_by(alerts.c.triggered_at.desc(), alerts.c.id.desc()).limit(limit)
        return [_numbered(row) for row in await self._connection.execute(query)]

    async def newest(self) -> int:
        """Return the highest number; 0 where there is no alert."""
        found = await self._connection.execute(select(func.max(alerts.c.id)))
        return found.scalar_one() or 0

    def _select(self, run: Run | None) -> Select[Any]:
        query = select(alerts.c.id, *(alerts.c[name] for name in Alert.__slots__))
        if run is None:
            return query
        is_of_run = alerts.c.source == run.source
        if run.began_at is not None:
            is_of_run = and_(is_of_run, alerts.c.triggered_at >= run.began_at)
        about_service = alerts.c.symbol == ""
        return query.where(or_(about_service, alerts.c.source.not_in(REPEATED), is_of_run))


def _state(row: Row[Any]) -> AlertState:
    values = dict(row._mapping)
    return AlertState(**values | {"is_armed": bool(values["is_armed"])})


def _numbered(row: Row[Any]) -> tuple[int, Alert]:
    values = dict(row._mapping)
    number = values.pop("id")
    return number, Alert(**values | {"synthetic": bool(values["synthetic"])})
