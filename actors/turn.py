"""Changes one after the other: what is read, changed and stored is one step."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Turn:
    """`async with turn:` around reading, changing and storing; others wait for their turn.

    Two changes at one time would else both begin from what was there before, and the one that is
    stored last would undo the other. State: soft. Raises RuntimeError where a task that has its
    turn asks for another, for which it would wait for ever.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._owner: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        if task is self._owner:
            raise RuntimeError("a change within a change: it would wait for itself")
        await self._lock.acquire()
        self._owner = task

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._owner = None
        self._lock.release()
