"""A fake Yahoo: its endpoints and streamer on loopback, with faults on order.

`python -m tests.fakes.yahoo --port N` serves the built-in symbols under today's dates, streams
made ticks, and prints its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import ssl
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import orjson
import requests
from aiohttp import WSMsgType, web

from infra.bars import Bars
from infra.sources.yahoo.pricing import pricing_data_class
from tests.fakes import yahoo_answers as answers
from tests.fakes.yahoo_data import Market, clock_at, day_of
from tests.fakes.yahoo_faults import UNAUTHORIZED, Answer, Exchange, Fault
from tests.fakes.yahoo_scraped import with_calendar

MID_SESSION_S = datetime(
    2013, 3, 1, 20, tzinfo=UTC
).timestamp()  # 15:00 in New York, on the last day of the data

_A3 = "d=AQABBMadefake&S=AQAAAfake"
_TICK_PAUSE_S = 0.25


@dataclass(slots=True, eq=False)
class _Stream:
    """One socket of the streamer and what it subscribed to."""

    socket: web.WebSocketResponse
    request: web.Request
    symbols: set[str] = field(default_factory=set)


class FakeYahoo:
    """Yahoo's endpoints on a free port, and how it fails.

    `now_s` (Unix seconds, or a function such as a FakeClock's `time_s`) is where the data end.
    Endpoints by name: cookie, crumb, quote, chart, search, summary, timeseries, news, stream.
    Quote and summary answer 401 without the cookie and the crumb. `includePrePost` adds no rows:
    there are no early and late trades. `tls`: serve https and wss by it. Public attributes may
    be set at any time.
    """

    def __init__(
        self,
        market: Market | None = None,
        now_s: float | Callable[[], float] = MID_SESSION_S,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.market = Market() if market is None else market
        self.crumb = "fAke.CrUmb1"
        self.latency_s = 0.0
        self.mute = False
        self.requests: Counter[str] = Counter()
        self.log: list[tuple[str, tuple[str, ...], float]] = []
        self.stream_connections = 0
        # Members of a symbol's quote that are other than the data say; None takes one out.
        self.quote_fields: dict[str, dict[str, Any]] = defaultdict(dict)
        self._clock = clock_at(now_s)
        self._port = port
        self._tls = tls
        self._faults: dict[str, deque[Fault]] = defaultdict(deque)
        self._lasting: dict[str, Fault] = {}
        self._everything: Fault | None = None
        self._site: web.TCPSite | None = None
        self._released = asyncio.Event()
        self._streams: set[_Stream] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""
        self.loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self.loop = asyncio.get_running_loop()
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await self._listen()
        self._port = int(self._runner.addresses[0][1])
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def _listen(self) -> None:
        assert self._runner is not None
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, ssl_context=self._tls)
        await self._site.start()

    async def __aexit__(self, *_: object) -> None:
        self.release()
        self.abort_streams()
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def now_s(self) -> float:
        """Return the fake's time, Unix seconds; set it to stop it there."""
        return self._clock()

    @now_s.setter
    def now_s(self, now_s: float | Callable[[], float]) -> None:
        self._clock = clock_at(now_s)

    @property
    def stream_url(self) -> str:
        """Return the streamer's address."""
        return f"ws{self.url.removeprefix('http')}/?version=2"

    @property
    def subscriptions(self) -> set[str]:
        """Return the symbols that any socket is subscribed to now."""
        return {symbol for stream in self._streams for symbol in stream.symbols}

    def set_bars(self, symbol: str, interval: str, bars: Bars, **options: Any) -> None:
        """See Market.set_bars."""
        self.market.set_bars(symbol, interval, bars, **options)

    def fail(self, endpoint: str, *faults: Fault, forever: bool = False) -> None:
        """Answer the next requests of an endpoint so, one each; `forever`: then by the last."""
        self._faults[endpoint].extend(faults)
        if forever:
            self._lasting[endpoint] = faults[-1]

    def fail_all(self, fault: Fault) -> None:
        """Answer everything so, the streamer too, until `heal`."""
        self._everything = fault

    def heal(self) -> None:
        """Forget all faults that were ordered, and end all hangs."""
        self._faults.clear()
        self._lasting.clear()
        self._everything = None
        self.release()

    async def leave(self) -> None:
        """Let nobody connect, and end all connections of the streamer; see `come_back`."""
        assert self._site is not None
        await self._site.stop()
        self.abort_streams()
        assert self._runner is not None
        assert self._runner.server is not None
        self._runner.server.pre_shutdown()

    async def come_back(self) -> None:
        """Listen on the same port again."""
        await self._listen()

    def release(self) -> None:
        """Answer all requests that hang."""
        released, self._released = self._released, asyncio.Event()
        if self.loop is not None:
            self.loop.call_soon_threadsafe(released.set)

    async def send_tick(
        self,
        symbol: str,
        price: float,
        at_ms: int | None = None,
        day_volume: int = 0,
        **members: Any,
    ) -> int:
        """Stream one price to its subscribers; return how many got it.

        `members` are further ones of the protobuf: day_high, previous_close, market_hours, ...
        """
        return await self.send_raw(
            pricing_message(
                symbol,
                price,
                int(self.now_s * 1000) if at_ms is None else at_ms,
                day_volume=day_volume,
                **members,
            ),
            symbol,
        )

    async def send_raw(self, text: str, symbol: str | None = None) -> int:
        """Stream any text to a symbol's subscribers, or to all; return how many got it."""
        if self.mute:
            return 0
        reached = 0
        for stream in list(self._streams):
            if symbol is None or symbol in stream.symbols:
                with contextlib.suppress(ConnectionError):
                    await stream.socket.send_str(text)
                    reached += 1
        return reached

    @property
    def open_streams(self) -> int:
        """Return how many streams are open now."""
        return len(self._streams)

    async def close_streams(self) -> None:
        """Close all streams as a server does that restarts: with a closing handshake."""
        for stream in list(self._streams):
            await stream.socket.close(code=1001, message=b"going away")

    def abort_streams(self) -> None:
        """Cut all streams: the connection is reset, and nothing is said."""
        for stream in list(self._streams):
            if stream.request.transport is not None:
                stream.request.transport.abort()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/", self._root)
        app.router.add_get("/fc", self._handler("cookie", self._cookie))
        app.router.add_get("/consent", self._handler("consent", self._consent))
        app.router.add_get("/v1/test/getcrumb", self._handler("crumb", self._crumb))
        app.router.add_get("/v1/finance/search", self._handler("search", self._search))
        app.router.add_get("/v7/finance/quote", self._handler("quote", self._quote))
        app.router.add_get("/v8/finance/chart/{symbol}", self._handler("chart", self._chart))
        app.router.add_get(
            "/v10/finance/quoteSummary/{symbol}", self._handler("summary", self._summary)
        )
        app.router.add_get(
            "/ws/fundamentals-timeseries/v1/finance/timeseries/{symbol}",
            self._handler("timeseries", self._timeseries),
        )
        app.router.add_post("/xhr/ncp", self._handler("news", self._news))
        return app

    def _handler(
        self, endpoint: str, answer: Callable[[web.Request, bytes], Answer]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self._note(endpoint, request)
            body = await request.read()
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            fault = self._next_fault(endpoint)
            if fault is None:
                return answer(request, body).response()
            exchange = Exchange(request, lambda: answer(request, body), self._released)
            return await fault.respond(exchange)

        return handle

    def _note(self, endpoint: str, request: web.Request) -> None:
        one = request.match_info.get("symbol")
        symbols = (one,) if one else tuple(request.query.get("symbols", "").split(","))
        self.requests[endpoint] += 1
        self.log.append((endpoint, tuple(filter(None, symbols)), time.monotonic()))

    def _next_fault(self, endpoint: str) -> Fault | None:
        queued = self._faults[endpoint]
        return queued.popleft() if queued else self._lasting.get(endpoint, self._everything)

    # -- the endpoints ----------------------------------------------------------------------

    async def _root(self, request: web.Request) -> web.StreamResponse:
        # Yahoo has the cookie page and the streamer on hosts of their own.
        if "websocket" in request.headers.get("Upgrade", "").lower():
            return await self._stream(request)
        return await self._handler("cookie", self._cookie)(request)

    def _cookie(self, request: web.Request, _: bytes) -> Answer:
        page = "<!DOCTYPE html><html><body>Not Found on Accelerator</body></html>"
        return Answer(404, page, "text/html", (("A3", _A3),))

    def _consent(self, request: web.Request, _: bytes) -> Answer:
        return Answer(200, "<html><body>Yahoo is part of a family</body></html>", "text/html")

    def _crumb(self, request: web.Request, _: bytes) -> Answer:
        if request.cookies.get("A3") != _A3:
            return Answer(401, UNAUTHORIZED)
        return Answer(200, self.crumb, "text/plain")

    def _quote(self, request: web.Request, _: bytes) -> Answer:
        if not self._knows(request):
            return Answer(401, UNAUTHORIZED)
        payload = answers.quotes(self.market, request.query, self.now_s)
        for row in payload["quoteResponse"]["result"]:
            row |= self.quote_fields.get(row["symbol"], {})
            for name in [name for name, value in row.items() if value is None]:
                del row[name]
        return Answer(200, payload)

    def _chart(self, request: web.Request, _: bytes) -> Answer:
        symbol = request.match_info["symbol"]
        return answers.chart(self.market, symbol, request.query, self.now_s)

    def _search(self, request: web.Request, _: bytes) -> Answer:
        return answers.search(self.market, request.query, self.now_s)

    def _summary(self, request: web.Request, _: bytes) -> Answer:
        if not self._knows(request):
            return Answer(401, UNAUTHORIZED)
        symbol = request.match_info["symbol"]
        summary = answers.summary(self.market, symbol, request.query, self.now_s)
        return with_calendar(summary, symbol, request.query)

    def _timeseries(self, request: web.Request, _: bytes) -> Answer:
        return answers.timeseries(request.match_info["symbol"], request.query)

    def _news(self, request: web.Request, body: bytes) -> Answer:
        return answers.news(self.market, orjson.loads(body), self.now_s)

    def _knows(self, request: web.Request) -> bool:
        return request.cookies.get("A3") == _A3 and request.query.get("crumb") == self.crumb

    # -- the streamer -----------------------------------------------------------------------

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        self._note("stream", request)
        fault = self._next_fault("stream")
        if fault is not None:
            ok = Answer(200, "", "text/plain")
            return await fault.respond(Exchange(request, lambda: ok, self._released))
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        stream = _Stream(socket, request)
        self._streams.add(stream)
        self.stream_connections += 1
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    _subscribe(stream, orjson.loads(message.data))
        finally:
            self._streams.discard(stream)
        return socket


def _subscribe(stream: _Stream, command: dict[str, list[str]]) -> None:
    stream.symbols |= set(command.get("subscribe", ()))
    stream.symbols -= set(command.get("unsubscribe", ()))


def pricing_message(symbol: str, price: float, at_ms: int, **members: Any) -> str:
    """Return a message of the streamer, by default one of the regular session."""
    named = {"currency": "USD", "exchange": "NMS", "market_hours": 1} | members
    data = pricing_data_class()(id=symbol, price=price, time=at_ms, **named)
    text = base64.b64encode(data.SerializeToString()).decode()
    return orjson.dumps({"type": "pricing", "message": text}).decode()


class _RehostedSession(requests.Session):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.trust_env = False  # no proxy of the environment for loopback
        self._there = urlsplit(url)

    def request(self, method: Any, url: Any, *args: Any, **options: Any) -> requests.Response:
        there = self._there
        rehosted = urlsplit(str(url))._replace(scheme=there.scheme, netloc=there.netloc)
        return super().request(method, urlunsplit(rehosted), *args, **options)


def yfinance_session(fake_url: str) -> requests.Session:
    """Return a session for `yf.Ticker(..., session=)` that takes every host for the fake's."""
    return _RehostedSession(fake_url)


@contextlib.contextmanager
def serving_in_thread(**options: Any) -> Iterator[FakeYahoo]:
    """Serve a FakeYahoo from a thread with a loop of its own.

    `fail`, `heal` and plain attributes can be used from here, coroutines through
    `asyncio.run_coroutine_threadsafe(..., fake.loop)`.
    """
    started: deque[FakeYahoo | BaseException] = deque()
    ready, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with FakeYahoo(**options) as fake:
            started.append(fake)
            ready.set()
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            started.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="fake-yahoo", daemon=True)
    thread.start()
    ready.wait()
    first = started[0]
    if isinstance(first, BaseException):
        raise first
    try:
        yield first
    finally:
        stop.set()
        thread.join(10)


async def stream_made_ticks(fake: FakeYahoo) -> None:
    """Stream the ticks of each subscribed symbol's last session, over and over, stamped now."""
    tick = 0
    while True:
        for symbol in sorted(fake.subscriptions):
            book = fake.market.book(symbol, fake.now_s)
            if book is not None:
                path = book.path(book.count(fake.now_s) - 1)
                row = tick % len(path)
                volume = int(path.volume_so_far[row])
                await fake.send_tick(symbol, float(path.price[row]), day_volume=volume)
        tick += 1
        await asyncio.sleep(_TICK_PAUSE_S)


async def _serve(port: int) -> None:
    market = Market.until(day_of(time.time()))
    async with FakeYahoo(market, time.time, port) as fake:
        sys.stdout.write(fake.url + "\n")
        sys.stdout.flush()
        await stream_made_ticks(fake)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.yahoo", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
