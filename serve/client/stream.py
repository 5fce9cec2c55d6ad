"""The stream from another Python program: reconnects by itself, and misses nothing."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import orjson
import websockets
from websockets.asyncio.client import ClientConnection, connect

from infra.errors import FinstageError
from serve.client.place import place_of

logger = logging.getLogger(__name__)

_STARTING = b"Ping http://.../-/routes for available routes."
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_FIRST_TRIES = 3  # beside the first, of a service that nobody has met yet
_LIVELY_S = 60.0  # without a frame or a pong for so long the connection is given up


class StreamRefused(FinstageError):
    """Raised when the service says no to a subscription, or to the connection for good.

    `number` is the protocol's: an error code, or a close code from 4500 on.
    """

    status_code = 422
    code = "stream_refused"

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message, number)
        self.number = number


class StreamClient:
    """Subscriptions over WebSocket; every iterator has a connection of its own.

    Broken connections are made again, with growing pauses, and what was missed comes then, in
    order. Where it cannot be had any more, a snapshot takes its place and `resyncs` grows.
    Without `url` it is the service of this machine, as of `Client`. State: the counts, of all
    iterators, and whether anybody ever answered.
    """

    def __init__(self, url: str | None = None, api_key: str | None = None) -> None:
        self._place = place_of(url, api_key)
        self._url = self._place.url.replace("http", "ws", 1) + "/ws/realtime"
        self._headers = {} if self._place.key is None else {"x-api-key": self._place.key}
        self._has_met = False  # a service that answered may go and come back
        self.drops = 0  # connections that broke
        self.resyncs = 0  # times that a snapshot took the place of what was missed

    async def subscribe(
        self, symbols: str | Sequence[str], type: str = "prices", **options: Any
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Yield messages for ever: of each symbol the last one first, then each as it comes.

        `type`: prices, bars, technical_analysis, alerts, tasks or all; `options`: mode,
        max_rate_hz, fields, extended, interval, indicators. `symbols` may be `*` or
        `category:stock`; of alerts, tasks and all, none are all. After a snapshot that took the
        place of missed messages the last ones come again, of alerts only what was missed. Who
        leaves the loop closes the connection with `aclose()` (`contextlib.aclosing`). Raises
        StreamRefused, and ActorError where nothing listens and nothing ever answered.
        """
        named = [symbols] if isinstance(symbols, str) else list(symbols)
        request = {"action": "subscribe", "type": type, "symbols": named} | options
        place: dict[str, Any] | None = None
        alert_id = 0  # of the last alert: one that comes again is left out
        pause_s = _FIRST_PAUSE_S
        tries = 0
        while True:
            try:
                async with connect(
                    self._url, additional_headers=self._headers, ping_timeout=_LIVELY_S, proxy=None
                ) as opened:
                    more = {} if place is None else {"recover": place | {"alert_id": alert_id}}
                    self._has_met = True
                    answer = await _subscribed(opened, request | more)
                    if place is not None and not answer["recovered"]:
                        self.resyncs += 1
                    place = _place(answer)
                    pause_s = _FIRST_PAUSE_S
                    async for message in _flattened(answer, _messages(opened)):
                        if message.get("action") == "snapshot":
                            self.resyncs += 1
                            place = _place(message)
                            continue
                        if message.get("event") == "going_away":
                            least_ms, most_ms = message["reconnect_after_ms"]
                            pause_s = random.uniform(least_ms, most_ms) / 1_000
                        place = _later(place, message)
                        number = message.get("alert_id", 0)
                        if number and number <= alert_id:
                            continue
                        alert_id = max(alert_id, number)
                        yield message
            except (OSError, websockets.InvalidHandshake, websockets.ConnectionClosed) as error:
                _check_final(error)
                self._has_met |= isinstance(error, websockets.InvalidStatus)
                tries += 1
                is_nobody = isinstance(error, OSError) and not self._has_met
                if is_nobody and tries > _FIRST_TRIES:
                    raise self._place.unreachable() from None
                logger.info("stream.dropped", extra={"reason": str(error)})
            self.drops += 1
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(_LONGEST_PAUSE_S, 2 * pause_s)


async def _subscribed(socket: ClientConnection, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a subscription; before it comes the welcome, and maybe news."""
    await socket.send(orjson.dumps(request).decode())
    while True:
        answer = _object(await socket.recv())
        if answer.get("type") == "error":
            if answer["code"] == 107:  # the source is away: the same may go well soon
                raise OSError(answer["message"])
            raise StreamRefused(answer["message"], answer["code"])
        if answer.get("action") == "subscribed":
            return answer


def _object(text: str | bytes) -> dict[str, Any]:
    """Return what a frame says; one that says nothing of ours is logged, and empty."""
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        message = None
    if isinstance(message, dict) and isinstance(message.get("type"), str):
        return message
    logger.warning("stream.unread", extra={"frame": str(text[:200])})
    return {}


async def _messages(socket: ClientConnection) -> AsyncIterator[dict[str, Any]]:
    async for text in socket:
        if message := _object(text):
            yield message
    await socket.wait_closed()
    code = socket.close_code or 1006
    raise websockets.ConnectionClosed(
        websockets.frames.Close(code, socket.close_reason or ""), None
    )


async def _flattened(
    answer: dict[str, Any], messages: AsyncIterator[dict[str, Any]]
) -> AsyncIterator[dict[str, Any]]:
    """Yield what a snapshot has as messages: of the answer, and of those that come later."""
    for last in _in_order(answer["snapshot"]):
        yield last
    async for message in messages:
        yield message
        for last in _in_order(message.get("snapshot", ())):
            yield last


def _in_order(snapshot: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages of a snapshot, alerts by their numbers."""
    return sorted(snapshot, key=lambda message: message.get("alert_id", 0))


def _check_final(error: Exception) -> None:
    """Raise StreamRefused where the same again would fail."""
    if isinstance(error, websockets.ConnectionClosed) and error.rcvd is not None:
        if 4500 <= error.rcvd.code < 5000:
            raise StreamRefused(error.rcvd.reason or "refused", error.rcvd.code) from None
    if isinstance(error, websockets.InvalidStatus) and 400 <= error.response.status_code < 500:
        status, body = error.response.status_code, error.response.body or b""
        # An ingress that just started knows no path for half a second, and says so like this.
        is_starting = status == 404 and body.endswith(_STARTING)
        if status != 429 and not is_starting:
            raise StreamRefused(body.decode() or "refused", status) from None


def _place(message: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": message["epoch"], "offset": message["offset"]}


def _later(place: dict[str, Any], message: dict[str, Any]) -> dict[str, Any]:
    """Return the later of two places; what a rate held back comes after what is newer."""
    if not {"epoch", "offset"} <= message.keys():
        return place
    if message["epoch"] != place["epoch"]:
        return _place(message)
    return _place(message) if message["offset"] > place["offset"] else place
