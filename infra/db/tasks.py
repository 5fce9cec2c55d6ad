"""Background work in the store: what is to be done, what came of it, who runs the queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from infra.db.tables import task_outcomes, task_queues, tasks
from infra.db.upsert import insert_new

PENDING, RUNNING, RETRYING = "pending", "running", "retrying"
COMPLETED, FAILED, CANCELLED = "completed", "failed", "cancelled"
UNFINISHED = (PENDING, RUNNING, RETRYING)
FINISHED = (COMPLETED, FAILED, CANCELLED)
STATES = (*UNFINISHED, *FINISHED)

_AT_ONCE = 500  # ids in one statement
_LIGHT = [column for column in tasks.c if column.name not in ("arguments", "webhook")] + [
    case((tasks.c.webhook.is_(None), None), else_="").label("webhook")
]


@dataclass(frozen=True, slots=True)
class StoredTask:
    """One task as it was accepted, and how far it came. `arguments`, `needs`, `webhook`: JSON."""

    id: str
    queue: str
    seq: int
    name: str
    target: str
    arguments: bytes
    priority: int
    state: str
    tries: int
    losses: int
    max_retries: int
    retry_delay_s: float
    timeout_s: float | None
    created_at: datetime
    available_at: datetime
    last_error: str | None = None
    unique_key: str | None = None
    idempotency_key: str | None = None
    parent_id: str | None = None
    graph_id: str | None = None
    needs: str | None = None
    webhook: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task. `result` is JSON, or None where `result_file` has it."""

    task_id: str
    state: str
    started_at: datetime | None
    finished_at: datetime
    worker: str | None
    progress: float
    error_code: str | None = None
    error: str | None = None
    result: bytes | None = None
    result_file: str | None = None
    result_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a list has; None takes all."""

    state: str | None = None
    name: str | None = None
    parent_id: str | None = None
    graph_id: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Who runs a queue; a service on the same machine and folder is the same holder."""

    holder: str
    incarnation: str
    beat_at: datetime


_ANEW = ("state", "tries", "losses", "available_at", "last_error", "needs")
_OUTCOME = [task_outcomes.c[field.name] for field in fields(Outcome)]
_STAYED = (  # the state of a task's one outcome
    select(task_outcomes.c.state).where(task_outcomes.c.task_id == tasks.c.id).scalar_subquery()
)


class Tasks:
    """The tables of tasks, in one transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    # -- who runs the queue -----------------------------------------------------------------

    async def take_over(
        self, queue: str, holder: str, incarnation: str, now: datetime, silence: timedelta
    ) -> Held:
        """Take a queue that is free, the same holder's, or of one silent so long.

        Returns who holds it now: the caller, if `incarnation` is its own.
        """
        values = {"holder": holder, "incarnation": incarnation, "beat_at": now}
        insertion = insert_new(self._connection.dialect.name, task_queues, ("queue",))
        await self._connection.execute(insertion, [{"queue": queue} | values])
        free = (task_queues.c.holder == holder) | (task_queues.c.beat_at < now - silence)
        await self._connection.execute(
            update(task_queues).where(task_queues.c.queue == queue, free).values(values)
        )
        query = select(task_queues.c.holder, task_queues.c.incarnation, task_queues.c.beat_at)
        found = await self._connection.execute(query.where(task_queues.c.queue == queue))
        return Held(*found.one())

    async def beat(self, queue: str, incarnation: str, now: datetime) -> bool:
        """Say that a queue still runs; False if another took it over."""
        changed = await self._connection.execute(
            update(task_queues)
            .where(task_queues.c.queue == queue, task_queues.c.incarnation == incarnation)
            .values(beat_at=now)
        )
        return changed.rowcount == 1

    # -- changes ----------------------------------------------------------------------------

    async def add(self, new: Sequence[StoredTask]) -> None:
        """Add tasks; one whose id is there already stays as it is."""
        if new:
            rows = [{name: getattr(task, name) for name in StoredTask.__slots__} for task in new]
            statement = insert_new(self._connection.dialect.name, tasks, ("id",))
            await self._connection.execute(statement, rows)

    async def start(self, ids_by_tries: Mapping[int, Sequence[str]]) -> None:
        """Note, before they run, that tasks run now, by the number of the try.

        What has ended stays so, as for `wait_again`.
        """
        for tries, ids in ids_by_tries.items():
            for part in _parts(ids):
                await self._connection.execute(
                    update(tasks)
                    .where(tasks.c.id.in_(part), tasks.c.state.in_(UNFINISHED))
                    .values(state=RUNNING, tries=tries)
                )

    async def wait_again(
        self, task_id: str, state: str, tries: int, losses: int, available_at: datetime,
        error: str | None,
    ) -> None:  # fmt: skip
        """Note that a task that did not end well runs again later."""
        values = {
            "state": state,
            "tries": tries,
            "losses": losses,
            "available_at": available_at,
            "last_error": error,
        }
        is_open = tasks.c.state.in_(UNFINISHED)
        await self._connection.execute(
            update(tasks).where(tasks.c.id == task_id, is_open).values(values)
        )

    async def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Note what came of tasks; the first outcome of a task stays."""
        if not outcomes:
            return
        rows = [{name: getattr(one, name) for name in Outcome.__slots__} for one in outcomes]
        statement = insert_new(self._connection.dialect.name, task_outcomes, ("task_id",))
        await self._connection.execute(statement, rows)
        for part in _parts(one.task_id for one in outcomes):
            await self._connection.execute(
                update(tasks).where(tasks.c.id.in_(part)).values(state=_STAYED)
            )

    async def mend(self, queue: str, now: datetime) -> int:
        """Let states and outcomes agree where they do not; return how many tasks that were.

        An outcome counts before a state; of what ended without one, nothing is known but that.
        """
        of_queue = tasks.c.queue == queue
        ended = select(task_outcomes.c.task_id)
        open_yet = await self._connection.execute(
            update(tasks)
            .where(of_queue, tasks.c.state.in_(UNFINISHED), tasks.c.id.in_(ended))
            .values(state=_STAYED)
        )
        query = select(tasks.c.id, tasks.c.state).where(
            of_queue, tasks.c.state.in_(FINISHED), tasks.c.id.not_in(ended)
        )
        lost = (await self._connection.execute(query)).all()
        await self.finish([_lost(row.id, row.state, now) for row in lost])
        return open_yet.rowcount + len(lost)

    async def requeue(self, task: StoredTask) -> bool:
        """Let a task that ended begin anew, as it is given; its outcome is forgotten.

        False where it is not there any more.
        """
        await self._connection.execute(
            delete(task_outcomes).where(task_outcomes.c.task_id == task.id)
        )
        changed = await self._connection.execute(
            update(tasks)
            .where(tasks.c.id == task.id)
            .values({name: getattr(task, name) for name in _ANEW})
        )
        return changed.rowcount == 1

    async def expire(self, before: datetime, limit: int) -> int:
        """Forget some tasks that ended before; return how many."""
        old = select(task_outcomes.c.task_id).where(task_outcomes.c.finished_at < before)
        found = (await self._connection.execute(old.limit(limit))).scalars().all()
        for ids in _parts(found):
            over = tasks.c.state.in_(FINISHED)  # one may just have begun anew
            await self._connection.execute(delete(tasks).where(tasks.c.id.in_(ids), over))
            await self._connection.execute(
                delete(task_outcomes).where(task_outcomes.c.task_id.in_(ids))
            )
        return len(found)

    # -- what is there ----------------------------------------------------------------------

    async def arguments(self, ids: Sequence[str]) -> dict[str, bytes]:
        """Return the arguments of tasks by id."""
        found: dict[str, bytes] = {}
        for part in _parts(ids):
            query = select(tasks.c.id, tasks.c.arguments).where(tasks.c.id.in_(part))
            found |= {row.id: row.arguments for row in await self._connection.execute(query)}
        return found

    async def unfinished(self, queue: str, ids: Sequence[str] | None = None) -> list[StoredTask]:
        """Return what a queue has still to do, in order, or of that only some.

        Without arguments; `webhook` is empty text where there is one. In a transaction that
        writes, some are read only once nobody else is still writing them.
        """
        query = select(*_LIGHT).where(tasks.c.queue == queue, tasks.c.state.in_(UNFINISHED))
        if ids is not None:
            query = query.where(tasks.c.id.in_(ids)).with_for_update()
        rows = await self._connection.execute(query.order_by(tasks.c.seq))
        return [StoredTask(**row._mapping, arguments=b"") for row in rows]

    async def last_seq(self, queue: str) -> int:
        """Return the number of the newest task of a queue, 0 if there is none."""
        query = select(func.max(tasks.c.seq)).where(tasks.c.queue == queue)
        return (await self._connection.execute(query)).scalar_one() or 0

    async def states(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the states of those of the tasks that are there."""
        found: dict[str, str] = {}
        for part in _parts(ids):
            query = select(tasks.c.id, tasks.c.state).where(tasks.c.id.in_(part))
            found |= {row.id: row.state for row in await self._connection.execute(query)}
        return found

    async def of_keys(self, queue: str, keys: Sequence[str]) -> dict[str, str]:
        """Return the ids of the tasks that were given these idempotency keys, by key."""
        column, found = tasks.c.idempotency_key, dict[str, str]()
        for part in _parts(keys):
            query = select(column, tasks.c.id).where(tasks.c.queue == queue, column.in_(part))
            found |= {row[0]: row[1] for row in await self._connection.execute(query)}
        return found

    async def get(self, task_id: str) -> StoredTask | None:
        """Return a task, or None."""
        found = await self._connection.execute(select(tasks).where(tasks.c.id == task_id))
        row = found.one_or_none()
        return None if row is None else _task(row)

    async def webhooks(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the webhooks of those of the tasks that have one."""
        found: dict[str, str] = {}
        for part in _parts(ids):
            query = select(tasks.c.id, tasks.c.webhook).where(
                tasks.c.id.in_(part), tasks.c.webhook.is_not(None)
            )
            found |= {row.id: row.webhook for row in await self._connection.execute(query)}
        return found

    async def outcomes(self, ids: Sequence[str]) -> dict[str, Outcome]:
        """Return what came of those of the tasks that ended."""
        found: dict[str, Outcome] = {}
        for part in _parts(ids):
            query = select(*_OUTCOME).where(task_outcomes.c.task_id.in_(part))
            found |= {row.task_id: Outcome(*row) for row in await self._connection.execute(query)}
        return found

    async def page(self, wanted: TaskFilter, size: int, offset: int) -> list[StoredTask]:
        """Return some tasks, the newest first."""
        query = select(tasks).where(*_conditions(wanted))
        query = query.order_by(tasks.c.created_at.desc(), tasks.c.seq.desc())
        rows = await self._connection.execute(query.limit(size).offset(offset))
        return [_task(row) for row in rows]

    async def count(self, wanted: TaskFilter) -> int:
        """Return how many tasks a list has."""
        query = select(func.count()).select_from(tasks).where(*_conditions(wanted))
        return (await self._connection.execute(query)).scalar_one()

    async def counts(self, queue: str) -> dict[str, int]:
        """Return how many tasks of a queue there are by state."""
        query = select(tasks.c.state, func.count()).where(tasks.c.queue == queue)
        rows = await self._connection.execute(query.group_by(tasks.c.state))
        return {row[0]: row[1] for row in rows}


def _lost(task_id: str, state: str, now: datetime) -> Outcome:
    """Return an outcome in place of one that is not there; a result that is gone is a failure."""
    known = FAILED if state == COMPLETED else state
    said = f"the store said {state}, and nothing of what came of it"
    return Outcome(task_id, known, None, now, None, 0.0, "outcome_lost", said)


def _task(row: Row[Any]) -> StoredTask:
    return StoredTask(**row._mapping)


def _conditions(wanted: TaskFilter) -> Iterator[ColumnElement[bool]]:
    for name in ("state", "name", "parent_id", "graph_id"):
        if (value := getattr(wanted, name)) is not None:
            yield tasks.c[name] == value
    if wanted.since is not None:
        yield tasks.c.created_at >= wanted.since


def _parts(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    listed = list(ids)
    for first in range(0, len(listed), _AT_ONCE):
        yield listed[first : first + _AT_ONCE]
