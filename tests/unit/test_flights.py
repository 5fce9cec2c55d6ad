"""Questions asked together go up once, and their errors come back to those who asked."""

from __future__ import annotations

import asyncio

import pytest

from infra.clock import FakeClock
from infra.errors import SourceUnavailable
from infra.flights import Merger, SingleFlight


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Call:
    """Something to be asked once: counts, and answers when it is let go."""

    def __init__(self) -> None:
        self.count = 0
        self.cancelled = False
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        self.count += 1
        try:
            return await asyncio.shield(self.answer)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_a_thousand_callers_share_one_call() -> None:
    flights, call = SingleFlight(), Call()
    callers = [asyncio.ensure_future(flights.run("AAPL", call)) for _ in range(1_000)]
    await settle()

    call.answer.set_result("bars")

    assert await asyncio.gather(*callers) == ["bars"] * 1_000
    assert call.count == 1
    again = Call()
    again.answer.set_result("new bars")
    assert await flights.run("AAPL", again) == "new bars"


async def test_an_error_goes_to_all() -> None:
    flights, call = SingleFlight(), Call()
    callers = [asyncio.ensure_future(flights.run("AAPL", call)) for _ in range(3)]
    await settle()

    call.answer.set_exception(SourceUnavailable("down"))

    for caller in callers:
        with pytest.raises(SourceUnavailable):
            await caller


async def test_one_who_leaves_does_not_end_the_call_and_the_last_one_does() -> None:
    flights, call = SingleFlight(), Call()
    first, second = (asyncio.ensure_future(flights.run("AAPL", call)) for _ in range(2))
    await settle()

    first.cancel()
    await settle()
    assert not call.cancelled

    second.cancel()
    await settle()
    assert call.cancelled


async def test_who_is_more_urgent_does_not_stand_in_line_behind_the_call_under_way() -> None:
    flights, slow, quick = SingleFlight(), Call(), Call()
    patient = asyncio.ensure_future(flights.run("AAPL", slow, rank=2))
    await settle()
    urgent = asyncio.ensure_future(flights.run("AAPL", quick, rank=0))
    as_patient = asyncio.ensure_future(flights.run("AAPL", slow, rank=2))
    await settle()

    quick.answer.set_result("bars")

    answers = await asyncio.gather(patient, urgent, as_patient)
    assert set(answers) == {"bars"}
    assert (slow.count, slow.cancelled, quick.count) == (1, True, 1)


async def test_an_overtaken_call_ends_with_the_last_caller_as_any_other() -> None:
    flights, slow, quick = SingleFlight(), Call(), Call()
    patient = asyncio.ensure_future(flights.run("AAPL", slow, rank=2))
    await settle()
    urgent = asyncio.ensure_future(flights.run("AAPL", quick, rank=0))
    await settle()

    urgent.cancel()
    await settle()
    assert not quick.cancelled

    patient.cancel()
    await settle()
    assert quick.cancelled


class Upstream:
    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.broken: set[str] = set()

    async def __call__(self, keys: tuple[str, ...]) -> dict[str, str]:
        self.asked.append(keys)
        if self.broken & set(keys):
            raise SourceUnavailable("down")
        return {key: key.lower() for key in keys}


async def test_questions_within_the_window_go_up_together() -> None:
    clock, upstream = FakeClock(), Upstream()
    merger = Merger(clock, 0.020, 200, upstream)

    first = asyncio.ensure_future(merger.get(["AAPL", "IBM"]))
    await settle()
    clock.advance(0.019)
    second = asyncio.ensure_future(merger.get(["IBM", "META"]))
    await settle()
    assert upstream.asked == []
    clock.advance(0.001)

    assert await first == {"AAPL": "aapl", "IBM": "ibm"}
    assert await second == {"IBM": "ibm", "META": "meta"}
    assert upstream.asked == [("AAPL", "IBM", "META")]


async def test_five_hundred_symbols_make_three_requests_of_which_one_may_fail() -> None:
    clock, upstream = FakeClock(), Upstream()
    merger = Merger(clock, 0.020, 200, upstream)
    symbols = [f"S{number:03}" for number in range(500)]
    upstream.broken = {"S450"}

    good = asyncio.ensure_future(merger.get(symbols[:400]))
    bad = asyncio.ensure_future(merger.get(symbols[400:]))
    await settle()
    clock.advance(0.020)

    assert len(await good) == 400
    with pytest.raises(SourceUnavailable):
        await bad
    assert [len(keys) for keys in upstream.asked] == [200, 200, 100]
