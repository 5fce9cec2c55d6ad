"""One budget per upstream: who may ask it, how often, and what its refusals mean for the rest."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from bisect import insort
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from infra.clock import Clock
from infra.errors import (
    SourceError,
    SourceLimited,
    SourceMalformed,
    SourceUnavailable,
    SymbolUnknown,
)
from infra.sources.base import Lane
from infra.sources.breaker import Breaker
from infra.sources.budget_state import BudgetState
from infra.sources.pace import TICK_S, Pace, backoff_s
from infra.sources.trouble import Trouble

logger = logging.getLogger(__name__)

T = TypeVar("T")

ATTEMPTS = 3
MAX_WAIT_S = 30.0

# Nobody looks at a screen for it: a job in the background waits this many times longer.
_PATIENCE = {Lane.LIVE: 1.0, Lane.INTERACTIVE: 1.0, Lane.BACKGROUND: 20.0}


@dataclass(order=True, slots=True)
class _Waiter:
    """A place in the queue; `turn` ends with None, or with the reason why it never comes."""

    lane: Lane
    number: int
    until_s: float = field(compare=False)
    turn: asyncio.Future[SourceError | None] = field(compare=False)


class Budget:
    """The requests to one upstream: in order of lane, few at once, at a rate that it allows.

    `per_s` is the highest rate, learned downwards from refusals and back up from successes (see
    Pace); `burst` (None: `at_once`) may start in one instant after a quiet time. A lane goes
    before all higher ones, first come first served within it. Who would wait longer than
    `max_wait_s`, or 20 times that in the background lane, is refused at once. A 429 is no
    failure: it pauses everybody, and the breaker (see Breaker) stays as it is.

    State: soft, forgotten at a restart. For one event loop; not safe for several threads.
    Cost: each start and end of a request grows with the number waiting.
    """

    def __init__(
        self,
        name: str,
        clock: Clock,
        per_s: float,
        at_once: int,
        rng: random.Random,
        burst: int | None = None,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        self._name = name
        self._clock = clock
        self._at_once = at_once
        self._rng = rng
        self._max_wait_s = max_wait_s
        self._pace = Pace(per_s, burst or at_once, rng, clock.monotonic_s())
        self._breaker = Breaker(name, rng)
        self._order = itertools.count()
        self._queue: list[_Waiter] = []
        self._timer: asyncio.Task[None] | None = None
        self._wakes_at_s = 0.0
        self._running = self._sent = self._limited = self._failed = 0
        self._has_answered = False
        self._failure: SourceError | None = None
        self._failing_since_s = clock.time_s()

    @property
    def state(self) -> BudgetState:
        """What the budget is doing, for metrics."""
        now_s, paused_until_s = self._clock.monotonic_s(), self._pace.paused_until_s
        return BudgetState(
            name=self._name,
            rate_per_s=self._pace.rate_per_s,
            waiting=len(self._queue),
            running=self._running,
            paused_until_s=paused_until_s if paused_until_s > now_s else None,
            breaker=self._breaker.state(now_s),
            limited_total=self._limited,
            failed_total=self._failed,
            sent_total=self._sent,
        )

    @property
    def trouble(self) -> Trouble | None:
        """Why the upstream does not answer, None if it did when it was last asked."""
        now_s, failure = self._clock.monotonic_s(), self._failure
        if failure is None:
            if self._has_answered or not self._sent:
                return None
            text = f"{self._name.capitalize()} has not answered yet"
            return Trouble(self._name, "waiting", text, self._failing_since_s)
        left_s = max(self._pace.paused_until_s - now_s, self._breaker.closed_in_s(now_s) or 0.0)
        retry_at_s = self._clock.time_s() + left_s if left_s > 0 else None
        since_s = self._failing_since_s
        return Trouble(self._name, failure.cause, failure.text, since_s, retry_at_s, left_s > 0)

    def _refusal(self, now_s: float) -> SourceUnavailable | None:
        """Return why no request may be made now, in the words of what went wrong last."""
        left_s, failure = self._breaker.closed_in_s(now_s), self._failure
        if left_s is None:
            return None
        assert failure is not None  # it opens for one
        return SourceUnavailable(failure.text, failure.cause, left_s)

    async def run(
        self,
        call: Callable[[], Awaitable[T]],
        lane: Lane = Lane.INTERACTIVE,
        of: str | None = None,
    ) -> T:
        """Make one request when its turn comes; return what `call` returns.

        `of`: the symbol that it asks about where that is the only one; failures of one symbol
        alone do not open the breaker.

        `call` raises SourceLimited for a 429 and SourceUnavailable for a network failure or a
        5xx: it is then called again, 3 times in all, if the wait is short enough.
        SourceMalformed counts as a failure, SymbolUnknown as an answer, all else as nothing;
        none of these is retried.

        Raises SourceLimited if the wait is, or became, too long, and SourceUnavailable, which
        says when it is tried again, while the breaker is open; otherwise what `call` raised.
        """
        number = next(self._order)  # kept for all attempts: who was refused goes first again
        until_s = self._clock.monotonic_s() + self._max_wait_s * _PATIENCE[lane]
        attempt = 1
        while True:
            is_probe = await self._wait(lane, number, until_s)
            try:
                return await self._send(call, is_probe, of)
            except SourceLimited:
                if attempt == ATTEMPTS:
                    wait_s = self._pace.wait_s(self._clock.monotonic_s())
                    raise SourceLimited(self._name, wait_s) from None
            except SourceUnavailable:
                now_s, delay_s = self._clock.monotonic_s(), backoff_s(self._rng, attempt - 1)
                is_hopeless = now_s + delay_s > until_s or self._refusal(now_s)
                if attempt == ATTEMPTS or is_hopeless:
                    raise
                await self._clock.sleep(delay_s)
            attempt += 1

    # -- a request --------------------------------------------------------------------------

    async def _wait(self, lane: Lane, number: int, until_s: float) -> bool:
        """Return with a slot and a token taken; the value: whether this is the probe."""
        now_s = self._clock.monotonic_s()
        if refusal := self._refusal(now_s):
            raise refusal
        is_probe = self._breaker.enter(now_s)
        turn: asyncio.Future[SourceError | None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(lane, number, until_s, turn)
        insort(self._queue, waiter)
        self._pump()
        try:
            if (reason := await turn) is not None:
                raise reason
        except BaseException:
            self._leave(waiter)
            self._breaker.leave(is_probe)
            raise
        return is_probe

    def _leave(self, waiter: _Waiter) -> None:
        turn = waiter.turn
        if turn.done() and not turn.cancelled() and turn.result() is None:
            # Cancelled between being let go and going: the request was not made.
            self._running -= 1
            self._pace.give_back()
        self._pump()

    async def _send(self, call: Callable[[], Awaitable[T]], is_probe: bool, of: str | None) -> T:
        """Make the request, and learn from what comes of it."""
        started_s = self._clock.monotonic_s()
        self._sent += 1
        try:
            answer = await call()
        except SourceLimited as error:
            self._note_limited(started_s, error)
            raise
        except (SourceUnavailable, SourceMalformed) as error:
            self._note_failed(is_probe, error, of)
            raise
        except SymbolUnknown:
            self._note_answered(started_s, is_probe)
            raise
        else:
            self._note_answered(started_s, is_probe)
            return answer
        finally:
            self._running -= 1
            self._breaker.leave(is_probe)
            self._pump()

    def _note_answered(self, started_s: float, is_probe: bool) -> None:
        self._pace.succeeded(started_s)
        self._breaker.succeeded(is_probe)
        self._has_answered = True
        if self._breaker.state(self._clock.monotonic_s()) == "closed":
            self._failure = None

    def _note_failure(self, error: SourceError) -> None:
        if self._failure is None:
            self._failing_since_s = self._clock.time_s()
        self._failure = error

    def _note_limited(self, started_s: float, error: SourceLimited) -> None:
        self._limited += 1
        self._note_failure(error)
        now_s = self._clock.monotonic_s()
        if self._pace.limited(started_s, now_s, error.retry_after_s):
            facts = {"upstream": self._name, "rate_per_s": self._pace.rate_per_s}
            pause_s = self._pace.paused_until_s - now_s
            logger.warning("upstream.limited", extra=facts | {"pause_s": pause_s})

    def _note_failed(self, is_probe: bool, error: SourceError, of: str | None) -> None:
        self._failed += 1
        now_s = self._clock.monotonic_s()
        opens = self._breaker.failed(is_probe, now_s, of)
        if opens or not isinstance(error, SourceMalformed):  # which may be of one symbol only
            self._note_failure(error)
        if opens:
            refusal = self._refusal(now_s)
            for waiter in self._waiting():
                waiter.turn.set_result(refusal)

    # -- the queue --------------------------------------------------------------------------

    def _waiting(self) -> list[_Waiter]:
        """Return whoever still waits: those cancelled or refused may not have left yet."""
        return [waiter for waiter in self._queue if not waiter.turn.done()]

    def _pump(self) -> None:
        """Let go whoever may, refuse whoever would wait too long, wake up for the next."""
        now_s = self._clock.monotonic_s()
        self._queue = self._waiting()
        while self._queue and self._has_slot and self._pace.wait_s(now_s) <= TICK_S:
            self._pace.take(now_s)
            self._running += 1
            self._queue.pop(0).turn.set_result(None)
        self._queue = self._without_hopeless(now_s)
        self._set_timer(now_s)

    @property
    def _has_slot(self) -> bool:
        return self._running < self._at_once

    def _without_hopeless(self, now_s: float) -> list[_Waiter]:
        kept: list[_Waiter] = []
        for waiter in self._queue:
            wait_s = max(TICK_S, self._pace.wait_s(now_s, len(kept) + 1))
            if now_s + wait_s <= waiter.until_s:
                kept.append(waiter)
            else:
                waiter.turn.set_result(self._no_turn(now_s, wait_s))
        return kept

    def _no_turn(self, now_s: float, wait_s: float) -> SourceLimited:
        """Return why a turn never comes: the upstream's pause, or those who wait before."""
        is_paused = self._pace.paused_until_s > now_s
        cause = "limited" if is_paused else "busy"
        return SourceLimited(self._name, max(1.0, wait_s), cause)

    def _set_timer(self, now_s: float) -> None:
        """Wake up when the next may go, or when the first has waited too long."""
        wakes_at_s = min((waiter.until_s for waiter in self._queue), default=float("inf"))
        if self._queue and self._has_slot:
            wakes_at_s = min(wakes_at_s, now_s + self._pace.wait_s(now_s))
        if self._timer is not None:
            if self._queue and self._wakes_at_s <= wakes_at_s:
                return  # too early is harmless
            self._timer.cancel()
            self._timer = None
        if self._queue:
            self._wakes_at_s = wakes_at_s
            self._timer = asyncio.create_task(self._wake_in(wakes_at_s - now_s))

    async def _wake_in(self, delay_s: float) -> None:
        await self._clock.sleep(delay_s)
        self._timer = None
        self._pump()
