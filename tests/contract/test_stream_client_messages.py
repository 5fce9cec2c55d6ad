"""The stream client takes all that the stream carries, and goes on after what is nothing."""

from __future__ import annotations

import contextlib
from typing import Any

import orjson
from websockets.asyncio.server import ServerConnection, serve

from infra.messages import Kind, stamped
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
