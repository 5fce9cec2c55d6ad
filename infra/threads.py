"""A few daemon threads for calls that block: the loop goes on, and no exit waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from infra.clock import Clock
from infra.errors import SourceUnavailable

T = TypeVar("T")

_here = threading.local()


@dataclass(slots=True, eq=False)
class _Job:
    """One call, and who waits for its answer."""

    call: Callable[[], Any]
    timeout_s: float
    answer: asyncio.Future[Any]
    key: str | None = None
    watch: asyncio.Future[None] | None = None
    hangs: bool = False

    def refuse(self, reason: str) -> None:
        """Answer that there is no answer, unless there is one already."""
        if not self.answer.done():
            self.answer.set_exception(SourceUnavailable(reason))

    def rest(self) -> None:
        """Stop watching it."""
        if self.watch is not None:
            self.watch.cancel()


class Threads:
    """Runs calls that block in at most `count` threads, started when first needed.

    A call that takes too long is given up: who waits is told, and its thread hangs until the
    call comes back, if ever. Then it is used again. While all hang, every call is refused at
    once. `upstream` is whom the calls ask, for messages.

    For one event loop; a call that was given up goes on, see `is_wanted`.
    """

    def __init__(self, upstream: str, count: int, clock: Clock) -> None:
        self._upstream = upstream
        self._count = count
        self._clock = clock
        self._line: deque[_Job] = deque()
        self._running: set[_Job] = set()
        self._started = 0
        self._given: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._is_closed = False

    @property
    def running(self) -> int:
        """How many threads are at work, those that hang among them."""
        return len(self._running)

    @property
    def hanging(self) -> int:
        """How many threads are at a call that was given up."""
        return sum(job.hangs for job in self._running)

    def check(self) -> None:
        """Raise SourceUnavailable if a call would be refused now."""
        if self._is_closed:
            raise SourceUnavailable(f"the connection to {self._upstream} was closed")
        if self.hanging == self._count:
            raise SourceUnavailable(self._all_hang)

    async def run(self, call: Callable[[], T], timeout_s: float, key: str | None = None) -> T:
        """Return what `call` returns in a thread, or raise what it raises.

        Raises SourceUnavailable if no thread was free for `timeout_s`, if the call took longer
        than `timeout_s` from its start, if one of the same `key` still goes on, and what `check`
        raises.
        """
        self.check()
        if key is not None and self._goes_on(key):
            raise SourceUnavailable(f"the former request to {self._upstream} still goes on")
        job = _Job(call, timeout_s, asyncio.get_running_loop().create_future(), key)
        job.watch = asyncio.ensure_future(self._lose_patience(job))
        self._line.append(job)
        self._pump()
        answer: T = await job.answer
        return answer

    def close(self) -> None:
        """Refuse all calls, those under way too; threads that hang are left behind."""
        self._is_closed = True
        for job in (*self._line, *self._running):
            job.rest()
            job.refuse(f"the connection to {self._upstream} was closed")
        self._line.clear()
        for _ in range(self._started):
            self._given.put(None)

    @property
    def _all_hang(self) -> str:
        return f"{self._upstream} does not answer: all {self._count} requests to it hang"

    def _goes_on(self, key: str) -> bool:
        in_line = (job for job in self._line if not job.answer.done())
        return any(job.key == key for job in (*in_line, *self._running))

    def _pump(self) -> None:
        """Give to threads what they can take."""
        while self._line and len(self._running) < self._count:
            job = self._line.popleft()
            job.rest()
            if job.answer.done():
                continue  # its caller was cancelled in line, or tired of it
            job.watch = asyncio.ensure_future(self._give_up(job))
            self._running.add(job)
            self._given.put(job)
            if self._started < len(self._running):
                self._start()

    def _start(self) -> None:
        self._started += 1
        name = f"{self._upstream.lower()}-{self._started}"
        # Not of a ThreadPoolExecutor: the interpreter joins those before it exits.
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def _lose_patience(self, job: _Job) -> None:
        await self._clock.sleep(job.timeout_s)
        job.refuse(f"{self._upstream} is too slow: no thread was free for {job.timeout_s:g} s")

    async def _give_up(self, job: _Job) -> None:
        # Also when nobody waits any more: whether a thread hangs matters to the next call.
        await self._clock.sleep(job.timeout_s)
        job.hangs = True
        job.refuse(f"{self._upstream} does not answer within {job.timeout_s:g} s")
        if self.hanging == self._count:
            for waiting in self._line:
                waiting.rest()
                waiting.refuse(self._all_hang)
            self._line.clear()

    def _settle(self, job: _Job, value: Any, error: BaseException | None) -> None:
        job.rest()
        self._running.discard(job)
        self._pump()
        if job.answer.done():
            return
        if error is None:
            job.answer.set_result(value)
        else:
            job.answer.set_exception(error)

    # -- in the threads ---------------------------------------------------------------------

    def _work(self) -> None:
        while (job := self._given.get()) is not None:
            self._perform(job)
            del job  # what it holds should not live until the next one comes

    def _perform(self, job: _Job) -> None:
        _here.job = job
        value: Any = None
        failure: BaseException | None = None
        try:
            value = job.call()
        except BaseException as error:
            failure = error
        _here.job = None
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            job.answer.get_loop().call_soon_threadsafe(self._settle, job, value, failure)


def is_wanted() -> bool:
    """Return whether somebody still waits for the call that runs in this thread."""
    job: _Job | None = getattr(_here, "job", None)
    return job is None or not job.answer.done()
