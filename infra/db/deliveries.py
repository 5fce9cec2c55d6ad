"""What is to be told outside, and what came of it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import deliveries as table
from infra.db.upsert import insert_new

WAITING, SENT, FAILED = "waiting", "sent", "failed"
_KEY = ("notice_id", "target_hash")
_COLUMNS = (
    "id",
    "notice_id",
    "target",
    "secret",
    "body",
    "state",
    "tries",
    "next_at",
    "last_error",
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A notice on its way to one target; `body` is the notice as JSON."""

    id: int
    notice_id: str
    target: str
    secret: str
    body: str
    state: str
    tries: int
    next_at: datetime
    last_error: str | None


class Deliveries:
    """The table of deliveries, in one transaction.

    Written in the transaction of what they tell of, they are told if that happened, and only then.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def add(
        self, notice_id: str, body: str, targets: Sequence[tuple[str, str]], now: datetime
    ) -> None:
        """Let a notice go to targets, each with its secret; what is there already stays."""
        rows = [
            {
                "notice_id": notice_id,
                "target_hash": _hashed(target),
                "target": target,
                "secret": secret,
                "body": body,
                "state": WAITING,
                "tries": 0,
                "next_at": now,
                "created_at": now,
            }
            for target, secret in targets
        ]
        if rows:
            insert = insert_new(self._connection.dialect.name, table, _KEY)
            await self._connection.execute(insert, rows)

    async def due(self, now: datetime, limit: int, but: Collection[str] = ()) -> list[Delivery]:
        """Return what is to be sent by now: of each target what waits longest, but of none `but`.

        The longest waiting first. One row a target, so none is hidden behind those of another.
        """
        waiting = table.c.next_at, table.c.id
        place = func.row_number().over(partition_by=table.c.target_hash, order_by=waiting)
        of_target = (
            select(table.c.id, place.label("place"))
            .where(table.c.state == WAITING, table.c.next_at <= now)
            .where(table.c.target_hash.not_in([_hashed(target) for target in but]))
            .subquery()
        )
        query = (
            select(*(table.c[name] for name in _COLUMNS))
            .join(of_target, of_target.c.id == table.c.id)
            .where(of_target.c.place == 1)
            .order_by(*waiting)
            .limit(limit)
        )
        return [Delivery(*row) for row in await self._connection.execute(query)]

    async def of_notice(self, notice_id: str) -> list[Delivery]:
        """Return what became of a notice, target by target."""
        query = select(*(table.c[name] for name in _COLUMNS)).where(table.c.notice_id == notice_id)
        rows = await self._connection.execute(query.order_by(table.c.id))
        return [Delivery(*row) for row in rows]

    async def tried(
        self, id_: int, state: str, tries: int, next_at: datetime, error: str | None
    ) -> None:
        """Note what came of a try; one that is over already stays as it is."""
        change = (
            update(table)
            .where(table.c.id == id_, table.c.state == WAITING)
            .values(state=state, tries=tries, next_at=next_at, last_error=_short(error))
        )
        await self._connection.execute(change)


def _hashed(target: str) -> str:
    return hashlib.sha256(target.encode()).hexdigest()


def _short(error: str | None) -> str | None:
    return None if error is None else error[:255]
