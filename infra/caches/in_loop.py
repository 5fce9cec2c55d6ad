"""Something that belongs to an event loop, asked from any thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

from infra.caches.base import CacheStats, Sheddable

T = TypeVar("T")

_WITHIN_S = 5.0


class InLoop:
    """A Sheddable whose methods run in the thread of `loop`; others wait for them.

    Raises TimeoutError where the loop does not come to it within five seconds.
    """

    def __init__(self, inner: Sheddable, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop

    def stats(self) -> Iterable[CacheStats]:
        """Return its figures."""
        return self._run(self._inner.stats)

    def purge(self) -> dict[str, int]:
        """Drop what may not be given any more."""
        return self._run(self._inner.purge)

    def shrink(self, name: str, max_bytes: int) -> int:
        """Drop the least useful entries of a cache."""
        return self._run(lambda: self._inner.shrink(name, max_bytes))

    def clear(self, name: str | None = None) -> dict[str, int]:
        """Drop all entries."""
        return self._run(lambda: self._inner.clear(name))

    def _run(self, work: Callable[[], T]) -> T:
        if asyncio._get_running_loop() is self._loop:
            return work()
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_WITHIN_S)
