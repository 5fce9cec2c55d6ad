"""The queue as an actor, which hands out to Ray."""

from __future__ import annotations

from typing import Any

from actors.hub.client import HubClient
from actors.reporting import report_metrics
from actors.runtime import ServiceActor, exposed
from actors.telemetry.client import TelemetryClient
from infra.clock import SystemClock
from infra.db.store import open_store
from infra.settings import Settings
from pipelines.queue.events import TaskEvents
from pipelines.queue.slots import WorkerSlots
from pipelines.queue.task_queue import TaskQueue
from pipelines.worker.ray_runner import RayRunner


class TaskQueueActor(ServiceActor):
    """One queue for the whole cluster. State and delivery: see TaskQueue."""

    role = "tasks"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        clock = SystemClock()
        events = TaskEvents(HubClient(settings.actor_wait_s), clock)
        self._queue = TaskQueue(
            settings, open_store(settings, clock), WorkerSlots(settings.task_workers),
            RayRunner(settings), events, self.keep, self.process, clock,
        )  # fmt: skip
        self.keep(self._queue.run())
        self.keep(self._queue.watch())
        self.keep(self._queue.purge())
        self.keep(events.run())
        self.keep(report_metrics(self.process, TelemetryClient()))

    @exposed
    async def submit(self, text: bytes) -> list[str]:
        """Accept packed submissions; return their ids once they are in the store."""
        return await self._queue.admission.submit(text)

    @exposed
    async def note(
        self, task_id: str, attempt: int, started_s: float, worker: str, pct: float, message: str
    ) -> None:
        """Take from a running task that it runs, and how far it is."""
        await self._queue.attempts.note(task_id, attempt, started_s, worker, pct, message)

    @exposed
    async def task(self, task_id: str) -> dict[str, Any]:
        """Return a task as the API shows it."""
        return await self._queue.queries.task(task_id)

    @exposed
    async def live(self, task_ids: list[str]) -> dict[str, dict[str, Any]]:
        """Return those of the tasks that have not ended."""
        return await self._queue.queries.live(task_ids)

    @exposed
    async def results(self, task_ids: list[str], timeout_s: float) -> bytes:
        """Return what came of tasks, once all ended or the time is over; as much as fits."""
        return await self._queue.queries.results(task_ids, timeout_s)

    @exposed
    async def cancel(self, task_id: str, reason: str) -> dict[str, Any]:
        """Cancel a task, its children and what waits for it."""
        return await self._queue.attempts.cancel(task_id, reason)

    @exposed(once=True)
    async def requeue(self, task_id: str) -> None:
        """Let a failed or cancelled task begin anew."""
        await self._queue.admission.requeue(task_id)

    @exposed
    async def stats(self) -> dict[str, Any]:
        """Return how the queue and its workers do."""
        return await self._queue.queries.stats()

    @exposed
    async def set_running(self, runs: bool) -> None:
        """Let the queue start tasks, or none, until this process ends."""
        await self._queue.set_running(runs)

    @exposed
    async def expire(self, max_age_s: float) -> int:
        """Forget tasks that ended so long ago; return how many."""
        return await self._queue.expire(max_age_s)

    @exposed
    async def drain(self, grace_s: float) -> int:
        """Start nothing; after the grace, stop what runs and let it run at the next start."""
        return await self._queue.drain(grace_s)
