"""What a socket's protocol writes of pongs and closes, on a transport that a test holds up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from serve.ws.allowance import Allowance
from serve.ws.wire import Wire

_KEY = "AAAAAAAAAAAAAAAAAAAAAA=="
_HELLO = (
    "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()
_GOING = b"\x03\xe8"  # close code 1000


class Held(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_written = asyncio.Event()
        self._closes = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)
        self.is_written.set()

    def close(self) -> None:
        self._closes = True

    def is_closing(self) -> bool:
        return self._closes

    def pause_reading(self) -> None:
        return

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return


async def accepts(_: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def opened() -> tuple[Wire, Held]:
    """Return a socket that was accepted, with nothing written since."""
    config = uvicorn.Config(accepts, ws=Wire, ws_per_message_deflate=False)
    config.load()
    wire, transport = Wire(config, ServerState(), {}), Held()
    wire.connection_made(transport)
    wire.data_received(_HELLO)
    await transport.is_written.wait()
    transport.written = b""
    return wire, transport


def sent(opcode: int, data: bytes = b"") -> bytes:
    """Return a client's frame, masked with zeros."""
    return bytes((0x80 | opcode, 0x80 | len(data))) + bytes(4) + data


def answered(opcode: int, data: bytes) -> bytes:
    return bytes((0x80 | opcode, len(data))) + data


CLOSE, PING, PONG = 0x8, 0x9, 0xA


@pytest.mark.parametrize("reads", [1, 2])
async def test_who_does_not_read_gets_the_last_pong_once_it_does(reads: int) -> None:
    wire, transport = await opened()
    wire.pause_writing()

    pings = [sent(PING, b"1"), sent(PING, b"2")]
    for data in pings if reads == 2 else [b"".join(pings)]:
        wire.data_received(data)
    assert transport.written == b""
    wire.resume_writing()

    assert transport.written == answered(PONG, b"2")


async def test_a_close_is_answered_beside_a_ping_though_nothing_leaves_now() -> None:
    wire, transport = await opened()
    wire.pause_writing()

    wire.data_received(sent(PING, b"1") + sent(CLOSE, _GOING))

    assert transport.written == answered(PONG, b"1") + answered(CLOSE, _GOING)
    assert transport.is_closing()
    assert wire.is_over


@pytest.mark.parametrize("opcode", [PING, PONG])
async def test_a_close_is_answered_beside_frames_over_the_allowance(opcode: int) -> None:
    wire, transport = await opened()
    wire.allowance = Allowance(1, 1, asyncio.get_running_loop().time())

    wire.data_received(3 * sent(opcode) + sent(CLOSE, _GOING))

    assert transport.written.endswith(answered(CLOSE, _GOING))
    assert transport.is_closing()
