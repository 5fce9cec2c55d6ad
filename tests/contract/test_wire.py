"""Sockets on a real server, without Ray: who does not read, who does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
import websockets

from actors.indicators.client import LiveWant
from infra.errors import FinstageError
from infra.messages import PRICES, Batch, Message, Position, Snapshot
from serve.gate import Gate
from serve.ws import wire
from serve.ws.app import Upstream, create_stream
from serve.ws.roster import Roster
from serve.ws.sockets import SocketTable
from tests.service import free_port
from tests.settings import made_settings

OUTBOX_BYTES = 200_000


class Alone:
    """Answers for who else there would be: no other replica, nothing pinned."""

    async def note(self, process: str, text: bytes) -> None:
        return

    async def notes(self) -> dict[str, bytes]:
        return {}

    async def monitored(self) -> tuple[str, ...]:
        return ()

    async def pin(self, symbols: Sequence[str], is_live: bool = False) -> tuple[str, ...]:
        return ()

    async def unpin(self) -> None:
        return

    async def pinned(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (), ()


async def published(_: Sequence[Message]) -> None:
    return


async def live(wants: Sequence[LiveWant]) -> dict[LiveWant, FinstageError]:
    return {}


async def until(holds: Callable[[], bool], pause_s: float = 0.01) -> None:
    """Wait for something that nobody tells of."""
    for _ in range(10_000_000):
        if holds():
            return
        await asyncio.sleep(pause_s)


@contextlib.asynccontextmanager
async def serving(table: SocketTable, data_dir: Path, ping_s: float) -> AsyncIterator[str]:
    settings = made_settings(data_dir=data_dir, max_sockets=4)
    alone = Alone()
    upstream = Upstream(None, live, published, alone)
    roster = Roster(table, "stream-1", alone)
    app = create_stream(settings, table, Gate(settings), upstream, roster)
    port = free_port()
    config = uvicorn.Config(
        app, port=port, ws=wire.Wire, lifespan="off", log_config=None,
        ws_per_message_deflate=False, ws_ping_interval=ping_s, ws_ping_timeout=None,
    )  # fmt: skip
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield f"ws://127.0.0.1:{port}/ws/realtime"
    finally:
        server.should_exit = True
        server.force_exit = True
        await running


def prices_table() -> SocketTable:
    table = SocketTable(outbox_bytes=OUTBOX_BYTES)
    table.on_snapshot(Snapshot(Position("e1", 1), ((1, price(1)),)))
    return table


def price(number: int, size: int = 0) -> Message:
    body = {"type": "price_update", "symbol": "AAPL", "n": number, "pad": "x" * size}
    return Message(PRICES + "AAPL", orjson.dumps(body))


async def subscribed(url: str, **more: Any) -> Any:
    socket = await websockets.connect(url, max_queue=4, proxy=None)
    await socket.recv()
    request = {"action": "subscribe", "type": "prices", "symbols": ["AAPL"]} | more
    await socket.send(orjson.dumps(request).decode())
    assert orjson.loads(await socket.recv())["action"] == "subscribed"
    return socket


def has_most(got: list[int], count: int) -> bool:
    return len(got) >= count


async def numbers(socket: Any, got: list[int]) -> None:
    async for text in socket:
        got.append(orjson.loads(text)["n"])


async def test_who_does_not_read_is_cut_off_or_gets_the_newest_and_hurts_nobody(
    tmp_path: Path,
) -> None:
    table, last = prices_table(), 3_000  # 30 MB: more than the kernel's buffers
    async with asyncio.timeout(100), serving(table, tmp_path, 20.0) as url:
        frozen = await subscribed(url, mode="all")  # nobody reads on
        latest = await subscribed(url)
        reader = await subscribed(url, mode="all")
        got: list[int] = []
        reading = asyncio.create_task(numbers(reader, got))
        for number in range(2, last + 1):
            table.on_batch(Batch(Position("e1", number), (price(number, 10_000),)))
            await until(partial(has_most, got, number - 6), 0.0)
        await until(lambda: len(got) == last - 1 and len(table) == 2)
        assert got == list(range(2, last + 1))
        seen: list[int] = []
        while not seen or seen[-1] < last:
            seen.append(orjson.loads(await latest.recv())["n"])
        assert seen == sorted(set(seen))
        assert len(seen) < last - 1  # what the socket did not take was replaced
        assert len(table) == 2  # the frozen one is gone
        for socket in (reader, latest, frozen):
            socket.transport.abort()
            await socket.wait_closed()
        with contextlib.suppress(websockets.ConnectionClosed):
            await reading


async def test_who_only_listens_stays_and_who_is_silent_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SILENT_S", 0.5)
    table = prices_table()
    async with asyncio.timeout(60), serving(table, tmp_path, 0.1) as url:
        listener = await subscribed(url)
        silent = await subscribed(url)
        silent.transport.pause_reading()  # it hears no ping, so it answers none
        await until(lambda: len(table) == 1)
        assert listener.state is websockets.State.OPEN
        await listener.send('{"action":"heartbeat"}')
        assert orjson.loads(await listener.recv())["message"] == "pong"
        await listener.close()
        silent.transport.abort()
        await silent.wait_closed()


async def test_one_more_than_there_may_be_is_told_so(tmp_path: Path) -> None:
    table = prices_table()
    async with asyncio.timeout(60), serving(table, tmp_path, 20.0) as url:
        sockets = [await subscribed(url) for _ in range(4)]
        one_more = await websockets.connect(url, proxy=None)
        with pytest.raises(websockets.ConnectionClosed):
            await one_more.recv()
        assert one_more.close_code == 4504
        for socket in sockets:
            await socket.close()
