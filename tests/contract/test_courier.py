"""Deliveries on both databases: each notice is told, once where nothing broke."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.clock import FakeClock, utc
from infra.db.deliveries import FAILED, SENT, WAITING, Delivery
from infra.db.store import Store
from infra.db.unit import Unit
from infra.notify.notice import Notice
from infra.notify.outcome import Outcome, Refused, Sent, TryAgain
from infra.notify.signing import new_secret
from infra.notify.webhook import WebhookSender
from infra.outbox import MOST_TRIES, Courier, deliver_later
from tests.databases import KINDS, database

AT = datetime(2026, 11, 25, 14, 30, tzinfo=UTC)
SECRET = new_secret()


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with database(request.param, tmp_path) as url:
        made = Store(url)
        await made.migrate()
        yield made
        await made.close()


class Targets:
    """Answers as each target would, and counts what came."""

    def __init__(self) -> None:
        self.came: Counter[tuple[str, str]] = Counter()
        self.answers: dict[str, list[Outcome]] = {}
        self.hangs = asyncio.Event()
        self._more = asyncio.Condition()

    async def have_come(self, count: int) -> None:
        """Wait until so many notices came."""
        async with self._more:
            await self._more.wait_for(lambda: sum(self.came.values()) >= count)

    async def send(self, url: str, secret: str, notice: Notice) -> Outcome:
        self.came[url, notice.id] += 1
        async with self._more:
            self._more.notify_all()
        if url == "hanging":
            await self.hangs.wait()
        answers = self.answers.get(url, [])
        return answers.pop(0) if answers else Sent(200)


def notice(name: str) -> Notice:
    return Notice(name, "price_alert", "AAPL", "AAPL rose", "info", AT, {"price": 1.5})


async def add(store: Store, name: str, *targets: str, clock: FakeClock) -> None:
    now = utc(clock.time_s())

    async def work(unit: Unit) -> None:
        await deliver_later(unit, notice(name), [(t, "s") for t in targets], now)

    await store.write(work)


async def settled(courier: Courier) -> None:
    """Let everything that is due go."""
    await courier.idle()
    while await courier.look():
        await courier.idle()


async def of(store: Store, name: str) -> list[Delivery]:
    return await store.read(lambda unit: unit.deliveries.of_notice(name))


async def test_each_target_gets_it_once_though_it_is_added_twice(store: Store) -> None:
    clock, targets = FakeClock(), Targets()
    courier = Courier(store, targets, clock)
    await add(store, "n1", "a", "b", clock=clock)
    await add(store, "n1", "a", clock=clock)

    await settled(courier)

    assert targets.came == {("a", "n1"): 1, ("b", "n1"): 1}
    assert [d.state for d in await of(store, "n1")] == [SENT, SENT]


async def test_one_that_hangs_holds_up_no_other(store: Store) -> None:
    clock, targets = FakeClock(), Targets()
    courier = Courier(store, targets, clock)
    for number in range(20):
        await add(store, f"n{number}", "hanging", f"t{number}", clock=clock)

    await courier.look()
    await targets.have_come(21)
    assert targets.came["hanging", "n0"] == 1
    assert all(targets.came[f"t{n}", f"n{n}"] == 1 for n in range(20))

    targets.hangs.set()
    await settled(courier)
    assert set(targets.came.values()) == {1}
    assert len(targets.came) == 40


async def test_a_queue_for_one_that_hangs_hides_no_other(store: Store) -> None:
    clock, hung, good = FakeClock(), asyncio.Event(), list[bytes]()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hung.wait()
        writer.close()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        good.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    bad_server = await asyncio.start_server(hang, "127.0.0.1", 0)
    good_server = await asyncio.start_server(take, "127.0.0.1", 0)
    bad, fine = (
        f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for server in (bad_server, good_server)
    )

    async def work(unit: Unit) -> None:
        for number in range(700):
            await deliver_later(unit, notice(f"n{number}"), [(bad, SECRET)], AT)
        await deliver_later(unit, notice("n700"), [(fine, SECRET)], AT + timedelta(seconds=1))

    await store.write(work)
    clock.advance(AT.timestamp() + 60.0 - clock.time_s())
    async with bad_server, good_server, WebhookSender(clock, "t", allow_private=True) as sender:
        courier = Courier(store, sender, clock)
        assert await courier.look() == 2  # one of the seven hundred, and the last
        await courier._under_way[fine]
        assert await courier.look() == 0
        hung.set()
        await courier.idle()

    assert len(good) == 1
    (told,) = await of(store, "n700")
    assert told.state == SENT


async def test_more_that_hang_than_go_at_once_take_turns_with_the_others(store: Store) -> None:
    clock, targets = FakeClock(), Targets()
    courier = Courier(store, targets, clock)
    bad = [f"bad{number}" for number in range(80)]
    targets.answers = {name: [TryAgain("no answer")] * 10 for name in bad}
    for number in range(3):
        await add(store, f"n{number}", *bad, clock=clock)
    clock.advance(1.0)
    await add(store, "last", "good", clock=clock)

    for _ in range(2):
        await courier.look()
        await courier.idle()

    assert targets.came["good", "last"] == 1


async def test_pauses_grow_and_an_end_comes(store: Store) -> None:
    clock, targets = FakeClock(), Targets()
    courier = Courier(store, targets, clock, random.Random(7))
    targets.answers["down"] = [TryAgain("HTTP 500")] * MOST_TRIES
    targets.answers["gone"] = [Refused("HTTP 410")]
    targets.answers["busy"] = [TryAgain("HTTP 429", 60.0)]
    await add(store, "n1", "down", "gone", "busy", clock=clock)

    await courier.look()
    await courier.idle()
    clock.advance(59.0)
    states = {d.target: d for d in await of(store, "n1")}
    assert (states["gone"].state, states["gone"].last_error) == (FAILED, "HTTP 410")
    assert (states["busy"].state, states["down"].state) == (WAITING, WAITING)
    due = await store.read(lambda unit: unit.deliveries.due(utc(clock.time_s()), 10))
    assert [d.target for d in due] == ["down"]

    for _ in range(MOST_TRIES):
        clock.advance(3_600.0)
        await courier.look()
        await courier.idle()
    states = {d.target: d for d in await of(store, "n1")}
    assert (states["down"].state, states["down"].tries) == (FAILED, MOST_TRIES)
    assert (states["busy"].state, states["busy"].tries) == (SENT, 2)
    assert targets.came["down", "n1"] == MOST_TRIES


async def test_a_courier_that_died_in_between_leaves_it_to_the_next(store: Store) -> None:
    clock, targets = FakeClock(), Targets()
    first = Courier(store, targets, clock)
    await add(store, "n1", "hanging", clock=clock)
    await first.look()
    await targets.have_come(1)
    for task in list(first._under_way.values()):
        task.cancel()  # as if its process was killed: nothing is noted
    targets.hangs.set()

    second = Courier(store, targets, clock)
    await second.look()
    await second.idle()

    assert targets.came == {("hanging", "n1"): 2}  # at least once, with the same id
    assert [d.state for d in await of(store, "n1")] == [SENT]


async def test_what_was_undone_is_not_told(store: Store) -> None:
    clock, targets = FakeClock(), Targets()

    async def work(unit: Unit) -> None:
        await deliver_later(unit, notice("n1"), [("a", "s")], utc(clock.time_s()))
        raise LookupError

    with pytest.raises(LookupError):
        await store.write(work)
    assert await Courier(store, targets, clock).look() == 0
