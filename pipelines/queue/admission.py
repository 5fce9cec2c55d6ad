"""How tasks come in: submitted, begun anew, or found in the store; each is accepted once."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

from infra.clock import Clock
from infra.db.store import BATCH, Store
from infra.db.tasks import CANCELLED, FAILED, StoredTask
from infra.db.unit import Unit
from infra.errors import StoreError, TaskIdUnknown, TaskNotRequeued, TaskQueueFull
from infra.settings import Settings
from pipelines.queue.core import Entry
from pipelines.queue.intake import Batch, Intake
from pipelines.queue.live import LiveTasks
from pipelines.queue.records import anew, entry_of, stored_task
from pipelines.submission import Submission, unpacked_submissions

logger = logging.getLogger(__name__)

_UNSURE_AT_ONCE = 500  # asked for in one statement
_REQUEUE_PAUSE_S = 2.0  # two clicks, or requests sent together, are one wish
_YOUNG_S = 120.0


class Admission:
    """Submissions on their way into the store and the backlog. State: soft until they are there.

    A task whose transaction failed, but may have been committed, is looked for until the store
    answers.
    """

    def __init__(self, settings: Settings, store: Store, live: LiveTasks, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._live = live
        self._clock = clock
        self._intake = Intake()
        self._unsure: dict[str, None] = {}  # refused to their callers, but perhaps in the store
        self._requeues = asyncio.Lock()
        self._requeued_s: dict[str, float] = {}  # those of the last moment, in order
        self._began_s = clock.monotonic_s()
        self.seq = 0  # of the newest task

    def __len__(self) -> int:
        return len(self._intake)

    @property
    def is_awaited(self) -> bool:
        """Return whether somebody waits for the next transaction."""
        return self._intake.is_awaited

    def take(self) -> Batch:
        """Return what the next transaction accepts."""
        return self._intake.take()

    def accepted(self, batch: Batch) -> None:
        """Let what is in the store now be run."""
        for entry, _ in batch.entries:
            self._live.add(entry)
            self._live.publish(entry)
        self._intake.accepted(batch)
        if batch.entries:
            self._live.has_work.set()

    def refused(self, batch: Batch, error: StoreError, is_unsure: bool) -> None:
        """Tell callers that nothing was accepted; `is_unsure`: the store may have it."""
        for entry, one in batch.entries:
            self._live.release_arguments(entry)
            if is_unsure and one.is_durable:
                self._unsure[entry.id] = None
        self._intake.refused(batch, error)

    def restore(self, task: StoredTask) -> None:
        """Take a task that the store has."""
        entry = entry_of(task)
        self._live.add(entry)
        if task.state == "running":
            self._live.lost(entry)

    async def adopt(self) -> None:
        """Take those that were refused though the store has them: its answer was lost."""
        queue = self._settings.task_queue
        while ids := list(islice(self._unsure, _UNSURE_AT_ONCE)):
            for task_id in ids:  # before the look, as one may be refused once more meanwhile
                del self._unsure[task_id]
            try:
                found = await self._store.write(  # after what may still be writing them
                    lambda unit, ids=ids: unit.tasks.unfinished(queue, ids),  # type: ignore[misc]
                    limit=BATCH,
                )
            except StoreError as error:
                logger.info("tasks.unsure", extra={"reason": error.code})
                self._unsure |= dict.fromkeys(ids)
                return
            for task in found:
                self._adopt(task)

    def _adopt(self, task: StoredTask) -> None:
        if task.id in self._live.backlog or self._intake.is_pending(task.id):
            return
        same = self._of_key(task.unique_key)
        if same is None:
            self.restore(task)
        else:  # without the key, which is the other's
            self.restore(replace(task, unique_key=None))
            self._leave_to(same, task.id)

    # -- submitting -------------------------------------------------------------------------

    async def submit(self, text: bytes) -> list[str]:
        """Accept packed submissions; return their ids once they are in the store."""
        await self._live.loaded()
        submissions = unpacked_submissions(text)
        there = len(self._live.backlog) + len(self._intake) + len(self._unsure)
        if there + len(submissions) > self._settings.max_tasks:
            raise TaskQueueFull(self._settings.max_tasks, 5.0)
        known, keys = await self._known(submissions)
        ids, now_s = [], self._clock.time_s()
        made = [self._made(one, now_s) for one in submissions]  # all, or the call fails
        for one, (stored, entry) in zip(submissions, made, strict=True):
            same = one.id if one.id in known else self._same(one, keys)
            if same is None:
                self._take(one, stored, entry)
            ids.append(same or one.id)
        if any(self._intake.is_pending(task_id) for task_id in ids):
            self._live.has_work.set()
            await self._intake.written()
        return ids

    async def _known(self, submissions: Sequence[Submission]) -> tuple[set[str], dict[str, str]]:
        """Return which ids and idempotency keys the store has.

        Ids are looked up only after a start: then a call may come again that its predecessor
        had answered, though nobody heard.
        """
        queue = self._settings.task_queue
        keys = [s.idempotency_key for s in submissions if s.idempotency_key is not None]
        is_young = self._clock.monotonic_s() - self._began_s < _YOUNG_S
        if not keys and not is_young:
            return set(), {}
        ids = [one.id for one in submissions] if is_young else []

        async def work(unit: Unit) -> tuple[set[str], dict[str, str]]:
            return set(await unit.tasks.states(ids)), await unit.tasks.of_keys(queue, keys)

        return await self._store.read(work)

    def _same(self, one: Submission, stored_keys: dict[str, str]) -> str | None:
        """Return the task that is the same work as this one, if there is one."""
        if one.id in self._live.backlog or self._live.results.recent(one.id) is not None:
            return one.id  # the call came twice
        return self._intake.same(one, stored_keys) or self._of_key(one.unique_key)

    def _of_key(self, unique_key: str | None) -> str | None:
        """Return the task that has this key, on its way or accepted, and has not ended."""
        if unique_key is None:
            return None
        return self._intake.of_key(unique_key) or self._live.backlog.of_key(unique_key)

    def _leave_to(self, same: str, task_id: str) -> None:
        """End a task that came back while another was accepted as the same work."""
        if (entry := self._live.backlog.get(task_id)) is not None:
            self._live.end(entry, CANCELLED, "same_work", f"task {same} is the same work")

    def _made(self, one: Submission, now_s: float) -> tuple[StoredTask, Entry]:
        self.seq += 1
        stored = stored_task(one, self._settings.task_queue, self.seq, now_s)
        return stored, entry_of(stored)

    def _take(self, one: Submission, stored: StoredTask, entry: Entry) -> None:
        entry.code = one.code
        self._live.keep_arguments(entry, one.arguments)
        self._intake.add(entry, one)
        if one.is_durable:
            self._live.changes.new.append(stored)

    # -- beginning anew ---------------------------------------------------------------------

    async def requeue(self, task_id: str) -> None:
        """Let a failed or cancelled task begin anew."""
        await self._live.loaded()
        async with self._requeues:
            await self._requeue(task_id)

    async def _requeue(self, task_id: str) -> None:
        live = self._live
        stored = await self._store.read(lambda unit: unit.tasks.get(task_id))
        if stored is None:
            raise TaskIdUnknown(task_id)
        if stored.state not in (FAILED, CANCELLED) or task_id in live.backlog:
            raise TaskNotRequeued(task_id, stored.state)
        self._refuse_at_once(task_id, stored.state)
        if (same := self._of_key(stored.unique_key)) is not None:
            raise TaskNotRequeued(task_id, stored.state, same=same)
        begun = anew(stored, self._clock.time_s())
        try:
            was_there = await self._store.write(lambda unit: unit.tasks.requeue(begun))
        except BaseException:  # a cancellation too: the store may have done it all the same
            live.results.forget(task_id)
            self._unsure[task_id] = None
            live.has_work.set()
            raise
        if not was_there:
            raise TaskIdUnknown(task_id)
        self._requeued_s[task_id] = self._clock.monotonic_s()
        live.results.forget(task_id)
        same = self._of_key(stored.unique_key)  # accepted meanwhile
        if same == task_id:
            same = None
        entry = entry_of(begun if same is None else replace(begun, unique_key=None))
        live.add(entry)
        live.publish(entry)
        live.has_work.set()
        if same is not None:
            self._leave_to(same, task_id)
            raise TaskNotRequeued(task_id, stored.state, same=same)

    def _refuse_at_once(self, task_id: str, state: str) -> None:
        now_s = self._clock.monotonic_s()
        for known, at_s in list(self._requeued_s.items()):
            if now_s - at_s < _REQUEUE_PAUSE_S:
                break
            del self._requeued_s[known]
        if (at_s := self._requeued_s.get(task_id, -math.inf)) > now_s - _REQUEUE_PAUSE_S:
            raise TaskNotRequeued(task_id, state, now_s - at_s)
