"""Clients that come back miss nothing, whatever happened meanwhile; a part is never given."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgpack
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.hub.core import HubCore
from infra.clock import FakeClock
from infra.errors import EpochChanged, OffsetGone
from infra.messages import ACTIONS, PRICES, TECHNICAL_ALERTS, Message, Position
from serve.ws.backlog import Backlog
from serve.ws.frames import Frame
from serve.ws.outbox import Outbox
from serve.ws.protocol import Session, Terms
from serve.ws.sockets import SocketTable
from tests.unit.test_sockets import live, price, say, taken

CATEGORIES = {"AAPL": "stock", "IBM": "stock", "^GSPC": "index"}
SYMBOLS = tuple(CATEGORIES)


class Replica:
    """A stream replica on a hub's core."""

    def __init__(self, hub: HubCore, backlog_bytes: int, outbox_bytes: int) -> None:
        self._hub = hub
        self._bytes = backlog_bytes, outbox_bytes
        self.restart()

    def restart(self) -> None:
        """Lose everything, and begin from the hub."""
        self.table = SocketTable(*self._bytes, CATEGORIES.get)
        self.table.on_snapshot(self._hub.snapshot(self._bytes[0]))

    def catch_up(self) -> None:
        """Read what the hub has."""
        try:
            batch = self._hub.after(self.table.position)
            if batch.messages:
                self.table.on_batch(batch)
        except (EpochChanged, OffsetGone):
            self.table.on_snapshot(self._hub.snapshot(self._bytes[0]))


class Client:
    """A client that keeps the position of what it read, and recovers from there."""

    def __init__(self, names: list[str], mode: str) -> None:
        self.names, self.mode = names, mode
        self.place: Position | None = None
        self.got: dict[str, list[int]] = {}  # since it last began anew
        self.began_at: dict[str, int] = {}  # the last value in the snapshot it began with
        self.recovered: list[bool] = []
        self._outbox: Any = None
        self._table: SocketTable | None = None

    async def connect(self, table: SocketTable) -> None:
        """Connect and subscribe, with recovery where something was read before."""
        self._table, self._outbox = table, table.open()
        session = Session("c", table, self._outbox, Terms("replay", 100, ("stock", "index")))
        request: dict[str, Any] = {"action": "subscribe", "type": "prices", "mode": self.mode}
        request["symbols"] = self.names
        if self.place is not None:
            request["recover"] = {"epoch": self.place.epoch, "offset": self.place.offset}
        answer = say(session, **request)
        assert answer["action"] == "subscribed", answer
        if self.place is not None:
            self.recovered.append(answer["recovered"])
        if self.place is None or not answer["recovered"]:
            self._begin(answer["snapshot"])
        self.place = Position(answer["epoch"], answer["offset"])

    def drop(self) -> None:
        """Lose the connection, and all that was on its way."""
        if self._table is not None:
            self._table.close(self._outbox)
        self._table = self._outbox = None

    async def read(self, most: int) -> bool:
        """Read so many frames and lose the connection in the middle of the rest, if there is one.

        False where the socket was closed or is cut off.
        """
        if self._outbox is None:
            return False
        frames = taken(self._outbox)
        for frame in frames[:most]:
            self._take(frame)
        if self._outbox.is_slow or len(frames) > most:
            self.drop()
            return False
        return True

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "subscription":
            assert message["recovered"] is False
            self._begin(message["snapshot"])
            self.place = Position(message["epoch"], message["offset"])
            return
        assert self.place is not None
        assert message["epoch"] == self.place.epoch
        assert message["offset"] > self.place.offset  # in order, and nothing twice
        self.place = Position(message["epoch"], message["offset"])
        self.got.setdefault(message["symbol"], []).append(message["n"])

    def _begin(self, snapshot: list[dict[str, Any]]) -> None:
        self.got.clear()
        self.began_at = {m["symbol"]: m["n"] for m in snapshot}


def wanted_by(client: Client, symbol: str) -> bool:
    category = f"category:{CATEGORIES[symbol]}"
    return bool({"*", category, symbol} & set(client.names))


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(["latest", "all"]), st.booleans())
def test_any_history_of_drops_kills_and_slow_readers(seed: int, mode: str, small: bool) -> None:
    asyncio.run(_history(random.Random(seed), mode, small))


async def _history(draws: random.Random, mode: str, small: bool) -> None:
    clock = FakeClock()
    bytes_ = 4_000 if small else 2**20
    hub = HubCore("e1", bytes_, 1_000.0, clock.monotonic_s)
    replicas = [Replica(hub, bytes_, 2_000 if small else 2**20) for _ in range(2)]
    names = draws.choice([["AAPL"], ["AAPL", "IBM"], ["*"], ["category:stock"]])
    client = Client(names, mode)
    told: dict[str, list[int]] = {symbol: [] for symbol in SYMBOLS}
    number = epochs = 0
    for symbol in SYMBOLS:  # so that each is known
        number += 1
        hub.publish([update(symbol, number)])
        told[symbol].append(number)
    for _ in range(draws.randrange(5, 40)):
        step = draws.random()
        if step < 0.5:
            for _ in range(draws.choice([1, 1, 2, 8])):
                number += 1
                symbol = draws.choice(SYMBOLS)
                hub.publish([update(symbol, number)])
                told[symbol].append(number)
        elif step < 0.6:
            client.drop()
        elif step < 0.65:
            client.drop()
            draws.choice(replicas).restart()
        elif step < 0.68:
            epochs += 1
            hub.start_over(f"e{epochs + 1}")
            told = {symbol: [] for symbol in SYMBOLS}
            for symbol in SYMBOLS:  # publishers send their state again
                number += 1
                hub.publish([update(symbol, number)])
                told[symbol].append(number)
        for replica in replicas:
            if draws.random() < 0.8:
                replica.catch_up()
        if not await client.read(draws.choice([1, 3, 1_000])):
            replica = draws.choice(replicas)
            replica.catch_up()
            await client.connect(replica.table)
    for replica in replicas:
        replica.catch_up()
    while not await client.read(1_000):
        await client.connect(replicas[0].table)
    for symbol in SYMBOLS:
        if wanted_by(client, symbol):
            _check(client, symbol, told[symbol], mode)
        else:
            assert symbol not in client.got


def _check(client: Client, symbol: str, told: list[int], mode: str) -> None:
    """Compare what a client has with what was told since the snapshot that it began with."""
    began_at = client.began_at.get(symbol)
    got = client.got.get(symbol, [])
    after = [n for n in told if began_at is None or n > began_at]
    if mode == "all":
        assert got == after
    else:
        assert got == sorted(set(got))
        assert set(got) <= set(after)
        assert got[-1:] == after[-1:]


def update(symbol: str, number: int) -> Message:
    body = {"type": "price_update", "symbol": symbol, "n": number}
    return Message(PRICES + symbol, orjson.dumps(body))


# -- one by one --------------------------------------------------------------------------------


def replica_of(*messages: Message, backlog_bytes: int = 2**20) -> tuple[HubCore, Replica]:
    hub = HubCore("e1", 2**20, 100.0, FakeClock().monotonic_s)
    hub.publish([update(symbol, n) for n, symbol in enumerate(SYMBOLS)])
    hub.publish(list(messages))
    return hub, Replica(hub, backlog_bytes, 2**20)


def ask(table: SocketTable, **more: Any) -> tuple[dict[str, Any], Any]:
    outbox = table.open()
    session = Session("c", table, outbox, Terms("replay", 10, ("stock", "index")))
    request = {"action": "subscribe", "type": "prices", "symbols": ["AAPL"]} | more
    return say(session, **request), outbox


async def test_a_new_replica_has_what_was_missed_before_it_began() -> None:
    _, replica = replica_of(*(update("AAPL", n) for n in range(10, 15)))

    answer, outbox = ask(replica.table, mode="all", recover={"epoch": "e1", "offset": 5})

    assert (answer["recovered"], answer["snapshot"], answer["offset"]) == (True, [], 5)
    assert [m["n"] for m in taken(outbox)] == [12, 13, 14]
    answer, outbox = ask(replica.table, recover={"epoch": "e1", "offset": 5})
    assert [m["n"] for m in taken(outbox)] == [14]  # of the latest only the newest
    answer, outbox = ask(replica.table, recover={"epoch": "e1", "offset": 8})
    assert (answer["recovered"], answer["offset"]) == (True, 8)


@pytest.mark.parametrize("place", [{"epoch": "e0", "offset": 5}, {"epoch": "e1", "offset": 99}])
async def test_a_place_that_is_not_here_gives_a_snapshot(place: dict[str, Any]) -> None:
    _, replica = replica_of()

    answer, outbox = ask(replica.table, recover=place)

    assert answer["recovered"] is False
    assert [m["n"] for m in answer["snapshot"]] == [0]
    assert taken(outbox) == []


async def test_a_client_of_quiet_topics_recovers_though_the_log_has_moved_on() -> None:
    many = [update("IBM", n) for n in range(100)]
    _, replica = replica_of(*many, backlog_bytes=2_000)

    answer, _ = ask(replica.table, recover={"epoch": "e1", "offset": 4})
    assert answer["recovered"] is True
    answer, _ = ask(replica.table, symbols=["IBM"], recover={"epoch": "e1", "offset": 4})
    assert answer["recovered"] is False


async def test_what_is_rare_is_recovered_too() -> None:
    action = Message(ACTIONS + "AAPL", b'{"type":"corporate_action"}')
    alert = Message(f"{TECHNICAL_ALERTS}AAPL:1d:golden_cross", b'{"type":"technical_alert"}')
    _, replica = replica_of(action, live("AAPL", 1.0), alert, price("IBM", 1.0))

    _, outbox = ask(replica.table, recover={"epoch": "e1", "offset": 3})
    assert [m["type"] for m in taken(outbox)] == ["corporate_action"]
    _, outbox = ask(replica.table, type="technical_analysis", recover={"epoch": "e1", "offset": 3})
    kinds = [m["type"] for m in taken(outbox)]
    assert kinds == ["technical_analysis_update", "technical_alert"]


async def test_what_a_rate_held_back_comes_again_after_a_drop() -> None:
    hub, replica = replica_of()
    answer, outbox = ask(replica.table, symbols=["AAPL", "IBM"], max_rate_hz=0.01)
    hub.publish([update("AAPL", 10)])
    replica.catch_up()
    assert [m["n"] for m in taken(outbox)] == [10]
    hub.publish([update("AAPL", 11), update("IBM", 12)])
    replica.catch_up()
    assert [m["n"] for m in taken(outbox)] == [12]  # 11 waits for its turn, and is cut off

    answer, outbox = ask(
        replica.table,
        symbols=["AAPL", "IBM"],
        max_rate_hz=0.01,
        recover={"epoch": "e1", "offset": hub.position.offset},
    )

    assert answer["recovered"] is True
    assert {m["n"] for m in taken(outbox)} == {11, 12}


async def test_a_replica_that_is_behind_is_waited_for() -> None:
    hub, replica = replica_of()
    place = hub.publish([update("AAPL", 10)])
    waiting = asyncio.ensure_future(replica.table.reached(place, 10.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    replica.catch_up()
    await waiting
    await replica.table.reached(Position("another", 99), 10.0)
    await replica.table.reached(Position("e1", 99), 0.001)


async def test_a_reader_of_everything_that_is_too_slow_is_told_to_come_back() -> None:
    hub = HubCore("e1", 2**20, 100.0, FakeClock().monotonic_s)
    hub.publish([update("AAPL", 0)])
    replica = Replica(hub, 2**20, 500)
    _, outbox = ask(replica.table, mode="all")
    _, quick = ask(replica.table)
    for n in range(20):
        hub.publish([update("AAPL", n)])
    replica.catch_up()

    assert outbox.is_slow
    assert outbox.pending_bytes <= 700
    assert not quick.is_slow
    assert [m["n"] for m in taken(quick)] == [19]
    answer, _ = ask(replica.table, mode="all", recover={"epoch": "e1", "offset": 1})
    assert answer["recovered"] is False  # more than may wait: never a part


async def test_a_rate_lets_the_newest_through_when_its_time_has_come() -> None:
    hub, replica = replica_of()
    _, outbox = ask(replica.table, max_rate_hz=50)
    hub.publish([update("AAPL", 1)])
    replica.catch_up()
    assert [m["n"] for m in taken(outbox)] == [1]
    for n in (2, 3, 4):
        hub.publish([update("AAPL", n)])
        replica.catch_up()
    assert taken(outbox) == []
    assert outbox.due_s() == pytest.approx(0.02)
    assert [m["n"] for m in taken(outbox, 0.02)] == [4]


async def test_fields_and_encodings_are_made_once_each() -> None:
    hub, replica = replica_of()
    table = replica.table
    packed = ask(table)  # before its encoding: its answer is JSON
    sockets = [ask(table)[1] for _ in range(5)]
    some = [ask(table, fields=["n"])[1] for _ in range(5)]
    outbox = table.open()
    session = Session("c", table, outbox, Terms("replay", 10))
    request = {"action": "subscribe", "type": "prices", "symbols": ["AAPL"]}
    answer = session.reply(msgpack.packb(request | {"encoding": "msgpack"}), 1.0)
    assert answer.wire[0] == 0x82  # a binary frame
    assert msgpack.unpackb(answer.payload)["action"] == "subscribed"
    hub.publish([update("AAPL", 7)])
    replica.catch_up()

    def first(outbox: Outbox) -> Frame:
        return outbox.take(lambda: 0.0)[0]

    frames = [first(o) for o in (*sockets, packed[1])]
    assert len({id(frame) for frame in frames}) == 1
    chosen = [first(o) for o in some]
    assert len({id(frame) for frame in chosen}) == 1
    assert set(orjson.loads(chosen[0].payload)) == {"epoch", "offset", "type", "symbol", "n"}
    binary = first(outbox)
    assert msgpack.unpackb(binary.payload) == orjson.loads(frames[0].payload)


def test_a_backlog_is_bounded_and_without_a_hole() -> None:
    backlog = Backlog(2_000)
    backlog.start_at(10)
    assert backlog.reaches(10)
    assert not backlog.reaches(9)
    for offset in range(11, 100):
        backlog.add(offset, update(SYMBOLS[offset % 3], offset))
    assert backlog.bytes <= 2_000
    first = min(o for o, _ in backlog.after(0, [PRICES + s for s in SYMBOLS]))
    assert backlog.reaches(first - 1)
    assert not backlog.reaches(first - 2)
    found = backlog.after(90, [PRICES + "AAPL", PRICES + "IBM"])
    assert [o for o, _ in found] == [o for o in range(91, 100) if o % 3 < 2 and o >= first]
