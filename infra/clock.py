"""Time as an argument: the system's clock, and one that tests advance."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is said to people, monotonic time for durations."""

    def time_s(self) -> float:
        """Return wall time as Unix seconds."""

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds of this clock."""


class SystemClock:
    """The machine's clock."""

    def time_s(self) -> float:
        """Return wall time as Unix seconds."""
        return time.time()

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds."""
        await asyncio.sleep(max(0.0, delay_s))


class FakeClock:
    """A clock that stands still until `advance` is called."""

    def __init__(self, start_s: float = 1_700_000_000.0) -> None:
        self._now_s = start_s
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def time_s(self) -> float:
        """Return the fake wall time as Unix seconds."""
        return self._now_s

    def monotonic_s(self) -> float:
        """Return the fake time; it moves only forward."""
        return self._now_s

    async def sleep(self, delay_s: float) -> None:
        """Wait until the clock was advanced by `delay_s` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + delay_s, next(self._order), future))
        await future

    def advance(self, delay_s: float) -> None:
        """Move time forward and wake whoever slept until then."""
        self._now_s += delay_s
        while self._sleepers and self._sleepers[0][0] <= self._now_s:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)


def utc(unix_s: float) -> datetime:
    """Return Unix seconds as an aware UTC datetime."""
    return datetime.fromtimestamp(unix_s, UTC)
