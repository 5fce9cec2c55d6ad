"""A bare uvicorn with sockets that are accepted and read, deflate off: neither Ray nor HAProxy."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket


async def realtime(connection: WebSocket) -> None:
    """Say a word, then read until the client goes."""
    await connection.accept()
    await connection.send_text('{"type":"system_status"}')
    while (await connection.receive())["type"] != "websocket.disconnect":
        pass


def await_port(port: int) -> None:
    """Return when somebody listens there: uvicorn tells it in no other way."""
    for _ in range(1_000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)


async def main(port: int) -> None:
    """Serve until stdin ends."""
    app = Starlette(routes=[WebSocketRoute("/realtime", realtime)])
    config = uvicorn.Config(
        app, port=port, ws_per_message_deflate=False, lifespan="off", log_level="error"
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await asyncio.to_thread(await_port, port)
    print("READY", flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.should_exit = server.force_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
