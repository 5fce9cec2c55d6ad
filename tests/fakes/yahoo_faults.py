"""What can go wrong with an answer of the fake Yahoo, each as Yahoo does it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

UNAUTHORIZED = {
    "finance": {
        "result": None,
        "error": {"code": "Unauthorized", "description": "Invalid Crumb"},
    }
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answers: JSON, or text of some type."""

    status: int
    payload: Any
    content_type: str = "application/json"
    cookies: tuple[tuple[str, str], ...] = ()

    @property
    def body(self) -> bytes:
        """Return the payload as sent."""
        is_json = self.content_type == "application/json"
        return orjson.dumps(self.payload) if is_json else str(self.payload).encode()

    def response(self) -> web.Response:
        """Return it for aiohttp."""
        response = web.Response(status=self.status, body=self.body, content_type=self.content_type)
        for name, value in self.cookies:
            response.set_cookie(name, value, max_age=31_557_600, path="/", httponly=True)
        return response


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, how it would be answered, and what ends a hang."""

    request: web.Request
    answer: Callable[[], Answer]
    released: asyncio.Event


class Fault:
    """A wrong answer; by default the right one, changed."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Answer a request."""
        answer = exchange.answer()
        payload = copy.deepcopy(answer.payload)
        self.spoil(payload)
        return Answer(answer.status, payload, answer.content_type, answer.cookies).response()

    def spoil(self, payload: Any) -> None:
        """Change the payload of the right answer."""


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """An HTTP error; `retry_after` is the header, in seconds or as a date."""

    code: int
    retry_after: str | int | None = None

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Answer with the status and the body that Yahoo gives it."""
        if self.code in (401, 403):
            response = Answer(self.code, UNAUTHORIZED).response()
        else:
            words = "Too Many Requests\r\n" if self.code == 429 else "Internal Server Error"
            response = Answer(self.code, words, "text/plain").response()
        if self.retry_after is not None:
            response.headers["Retry-After"] = str(self.retry_after)
        return response


class ConsentRedirect(Fault):
    """A redirect to the page that asks Europeans for consent."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Answer with the redirect."""
        return web.Response(status=302, headers={"Location": "/consent?brandType=nonEu"})


class Html(Fault):
    """A page of apology with status 200."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Answer with the page."""
        page = "<html><body><h1>Will be right back...</h1></body></html>"
        return Answer(200, page, "text/html").response()


class NullResult(Fault):
    """No result, and no error either."""

    def spoil(self, payload: Any) -> None:
        """Take out the result of any of Yahoo's envelopes."""
        for envelope in payload.values():
            if isinstance(envelope, dict):
                envelope.update(result=None, error=None)


class Truncated(Fault):
    """Half of the answer, then the connection is closed."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Promise the whole length, and send half of it."""
        answer = exchange.answer()
        response = web.StreamResponse(
            status=answer.status, headers={"Content-Type": answer.content_type}
        )
        response.content_length = len(answer.body)
        await response.prepare(exchange.request)
        await response.write(answer.body[: len(answer.body) // 2])
        if exchange.request.transport is not None:
            exchange.request.transport.close()
        return response


class Hang(Fault):
    """No answer until `FakeYahoo.release` is called, then the right one."""

    async def respond(self, exchange: Exchange) -> web.StreamResponse:
        """Wait, then answer."""
        await exchange.released.wait()
        return exchange.answer().response()


class NanRows(Fault):
    """Rows without prices in a chart: every third one."""

    def spoil(self, payload: Any) -> None:
        """Take the prices out."""
        indicators = payload["chart"]["result"][0]["indicators"]
        columns = [*indicators["quote"][0].values()]
        columns += [group["adjclose"] for group in indicators.get("adjclose", [])]
        for column in columns:
            column[::3] = [None] * len(column[::3])


class OutOfOrderRows(Fault):
    """A chart whose first two rows changed places."""

    def spoil(self, payload: Any) -> None:
        """Swap them."""
        for column in _columns(payload):
            column[0], column[1] = column[1], column[0]


class LiveRowTwice(Fault):
    """A chart that tells the last row twice, once stamped with the last trade's time."""

    def spoil(self, payload: Any) -> None:
        """Repeat the last row, the first of the two stamped with its opening."""
        result = payload["chart"]["result"][0]
        for column in _columns(payload):
            column.append(column[-1])
        meta = result["meta"]
        result["timestamp"][-1] = meta["regularMarketTime"]
        if meta["dataGranularity"] == "1d":
            result["timestamp"][-2] = meta["currentTradingPeriod"]["regular"]["start"]


def _columns(payload: Any) -> list[list[Any]]:
    result = payload["chart"]["result"][0]
    indicators = result["indicators"]
    columns = [result["timestamp"], *indicators["quote"][0].values()]
    return columns + [group["adjclose"] for group in indicators.get("adjclose", [])]
