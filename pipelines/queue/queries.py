"""What others ask of the queue."""

from __future__ import annotations

from typing import Any

from infra.db.store import Store
from infra.errors import TaskIdUnknown
from pipelines.queue.client import Result, packed_results
from pipelines.queue.live import LiveTasks
from pipelines.queue.shown import entry_shown, task_shown

_ANSWER_BYTES = 16 * 2**20


class Queries:
    """Answers from memory, and from the store for what has ended. It changes nothing."""

    def __init__(self, queue: str, store: Store, live: LiveTasks) -> None:
        self._queue = queue
        self._store = store
        self._live = live

    async def task(self, task_id: str) -> dict[str, Any]:
        """Return a task as the API shows it."""
        entry = self._live.backlog.get(task_id)
        if entry is not None and task_id not in self._live.ending:
            return entry_shown(entry)
        stored = await self._store.read(lambda unit: unit.tasks.get(task_id))
        if stored is not None:
            outcome = (await self._live.results.outcomes([task_id])).get(task_id)
            return task_shown(stored, outcome)
        if entry is None:
            raise TaskIdUnknown(task_id)
        return entry_shown(entry)

    async def live(self, task_ids: list[str]) -> dict[str, dict[str, Any]]:
        """Return those of the tasks that have not ended."""
        entries = {task_id: self._live.backlog.get(task_id) for task_id in task_ids}
        return {i: entry_shown(e) for i, e in entries.items() if e is not None}

    async def results(self, task_ids: list[str], timeout_s: float) -> bytes:
        """Return what came of tasks, once all ended or the time is over; as much as fits."""
        live = self._live
        await live.loaded()
        if timeout_s > 0:
            await live.waiters.wait([i for i in task_ids if i in live.backlog], timeout_s)
        found: list[Result] = []
        size, ended = 0, [i for i in task_ids if i not in live.backlog]
        outcomes = await live.results.outcomes(ended)
        for task_id in task_ids:
            outcome = outcomes.get(task_id)
            if outcome is not None and size < _ANSWER_BYTES:
                found.append(await live.results.result(outcome))
                size += len(found[-1].data)
            elif outcome is None and (entry := live.backlog.get(task_id)) is not None:
                found.append(Result(task_id, entry.state, None, None, "", b""))
            elif outcome is None:
                await live.results.state(task_id)  # unknown ones raise
        return packed_results(found)

    async def stats(self) -> dict[str, Any]:
        """Return how the queue and its workers do."""
        live = self._live
        counts = await self._store.read(lambda unit: unit.tasks.counts(self._queue))
        return {
            "is_running": live.is_running and not live.standby,
            "standby": live.standby or None,
            "stages": {name: n for name, n in live.backlog.stages.items() if name != "ended"},
            "status_counts": counts,
            "ends": dict(live.slots.ends),
            "workers": live.slots.shown(live.now_s()),
            "slots": live.slots.slots,
        }
