"""Many questions made one: the same one asked meanwhile, and those that fit in one request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from infra.clock import Clock

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Flight:
    """One call under way, and who waits for its answer."""

    __slots__ = ("answer", "call", "rank", "waiting")

    def __init__(self) -> None:
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.call: asyncio.Future[Any] | None = None
        self.rank = 0
        self.waiting = 0

    def fly(self, call: asyncio.Future[Any], rank: int) -> None:
        """Take the answer from this call from now on; the one before it ends."""
        before, self.call, self.rank = self.call, call, rank
        call.add_done_callback(self._over)
        if before is not None:
            before.cancel()

    def _over(self, call: asyncio.Future[Any]) -> None:
        error = None if call.cancelled() else call.exception()
        if call is not self.call or self.answer.done():
            return
        if call.cancelled():
            self.answer.cancel()
        elif error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(call.result())


class SingleFlight:
    """Callers that ask for the same key meanwhile share one call, its answer or its error.

    Who asks with a lower `rank` than that of the call under way does not stand in line behind
    it: the call is made anew for all of them. A caller that is cancelled leaves the others alone;
    with the last one the call ends too. Nothing is kept once the call is over.
    """

    def __init__(self) -> None:
        self._flights: dict[Hashable, _Flight] = {}

    async def run(self, key: Hashable, make: Callable[[], Awaitable[T]], rank: int = 0) -> T:
        """Return what `make` gives to the first who asked, or to the most urgent."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight()
            flight.answer.add_done_callback(_seen)
            flight.answer.add_done_callback(lambda _: self._forget(key, flight))
        if flight.call is None or rank < flight.rank:
            flight.fly(asyncio.ensure_future(make()), rank)
        flight.waiting += 1
        try:
            answer: T = await asyncio.shield(flight.answer)
            return answer
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.answer.done():
                self._forget(key, flight)
                if flight.call is not None:
                    flight.call.cancel()

    def _forget(self, key: Hashable, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
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
