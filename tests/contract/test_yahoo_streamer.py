"""The streamer against a server on the loopback that keeps Yahoo's protocol, or breaks it."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from infra.clock import Clock, FakeClock, SystemClock
from infra.errors import SourceMalformed, SourceUnavailable
from infra.sources.base import Wanted
from infra.sources.yahoo.streamer import Back, Lost, Streamer, StreamerTimes

SLOW_PINGS = StreamerTimes(heartbeat_s=60.0)


@dataclass(frozen=True, slots=True)
class Price:
    symbol: str
    number: float


Item = Price | Lost | Back


def decode(data: str | bytes) -> Price | None:
    try:
        message = json.loads(data)
    except ValueError:
        raise SourceMalformed("not_json", "no JSON") from None
    return Price(message["symbol"], message["number"]) if message["type"] == "pricing" else None


class Server:
    """A streamer that sends what the test says, and notes what it is told."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.told: list[dict[str, list[str]]] = []
        self.open: list[web.WebSocketResponse] = []
        self.closes_at_once = False
        self.refuses = False
        self.answers_pings = True
        self._transports: list[asyncio.Transport] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.connections += 1
        if self.refuses:
            return web.Response(status=503)
        stream = web.WebSocketResponse(autoping=self.answers_pings)
        await stream.prepare(request)
        if self.closes_at_once:
            await stream.close()
            return stream
        assert isinstance(request.transport, asyncio.Transport)
        self._transports.append(request.transport)
        self.open.append(stream)
        async for message in stream:
            if message.type is aiohttp.WSMsgType.TEXT:
                self.told.append(json.loads(message.data))
        self.open.remove(stream)
        return stream

    async def send(self, symbol: str, number: float) -> None:
        message = {"type": "pricing", "symbol": symbol, "number": number}
        await self.open[-1].send_str(json.dumps(message))

    def abort(self) -> None:
        self._transports[-1].abort()


class Probe:
    """A poll of the owner that finds what the test says."""

    def __init__(self) -> None:
        self.answer: bool | Exception = False
        self.asked: list[frozenset[str]] = []

    async def __call__(self, symbols: frozenset[str]) -> bool:
        self.asked.append(symbols)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@dataclass
class Bench:
    """A streamer under test, with all that it talks to."""

    server: Server
    session: aiohttp.ClientSession
    clock: FakeClock = field(default_factory=FakeClock)
    wanted: Wanted = field(default_factory=lambda: Wanted(["AAPL"]))
    probe: Probe = field(default_factory=Probe)
    is_open: bool = False
    items: list[Item] = field(default_factory=list)
    decoded: int = 0

    def streamer(self, clock: Clock | None = None, **options: Any) -> Streamer[Price]:
        return Streamer(
            self.server.url,
            lambda: self.session,
            clock or self.clock,
            random.Random(7),
            decode=self._decode,
            symbol_of=lambda price: price.symbol,
            probe=self.probe,
            market_open=lambda symbols: self.is_open,
            **{"times": SLOW_PINGS} | options,
        )

    def _decode(self, data: str | bytes) -> Price | None:
        self.decoded += 1
        return decode(data)

    @asynccontextmanager
    async def running(self, streamer: Streamer[Price] | None = None) -> AsyncIterator[None]:
        """Collect what the stream yields, from a connection that is there and subscribed."""
        task = asyncio.ensure_future(self._collect(streamer or self.streamer()))
        try:
            if self.wanted.symbols and not (self.server.refuses or self.server.closes_at_once):
                await until(lambda: bool(self.server.told))
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _collect(self, streamer: Streamer[Price]) -> None:
        async with aclosing(streamer.run(self.wanted)) as batches:
            async for batch in batches:
                self.items.extend(batch)

    async def pass_until(self, condition: Callable[[], bool], step_s: float = 0.1) -> None:
        """Let time pass until something happens."""
        async with asyncio.timeout(10):
            while not condition():
                self.clock.advance(step_s)
                await turns(20)

    def of(self, kind: type[Any]) -> list[Any]:
        return [item for item in self.items if isinstance(item, kind)]

    async def send(self, symbol: str, number: float) -> None:
        """Send a price and wait until it is yielded: all before it has been seen, too."""
        await self.server.send(symbol, number)
        await until(lambda: Price(symbol, number) in self.items)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await turns(1)


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server, app = Server(), web.Application()
    app.router.add_get("/", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"ws://{host}:{port}/"
    yield server
    await runner.cleanup()


@pytest.fixture
async def bench(server: Server) -> AsyncIterator[Bench]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield Bench(server, session)


# -- subscriptions --------------------------------------------------------------------------


async def test_all_wanted_symbols_are_subscribed_and_their_prices_come(bench: Bench) -> None:
    bench.wanted.replace(["MSFT", "AAPL"])

    async with bench.running():
        await bench.send("AAPL", 1)
        await bench.send("MSFT", 2)

    assert bench.server.told == [{"subscribe": ["AAPL", "MSFT"]}]
    assert bench.items == [Price("AAPL", 1), Price("MSFT", 2)]


async def test_subscriptions_are_renewed_every_15_s(bench: Bench) -> None:
    async with bench.running():
        for count in (1, 2, 3):
            await turns()
            bench.clock.advance(14.9)
            await turns()
            assert len(bench.server.told) == count
            bench.clock.advance(0.1)
            await until(lambda count=count: len(bench.server.told) == count + 1)  # type: ignore[misc]

    assert bench.server.told == 4 * [{"subscribe": ["AAPL"]}]


async def test_changes_of_what_is_wanted_are_sent_at_once(bench: Bench) -> None:
    async with bench.running():
        bench.wanted.replace(["AAPL", "MSFT"])
        await until(lambda: len(bench.server.told) == 2)
        bench.wanted.replace(["MSFT"])
        await until(lambda: len(bench.server.told) == 3)
        await turns()
        bench.clock.advance(15)
        await until(lambda: len(bench.server.told) == 4)

    assert bench.server.told[1:] == [
        {"subscribe": ["MSFT"]},
        {"unsubscribe": ["AAPL"]},
        {"subscribe": ["MSFT"]},
    ]
    assert bench.server.connections == 1


async def test_there_is_a_connection_only_while_something_is_wanted(bench: Bench) -> None:
    bench.wanted.replace([])

    async with bench.running():
        await turns()
        assert bench.server.connections == 0
        bench.wanted.replace(["AAPL"])
        await until(lambda: bench.server.connections == 1)
        await until(lambda: bool(bench.server.open))
        bench.wanted.replace([])
        await until(lambda: not bench.server.open)
        bench.clock.advance(100)
        await turns()
        assert bench.server.connections == 1
        bench.wanted.replace(["MSFT"])
        await until(lambda: bench.server.told[-1:] == [{"subscribe": ["MSFT"]}])
        await bench.send("MSFT", 1)

    assert bench.items == [Price("MSFT", 1)]  # nothing was lost


# -- loss and return ------------------------------------------------------------------------


async def close_cleanly(server: Server) -> None:
    await server.open[-1].close()


async def abort(server: Server) -> None:
    server.abort()


@pytest.mark.parametrize(
    ("drop", "reason"),
    [(close_cleanly, "closed: 1000"), (abort, "closed: ClientConnectionResetError")],
)
async def test_a_dropped_connection_is_opened_again_and_the_gap_is_told(
    bench: Bench, drop: Callable[[Server], Awaitable[None]], reason: str
) -> None:
    async with bench.running():
        await bench.send("AAPL", 1)
        heard_ns = ns(bench.clock)
        bench.clock.advance(3)

        await drop(bench.server)
        await until(lambda: bool(bench.of(Lost)))
        lost_ns = ns(bench.clock)
        await bench.pass_until(lambda: len(bench.server.told) == 2)
        bench.wanted.replace(["AAPL", "MSFT"])
        await bench.send("AAPL", 2)
        await bench.send("AAPL", 3)

    assert bench.items == [
        Price("AAPL", 1),
        Lost(lost_ns, reason),
        Back(heard_ns, ns(bench.clock), frozenset({"AAPL", "MSFT"})),
        Price("AAPL", 2),
        Price("AAPL", 3),
    ]


async def test_without_messages_the_stream_is_back_when_a_connection_lasted(bench: Bench) -> None:
    async with bench.running():
        await close_cleanly(bench.server)
        await bench.pass_until(lambda: len(bench.server.told) == 2)
        await turns()
        assert not bench.of(Back)

        bench.clock.advance(15)
        await until(lambda: bool(bench.of(Back)))

    assert len(bench.of(Lost)) == 1


async def test_a_server_that_closes_at_once_is_asked_ever_more_rarely(bench: Bench) -> None:
    bench.server.closes_at_once = True

    async with bench.running():
        for _ in range(480):  # two minutes
            await turns(30)
            bench.clock.advance(0.25)

    # Half of the ceilings on average: 7 attempts in the first 30 s, then one in 15 s.
    assert 6 <= bench.server.connections <= 25
    assert len(bench.of(Lost)) == 1
    assert not bench.of(Back)


async def test_a_server_that_refuses_is_lost_once_and_found_when_it_accepts(bench: Bench) -> None:
    bench.server.refuses = True
    began_ns = ns(bench.clock)

    async with bench.running():
        await until(lambda: bool(bench.of(Lost)))
        await bench.pass_until(lambda: bench.server.connections == 5)
        bench.server.refuses = False
        await bench.pass_until(lambda: bool(bench.server.told))
        await bench.send("AAPL", 1)

    lost, back, price = bench.items
    assert isinstance(lost, Lost)
    assert lost.reason == "connect: WSServerHandshakeError"
    assert back == Back(began_ns, ns(bench.clock), frozenset({"AAPL"}))
    assert price == Price("AAPL", 1)


async def test_a_server_that_is_not_there_is_a_loss(bench: Bench) -> None:
    bench.server.url = "ws://127.0.0.1:9/"
    bench.server.refuses = True

    async with bench.running():
        await until(lambda: bool(bench.of(Lost)))

    assert bench.of(Lost)[0].reason == "connect: ClientConnectorError"


async def test_a_server_that_never_answers_the_handshake_is_a_loss(bench: Bench) -> None:
    bench.server.refuses = True
    with socket.create_server(("127.0.0.1", 0)) as silent:
        bench.server.url = f"ws://127.0.0.1:{silent.getsockname()[1]}/"

        async with bench.running(bench.streamer(times=StreamerTimes(connect_s=0.05))):
            await until(lambda: bool(bench.of(Lost)))

    assert bench.of(Lost)[0].reason == "connect: TimeoutError"


async def test_a_peer_that_answers_no_ping_is_a_loss(bench: Bench) -> None:
    bench.server.answers_pings = False

    async with bench.running(bench.streamer(times=StreamerTimes(heartbeat_s=0.05))):
        await until(lambda: bool(bench.of(Lost)))

    assert bench.of(Lost)[0].reason == "closed: ServerTimeoutError"


async def test_a_connection_that_brought_a_message_makes_the_backoff_short_again(
    bench: Bench,
) -> None:
    bench.server.refuses = True
    async with bench.running():
        await bench.pass_until(lambda: bench.server.connections == 8, step_s=1)
        bench.server.refuses = False
        await bench.pass_until(lambda: bool(bench.server.told), step_s=1)
        await bench.send("AAPL", 1)

        await close_cleanly(bench.server)
        await until(lambda: len(bench.of(Lost)) == 2)
        await turns()
        bench.clock.advance(0.5)

        await until(lambda: len(bench.server.told) == 2)


async def test_a_gap_reaches_back_no_further_than_anything_was_wanted(bench: Bench) -> None:
    async with bench.running():
        await bench.send("AAPL", 1)
        bench.wanted.replace([])
        await until(lambda: not bench.server.open)
        bench.clock.advance(1000)
        bench.server.refuses = True

        bench.wanted.replace(["MSFT"])
        wanted_ns = ns(bench.clock)
        await until(lambda: bool(bench.of(Lost)))
        bench.server.refuses = False
        await bench.pass_until(lambda: len(bench.server.told) == 2)
        await bench.send("MSFT", 1)

    assert bench.of(Back) == [Back(wanted_ns, ns(bench.clock), frozenset({"MSFT"}))]


# -- silence --------------------------------------------------------------------------------


async def test_a_mute_stream_is_opened_again(bench: Bench) -> None:
    bench.is_open = bench.probe.answer = True
    async with bench.running():
        await bench.send("AAPL", 1)
        heard_ns = ns(bench.clock)
        bench.clock.advance(9.9)
        await turns()
        assert not bench.probe.asked

        bench.clock.advance(0.1)
        await until(lambda: bool(bench.of(Lost)))
        lost_ns = ns(bench.clock)
        await bench.pass_until(lambda: len(bench.server.told) == 2)
        await bench.send("AAPL", 2)

    assert bench.probe.asked == [frozenset({"AAPL"})]
    assert bench.items[1:3] == [
        Lost(lost_ns, "mute"),
        Back(heard_ns, ns(bench.clock), frozenset({"AAPL"})),
    ]


@pytest.mark.parametrize("answer", [False, SourceUnavailable("no poll")])
async def test_a_silence_that_the_poll_shares_is_waited_out(
    bench: Bench, answer: bool | Exception
) -> None:
    bench.is_open, bench.probe.answer = True, answer
    async with bench.running():
        for count in (1, 2, 3):
            await turns()
            bench.clock.advance(9.9)
            await turns()
            assert len(bench.probe.asked) == count - 1
            bench.clock.advance(0.1)
            await until(lambda count=count: len(bench.probe.asked) == count)  # type: ignore[misc]
        await bench.send("AAPL", 1)

    assert bench.items == [Price("AAPL", 1)]
    assert bench.server.connections == 1


async def test_a_message_during_the_poll_shows_that_the_stream_is_not_mute(bench: Bench) -> None:
    bench.is_open = bench.probe.answer = True
    polled = asyncio.Event()
    asked = asyncio.Event()

    async def slow_probe(symbols: frozenset[str]) -> bool:
        asked.set()
        return await polled.wait()

    bench.probe = slow_probe  # type: ignore[assignment]
    async with bench.running():
        await turns()
        bench.clock.advance(10)
        await asked.wait()
        await bench.send("AAPL", 1)
        polled.set()
        await turns()
        await bench.send("AAPL", 2)

    assert bench.items == [Price("AAPL", 1), Price("AAPL", 2)]


async def test_a_silent_night_is_left_alone_and_does_not_count_in_the_morning(
    bench: Bench,
) -> None:
    async with bench.running():
        for _ in range(100):
            await turns(10)
            bench.clock.advance(60)
        await turns()
        assert not bench.probe.asked

        bench.is_open = True
        bench.clock.advance(9.9)
        await turns()
        assert not bench.probe.asked
        bench.clock.advance(0.1)
        await until(lambda: bool(bench.probe.asked))
        await bench.send("AAPL", 1)

    assert bench.items == [Price("AAPL", 1)]
    assert bench.server.connections == 1


async def test_an_outage_does_not_count_as_silence_of_the_next_connection(bench: Bench) -> None:
    bench.is_open = True
    async with bench.running():
        bench.server.refuses = True
        await close_cleanly(bench.server)
        await bench.pass_until(lambda: bench.server.connections == 8, step_s=1)
        bench.server.refuses = False
        await bench.pass_until(lambda: len(bench.server.told) == 2, step_s=1)

        bench.clock.advance(9)
        await bench.send("AAPL", 1)

    assert not bench.probe.asked


# -- what is sent ---------------------------------------------------------------------------


async def test_malformed_messages_are_counted_and_said_once_a_minute(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    streamer = bench.streamer()
    caplog.set_level(logging.WARNING)
    async with bench.running(streamer):
        stream = bench.server.open[-1]
        for _ in range(3):
            await stream.send_str("no json")
            await stream.send_bytes(b"\xff\x00")
            await stream.send_str('{"type": "pricing"}')
        await stream.send_str('{"type": "hello"}')
        await bench.send("AAPL", 1)
        assert said(caplog) == ["not_json", "undecodable"]

        bench.clock.advance(60)
        await stream.send_str("no json")
        await bench.send("AAPL", 2)

    assert streamer.rejected == {"not_json": 7, "undecodable": 3}
    assert said(caplog) == ["not_json", "undecodable", "not_json"]
    assert bench.items == [Price("AAPL", 1), Price("AAPL", 2)]


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.kind for record in caplog.records if record.msg == "yahoo.malformed"]  # type: ignore[attr-defined]


async def test_what_came_while_the_consumer_was_busy_is_one_batch(bench: Bench) -> None:
    streamer = bench.streamer()
    async with aclosing(streamer.run(bench.wanted)) as batches:
        first = asyncio.ensure_future(anext(batches))
        await until(lambda: bool(bench.server.told))
        await bench.server.send("AAPL", 0)
        assert await first == (Price("AAPL", 0),)

        for number in range(1, 100):
            await bench.server.send("AAPL", number)
        await until(lambda: bench.decoded == 100)

        assert await anext(batches) == tuple(Price("AAPL", number) for number in range(1, 100))


async def test_a_consumer_that_stopped_costs_bounded_memory(bench: Bench) -> None:
    streamer = bench.streamer(max_pending=100)
    async with aclosing(streamer.run(bench.wanted)) as batches:
        first = asyncio.ensure_future(anext(batches))
        await until(lambda: bool(bench.server.told))
        await bench.server.send("AAPL", -1)
        await first

        for number in range(2000):
            await bench.server.send("AB"[number % 2], number)
        await until(lambda: bench.decoded == 2001)
        batch = await anext(batches)

    assert len(batch) <= 100
    assert batch[-2:] == (Price("A", 1998), Price("B", 1999))
    assert streamer.conflated == 2000 - len(batch)


# -- the end --------------------------------------------------------------------------------


async def test_closing_the_generator_leaves_neither_task_nor_connection(bench: Bench) -> None:
    streamer = bench.streamer()
    batches = streamer.run(bench.wanted)
    first = asyncio.ensure_future(anext(batches))
    await until(lambda: bool(bench.server.told))
    await bench.server.send("AAPL", 1)
    await first

    await batches.aclose()

    await until(lambda: not bench.server.open)
    assert not own_tasks()


async def test_cancelling_the_consumer_leaves_neither_task_nor_connection(bench: Bench) -> None:
    async with bench.running():
        assert own_tasks()

    await until(lambda: not bench.server.open)
    assert not own_tasks()


async def test_cancelling_during_the_backoff_leaves_no_task(bench: Bench) -> None:
    bench.server.refuses = True
    async with bench.running():
        await until(lambda: bool(bench.of(Lost)))

    assert not own_tasks()


async def test_a_bug_of_the_owner_reaches_the_consumer(bench: Bench) -> None:
    bench.is_open, bench.probe.answer = True, ZeroDivisionError()
    batches = bench.streamer().run(bench.wanted)
    first = asyncio.ensure_future(anext(batches))
    await until(lambda: bool(bench.server.told))
    await turns()
    bench.clock.advance(10)

    with pytest.raises(ZeroDivisionError):
        await first
    assert not own_tasks()


async def test_a_closed_streamer_runs_again(bench: Bench) -> None:
    streamer = bench.streamer()
    async with bench.running(streamer):
        await close_cleanly(bench.server)
        await until(lambda: bool(bench.of(Lost)))

    bench.items.clear()
    bench.server.told.clear()
    async with bench.running(streamer):
        await bench.send("AAPL", 2)

    assert bench.items == [Price("AAPL", 2)]


def own_tasks() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if "Streamer." in repr(task.get_coro())]


def ns(clock: Clock) -> int:
    return int(clock.time_s() * 1e9)


# -- speed ----------------------------------------------------------------------------------


async def test_2500_ticks_a_second_are_yielded_within_milliseconds(bench: Bench) -> None:
    symbols = [f"S{number}" for number in range(500)]
    bench.wanted.replace(symbols)
    latencies_s: list[float] = []
    batch_sizes: list[int] = []

    async def consume() -> None:
        async with aclosing(bench.streamer(SystemClock()).run(bench.wanted)) as batches:
            async for batch in batches:
                now_s = time.perf_counter()
                batch_sizes.append(len(batch))
                latencies_s.extend(now_s - item.number for item in batch if type(item) is Price)
                if len(latencies_s) == 5000:
                    return

    consumer = asyncio.ensure_future(consume())
    await until(lambda: bool(bench.server.told))
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for tick in range(5000):
        await asyncio.sleep(max(0.0, began_s + tick / 2500 - time.perf_counter()))
        await bench.server.send(symbols[tick % 500], time.perf_counter())
    async with asyncio.timeout(10):
        await consumer

    p50_ms, p99_ms = np.percentile(latencies_s, [50, 99]) * 1e3
    spent = f"{time.process_time() - cpu_s:.2f} s of CPU with the server's"
    print(  # noqa: T201
        f"p50 {p50_ms:.2f} ms, p99 {p99_ms:.2f} ms, {len(batch_sizes)} batches, {spent}"
    )
    assert p99_ms < 50
