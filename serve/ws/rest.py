"""The routes beside the sockets: who is connected, a word to all of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.clock import utc
from infra.errors import FinstageError, ParameterInvalid, RangeInvalid
from infra.messages import BROADCAST, Message
from infra.symbols import normalise
from serve.edge.errors import error_response
from serve.edge.parameter_names import check_names, check_unread
from serve.ws.requests import PREFIXES
from serve.ws.roster import Roster

EVERYONE = "all"
MESSAGE_TYPES = ("system_status", "alert", "price_update", "technical_analysis", "heartbeat")
_OF_BROADCAST = ("message", "message_type", "target_type")
_MOST_CHARACTERS = 2_000

Publish = Callable[[Sequence[Message]], Awaitable[object]]


class Feed(Protocol):
    """What of the feed these routes need; see FeedClient."""

    async def monitored(self) -> tuple[str, ...]:
        """Return the monitored set."""

    async def pin(self, symbols: Sequence[str], is_live: bool = False) -> tuple[str, ...]:
        """Stream symbols until `unpin`; return all pinned."""

    async def unpin(self) -> None:
        """Let all that is pinned go."""

    async def pinned(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what is pinned, and what of it has live indicators."""


def routes(roster: Roster, publish: Publish, feed: Feed) -> list[Route]:
    """Return the routes.

    A broadcast goes through the hub, so it reaches the sockets of every replica. Parameters come
    in a JSON body or, as in the former service, in the query.
    """

    async def read_status(_: Request) -> Response:
        return _json(await roster.status(time.time()))

    async def clients(_: Request) -> Response:
        return _json({"clients": await roster.clients(time.time())})

    async def broadcast(request: Request) -> Response:
        try:
            message, target = _broadcast(*await _given(request, _OF_BROADCAST))
            await publish([message])
        except FinstageError as error:
            return error_response(error)
        status = await roster.status(time.time())
        connections = status["websocket_manager"]["active_connections"]
        return _json(
            {
                "success": True,
                "message": "told to the sockets of the target",
                "target_type": target,
                "active_connections": connections,
            }
        )

    async def start(request: Request) -> Response:
        try:
            given, _ = await _given(request, ("symbols",))
            before = (await feed.pinned())[0]
            wanted = _symbols(given.get("symbols")) or list(await feed.monitored())
            pinned = await feed.pin(wanted)
        except FinstageError as error:
            return error_response(error)
        is_new = set(pinned) != set(before)
        return _json(
            {
                "success": is_new,
                "message": "streaming" if is_new else "all of these stream already",
                "monitored_symbols": len(pinned),
                "stats": (await roster.status(time.time()))["price_streamer"],
            }
        )

    async def stop(request: Request) -> Response:
        try:
            check_unread(await request.body(), "this lets all symbols go and reads no body")
            before = (await feed.pinned())[0]
            await feed.unpin()
        except FinstageError as error:
            return error_response(error)
        told = f"{len(before)} symbols stream only while somebody wants them"
        return _json({"success": bool(before), "message": told})

    return [
        Route("/ws/status", read_status),
        Route("/ws/clients", clients),
        Route("/ws/broadcast", broadcast, methods=["POST"]),
        Route("/ws/streaming/start", start, methods=["POST"]),
        Route("/ws/streaming/stop", stop, methods=["POST"]),
    ]


async def _given(
    request: Request, known: Collection[str]
) -> tuple[dict[str, Any], dict[str, tuple[str, str]]]:
    """Return the parameters of a body, of the query where it lacks them, and the place of each."""
    check_names(request.query_params, known)
    given: dict[str, Any] = dict(request.query_params)
    if "symbols" in given:
        given["symbols"] = request.query_params.getlist("symbols")
    body = await request.body()
    if body:
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise ParameterInvalid(("body",), "no JSON", ("a JSON object",)) from None
        if not isinstance(parsed, dict):
            raise ParameterInvalid(("body",), "no object", ("a JSON object",))
        check_names(parsed, known, "body")
        given |= parsed
    in_query = request.query_params.keys() - parsed.keys() if body else known
    return given, {name: ("query" if name in in_query else "body", name) for name in known}


def _symbols(given: object) -> list[str]:
    if given is None:
        return []
    parts: list[Any] = given if isinstance(given, list) else [given]
    if not all(isinstance(part, str) for part in parts):
        raise ParameterInvalid(("body", "symbols"), "no list of text", ('["AAPL"]',))
    names = [name for part in parts for name in part.split(",") if name.strip()]
    return list(dict.fromkeys(normalise(name) for name in names))


def _broadcast(
    given: Mapping[str, Any], places: Mapping[str, tuple[str, str]]
) -> tuple[Message, str]:
    text, kind = str(given.get("message", "")), given.get("message_type", "system_status")
    target = str(given.get("target_type", EVERYONE))
    if not 1 <= len(text) <= _MOST_CHARACTERS:
        told = f"message must have 1 to {_MOST_CHARACTERS} characters"
        raise RangeInvalid(places["message"], told, _MOST_CHARACTERS)
    if kind not in MESSAGE_TYPES:
        raise ParameterInvalid(places["message_type"], str(kind), MESSAGE_TYPES)
    if target != EVERYONE and target not in PREFIXES:
        raise ParameterInvalid(places["target_type"], target, (EVERYONE, *PREFIXES))
    body = {
        "type": kind,
        "message": text,
        "source": "admin",
        "broadcast_type": target,
        "timestamp": utc(time.time()).isoformat(),
    }
    return Message(f"{BROADCAST}{target}", orjson.dumps(body)), target


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
