"""The stream application: `/ws/realtime` and `/ws/sse`."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from actors.indicators.client import LiveWant
from infra.errors import FinstageError
from infra.settings import Settings
from infra.sources.facts import source_facts
from infra.universe import load_universe
from serve.edge.errors import error_response
from serve.edge.gate import Gate
from serve.edge.middleware import RequestMiddleware
from serve.edge.scope import KEY_NAME
from serve.ws import page, rest, sse
from serve.ws.connection import TOO_MANY_CONNECTIONS, Connection
from serve.ws.outbox import Outbox
from serve.ws.protocol import Session, Terms
from serve.ws.requests import Subscribe
from serve.ws.rest import Feed, Publish
from serve.ws.roster import Roster
from serve.ws.sockets import SocketTable
from serve.ws.wire import SILENT_S, WIRE, Wire

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
    intervals = source_facts(settings).intervals
    terms = Terms(settings.source_name, settings.max_symbols_on_socket, categories, intervals)
    place = Place(settings, table, roster, terms, upstream)

    app = Starlette(
        routes=[
            WebSocketRoute("/ws/realtime", Realtime(place)),
            Route("/ws/sse", Events(place), methods=["GET"]),
            *page.routes(),
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


@dataclass(slots=True)
class Place:
    """What every connection of this replica needs. State: how many each key has, "" for none."""

    settings: Settings
    table: SocketTable
    roster: Roster
    terms: Terms
    upstream: Upstream
    by_key: Counter[str] = field(default_factory=Counter)

    def is_full(self, key: str = "") -> bool:
        """Return whether one more connection is too many, in all or of a key."""
        if not key:
            return len(self.table) >= self.settings.max_sockets_without_key
        if len(self.table) >= self.settings.max_sockets:
            return True
        return self.by_key[key] >= self.settings.max_sockets_of_key

    @contextmanager
    def client(self, key: str) -> Iterator[tuple[Session, Outbox]]:
        """Give a client its place for as long as the block runs, however it ends."""
        outbox = self.table.open()
        session = Session(str(uuid.uuid4()), self.table, outbox, self.terms, time.time())
        self.roster.add(session)
        self.by_key[key] += 1
        try:
            yield session, outbox
        finally:
            self.by_key[key] -= 1
            self.roster.remove(session)
            self.table.close(outbox)


class Realtime:
    """The application of `/ws/realtime`, for handshakes that were admitted."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one socket until it ends."""
        place, key = self._place, scope[KEY_NAME]
        await receive()  # websocket.connect
        await send({"type": "websocket.accept"})
        if place.is_full(key):
            reason = "too many connections"
            await send({"type": "websocket.close", "code": TOO_MANY_CONNECTIONS, "reason": reason})
            return
        wire: Wire = scope["extensions"][WIRE]
        with place.client(key) as (session, outbox):
            connection = Connection(wire, session, outbox, place.table)
            try:
                await connection.converse(receive, place.settings, self._prepare(session))
            finally:
                connection.close()

    def _prepare(self, session: Session) -> Callable[[Subscribe], Awaitable[None]]:
        async def prepare(asked: Subscribe) -> None:
            await _prepare(session, self._place, asked)

        return prepare


class Events:
    """The application of `/ws/sse`, for requests that were admitted."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one stream until it ends, or until its client takes nothing for long."""
        if scope["method"] == "HEAD":  # its body would go on unseen, with a place of its own
            await sse.nothing()(scope, receive, send)
            return
        if self._place.is_full(scope[KEY_NAME]):
            await sse.full()(scope, receive, send)
            return
        try:
            text = orjson.dumps(sse.request_of(Request(scope)))
        except FinstageError as error:
            await error_response(error)(scope, receive, send)
            return
        try:
            await self._serve(text, scope, receive, send)
        except TimeoutError:
            return  # the server ends an answer that broke off

    async def _serve(self, text: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        place = self._place

        async def timed(message: Message) -> None:
            async with asyncio.timeout(SILENT_S):
                await send(message)

        with place.client(scope[KEY_NAME]) as (session, outbox):
            asked = session.asked(text)
            if asked is not None:
                await _prepare(session, place, asked)
            answer = session.reply(text, time.time())
            told = orjson.loads(answer.payload)
            if told["type"] == "error":
                response = sse.refused(told)
            else:
                response = sse.events(answer, outbox, place.table)
            await response(scope, receive, timed)


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
