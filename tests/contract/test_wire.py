"""Sockets on a real server, without Ray: who does not read, who does not answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import msgpack
import orjson
import pytest
import uvicorn
import websockets
from starlette.requests import Request

from actors.indicators.client import LiveWant
from infra.errors import FinstageError
from infra.messages import PRICES, Batch, Message, Position, Snapshot
from serve.edge.gate import Gate
from serve.ws import app, wire
from serve.ws.app import Upstream, Want, create_stream
from serve.ws.protocol import Session, Terms
from serve.ws.roster import Roster
from serve.ws.sockets import SocketTable
from serve.ws.sse import request_of
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
async def serving(
    table: SocketTable, data_dir: Path, ping_s: float, want: Want | None = None, **more: Any
) -> AsyncIterator[str]:
    settings = made_settings(data_dir=data_dir, **({"max_sockets": 4} | more))
    alone = Alone()
    upstream = Upstream(want, live, published, alone)
    roster = Roster(table, "stream-1", alone)
    stream = create_stream(settings, table, Gate(settings), upstream, roster)
    port = free_port()
    config = uvicorn.Config(
        stream, port=port, ws=wire.Wire, lifespan="off", log_config=None,
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


# -- places ------------------------------------------------------------------------------------


def as_http(url: str) -> str:
    return url.replace("ws://", "http://").replace("/realtime", "/sse")


@pytest.mark.parametrize("name", ["last_event_id", "lastEventId"])
def test_an_event_id_has_two_names_in_the_query(name: str) -> None:
    query = f"symbols=AAPL&{name}=e1:7".encode()
    request = Request({"type": "http", "query_string": query, "headers": []})

    assert request_of(request)["recover"] == {"epoch": "e1", "offset": 7}


FAR = "9" * 20


@pytest.mark.parametrize(
    "place", [f"e1:{FAR}", "e1:\u00b2", "e1:\u0661", "e1:-1", "e1:", ":1", "x"]
)
@pytest.mark.parametrize("is_header", [False, True])
async def test_an_event_id_that_is_none_begins_anew_and_keeps_no_place(
    tmp_path: Path, place: str, is_header: bool
) -> None:
    if is_header and not place.isascii():
        place = place.replace("\u0661", "\u00b3")  # a header is Latin-1
    table = prices_table()
    params = {"symbols": "AAPL"} | ({} if is_header else {"last_event_id": place})
    headers = {b"last-event-id": place.encode("latin-1")} if is_header else {}
    async with (
        asyncio.timeout(60),
        serving(table, tmp_path, 20.0) as url,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        for _ in range(6):  # more than there are places
            async with http.stream("GET", as_http(url), params=params, headers=headers) as answer:
                assert answer.status_code == 200
                first = await anext(answer.aiter_text())
                assert '"snapshot":[{' in first
            await until(lambda: len(table) == 0)


async def test_a_stream_that_breaks_gives_its_place_back(tmp_path: Path) -> None:
    table = prices_table()

    async def broken(_: Sequence[str]) -> dict[str, FinstageError]:
        raise ZeroDivisionError("a bug")

    async with (
        asyncio.timeout(60),
        serving(table, tmp_path, 20.0, broken) as url,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        for _ in range(6):
            answer = await http.get(as_http(url), params={"symbols": "IBM"})
            assert answer.status_code == 500
            assert len(table) == 0
        for _ in range(6):
            socket = await websockets.connect(url, proxy=None)
            await socket.recv()
            await socket.send('{"action":"subscribe","type":"prices","symbols":["IBM"]}')
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            await until(lambda: len(table) == 0)
        refused = await http.get(as_http(url), params={"symbols": "AAPL", "mode": "some"})
        assert (refused.status_code, len(table)) == (422, 0)
        asked = await http.head(as_http(url), params={"symbols": "AAPL"})
        assert (asked.status_code, len(table)) == (200, 0)
        assert (await http.post(as_http(url))).status_code == 405


async def test_streams_and_sockets_share_the_places_and_those_of_a_key(tmp_path: Path) -> None:
    table = prices_table()
    key = {"x-api-key": "0123456789"}
    async with (
        asyncio.timeout(60),
        serving(table, tmp_path, 20.0, api_keys="bot:0123456789", max_sockets_of_key=1) as url,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        request = http.build_request("GET", as_http(url), params={"symbols": "AAPL"}, headers=key)
        first = await http.send(request, stream=True)
        assert first.status_code == 200
        second = await http.send(request)
        assert (second.status_code, second.headers["retry-after"]) == (503, "5")
        socket = await websockets.connect(url, additional_headers=key, proxy=None)
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 4504
        await first.aclose()
        await until(lambda: len(table) == 0)


async def test_where_there_are_keys_the_last_tenth_of_the_places_is_theirs(tmp_path: Path) -> None:
    table = prices_table()
    more: dict[str, Any] = {"api_keys": "bot:0123456789", "max_sockets": 10}
    async with asyncio.timeout(60), serving(table, tmp_path, 20.0, **more) as url:
        sockets = [await subscribed(url) for _ in range(9)]
        refused = await websockets.connect(url, proxy=None)
        with pytest.raises(websockets.ConnectionClosed):
            await refused.recv()
        assert refused.close_code == 4504
        key = {"x-api-key": "0123456789"}
        sockets.append(await websockets.connect(url, additional_headers=key, proxy=None))
        assert orjson.loads(await sockets[-1].recv())["type"] == "system_status"
        for socket in sockets:
            await socket.close()


async def test_a_stream_whose_client_takes_nothing_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "SILENT_S", 0.2)
    table = prices_table()
    async with asyncio.timeout(100), serving(table, tmp_path, 20.0) as url:
        host = url.removeprefix("ws://").partition("/")[0]
        reader, writer = await asyncio.open_connection(*host.split(":"), limit=1)
        writer.write(f"GET /ws/sse?symbols=AAPL HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        await until(lambda: len(table) == 1)
        number = 1
        while len(table) == 1:  # until buffers are full, and then for as long as it may
            number += 1
            table.on_batch(Batch(Position("e1", number), (price(number, 100_000),)))
            await asyncio.sleep(0)
        writer.transport.abort()
        assert reader.at_eof() is False


@pytest.mark.parametrize("recover", [{"offset": -1}, {"offset": 2**63}, {"alert_id": -1}])
async def test_a_place_to_recover_from_is_within_64_bits(recover: dict[str, int]) -> None:
    table = prices_table()
    session = Session("c", table, table.open(), Terms("replay", 2))
    request = {"action": "subscribe", "type": "prices", "symbols": ["AAPL"]}
    text = msgpack.packb(request | {"recover": {"epoch": "e1", "offset": 1} | recover})
    assert orjson.loads(session.reply(text, 1.0).payload)["code"] == 110


@pytest.mark.parametrize(
    ("method", "path", "more", "place"),
    [
        ("GET", "sse", {"params": {"symbol": "AAPL"}}, ["query", "symbol"]),
        ("POST", "broadcast", {"params": {"massage": "x"}}, ["query", "massage"]),
        ("POST", "broadcast", {"json": {"message": "x", "target": "all"}}, ["body", "target"]),
        ("POST", "streaming/start", {"json": {"symbol": "AAPL"}}, ["body", "symbol"]),
        ("POST", "streaming/stop", {"json": {"symbols": ["AAPL"]}}, ["body"]),
        ("POST", "broadcast", {}, ["query", "message"]),
        ("POST", "broadcast", {"params": {"message": "x" * 2_001}}, ["query", "message"]),
        ("POST", "broadcast", {"json": {"message": "x" * 2_001}}, ["body", "message"]),
        ("POST", "broadcast", {"json": {}}, ["body", "message"]),
        (
            "POST",
            "broadcast",
            {"params": {"message": "x"}, "json": {"target_type": "none"}},
            ["body", "target_type"],
        ),
        (
            "POST",
            "broadcast",
            {"params": {"message_type": "none"}, "json": {"message": "x"}},
            ["query", "message_type"],
        ),
    ],
)
async def test_what_cannot_be_is_refused_at_its_place_beside_the_sockets_too(
    tmp_path: Path, method: str, path: str, more: dict[str, Any], place: list[str]
) -> None:
    async with (
        asyncio.timeout(60),
        serving(prices_table(), tmp_path, 20.0) as url,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        answer = await http.request(method, as_http(url).replace("sse", path), **more)
        assert (answer.status_code, answer.json()["detail"][0]["loc"]) == (422, place)


# -- frames that are no message -----------------------------------------------------------------


def frame(opcode: int, payload: bytes = b"", is_last: bool = True) -> bytes:
    """Return a client's frame, masked with zeros."""
    return bytes((opcode | (0x80 if is_last else 0), 0x80 | len(payload))) + bytes(4) + payload


PING, PONG = frame(0x9, b"x" * 125), frame(0xA)


async def test_pings_of_who_does_not_read_hold_no_memory(tmp_path: Path) -> None:
    table, held = prices_table(), 0
    many = 2_000_000_000  # the allowance is not what holds it back here
    async with (
        asyncio.timeout(100),
        serving(table, tmp_path, 20.0, socket_messages_per_s=many) as url,
    ):
        socket = await subscribed(url)
        socket.transport.pause_reading()
        (outbox,) = table._outboxes
        server = outbox.on_ready.__self__._wire  # type: ignore[attr-defined]
        for _ in range(200):  # 26 MB, of which the kernel's buffers hold a part
            socket.transport.write(PING * 1_000)
            await until(lambda: socket.transport.get_write_buffer_size() == 0, 0.0)
            held = max(held, server.transport.get_write_buffer_size())
        assert not server.writable.is_set()
        assert held < 300_000  # one read of the server's
        socket.transport.abort()
        await until(lambda: len(table) == 0)


@pytest.mark.parametrize(
    "flood", [PING, PONG, frame(0x1, b"{", False) + frame(0x0, b"", False) * 9]
)
async def test_frames_that_are_no_message_count_against_the_allowance(
    tmp_path: Path, flood: bytes
) -> None:
    table = prices_table()
    async with asyncio.timeout(60), serving(table, tmp_path, 20.0) as url:
        socket = await subscribed(url)
        more = frame(0x0, b"", False) if flood[0] == 0x1 else flood
        socket.transport.write(flood + more * 1_000)
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 4501
        await until(lambda: len(table) == 0)


async def test_a_ping_is_answered(tmp_path: Path) -> None:
    async with asyncio.timeout(60), serving(prices_table(), tmp_path, 20.0) as url:
        socket = await subscribed(url)
        await (await socket.ping())
        await socket.close()
