"""The routes beside the sockets: who is connected, a word to all of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.clock import utc
from infra.errors import FinstageError, ParameterInvalid, RangeInvalid
from infra.messages import BROADCAST, Message
from serve.errors import error_response
from serve.ws.requests import PREFIXES
from serve.ws.roster import Roster

EVERYONE = "all"
MESSAGE_TYPES = ("system_status", "alert", "price_update", "technical_analysis", "heartbeat")
_MOST_CHARACTERS = 2_000

Publish = Callable[[Sequence[Message]], Awaitable[object]]


def routes(roster: Roster, publish: Publish) -> list[Route]:
    """Return the routes, each with and without Serve's prefix.

    A broadcast goes through the hub, so it reaches the sockets of every replica.
    """

    async def read_status(_: Request) -> Response:
        return _json(await roster.status(time.time()))

    async def clients(_: Request) -> Response:
        return _json({"clients": await roster.clients(time.time())})

    async def broadcast(request: Request) -> Response:
        try:
            message, target = _broadcast(request)
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

    made = []
    for prefix in ("", "/ws"):
        made += [
            Route(f"{prefix}/status", read_status),
            Route(f"{prefix}/clients", clients),
            Route(f"{prefix}/broadcast", broadcast, methods=["POST"]),
        ]
    return made


def _broadcast(request: Request) -> tuple[Message, str]:
    given = request.query_params
    text, kind = given.get("message", ""), given.get("message_type", "system_status")
    target = given.get("target_type", EVERYONE)
    if not 1 <= len(text) <= _MOST_CHARACTERS:
        told = f"message must have 1 to {_MOST_CHARACTERS} characters"
        raise RangeInvalid(("query", "message"), told, _MOST_CHARACTERS)
    if kind not in MESSAGE_TYPES:
        raise ParameterInvalid(("query", "message_type"), kind, MESSAGE_TYPES)
    if target != EVERYONE and target not in PREFIXES:
        raise ParameterInvalid(("query", "target_type"), target, (EVERYONE, *PREFIXES))
    body = {
        "type": kind,
        "message": text,
        "source": "admin",
        "broadcast_type": target,
        "timestamp": utc(time.time()).isoformat(),
    }
    return Message(BROADCAST + target, orjson.dumps(body)), target


def _json(body: object) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")
