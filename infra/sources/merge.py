"""Questions that meet on their way upstream become one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight(Generic[T]):
    """One call that several wait for; cancelled when the last of them is."""

    def __init__(self, call: Awaitable[T]) -> None:
        self._task = asyncio.ensure_future(call)
        self._task.add_done_callback(_seen)
        self._callers = 0
        self.is_over = False

    async def join(self) -> T:
        """Return what the call returns, or raise what it raises."""
        self._callers += 1
        try:
            await asyncio.wait({self._task})
        finally:
            self._callers -= 1
            if not self._callers:
                self.is_over = True
                self._task.cancel()
        return self._task.result()


def _seen(task: asyncio.Future[Any]) -> None:
    """Mark the error as seen: the last caller may have been cancelled as it came."""
    if not task.cancelled():
        task.exception()
