"""The tasks that have not ended, and what the store does not know of them yet."""

from __future__ import annotations

import asyncio
from functools import partial

from infra.clock import Clock, utc
from infra.db.tasks import COMPLETED, FAILED, Outcome
from infra.errors import TaskQueueStopped
from infra.metrics import TASKS_ENDED
from pipelines.queue.core import Backlog, Entry
from pipelines.queue.events import TaskEvents
from pipelines.queue.queue_store import Changes, Rerun
from pipelines.queue.results import ResultStore
from pipelines.queue.shown import ended_shown, entry_shown
from pipelines.queue.slots import WorkerSlots
from pipelines.queue.waiting import Waiters

MOST_LOSSES = 10  # tries that ended with the queue or its node, before a task counts as poison
_ARGUMENT_BYTES = 16 * 2**20  # of waiting tasks, in memory; the rest is read when they start
_LOADING_S = 4.0


class LiveTasks:
    """Every change of a task passes here: into the backlog, the next transaction, the events.

    State: soft; `changes` is lost with the process, and mended at the next start.
    """

    def __init__(
        self,
        backlog: Backlog,
        results: ResultStore,
        events: TaskEvents,
        slots: WorkerSlots,
        clock: Clock,
    ) -> None:
        self.backlog = backlog
        self.results = results
        self.slots = slots
        self.waiters = Waiters()
        self.changes = Changes()
        self.freed: list[Entry] = []  # their predecessors ended
        self.ending: dict[str, Outcome] = {}  # what ended, until that is in the store
        self.has_work = asyncio.Event()
        self.is_loaded = asyncio.Event()
        self.standby = "the queue is loading"
        self.is_running = True  # whether attempts may begin
        self.argument_bytes = 0
        self._events = events
        self._clock = clock

    def now_s(self) -> float:
        """Return Unix seconds."""
        return self._clock.time_s()

    async def loaded(self) -> None:
        """Wait a moment for a queue that begins; raises TaskQueueStopped."""
        try:
            async with asyncio.timeout(_LOADING_S):
                await self.is_loaded.wait()
        except TimeoutError:
            raise TaskQueueStopped(self.standby) from None

    def add(self, entry: Entry) -> None:
        """Take a task; one that has begun once waits for no other."""
        if entry.id in self.backlog:
            return
        needs = None if entry.tries else entry.needs
        self.backlog.add(entry, self.now_s(), needs.on if needs else ())
        if needs is not None and entry.waits_for == 0:
            self.backlog.hold(entry)
            self.freed.append(entry)

    def publish(self, entry: Entry) -> None:
        """Tell clients how a task is."""
        self._events.changed(entry.id, partial(entry_shown, entry))

    def is_over(self, entry: Entry) -> bool:
        """Return whether it is known already what came of a task, though a try may yet end."""
        return entry.id in self.ending or self.backlog.get(entry.id) is not entry

    def lost(self, entry: Entry) -> None:
        """Let a task run again whose try ended with the queue or the node."""
        entry.losses += 1
        if entry.losses > MOST_LOSSES:
            reason = f"{entry.losses} times the service died while it ran"
            self.end(entry, FAILED, "poison", reason)
            return
        self.rerun(entry, self.now_s(), "the service ended while it ran")

    def rerun(self, entry: Entry, at_s: float, error: str | None) -> None:
        """Let a task that did not end well run again, from Unix time `at_s` on."""
        if self.is_over(entry):
            return
        entry.last_error = error
        self.backlog.again(entry, at_s, self.now_s())
        if entry.code is None:
            self.changes.reruns.append(
                Rerun(entry.id, entry.state, entry.tries, entry.losses, at_s, error)
            )
        self.publish(entry)
        self.has_work.set()

    def end(
        self,
        entry: Entry,
        state: str,
        code: str | None = None,
        error: str | None = None,
        result: bytes | None = None,
        file: str | None = None,
        size: int = 0,
    ) -> None:
        """Note what came of a task, once; published when it is in the store."""
        if self.is_over(entry):
            return
        if entry.stage != "running":
            self.backlog.hold(entry)
        outcome = Outcome(
            entry.id, state, None if entry.started_s is None else utc(entry.started_s),
            utc(self.now_s()), entry.worker, 100.0 if state == COMPLETED else entry.progress,
            code, error, result, file, size,
        )  # fmt: skip
        self.ending[entry.id] = outcome
        if entry.code is not None:
            self.settle(outcome)
            return
        self.changes.outcomes.append(outcome)
        if entry.has_webhook:
            self.changes.hooked.add(entry.id)
        self.has_work.set()

    def settle(self, outcome: Outcome) -> None:
        """Publish an outcome that is in the store."""
        self.ending.pop(outcome.task_id, None)
        self.results.keep(outcome)
        entry = self.backlog.get(outcome.task_id)
        if entry is not None:
            TASKS_ENDED.labels(entry.name, outcome.state).inc()
            self.slots.count(outcome.state)
            self._events.changed(entry.id, partial(ended_shown, entry, outcome))
            self.release_arguments(entry)
            self.freed += self.backlog.end(entry)
        self.waiters.ended(outcome.task_id)

    def keep_arguments(self, entry: Entry, arguments: bytes | None) -> None:
        """Keep arguments in memory, while there is room for them."""
        if arguments is None:
            return
        is_near = entry.stage == "claimed" or entry.code is not None
        if is_near or self.argument_bytes + len(arguments) <= _ARGUMENT_BYTES:
            entry.arguments = arguments
            self.argument_bytes += len(arguments)

    def release_arguments(self, entry: Entry) -> None:
        """Forget arguments that the store has, or nobody needs."""
        self.argument_bytes -= len(entry.arguments or b"")
        entry.arguments = None
