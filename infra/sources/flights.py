"""Many questions made one: the same one asked meanwhile, and those that fit in one request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from infra.clock import Clock

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight:
    """Callers that ask for the same key meanwhile share one call, its answer or its error.

    A caller that is cancelled leaves the others alone; with the last one the call ends too.
    Nothing is kept once the call is over.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, tuple[asyncio.Future[Any], list[int]]] = {}

    async def run(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """Return what `make` gives to the first who asked."""
        if key not in self._flights:
            task: asyncio.Future[Any] = asyncio.ensure_future(make())
            self._flights[key] = task, [0]
            task.add_done_callback(lambda done: self._over(key, done))
        task, waiting = self._flights[key]
        waiting[0] += 1
        try:
            answer: T = await asyncio.shield(task)
            return answer
        finally:
            waiting[0] -= 1
            if not waiting[0] and not task.done():
                self._forget(key, task)
                task.cancel()

    def _over(self, key: Hashable, task: asyncio.Future[Any]) -> None:
        self._forget(key, task)
        _seen(task)

    def _forget(self, key: Hashable, task: asyncio.Future[Any]) -> None:
        flight = self._flights.get(key)
        if flight is not None and flight[0] is task:
            del self._flights[key]


class Merger(Generic[K, V]):
    """Questions that come within `window_s` of the first go up together, `most` keys in each.

    A key asked for by several goes once. A request that fails raises to exactly those who asked
    for one of its keys. `fetch` answers every key that it is given.
    """

    def __init__(
        self,
        clock: Clock,
        window_s: float,
        most: int,
        fetch: Callable[[tuple[K, ...]], Awaitable[Mapping[K, V]]],
    ) -> None:
        self._clock = clock
        self._window_s = window_s
        self._most = most
        self._fetch = fetch
        self._open: dict[K, asyncio.Future[V]] = {}
        self._tasks: set[asyncio.Future[None]] = set()

    async def get(self, keys: Sequence[K]) -> dict[K, V]:
        """Return the answer to each key, in the order given."""
        futures = {key: self._future(key) for key in keys}
        return {key: await asyncio.shield(future) for key, future in futures.items()}

    def _future(self, key: K) -> asyncio.Future[V]:
        if not self._open:
            self._start(self._send_soon())
        future = self._open.get(key)
        if future is None:
            future = asyncio.get_running_loop().create_future()
            future.add_done_callback(_seen)
            self._open[key] = future
        return future

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_soon(self) -> None:
        await self._clock.sleep(self._window_s)
        asked, self._open = self._open, {}
        keys = list(asked)
        for first in range(0, len(keys), self._most):
            part = keys[first : first + self._most]
            self._start(self._send({key: asked[key] for key in part}))

    async def _send(self, asked: Mapping[K, asyncio.Future[V]]) -> None:
        try:
            answers = await self._fetch(tuple(asked))
        except Exception as error:
            for future in asked.values():
                future.set_exception(error)
            return
        for key, future in asked.items():
            future.set_result(answers[key])


def _seen(future: asyncio.Future[Any]) -> None:
    """Let an error that nobody waits for any more be no surprise at the end."""
    if not future.cancelled():
        future.exception()
