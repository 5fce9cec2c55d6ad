"""The stream client takes all that the stream carries, and goes on after what is nothing."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from infra.messages import Kind, stamped
from serve.client import stream as stream_client
from serve.client.stream import StreamClient
from tests.hub_messages import READING, SAMPLES, alert, said

NONSENSE = ("", "{", "[]", "null", "7", "{}", '{"ended":true}', '{"type":7}')


async def answered(socket: ServerConnection, frames: list[str]) -> None:
    """Answer a subscription, then send frames."""
    await socket.recv()
    subscribed = {"type": "subscription", "action": "subscribed", "epoch": "e", "offset": 0}
    await socket.send(NONSENSE[1])
    await socket.send(orjson.dumps(subscribed | {"snapshot": []}).decode())
    for frame in frames:
        await socket.send(frame)
    await socket.wait_closed()


async def test_every_kind_comes_in_order_and_nonsense_is_left_out() -> None:
    kinds = [kind for kind in Kind if kind is not Kind.ENDED]
    sent = [SAMPLES[kind] for kind in kinds] + [READING, alert(7)]  # 7 came already
    frames = [stamped(message, "e", n).decode() for n, message in enumerate(sent, start=1)]
    last = stamped(said("system", type="system_status", event="last"), "e", 99).decode()
    got: list[dict[str, Any]] = []

    async def handle(socket: ServerConnection) -> None:
        await answered(socket, [f for frame in frames for f in (*NONSENSE, frame)] + [last])

    async with serve(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = StreamClient(f"http://127.0.0.1:{port}")
        async with contextlib.aclosing(client.subscribe([], "all")) as stream:
            async for message in stream:
                got.append(message)
                if message.get("event") == "last":
                    break

    assert client.drops == 0
    offsets = [message["offset"] for message in got]
    assert offsets == [n for n in range(1, len(sent) + 1) if n != len(sent)] + [99]


async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def dropped(client: StreamClient, count: int, asking: asyncio.Task[Any]) -> None:
    for _ in range(10_000):
        if client.drops >= count or asking.done():
            return
        await asyncio.sleep(0.005)


async def test_a_service_that_said_503_may_go_and_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_client, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(stream_client, "_LONGEST_PAUSE_S", 0.001)
    server = await asyncio.start_server(busy, "127.0.0.1", 0)
    client = StreamClient(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    async def first() -> dict[str, Any]:
        return await anext(client.subscribe("AAPL"))

    async with asyncio.timeout(60):
        asking = asyncio.create_task(first())
        await dropped(client, 4, asking)
        server.close()
        await server.wait_closed()
        await dropped(client, client.drops + 6, asking)

    assert not asking.done()  # nobody listens, and it asks on
    asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asking
