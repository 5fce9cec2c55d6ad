"""WebSocket frames: what clients say, and what no client would."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgpack
import orjson
import websockets
from websockets.asyncio.client import connect

from tests.fuzz import values

_PATIENCE_S = 30.0
_REQUESTS: tuple[dict[str, Any], ...] = (
    {"action": "subscribe", "type": "prices", "symbols": ["AAPL"], "mode": "all", "id": 1},
    {"action": "subscribe", "type": "prices", "symbols": ["AAPL"],
     "recover": {"epoch": "e", "offset": 1, "alert_id": 1}},
    {"action": "subscribe", "type": "technical_analysis", "symbols": ["IBM"], "interval": "1d",
     "indicators": "ema(9)", "max_rate_hz": 1, "fields": ["values"], "encoding": "json"},
    {"action": "subscribe", "type": "all"},
    {"action": "subscribe", "type": "alerts", "symbols": ["*"], "extended": True},
    {"action": "unsubscribe", "type": "prices", "symbols": ["AAPL"]},
    {"action": "get_price_history", "symbol": "AAPL", "limit": 5},
    {"action": "get_status"}, {"action": "get_current_prices", "symbols": ["AAPL"]},
    {"action": "heartbeat", "id": 3},
)  # fmt: skip
# What may end a socket: our own reasons, a frame that is no text, one that is too big.
_FINE = frozenset({1000, 1003, 1007, 1008, 1009, *range(4000, 5000)})

Frame = str | bytes


def frame(draws: random.Random) -> Frame:
    """Return something to send."""
    request = values.spoiled(draws.choice(_REQUESTS), draws)
    what = draws.random()
    if what < 0.1:
        return _packed(draws)
    if what < 0.15:
        return draws.randbytes(draws.randrange(200))
    if what < 0.2:
        return values.text(draws)
    text = values.json_text(request)
    return text if draws.random() < 0.9 else text[: draws.randrange(len(text) + 1)]


def _packed(draws: random.Random) -> bytes:
    request = dict(draws.choice(_REQUESTS))
    odd: Any = draws.choice((2**63, -(2**63), 1.5, float("nan"), None, b"\xff", [], {}, "x" * 999,
                             msgpack.Timestamp(1), msgpack.ExtType(5, b"x")))  # fmt: skip
    request[draws.choice(sorted(request))] = odd
    raw: bytes = msgpack.packb(request)
    return raw if draws.random() < 0.8 else raw[: draws.randrange(len(raw))]


async def said(url: str, frames: list[Frame], request_id: str) -> str:
    """Say frames on one socket; return what is wrong, if anything.

    After all of them the socket still answers, or was closed with a reason of ours.
    """
    address = url.replace("http", "ws", 1) + "/ws/realtime"
    try:
        async with (
            asyncio.timeout(_PATIENCE_S),
            connect(
                address,
                max_size=None,
                proxy=None,
                open_timeout=_PATIENCE_S,
                additional_headers={"x-request-id": request_id},
            ) as socket,
        ):
            await socket.recv()
            for one in frames:
                await socket.send(one)
            await socket.send('{"action":"heartbeat","id":"fuzz-end"}')
            while True:
                told = orjson.loads(await socket.recv(decode=False))
                if isinstance(told, dict) and told.get("id") == "fuzz-end":
                    return ""
    except TimeoutError:
        return f"no answer in {_PATIENCE_S:g} s"
    except orjson.JSONDecodeError:
        return ""  # the frames chose another encoding
    except websockets.ConnectionClosed as error:
        code = error.rcvd.code if error.rcvd is not None else 1006
        return "" if code in _FINE else f"closed with {code}"
    except (OSError, websockets.InvalidHandshake) as error:
        return f"{type(error).__name__}: {error}"


async def smallest(url: str, frames: list[Frame]) -> list[Frame]:
    """Return as few of the frames as still go wrong: one, or all."""
    for one in frames:
        if await said(url, [one], "fuzz-again"):
            return [one]
    return frames


def shown(frames: list[Frame]) -> str:
    """Return how to say them again."""
    told = ", ".join(f"{one!r}" if len(one) < 300 else f"{one[:300]!r}…" for one in frames)
    return f"one socket to /ws/realtime, after the welcome: {told}"
