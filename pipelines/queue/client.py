"""The queue as others see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from actors.runtime import ActorClient
from infra.errors import (
    ActorUnavailable,
    TaskCancelled,
    TaskFailed,
    TaskQueueStopped,
    TaskUnfinished,
)
from pipelines.codec import loaded_result
from pipelines.submission import TASK_QUEUE, Submission, packed_submissions

_POLL_S = 10.0
_ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a task; `data` is its result as `kind` says, empty where it failed."""

    task_id: str
    state: str
    error_code: str | None
    error: str | None
    kind: str
    data: bytes

    def value(self) -> Any:
        """Return the result; raises TaskFailed, TaskCancelled, TaskUnfinished."""
        if self.state == "completed":
            return loaded_result(self.kind, self.data)
        if self.state not in _ENDED:
            raise TaskUnfinished(self.task_id, self.state)
        kind = TaskCancelled if self.state == "cancelled" else TaskFailed
        raise kind(self.task_id, self.error_code or "", self.error or "")


def packed_results(results: Sequence[Result]) -> bytes:
    """Return results as bytes."""
    packed: bytes = msgpack.packb([[getattr(r, n) for n in Result.__slots__] for r in results])
    return packed


class TaskClient(ActorClient):
    """Calls to the queue; each raises ActorUnavailable if it does not come back in time."""

    actor_name = TASK_QUEUE

    def __init__(self, wait_s: float = 5.0) -> None:
        super().__init__(wait_s)
        self._gathered: list[tuple[list[Submission], asyncio.Future[list[str]]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def submit(self, submissions: Sequence[Submission]) -> list[str]:
        """Accept tasks, all or none; return their ids once they are in the store.

        The id is another one's where that is the same work (`unique_key`, `idempotency_key`).
        Raises TaskQueueFull, TaskQueueStopped, StoreError.
        """
        ids: list[str] = await self._ask("submit", packed_submissions(submissions))
        return ids

    async def submit_together(self, submissions: Sequence[Submission]) -> list[str]:
        """Accept tasks as `submit` does, in one call with what this process submits meanwhile.

        What stands in the way of one is told to all of the same call.
        """
        future: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self._gathered.append((list(submissions), future))
        if self._sending is None:  # apart from this caller, who may go away
            self._sending = asyncio.create_task(self._send_gathered())
        return await future

    async def _send_gathered(self) -> None:
        while self._gathered:
            gathered, self._gathered = self._gathered, []
            try:
                ids = await self.submit([one for many, _ in gathered for one in many])
            except Exception as error:
                for _, future in gathered:
                    if not future.done():
                        future.set_exception(error)
                continue
            for many, future in gathered:
                own, ids = ids[: len(many)], ids[len(many) :]
                if not future.done():
                    future.set_result(own)
        self._sending = None

    async def task(self, task_id: str) -> dict[str, Any]:
        """Return a task as the API shows it; raises TaskIdUnknown."""
        found: dict[str, Any] = await self._ask("task", task_id)
        return found

    async def live(self, task_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return those of the tasks that have not ended, as the API shows them."""
        found: dict[str, dict[str, Any]] = await self._ask("live", list(task_ids))
        return found

    async def results(self, task_ids: Sequence[str]) -> list[Result]:
        """Return what came of tasks so far; raises TaskIdUnknown."""
        text = await self._ask("results", list(task_ids), 0.0)
        return [Result(*values) for values in msgpack.unpackb(text)]

    async def wait(self, task_ids: Sequence[str], timeout_s: float | None = None) -> list[Result]:
        """Wait until all have ended; raises TimeoutError, TaskIdUnknown.

        A queue that restarts is waited for: tasks outlive it.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        waiting = list(dict.fromkeys(task_ids))
        found: dict[str, Result] = {}
        while waiting:
            left_s = _POLL_S if deadline_s is None else deadline_s - time.monotonic()
            if left_s <= 0:
                raise TimeoutError(f"{len(waiting)} of {len(task_ids)} tasks have not ended")
            poll_s = min(_POLL_S, left_s)
            try:
                text = await self._ask("results", waiting, poll_s, wait_s=poll_s + self._wait_s)
            except (ActorUnavailable, TaskQueueStopped):
                await asyncio.sleep(min(0.2, left_s))
                continue
            for values in msgpack.unpackb(text):
                result = Result(*values)
                if result.state in _ENDED:
                    found[result.task_id] = result
            waiting = [task_id for task_id in waiting if task_id not in found]
        return [found[task_id] for task_id in task_ids]

    async def cancel(self, task_id: str, reason: str = "asked") -> dict[str, Any]:
        """Cancel a task, its children, and what waits for it; raises TaskIdUnknown.

        Returns `{cancelled, status}`; False where it had ended. A running one ends within a second
        or so.
        """
        answer: dict[str, Any] = await self._ask("cancel", task_id, reason)
        return answer

    async def requeue(self, task_id: str) -> None:
        """Let a failed or cancelled task begin anew; raises TaskIdUnknown, TaskNotRequeued."""
        await self._ask("requeue", task_id)

    async def stats(self) -> dict[str, Any]:
        """Return how the queue and its workers do."""
        found: dict[str, Any] = await self._ask("stats")
        return found

    async def set_running(self, runs: bool) -> None:
        """Let the queue start tasks, or none: what runs goes on, what comes waits."""
        await self._ask("set_running", runs)

    async def expire(self, max_age_s: float) -> int:
        """Forget tasks that ended so long ago, with their results; return how many."""
        count: int = await self._ask("expire", max_age_s, wait_s=60.0)
        return count

    async def drain(self, grace_s: float) -> int:
        """Start nothing, let what runs end within `grace_s`, put the rest back; return that."""
        count: int = await self._ask("drain", grace_s, wait_s=grace_s + self._wait_s)
        return count
