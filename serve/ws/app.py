"""The stream application: `/ws/realtime`."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from actors.indicators.client import LiveWant
from infra.errors import FinstageError
from infra.metrics import FRAMES
from infra.settings import Settings
from serve.gate import Gate
from serve.middleware import RequestMiddleware
from serve.ws.protocol import Session
from serve.ws.sockets import Outbox, SocketTable

TOO_MANY_CONNECTIONS = 4504
MESSAGE_TOO_LARGE = 4500
SHUTDOWN = 4001

T = TypeVar("T")


Want = Callable[[Sequence[str]], Awaitable[dict[str, FinstageError]]]
WantLive = Callable[[Sequence[LiveWant]], Awaitable[dict[LiveWant, FinstageError]]]


class Upstream(NamedTuple):
    """Who is asked for what nobody here takes yet; each returns why some cannot be had.

    `want`: ticks of symbols, of the feed; without it only symbols that prices were told of can be
    subscribed to. `want_live`: live values, of the indicators.
    """

    want: Want | None
    want_live: WantLive


def create_stream(
    settings: Settings, table: SocketTable, gate: Gate, upstream: Upstream
) -> Starlette:
    """Return the application of the `stream` deployment, whose prefix is `/ws`."""

    async def realtime(socket: WebSocket) -> None:
        await _serve_socket(socket, table, settings, upstream)

    app = Starlette(
        routes=[
            WebSocketRoute("/realtime", realtime),
            WebSocketRoute("/ws/realtime", realtime),  # without Serve's root_path
        ]
    )
    app.add_middleware(
        RequestMiddleware,
        gate=gate,
        behind_serve=True,
        max_body_bytes=settings.max_body_bytes,
    )
    return app


async def _serve_socket(
    socket: WebSocket, table: SocketTable, settings: Settings, upstream: Upstream
) -> None:
    await socket.accept()
    if len(table) >= settings.max_sockets:
        await socket.close(TOO_MANY_CONNECTIONS, "too many connections")
        return
    outbox = table.open()
    session = Session(
        str(uuid.uuid4()), table, outbox, settings.max_symbols_on_socket, settings.source_name
    )
    try:
        await _first_ended(
            _read(socket, session, outbox, settings.max_message_bytes, upstream),
            _write(socket, outbox, table),
        )
    finally:
        table.close(outbox)


async def _first_ended(*works: Coroutine[Any, Any, None]) -> None:
    """Run works together until the first ends, and end the others.

    A reader waits for the writer to send its answer: alone, it would wait for ever for one whose
    connection broke. A broken connection is no error here.
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect | OSError):
            raise result


async def _read(
    socket: WebSocket, session: Session, outbox: Outbox, max_bytes: int, upstream: Upstream
) -> None:
    await outbox.answer(session.welcome())
    while socket.application_state is WebSocketState.CONNECTED:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text") or message.get("bytes") or b""
        if len(text) > max_bytes:
            await socket.close(MESSAGE_TOO_LARGE, f"a message is at most {max_bytes} bytes")
            return
        if upstream.want is not None and (symbols := session.new_symbols(text)):
            session.meet(symbols, await _refusals(upstream.want, symbols))
        if wants := session.live_wants(text):
            session.meet_live(await _refusals(upstream.want_live, wants))
        await outbox.answer(session.reply(text, time.time()))


async def _refusals(
    ask: Callable[[Sequence[T]], Awaitable[dict[T, FinstageError]]], wanted: Sequence[T]
) -> dict[T, FinstageError]:
    try:
        return await ask(wanted)
    except FinstageError as error:  # who is asked is away: the client is told, and may ask again
        return dict.fromkeys(wanted, error)


async def _write(socket: WebSocket, outbox: Outbox, table: SocketTable) -> None:
    while True:
        frames = await outbox.take()
        for frame in frames:
            await socket.send_text(frame.decode())
        FRAMES.inc(len(frames))
        outbox.taken()
        if table.going_away:
            await socket.close(SHUTDOWN, "the service stops")
            return
