"""The budget of an upstream: its rate, its lanes, its pauses, its breaker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.clock import FakeClock
from infra.errors import (
    FinstageError,
    SourceError,
    SourceLimited,
    SourceMalformed,
    SourceUnavailable,
    SymbolUnknown,
)
from infra.sources.base import Lane
from infra.sources.breaker import FAILURES_IN_ROW
from infra.sources.budget import Budget


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def play(clock: FakeClock, seconds: float, step_s: float = 0.05) -> None:
    """Let time pass in small steps, everyone having a go in between."""
    for _ in range(round(seconds / step_s)):
        await settle()
        clock.advance(step_s)
    await settle()


class Upstream:
    """Notes when it was asked; answers at once unless told otherwise."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.started_s: list[float] = []
        self.names: list[str] = []
        self.running = self.most_running = 0
        self.takes_s = 0.0
        self.errors: list[FinstageError] = []

    def call(self, name: str = "") -> Callable[[], Awaitable[str]]:
        async def answer() -> str:
            self.started_s.append(self._clock.monotonic_s())
            self.names.append(name)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            try:
                if self.takes_s:
                    await self._clock.sleep(self.takes_s)
                if self.errors:
                    raise self.errors.pop(0)
                return name
            finally:
                self.running -= 1

        return answer


def budget_of(clock: FakeClock, per_s: float = 10.0, at_once: int = 4) -> Budget:
    return Budget("yahoo", clock, per_s, at_once, random.Random(7))


@settings(deadline=None, max_examples=25)
@given(st.floats(2, 40), st.integers(1, 8), st.integers(1, 60), st.floats(0, 0.5))
async def test_no_more_at_once_and_no_faster_than_allowed(
    per_s: float, at_once: int, count: int, takes_s: float
) -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock, per_s, at_once), Upstream(clock)
    upstream.takes_s = takes_s
    work = [
        asyncio.ensure_future(budget.run(upstream.call(), Lane.BACKGROUND)) for _ in range(count)
    ]
    await play(clock, 2.0)

    assert upstream.most_running <= at_once
    begin_s = upstream.started_s[0]
    for number, started_s in enumerate(upstream.started_s, start=1):
        assert number <= at_once + per_s * (started_s - begin_s) + 1e-3
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)


async def test_live_goes_before_interactive_and_that_before_background() -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock, per_s=1.0, at_once=1), Upstream(clock)
    await budget.run(upstream.call("first"))  # takes the one token that was there
    work = [
        asyncio.ensure_future(budget.run(upstream.call(lane.name), lane))
        for lane in (Lane.BACKGROUND, Lane.INTERACTIVE, Lane.LIVE, Lane.INTERACTIVE)
    ]

    await play(clock, 5.0)

    assert upstream.names == ["first", "LIVE", "INTERACTIVE", "INTERACTIVE", "BACKGROUND"]
    await asyncio.gather(*work)


async def test_nothing_starts_before_retry_after_is_over_and_the_rate_is_halved() -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock), Upstream(clock)
    upstream.errors = [SourceLimited("yahoo", 7.0)]
    begin_s = clock.monotonic_s()
    work = [asyncio.ensure_future(budget.run(upstream.call(), Lane.BACKGROUND)) for _ in range(3)]

    await play(clock, 6.9)
    told = len(upstream.started_s)
    assert budget.state.rate_per_s == pytest.approx(5.0, rel=0.1)
    await play(clock, 3.0)

    await asyncio.gather(*work)
    later = [started_s - begin_s for started_s in upstream.started_s[told:]]
    assert later
    assert min(later) >= 7.0 - 1e-5


async def test_a_wait_that_is_too_long_is_refused_at_once() -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock), Upstream(clock)
    upstream.errors = [SourceLimited("yahoo", 600.0)]

    for _ in range(3):
        with pytest.raises(SourceLimited) as caught:
            await budget.run(upstream.call())
        assert caught.value.retry_after_s > 500
    assert len(upstream.started_s) == 1


async def test_answers_win_the_rate_back() -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock, per_s=100.0, at_once=100), Upstream(clock)
    upstream.errors = [SourceLimited("yahoo", 0.1)]
    work = [asyncio.ensure_future(budget.run(upstream.call(), Lane.BACKGROUND)) for _ in range(90)]
    await play(clock, 10.0)
    await asyncio.gather(*work)

    assert budget.state.rate_per_s > 75.0


async def test_the_breaker_refuses_at_once_and_then_lets_one_probe_go() -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock, per_s=100.0, at_once=10), Upstream(clock)
    upstream.errors = [SourceUnavailable("down")] * FAILURES_IN_ROW
    failing = [asyncio.ensure_future(budget.run(upstream.call())) for _ in range(2)]
    await play(clock, 5.0)
    assert all(
        isinstance(e, SourceUnavailable)
        for e in await asyncio.gather(*failing, return_exceptions=True)
    )
    asked = len(upstream.started_s)
    assert asked == FAILURES_IN_ROW
    with pytest.raises(SourceUnavailable):
        await budget.run(upstream.call())
    assert (len(upstream.started_s), budget.state.breaker) == (asked, "open")

    await play(clock, 11.0)
    assert str(budget.state.breaker) == "half_open"
    upstream.takes_s = 1.0
    probe = asyncio.ensure_future(budget.run(upstream.call("probe")))
    await settle()
    with pytest.raises(SourceUnavailable):
        await budget.run(upstream.call("too early"))
    await play(clock, 1.1)

    assert await probe == "probe"
    assert len(upstream.started_s) == asked + 1
    assert str(budget.state.breaker) == "closed"


@pytest.mark.parametrize(
    ("symbols", "breaker"),
    [
        (["BAD"] * 3 * FAILURES_IN_ROW, "closed"),
        (["BAD", "IBM"] * FAILURES_IN_ROW, "open"),
        (["BAD"] * (FAILURES_IN_ROW - 1) + ["IBM"], "open"),
        ([None] * FAILURES_IN_ROW, "open"),
        (["BAD"] * (FAILURES_IN_ROW - 1) + [None], "open"),
        (["BAD"] * (FAILURES_IN_ROW - 1), "closed"),
    ],
    ids=["one", "two", "last_of_another", "of_no_symbol", "last_of_no_symbol", "too_few"],
)
async def test_failures_of_one_symbol_alone_say_nothing_against_the_upstream(
    symbols: list[str | None], breaker: str
) -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock, per_s=1_000.0, at_once=100), Upstream(clock)
    for symbol in symbols:
        upstream.errors = [SourceMalformed("html", "a page instead of data")]
        with pytest.raises(SourceError):
            await budget.run(upstream.call(), of=symbol)

    assert str(budget.state.breaker) == breaker


async def test_an_answer_begins_the_row_of_failures_anew() -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock, per_s=1_000.0, at_once=100), Upstream(clock)
    for symbols in (["IBM"] * (FAILURES_IN_ROW - 1), ["BAD"] * 2 * FAILURES_IN_ROW):
        for symbol in symbols:
            upstream.errors = [SourceMalformed("html", "a page instead of data")]
            with pytest.raises(SourceMalformed):
                await budget.run(upstream.call(), of=symbol)
        await budget.run(upstream.call(), of="AAPL")

    assert str(budget.state.breaker) == "closed"


async def test_an_unknown_symbol_says_nothing_against_the_upstream() -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock, per_s=1_000.0, at_once=100), Upstream(clock)
    for _ in range(3 * FAILURES_IN_ROW):
        upstream.errors = [SymbolUnknown("NO.SUCH")]
        with pytest.raises(SymbolUnknown):
            await budget.run(upstream.call())

    assert str(budget.state.breaker) == "closed"


async def test_one_who_leaves_the_queue_costs_nothing() -> None:
    clock = FakeClock()
    budget, upstream = budget_of(clock, per_s=1.0, at_once=1), Upstream(clock)
    await budget.run(upstream.call("first"))
    leaving = asyncio.ensure_future(budget.run(upstream.call("left")))
    staying = asyncio.ensure_future(budget.run(upstream.call("stayed")))
    await settle()

    leaving.cancel()
    await play(clock, 1.1)

    assert await staying == "stayed"
    assert upstream.names == ["first", "stayed"]
    assert (budget.state.running, budget.state.waiting) == (0, 0)
