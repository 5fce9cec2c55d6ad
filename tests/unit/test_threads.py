"""Calls that block: bounded, given up after a while, and never waited for at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from infra.clock import FakeClock
from infra.errors import SourceUnavailable
from infra.threads import Threads, is_wanted

TIMEOUT_S = 15.0


class Call:
    """A call that blocks until it is let go."""

    def __init__(self, answer: str = "answer") -> None:
        self.answer = answer
        self.begun = threading.Event()
        self.let_go = threading.Event()
        self.thread: threading.Thread | None = None
        self.was_wanted: bool | None = None

    def __call__(self) -> str:
        self.thread = threading.current_thread()
        self.begun.set()
        self.let_go.wait(30)
        self.was_wanted = is_wanted()
        return self.answer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def threads(clock: FakeClock) -> AsyncIterator[Threads]:
    threads = Threads("Yahoo", 2, clock)
    yield threads
    threads.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - threads have no event of the loop
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Let tasks that can go on do so: those that watch a call must be at the clock."""
    for _ in range(10):
        await asyncio.sleep(0)


def asked(
    threads: Threads, call: Callable[[], str], timeout_s: float = TIMEOUT_S
) -> asyncio.Future[str]:
    return asyncio.ensure_future(threads.run(call, timeout_s))


async def begun(*calls: Call) -> None:
    await until(lambda: all(call.begun.is_set() for call in calls))
    await settle()


def fails() -> str:
    raise KeyError("of the call")


async def test_a_call_gives_its_answer_or_its_error(threads: Threads) -> None:
    assert await threads.run(lambda: "answer", TIMEOUT_S) == "answer"
    with pytest.raises(KeyError, match="of the call"):
        await threads.run(fails, TIMEOUT_S)

    assert threads.running == 0


async def test_no_more_run_at_once_than_there_are_threads(threads: Threads) -> None:
    calls = [Call(str(number)) for number in range(6)]
    answers = [asked(threads, call) for call in calls]
    await begun(calls[0], calls[1])

    assert threads.running == 2
    assert [call.begun.is_set() for call in calls] == [True, True] + [False] * 4
    for call in calls:
        call.let_go.set()

    assert await asyncio.gather(*answers) == list("012345")
    assert len({call.thread for call in calls}) == 2


async def test_who_waits_too_long_is_told_and_the_others_go_on(
    threads: Threads, clock: FakeClock
) -> None:
    hung = Call()
    answer = asked(threads, hung)
    await begun(hung)

    clock.advance(TIMEOUT_S)

    with pytest.raises(SourceUnavailable, match="within 15 s"):
        await answer
    assert (threads.running, threads.hanging) == (1, 1)
    assert await threads.run(lambda: "other", TIMEOUT_S) == "other"
    hung.let_go.set()
    await until(lambda: threads.running == 0)
    assert threads.hanging == 0
    assert hung.was_wanted is False


async def test_while_all_hang_calls_are_refused_at_once(
    threads: Threads, clock: FakeClock
) -> None:
    first, second, third = Call(), Call(), Call()
    answers = [asked(threads, call) for call in (first, second)]
    await begun(first, second)
    clock.advance(TIMEOUT_S / 2)
    answers.append(asked(threads, third))  # in line, with patience left when the others hang
    await settle()

    clock.advance(TIMEOUT_S / 2)

    told = await asyncio.gather(*answers, return_exceptions=True)
    assert all(isinstance(error, SourceUnavailable) for error in told)
    assert "all 2 requests" in str(told[2])
    with pytest.raises(SourceUnavailable, match="all 2 requests"):
        await threads.run(lambda: "no", TIMEOUT_S)
    with pytest.raises(SourceUnavailable):
        threads.check()
    assert not third.begun.is_set()

    first.let_go.set()
    await until(lambda: threads.hanging == 1)
    again = Call()
    again.let_go.set()
    assert await threads.run(again, TIMEOUT_S) == "answer"
    assert again.thread == first.thread
    second.let_go.set()


async def test_patience_in_line_has_an_end(clock: FakeClock) -> None:
    threads = Threads("Yahoo", 1, clock)
    busy, waiting = Call(), Call()
    answer = asked(threads, busy)
    await begun(busy)
    in_line = asked(threads, waiting, timeout_s=5.0)
    await settle()

    clock.advance(5.0)

    with pytest.raises(SourceUnavailable, match="no thread was free for 5 s"):
        await in_line
    busy.let_go.set()
    assert await answer == "answer"
    assert not waiting.begun.is_set()
    threads.close()


async def test_the_time_in_line_does_not_count_as_the_call_s(clock: FakeClock) -> None:
    threads = Threads("Yahoo", 1, clock)
    first, second = Call(), Call()
    answers = [asked(threads, first)]
    await begun(first)
    clock.advance(TIMEOUT_S - 5.0)
    answers.append(asked(threads, second))
    await settle()
    first.let_go.set()
    await begun(second)
    await settle()

    clock.advance(TIMEOUT_S - 1.0)
    await settle()

    assert threads.hanging == 0
    second.let_go.set()
    assert await asyncio.gather(*answers) == ["answer", "answer"]
    threads.close()


async def test_a_call_whose_caller_left_the_line_is_not_made(threads: Threads) -> None:
    busy = [Call(), Call()]
    answers = [asked(threads, call) for call in busy]
    await begun(*busy)
    left = Call()
    leaving = asked(threads, left)
    await settle()

    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    for call in busy:
        call.let_go.set()
    await asyncio.gather(*answers)

    assert await threads.run(lambda: "next", TIMEOUT_S) == "next"
    assert not left.begun.is_set()


async def test_a_call_whose_caller_left_still_counts_until_it_comes_back(
    threads: Threads, clock: FakeClock
) -> None:
    call = Call()
    answer = asked(threads, call)
    await begun(call)

    answer.cancel()
    await asyncio.gather(answer, return_exceptions=True)
    clock.advance(TIMEOUT_S)
    await until(lambda: threads.hanging == 1)
    call.let_go.set()

    await until(lambda: threads.running == 0)
    assert call.was_wanted is False


async def test_closing_waits_for_nobody_and_ends_idle_threads(threads: Threads) -> None:
    hung, idle = Call(), Call()
    answers = [asked(threads, call) for call in (hung, idle)]
    await begun(hung, idle)
    idle.let_go.set()
    await answers[1]

    threads.close()

    with pytest.raises(SourceUnavailable, match="was closed"):
        await answers[0]
    with pytest.raises(SourceUnavailable, match="was closed"):
        await threads.run(lambda: "no", TIMEOUT_S)
    hung.let_go.set()
    for thread in (hung.thread, idle.thread):
        assert thread is not None
        assert thread.daemon
        await asyncio.to_thread(thread.join, 10)
        assert not thread.is_alive()


def test_a_call_that_runs_in_no_thread_of_ours_is_wanted() -> None:
    assert is_wanted()


async def test_one_call_of_a_key_goes_on_at_a_time(clock: FakeClock, threads: Threads) -> None:
    call, other = Call(), Call("other")
    first = asyncio.ensure_future(threads.run(call, TIMEOUT_S, key="a"))
    await begun(call)

    with pytest.raises(SourceUnavailable, match="still goes on"):
        await threads.run(other, TIMEOUT_S, key="a")
    clock.advance(TIMEOUT_S)
    with pytest.raises(SourceUnavailable, match="does not answer"):
        await first
    with pytest.raises(SourceUnavailable, match="still goes on"):  # though it was given up
        await threads.run(other, TIMEOUT_S, key="a")
    assert await threads.run(lambda: "b", TIMEOUT_S, key="b") == "b"

    call.let_go.set()
    other.let_go.set()
    await until(lambda: threads.running == 0)
    assert await threads.run(other, TIMEOUT_S, key="a") == "other"
