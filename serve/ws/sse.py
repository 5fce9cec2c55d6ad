"""The same messages as server-sent events, for who has no WebSocket: `/ws/sse?symbols=AAPL`."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from infra.digits import whole_number
from serve.edge.parameter_names import check_names
from serve.ws.frames import Frame
from serve.ws.outbox import Outbox
from serve.ws.sockets import SocketTable

_SILENCE_S = 15.0  # then a comment says that the connection is there
_PLACE = re.compile(rb'^\{"epoch":"([^"]*)","offset":(\d+)')
_MEDIA_TYPE = "text/event-stream"
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_TEXTS = ("type", "mode", "interval", "indicators")
_NAMES = (*_TEXTS, "symbols", "fields", "max_rate_hz", "extended")
_PLACES = ("lastEventId", "last_event_id")  # the first is what polyfills of EventSource add


def request_of(request: Request) -> dict[str, Any]:
    """Return the subscription that a query stands for, recovering from `Last-Event-ID`.

    An id that is none of ours is left out: the stream then begins with a snapshot.
    """
    query = request.query_params
    check_names(query, (*_NAMES, *_PLACES))
    asked: dict[str, Any] = {"action": "subscribe", "type": "prices"}
    asked |= {name: query[name] for name in _TEXTS if name in query}
    asked["symbols"] = _list(query.get("symbols", ""))
    if "fields" in query:
        asked["fields"] = _list(query["fields"])
    if "max_rate_hz" in query:
        asked["max_rate_hz"] = _number(query["max_rate_hz"])
    if "extended" in query:
        asked["extended"] = query["extended"] == "true"
    places = (request.headers.get("last-event-id"), *(query.get(name) for name in _PLACES))
    place = next((place for place in places if place), "")
    epoch, _, text = place.rpartition(":")
    offset = whole_number(text)
    if epoch and offset is not None:
        asked["recover"] = {"epoch": epoch, "offset": offset}
    return asked


def nothing() -> Response:
    """Return the answer of a stream without the stream."""
    return Response(media_type=_MEDIA_TYPE, headers=_HEADERS)


def full() -> Response:
    """Return that there are too many connections."""
    body = {"detail": {"code": "too_many_connections", "message": "too many connections"}}
    return Response(orjson.dumps(body), 503, {"retry-after": "5"}, "application/json")


def refused(answer: dict[str, Any]) -> Response:
    """Return why a subscription cannot be."""
    status = 404 if answer["code"] == 105 else 503 if answer["code"] == 107 else 422
    detail = {"code": answer["code"], "message": answer["message"]}
    body = orjson.dumps({"detail": detail})
    return Response(body, status_code=status, media_type="application/json")


def events(first: Frame, outbox: Outbox, table: SocketTable) -> Response:
    """Return the stream."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    ready.set()  # what was missed may wait already
    outbox.on_ready = ready.set

    async def chunks() -> AsyncIterator[bytes]:
        yield _event(first.payload, "subscription")
        while not (outbox.is_slow or table.going_away):
            due_s = outbox.due_s()
            silent_until_s = loop.time() + _SILENCE_S
            until_s = silent_until_s if due_s is None else min(due_s, silent_until_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until_s):
                    await ready.wait()
            ready.clear()
            frames = outbox.take(loop.time)
            if frames:
                yield b"".join(_event(frame.payload) for frame in frames)
            elif loop.time() >= silent_until_s:
                yield b": still here\n\n"

    return StreamingResponse(chunks(), media_type=_MEDIA_TYPE, headers=_HEADERS)


def _event(payload: bytes, kind: str = "") -> bytes:
    place = _PLACE.match(payload)
    if place is None:
        body = orjson.loads(payload)
        epoch, offset = str(body.get("epoch", "")).encode(), b"%d" % body.get("offset", 0)
    else:
        epoch, offset = place.groups()
    named = b"event: %b\n" % kind.encode() if kind else b""
    return b"id: %b:%b\n%bdata: %b\n\n" % (epoch, offset, named, payload)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # the parser says what is wrong with it
