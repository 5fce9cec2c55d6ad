"""A picows server that sends to all of its sockets: neither Ray nor HAProxy."""

from __future__ import annotations

import asyncio
import resource
import sys

import orjson
import uvloop
from picows import WSListener, WSMsgType, WSTransport, ws_create_server

from benchmarks.crowd import stamped


class Socket(WSListener):
    """A client; it is welcomed, so that the other side knows that it is in."""

    open: set[WSTransport] = set()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Welcome it."""
        self.open.add(transport)
        transport.send(WSMsgType.TEXT, b'{"type":"system_status"}')

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Forget it."""
        self.open.discard(transport)


class Control(asyncio.Protocol):
    """Sends the body with every byte that comes."""

    def __init__(self, body: dict[str, object]) -> None:
        self._body = body

    def data_received(self, data: bytes) -> None:
        """Send to all."""
        payload = stamped(self._body)
        for transport in list(Socket.open):
            transport.send(WSMsgType.TEXT, payload)


async def main(port: int, control_port: int, body: str) -> None:
    """Serve until stdin ends."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    told = orjson.loads(body)
    loop = asyncio.get_running_loop()
    server = await ws_create_server(lambda _: Socket(), "127.0.0.1", port, backlog=4_096)
    control = await loop.create_server(lambda: Control(told), "127.0.0.1", control_port)
    print("READY", flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()
    control.close()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
