"""Who waits for the end of which tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


class _Waiter:
    def __init__(self, left: int) -> None:
        self.left = left
        self.done = asyncio.Event()


class Waiters:
    """Waiters by task; one of thousands of tasks costs one event. State: soft."""

    def __init__(self) -> None:
        self._by_task: dict[str, list[_Waiter]] = {}

    async def wait(self, task_ids: Sequence[str], timeout_s: float) -> None:
        """Return once all have ended, or the time is over."""
        ids = set(task_ids)
        if not ids:
            return
        waiter = _Waiter(len(ids))
        for task_id in ids:
            self._by_task.setdefault(task_id, []).append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter.done.wait()
        except TimeoutError:
            return
        finally:
            for task_id in ids:
                self._leave(task_id, waiter)

    def ended(self, task_id: str) -> None:
        """Tell those who wait for a task that it ended."""
        for waiter in self._by_task.pop(task_id, ()):
            waiter.left -= 1
            if waiter.left == 0:
                waiter.done.set()

    def _leave(self, task_id: str, waiter: _Waiter) -> None:
        waiters = self._by_task.get(task_id)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self._by_task[task_id]
