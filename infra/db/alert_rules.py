"""Rules that users made for alerts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import alert_rules as table

_LISTS = ("symbols", "targets")


@dataclass(frozen=True, slots=True)
class StoredRule:
    """One rule, as it was given; `secret` signs what goes to `targets`."""

    id: str
    name: str
    symbols: tuple[str, ...]
    expression: str
    interval: str
    repeat: str
    cooldown_s: float
    hysteresis_pct: float
    severity: str
    targets: tuple[str, ...]
    secret: str
    enabled: bool
    created_at: datetime
    updated_at: datetime


class AlertRules:
    """The table of rules, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(self, rule: StoredRule) -> None:
        """Add a rule."""
        await self._connection.execute(insert(table).values(_row(rule)))

    async def put(self, rule: StoredRule) -> bool:
        """Change a rule; False if there is none of its id."""
        changed = await self._connection.execute(
            update(table).where(table.c.id == rule.id).values(_row(rule))
        )
        return changed.rowcount == 1

    async def get(self, rule_id: str, locked: bool = False) -> StoredRule | None:
        """Return a rule, or None; `locked`: after whoever changes it now, not beside them."""
        query = select(table).where(table.c.id == rule_id)
        found = await self._connection.execute(query.with_for_update() if locked else query)
        row = found.one_or_none()
        return None if row is None else _rule(row)

    async def enabled(self) -> list[StoredRule]:
        """Return the rules that count, the oldest first."""
        query = select(table).where(table.c.enabled == 1).order_by(table.c.created_at, table.c.id)
        return [_rule(row) for row in await self._connection.execute(query)]

    async def page(self, size: int, offset: int) -> list[StoredRule]:
        """Return some of the rules, the newest first."""
        query = select(table).order_by(table.c.created_at.desc(), table.c.id)
        rows = await self._connection.execute(query.limit(size).offset(offset))
        return [_rule(row) for row in rows]

    async def count(self) -> int:
        """Return how many rules there are."""
        return (await self._connection.execute(select(func.count(table.c.id)))).scalar_one()

    async def end(self, rule_id: str, version: datetime, now: datetime) -> None:
        """Let a rule count no more, unless it was changed after `version`, its `updated_at`."""
        change = update(table).where(table.c.id == rule_id, table.c.updated_at == version)
        await self._connection.execute(change.values(enabled=0, updated_at=now))

    async def remove(self, rule_id: str) -> bool:
        """Delete a rule; False if there is none of this id. Its alerts stay."""
        gone = await self._connection.execute(delete(table).where(table.c.id == rule_id))
        return gone.rowcount == 1


def _row(rule: StoredRule) -> dict[str, Any]:
    row = {name: getattr(rule, name) for name in StoredRule.__slots__}
    row |= {name: json.dumps(row[name]) for name in _LISTS}
    return row | {"enabled": int(rule.enabled)}


def _rule(row: Row[Any]) -> StoredRule:
    values = dict(row._mapping)
    values |= {name: tuple(json.loads(values[name])) for name in _LISTS}
    return StoredRule(**values | {"enabled": bool(values["enabled"])})
