"""The task queue in this process: the real queue on a real store, with runners that tests hold."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from infra.clock import Clock, SystemClock, utc
from infra.db.store import QUESTION, Limit, Store
from infra.db.tasks import Outcome
from infra.errors import TaskIdUnknown, TaskNotRequeued, TaskQueueFull
from infra.settings import Settings
from pipelines.queue.client import Result, TaskClient
from pipelines.queue.events import TaskEvents
from pipelines.queue.records import anew, stored_task
from pipelines.queue.shown import task_shown
from pipelines.queue.slots import WorkerSlots
from pipelines.queue.task_queue import TaskQueue
from pipelines.submission import Submission
from pipelines.worker.attempt import Attempt, Died, Ended


class SilentHub:
    """Takes what would be published."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def publish(self, messages: Sequence[Any]) -> None:
        self.messages += messages


class HeldRunner:
    """Holds every try until the test says how it ends."""

    def __init__(self) -> None:
        self.attempts: dict[str, Attempt] = {}  # what runs, by task
        self.started: list[tuple[str, int]] = []
        self._ends: dict[str, asyncio.Future[Ended]] = {}
        self.stopped: list[tuple[str, bool]] = []
        self.obeys = True  # whether what is stopped ends

    def start(self, attempt: Attempt) -> Any:
        self.attempts[attempt.task_id] = attempt
        self.started.append((attempt.task_id, attempt.number))
        self._ends[attempt.task_id] = asyncio.get_running_loop().create_future()
        return attempt.task_id

    async def ended(self, ref: Any) -> Ended:
        try:
            return await self._ends[ref]
        finally:
            self.attempts.pop(ref, None)

    async def stop(self, ref: Any, force: bool) -> None:
        self.stopped.append((ref, force))
        if self.obeys:
            self.die(ref)

    def kill(self, worker: str) -> None:
        for task_id in list(self.attempts):
            self.die(task_id)

    async def slots(self) -> int | None:
        return None

    def complete(self, task_id: str, data: bytes = b"null") -> None:
        """Let a try end well."""
        self._end(task_id, Ended(0.0, 1.0, "held-1", "json", data))

    def fail(self, task_id: str, error: str = "no", is_retryable: bool = True) -> None:
        """Let a try end with an error."""
        self._end(
            task_id, Ended(0.0, 1.0, "held-1", "", b"", 0.0, "ValueError", error, is_retryable)
        )

    def bring(self, task_id: str, **brought: Any) -> None:
        """Let a try fail with what no process should say."""
        ended = Ended(0.0, 1.0, "held-1", "", b"", 0.0, "ValueError", "no")
        self._end(task_id, replace(ended, **brought))

    def die(self, task_id: str) -> None:
        """Let a try's process end."""
        future = self._ends[task_id]
        if not future.done():
            future.set_exception(Died("killed"))

    def _end(self, task_id: str, ended: Ended) -> None:
        if not self._ends[task_id].done():
            self._ends[task_id].set_result(ended)


class MortalStore:
    """A store whose process may die: what is under way is committed or not, nobody learns which.

    Cancelling a transaction would leave its lock to a thread; a process takes it along.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._is_dead = False
        self._under_way: set[asyncio.Task[Any]] = set()

    async def read(self, work: Any, limit: Limit = QUESTION) -> Any:
        return await self._alive(self._store.read(work, limit))

    async def write(self, work: Any, limit: Limit = QUESTION) -> Any:
        async def mortal(unit: Any) -> Any:
            result = await work(unit)
            if self._is_dead:
                raise Killed
            return result

        return await self._alive(self._store.write(mortal, limit))

    async def die(self) -> None:
        """Let nothing more come of any call."""
        self._is_dead = True
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _alive(self, doing: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.ensure_future(doing)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        await asyncio.wait([task])
        if self._is_dead:
            await asyncio.get_running_loop().create_future()
        return task.result()


class Killed(Exception):
    """Raised inside a transaction of a process that died meanwhile."""


class RunningQueue:
    """A queue with its loops, which can be killed and begun anew over the same store."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        runner: Any,
        clock: Clock | None = None,
        draws: random.Random | None = None,
    ) -> None:
        own: Any = MortalStore(store)
        self._store = own
        self.runner = runner
        self._clock = clock or SystemClock()
        self.hub = SilentHub()
        self.failures: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        slots = WorkerSlots(settings.task_workers)
        events = TaskEvents(self.hub, self._clock)  # type: ignore[arg-type]
        self.queue = TaskQueue(
            settings, own, slots, runner, events, self._keep, "test", self._clock, draws, 0.0
        )
        loops: list[Callable[[], Coroutine[Any, Any, None]]] = [
            self.queue.run, self.queue.watch, events.run,
        ]  # fmt: skip
        for loop in loops:
            self._keep(loop())

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failures.append(task.exception())  # type: ignore[arg-type]

    async def kill(self) -> None:
        """End all its loops at once, as kill -9 would."""
        await self._store.die()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.failures:
            raise self.failures[0]


class LocalTasks(TaskClient):
    """Answers as TaskClient, from a store; nothing runs, so what is not cancelled stays."""

    def __init__(self, settings: Settings, store: Store) -> None:
        super().__init__(5.0)
        self._settings, self._store = settings, store
        self._runs = True

    async def ping_once(self, wait_s: float = 1.0) -> int:
        return 6

    async def submit(self, submissions: Sequence[Submission]) -> list[str]:
        counts = await self._store.read(lambda unit: unit.tasks.counts("default"))
        if sum(counts.values()) + len(submissions) > self._settings.max_tasks:
            raise TaskQueueFull(self._settings.max_tasks, 5.0)
        keys = [one.idempotency_key for one in submissions if one.idempotency_key]
        known = await self._store.read(lambda unit: unit.tasks.of_keys("default", keys))
        now_s = time.time()
        new = [
            stored_task(one, "default", sum(counts.values()) + n, now_s)
            for n, one in enumerate(submissions)
            if one.idempotency_key not in known
        ]
        await self._store.write(lambda unit: unit.tasks.add(new))
        return [known.get(one.idempotency_key or "", one.id) for one in submissions]

    async def task(self, task_id: str) -> dict[str, Any]:
        stored = await self._store.read(lambda unit: unit.tasks.get(task_id))
        if stored is None:
            raise TaskIdUnknown(task_id)
        outcomes = await self._store.read(lambda unit: unit.tasks.outcomes([task_id]))
        return task_shown(stored, outcomes.get(task_id))

    async def live(self, task_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        return {}

    async def results(self, task_ids: Sequence[str]) -> list[Result]:
        return [
            Result(i, (await self.task(i))["status"], "cancelled", "asked", "json", b"null")
            for i in task_ids
        ]

    async def cancel(self, task_id: str, reason: str = "asked") -> dict[str, Any]:
        status = (await self.task(task_id))["status"]
        if status == "cancelled":
            return {"cancelled": False, "status": status}
        ended = Outcome(
            task_id, "cancelled", None, utc(time.time()), None, 0.0, "cancelled", reason
        )
        await self._store.write(lambda unit: unit.tasks.finish([ended]))
        return {"cancelled": True, "status": status}

    async def requeue(self, task_id: str) -> None:
        stored = await self._store.read(lambda unit: unit.tasks.get(task_id))
        if stored is None:
            raise TaskIdUnknown(task_id)
        if stored.state != "cancelled":
            raise TaskNotRequeued(task_id, stored.state)
        begun = anew(stored, time.time())
        await self._store.write(lambda unit: unit.tasks.requeue(begun))

    async def stats(self) -> dict[str, Any]:
        counts = await self._store.read(lambda unit: unit.tasks.counts("default"))
        slots = WorkerSlots(self._settings.task_workers)
        slots.began("held-1", "t", time.time())
        return {
            "is_running": self._runs,
            "standby": None,
            "stages": {"ready": counts.get("pending", 0)},
            "status_counts": counts,
            "ends": dict(slots.ends),
            "workers": slots.shown(time.time()),
            "slots": slots.slots,
        }

    async def set_running(self, runs: bool) -> None:
        self._runs = runs

    async def expire(self, max_age_s: float) -> int:
        before = utc(time.time() - max_age_s)
        return await self._store.write(lambda unit: unit.tasks.expire(before, 1_000))
