"""What changed since the last transaction, and the one transaction that writes it."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import orjson

from infra.clock import Clock, utc
from infra.db.store import BATCH, Store
from infra.db.tasks import Held, Outcome, StoredTask
from infra.db.unit import Unit
from infra.errors import TaskQueueStopped
from infra.notify.notice import Notice
from infra.outbox import deliver_later

logger = logging.getLogger(__name__)

BEAT_EVERY_S = 1.0
SILENCE = timedelta(seconds=15)  # of a queue's holder, after which another may take it


@dataclass(frozen=True, slots=True)
class Rerun:
    """A task that runs again later."""

    task_id: str
    state: str
    tries: int
    losses: int
    available_s: float
    error: str | None


@dataclass(slots=True)
class Changes:
    """What one transaction writes, in this order; it may be written twice."""

    new: list[StoredTask] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    hooked: set[str] = field(default_factory=set)  # of them, those with a webhook
    reruns: list[Rerun] = field(default_factory=list)
    starts: list[tuple[int, str]] = field(default_factory=list)  # number of the try, id
    unknown: list[str] = field(default_factory=list)  # ids whose arguments are to be read
    was_begun: bool = False  # so that it may be in the store, whatever came of it

    def __bool__(self) -> bool:
        return bool(self.new or self.outcomes or self.reruns or self.starts)


class QueueStore:
    """The store's side of one queue, of which this process is the one holder.

    A transaction is refused with TaskQueueStopped once another process took the queue over, so
    that two never run the same task from here on.
    """

    def __init__(
        self, store: Store, queue: str, holder: str, incarnation: str, clock: Clock
    ) -> None:
        self._store = store
        self._queue = queue
        self._holder = holder
        self._incarnation = incarnation
        self._clock = clock
        self._beat_s = float("-inf")

    async def take_over(self) -> Held | None:
        """Take the queue; return who holds it where that is another one. Raises StoreError."""
        now = utc(self._clock.time_s())
        held = await self._store.write(
            lambda unit: unit.tasks.take_over(
                self._queue, self._holder, self._incarnation, now, SILENCE
            )
        )
        return None if held.incarnation == self._incarnation else held

    async def load(self) -> tuple[list[StoredTask], int]:
        """Return what is still to do, and the number of the newest task; mend what disagrees."""
        now = utc(self._clock.time_s())

        async def work(unit: Unit) -> tuple[int, list[StoredTask], int]:
            mended = await unit.tasks.mend(self._queue, now)
            unfinished = await unit.tasks.unfinished(self._queue)
            return mended, unfinished, await unit.tasks.last_seq(self._queue)

        mended, unfinished, seq = await self._store.write(work, limit=BATCH)
        if mended:
            logger.warning("tasks.mended", extra={"tasks": mended})
        return unfinished, seq

    async def write(self, changes: Changes) -> dict[str, bytes]:
        """Write changes; return the arguments that were asked for. Raises StoreError."""
        now_s = self._clock.time_s()
        is_due = self._clock.monotonic_s() - self._beat_s > BEAT_EVERY_S
        by_tries: dict[int, list[str]] = defaultdict(list)
        for tries, task_id in changes.starts:
            by_tries[tries].append(task_id)

        async def work(unit: Unit) -> dict[str, bytes]:
            changes.was_begun = True
            if is_due and not await unit.tasks.beat(self._queue, self._incarnation, utc(now_s)):
                raise TaskQueueStopped("another Finstage has taken this queue over")
            await unit.tasks.add(changes.new)
            await unit.tasks.finish(changes.outcomes)
            await _tell(unit, list(changes.hooked))
            for one in changes.reruns:
                at = utc(one.available_s)
                await unit.tasks.wait_again(
                    one.task_id, one.state, one.tries, one.losses, at, one.error
                )
            await unit.tasks.start(by_tries)
            return await unit.tasks.arguments(changes.unknown) if changes.unknown else {}

        found = await self._store.write(work, limit=BATCH)
        if is_due:
            self._beat_s = self._clock.monotonic_s()
        return found


async def _tell(unit: Unit, task_ids: Sequence[str]) -> None:
    """Let the webhooks of tasks go with the outcomes that stay, or not at all."""
    if not task_ids:
        return
    outcomes = await unit.tasks.outcomes(task_ids)
    for task_id, text in (await unit.tasks.webhooks(list(outcomes))).items():
        url, secret, name = orjson.loads(text)
        outcome = outcomes[task_id]
        await deliver_later(unit, _notice(outcome, name), [(url, secret)], outcome.finished_at)


def _notice(outcome: Outcome, name: str) -> Notice:
    """Return what is told of an outcome; of one task there are several if it begins anew."""
    is_good = outcome.state == "completed"
    return Notice(
        id=f"task-{outcome.task_id}-{outcome.finished_at.timestamp() * 1e6:.0f}",
        kind="task",
        title=f"{name}: {outcome.state}",
        text=outcome.error or f"{name} {outcome.state}",
        severity="info" if is_good else "warning",
        at=outcome.finished_at,
        facts={
            "task_id": outcome.task_id,
            "task_name": name,
            "status": outcome.state,
            "error": outcome.error,
            "result_bytes": outcome.result_bytes,
        },
    )
