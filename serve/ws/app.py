"""The stream application: `/ws/realtime`."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from actors.indicators.client import LiveWant
from infra.errors import FinstageError
from infra.metrics import FRAMES, SLOW_SOCKETS
from infra.settings import Settings
from infra.universe import load_universe
from serve.gate import Gate
from serve.middleware import RequestMiddleware
from serve.ws import rest, sse
from serve.ws.allowance import Allowance
from serve.ws.outbox import Outbox
from serve.ws.protocol import Session, Terms
from serve.ws.requests import Subscribe
from serve.ws.rest import Feed, Publish
from serve.ws.roster import Roster
from serve.ws.sockets import SocketTable

# 4000 to 4499: come back; 4500 to 4999: it would be the same again.
SHUTDOWN = 4001
SLOW = 4008
MESSAGE_TOO_LARGE = 4500
TOO_MANY_MESSAGES = 4501
TOO_MANY_CONNECTIONS = 4504
_CATCH_UP_S = 2.0  # another replica may be ahead of this one

T = TypeVar("T")


Want = Callable[[Sequence[str]], Awaitable[dict[str, FinstageError]]]
WantLive = Callable[[Sequence[LiveWant]], Awaitable[dict[LiveWant, FinstageError]]]


class Upstream(NamedTuple):
    """Who is asked for what nobody here takes yet; each returns why some cannot be had.

    `want`: ticks of symbols, of the feed; without it only symbols that prices were told of can be
    subscribed to. `want_live`: live values, of the indicators. `publish`: to the hub.
    `feed`: what streams.
    """

    want: Want | None
    want_live: WantLive
    publish: Publish
    feed: Feed


def create_stream(
    settings: Settings, table: SocketTable, gate: Gate, upstream: Upstream, roster: Roster
) -> Starlette:
    """Return the application of the `stream` deployment, whose prefix is `/ws`."""

    categories = load_universe().categories
    terms = Terms(settings.source_name, settings.max_symbols_on_socket, categories)
    place = Place(settings, table, roster, terms, upstream)

    async def realtime(socket: WebSocket) -> None:
        await _serve_socket(socket, place)

    async def as_events(request: Request) -> Response:
        return await _serve_events(request, place)

    app = Starlette(
        routes=[
            WebSocketRoute("/realtime", realtime),
            WebSocketRoute("/ws/realtime", realtime),  # without Serve's root_path
            Route("/sse", as_events),
            Route("/ws/sse", as_events),
            *rest.routes(roster, upstream.publish, upstream.feed),
        ]
    )
    app.add_middleware(
        RequestMiddleware,
        gate=gate,
        behind_serve=True,
        max_body_bytes=settings.max_body_bytes,
    )
    return app


class Place(NamedTuple):
    """What every connection of this replica needs."""

    settings: Settings
    table: SocketTable
    roster: Roster
    terms: Terms
    upstream: Upstream

    def is_full(self) -> bool:
        """Return whether one more connection is too many."""
        return len(self.table) >= self.settings.max_sockets

    def open(self) -> tuple[Session, Outbox]:
        """Begin with a client."""
        outbox = self.table.open()
        session = Session(str(uuid.uuid4()), self.table, outbox, self.terms, time.time())
        self.roster.add(session)
        return session, outbox

    def close(self, session: Session, outbox: Outbox) -> None:
        """Forget a client."""
        self.roster.remove(session)
        self.table.close(outbox)


async def _serve_socket(socket: WebSocket, place: Place) -> None:
    await socket.accept()
    if place.is_full():
        await socket.close(TOO_MANY_CONNECTIONS, "too many connections")
        return
    session, outbox = place.open()
    try:
        await _first_ended(
            _read(socket, session, outbox, place),
            _write(socket, outbox, place.table),
        )
    finally:
        place.close(session, outbox)


async def _serve_events(request: Request, place: Place) -> Response:
    if place.is_full():
        return Response("too many connections", 503, {"retry-after": "5"})
    session, outbox = place.open()

    def closed() -> None:
        place.close(session, outbox)

    text = orjson.dumps(sse.request_of(request))
    asked = session.asked(text)
    if asked is not None:
        await _prepare(session, place, asked)
    answer = session.reply(text, time.time())
    first = answer.encode() if isinstance(answer, str) else answer
    told = orjson.loads(first)
    if told["type"] == "error":
        closed()
        return sse.refused(told)
    return sse.events(first, outbox, place.table, closed)


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


async def _read(socket: WebSocket, session: Session, outbox: Outbox, place: Place) -> None:
    settings = place.settings
    await outbox.answer(session.welcome())
    per_s, max_bytes = settings.socket_messages_per_s, settings.max_message_bytes
    allowance = Allowance(per_s, 10 * per_s, time.monotonic())
    while socket.application_state is WebSocketState.CONNECTED:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text") or message.get("bytes") or b""
        if len(text) > max_bytes:
            await socket.close(MESSAGE_TOO_LARGE, f"a message is at most {max_bytes} bytes")
            return
        if not allowance.take(time.monotonic()):
            await socket.close(TOO_MANY_MESSAGES, f"more than {per_s} messages a second")
            return
        asked = session.asked(text)
        if asked is not None:
            await _prepare(session, place, asked)
        await outbox.answer(session.reply(text, time.time()))


async def _prepare(session: Session, place: Place, asked: Subscribe) -> None:
    """Ask others for what a subscription needs of them, before it is answered."""
    upstream = place.upstream
    if upstream.want is not None and (symbols := session.new_symbols(asked)):
        session.meet(symbols, await _refusals(upstream.want, symbols))
    if asked.wants:
        session.meet_live(await _refusals(upstream.want_live, asked.wants))
    if asked.recover is not None:
        await place.table.reached(asked.recover, _CATCH_UP_S)


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
            if isinstance(frame, str):
                await socket.send_text(frame)
            else:
                await socket.send_bytes(frame)
        FRAMES.inc(len(frames))
        outbox.sent += len(frames)
        outbox.taken()
        if outbox.is_slow:
            SLOW_SOCKETS.inc()
            await socket.close(SLOW, "reads too slowly; come back with recover")
            return
        if table.going_away:
            await socket.close(SHUTDOWN, "the service stops")
            return
