"""One queue of background work: its loops, and the transaction that each step writes."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from infra.clock import Clock, utc
from infra.db.store import BATCH, Store
from infra.db.tasks import FAILED
from infra.directives import following
from infra.errors import StoreError, StoreRefused, TaskQueueStopped
from infra.metrics import TASKS_WAITING
from infra.settings import Settings
from pipelines.queue.admission import Admission
from pipelines.queue.attempts import FORCE_AFTER_S, Attempts
from pipelines.queue.core import Backlog, Entry
from pipelines.queue.dependencies import decide, load_previous
from pipelines.queue.events import TaskEvents
from pipelines.queue.live import LiveTasks
from pipelines.queue.queries import Queries
from pipelines.queue.queue_store import Changes, QueueStore
from pipelines.queue.records import refused, split_large
from pipelines.queue.results import ResultStore
from pipelines.queue.slots import WorkerSlots
from pipelines.worker.attempt import Runner

logger = logging.getLogger(__name__)

_WATCH_EVERY_S = 0.1
_STORE_PAUSE_S = 0.5
_PURGE_EVERY_S = 600.0
_SLOTS_EVERY_S = 5.0
_COLLECT_S = 0.02
_DEATH_PAUSE_S = 1.0


class TaskQueue:
    """Background work of one queue.

    State: hard, in the store. A task is there before its caller has the id; that a try begins is
    written before it runs; its outcome is written before anybody is told. So each task runs at
    least once, whatever is killed, and ends once. While the store is away nothing is accepted or
    started; what runs goes on, and its outcome waits here.

    `keep` runs a coroutine for as long as this process may live.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        slots: WorkerSlots,
        runner: Runner,
        events: TaskEvents,
        keep: Callable[[Coroutine[Any, Any, None]], None],
        process: str,
        clock: Clock,
        draws: random.Random | None = None,
        death_pause_s: float = _DEATH_PAUSE_S,
    ) -> None:
        self._settings = settings
        self._process = process
        self._clock = clock
        self._store = store
        self._runner = runner
        self._slots = slots
        self._events = events
        self._backlog = Backlog(settings.task_ageing_s, draws)
        self._results = ResultStore(settings.data_dir / "results", store)
        holder = f"{socket.gethostname()}:{settings.data_dir}"
        self._own = QueueStore(store, settings.task_queue, holder, str(uuid.uuid4()), clock)
        self.live = LiveTasks(self._backlog, self._results, events, slots, clock)
        self.admission = Admission(settings, store, self.live, clock)
        self.attempts = Attempts(self.live, runner, keep, clock, death_pause_s)
        self.queries = Queries(settings.task_queue, store, self.live)

    @property
    def unfinished(self) -> int:
        """Return how many tasks have not ended, as far as is known."""
        return len(self._backlog) + len(self.admission) + (not self.live.is_loaded.is_set())

    async def run(self) -> None:
        """Never return; raises TaskQueueStopped once another process took the queue over."""
        await self._begin()
        while True:
            self.live.has_work.clear()
            await decide(self.live)
            await self.admission.adopt()
            if not await self._step():
                await self._pause()
            elif (
                self._backlog.stages["claimed"] > self._slots.limit
                and not self.admission.is_awaited
            ):
                await self._clock.sleep(_COLLECT_S)  # there is work for longer than this

    async def _begin(self) -> None:
        while not await self._is_taken():
            await self._clock.sleep(_STORE_PAUSE_S)
        while True:
            try:
                stored, self.admission.seq = await self._own.load()
                break
            except StoreError as error:
                self.live.standby = error.message
                await self._clock.sleep(_STORE_PAUSE_S)
        for task in stored:
            self.admission.restore(task)
        self.live.standby = ""
        self.live.is_loaded.set()
        logger.info("tasks.loaded", extra={"unfinished": len(stored)})

    async def _is_taken(self) -> bool:
        """Take the queue over; return whether it is this process's now."""
        try:
            held = await self._own.take_over()
        except StoreError as error:
            self.live.standby = error.message
            return False
        if held is not None:
            self.live.standby = (
                f"the queue {self._settings.task_queue!r} is run by {held.holder}: "
                "set FINSTAGE_TASK_QUEUE to another name"
            )
        return held is None

    async def _pause(self) -> None:
        now_s = self.live.now_s()
        due_s = self._backlog.wake(now_s) - now_s
        try:
            async with asyncio.timeout(min(1.0, max(0.01, due_s))):
                await self.live.has_work.wait()
        except TimeoutError:
            return

    async def _step(self) -> bool:
        """Write what changed and what starts; return whether there was anything."""
        live = self.live
        changes, live.changes = live.changes, Changes()
        split_large(changes, live.changes)
        batch, claims = self.admission.take(), self.attempts.claims()
        changes.starts = [(entry.tries + 1, entry.id) for entry in claims if entry.code is None]
        changes.unknown = [e.id for e in claims if e.arguments is None and e.code is None]
        if not (changes or claims or batch.entries or batch.futures):
            return False
        try:
            found = await self._own.write(changes) if changes else {}
            await load_previous(claims, self._results)
        except TaskQueueStopped:
            raise  # this process ends, and its successor waits until the queue is free
        except StoreError as error:
            self._put_back(changes, claims, error)
            self.admission.refused(batch, error, changes.was_begun)
            await self._clock.sleep(_STORE_PAUSE_S)
            return True
        for entry in claims:
            self._claimed(entry, found.get(entry.id))
        self.admission.accepted(batch)
        for outcome in changes.outcomes:
            live.settle(outcome)
        self._backlog.noted(claims)
        self.attempts.hand_out()
        return True

    def _claimed(self, entry: Entry, arguments: bytes | None) -> None:
        entry.tries += 1
        if self.live.is_over(entry):
            return
        self.live.keep_arguments(entry, arguments)
        if entry.arguments is None:
            self.live.end(entry, FAILED, "gone", "the store has it no more")

    def _put_back(self, changes: Changes, claims: Sequence[Entry], error: StoreError) -> None:
        """Keep for later what the store did not take."""
        logger.warning("tasks.unwritten", extra={"reason": error.message})
        self._backlog.unclaim(claims, self.live.now_s())
        if isinstance(error, StoreRefused) and not changes.new:
            changes.outcomes = [refused(one, error) for one in changes.outcomes]
        later = self.live.changes
        later.outcomes = changes.outcomes + later.outcomes
        later.reruns = changes.reruns + later.reruns
        later.hooked |= changes.hooked

    async def watch(self) -> None:
        """Never return: stop what is over its time, count what there is."""
        counted_s = slots_s = 0.0
        while True:
            await self._clock.sleep(_WATCH_EVERY_S)
            now_s = self._clock.time_s()
            self.attempts.stop_overdue()
            if now_s - counted_s >= 1.0:
                counted_s = now_s
                self._count()
            if now_s - slots_s >= _SLOTS_EVERY_S:
                slots_s = now_s
                slots = await self._runner.slots() or self._settings.task_workers
                most = following.now.task_at_once
                self._slots.slots = slots if most is None else max(1, min(slots, most))

    def _count(self) -> None:
        stages = self._backlog.stages
        for stage in ("blocked", "delayed", "ready", "claimed", "running"):
            TASKS_WAITING.labels(stage, self._process).set(stages[stage])
        waiting = sum(stages[s] for s in ("blocked", "delayed", "ready", "claimed"))
        self._events.counted({"pending": waiting, "running": stages["running"]} | self._slots.ends)

    async def purge(self) -> None:
        """Never return: forget what ended long ago."""
        while True:
            await self._clock.sleep(_PURGE_EVERY_S)
            try:
                await self.expire(self._settings.keep_results_h * 3_600)
            except StoreError as error:
                logger.info("tasks.unpurged", extra={"reason": error.code})

    async def expire(self, max_age_s: float) -> int:
        """Forget tasks that ended so long ago; return how many."""
        before, total = utc(self._clock.time_s() - max_age_s), 0
        while True:
            count = await self._store.write(
                lambda unit: unit.tasks.expire(before, 1_000), limit=BATCH
            )
            total += count
            if count < 1_000:
                await self._results.expire(before.timestamp(), self._backlog)
                return total

    async def set_running(self, runs: bool) -> None:
        """Let the queue start tasks, or none, until this process ends."""
        self.live.is_running = runs
        self.live.has_work.set()

    async def drain(self, grace_s: float) -> int:
        """Start nothing; after the grace, stop what runs and let it run at the next start."""
        self.live.is_running = False
        for entry in self._backlog.unclaim_all(self._clock.time_s()):
            entry.tries -= 1
            self.live.rerun(entry, entry.available_s, entry.last_error)
        await self._wait_while(lambda: bool(self.attempts), grace_s)
        left = self.attempts.stop_all()
        await self._wait_while(
            lambda: bool(self.attempts or self.live.changes), 2 * FORCE_AFTER_S + 0.5
        )
        return left

    async def _wait_while(self, holds: Callable[[], bool], most_s: float) -> None:
        deadline_s = self._clock.monotonic_s() + most_s
        while holds() and self._clock.monotonic_s() < deadline_s:
            await self._clock.sleep(0.02)
