"""Yahoo's streamer: one WebSocket that is kept subscribed, watched and opened again."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import aiohttp

from infra.clock import Clock
from infra.errors import FinstageError, SourceMalformed
from infra.sources.base import Wanted

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

MAX_MESSAGE_BYTES = 1 << 20
_CLOSE_S = 1.0
_SAY_EVERY_S = 60.0
_GAP_MEMORY_S = 300.0  # the usual gap is that of the last few minutes


@dataclass(frozen=True, slots=True)
class StreamerTimes:
    """How long the streamer waits for what, in seconds; `quiet_gaps` is a number of usual gaps.

    `connect_s` and `heartbeat_s` (a ping after so long a silence, an answer within half of it)
    run in the event loop's time, all others in the clock's.
    """

    resubscribe_s: float = 15.0  # Yahoo forgets subscriptions that are not renewed
    quiet_s: float = 10.0
    quiet_gaps: float = 5.0
    backoff_base_s: float = 0.5
    backoff_cap_s: float = 30.0
    connect_s: float = 10.0
    heartbeat_s: float = 20.0


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream dropped, or could not be opened; told once until it is back.

    `reason`: `connect: ...`, `closed: ...`, `send: ...` with the error or the close code, or
    `mute`.
    """

    at_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class Back:
    """The stream is back; ticks of `symbols` between the two times (Unix ns, UTC) are missing.

    `from_ns` is when the last tick came, or when ticks were first wanted if none ever did.
    """

    from_ns: int
    until_ns: int
    symbols: frozenset[str]


class Backoff:
    """Exponential backoff with full jitter: uniform between 0 and a ceiling that doubles."""

    def __init__(self, rng: random.Random, base_s: float, cap_s: float) -> None:
        self._rng = rng
        self._base_s = base_s
        self._cap_s = cap_s
        self._ceiling_s = base_s

    def next_s(self) -> float:
        """Return how long to wait before the next attempt."""
        delay_s = self._rng.uniform(0.0, self._ceiling_s)
        self._ceiling_s = min(self._cap_s, 2 * self._ceiling_s)
        return delay_s

    def reset(self) -> None:
        """Start over: an attempt was good."""
        self._ceiling_s = self._base_s


class QuietWatch:
    """Tells when a stream is silent for longer than it usually is.

    The usual gap between messages is an average over time, not over messages: a burst takes no
    time, so it does not hide the pause before it. Times are monotonic seconds.
    """

    def __init__(self, now_s: float, least_s: float, gaps: float) -> None:
        self._least_s = least_s
        self._gaps = gaps
        self.usual_gap_s = 0.0
        self._heard_s: float | None = None
        self._silent_since_s = now_s

    @property
    def span_s(self) -> float:
        """Return how long a silence is still usual."""
        return max(self._least_s, self._gaps * self.usual_gap_s)

    def note(self, now_s: float) -> None:
        """Take a message into account."""
        if self._heard_s is not None:
            gap_s = now_s - self._heard_s
            weight = 1.0 - math.exp(-gap_s / _GAP_MEMORY_S)
            self.usual_gap_s += weight * (gap_s - self.usual_gap_s)
        self._heard_s = self._silent_since_s = now_s

    def is_quiet(self, now_s: float) -> bool:
        """Return whether the silence is longer than usual."""
        return self.left_s(now_s) <= 0.0

    def left_s(self, now_s: float) -> float:
        """Return how much longer the silence may last and be usual."""
        return self._silent_since_s + self.span_s - now_s

    def excuse(self, now_s: float) -> None:
        """Wait the same span again: the silence has a reason."""
        self._silent_since_s = now_s

    def reconnected(self, now_s: float) -> None:
        """Start a silence that says nothing about the usual gap."""
        self._heard_s, self._silent_since_s = None, now_s

    def forget(self, now_s: float) -> None:
        """Start over: the usual gap of the night is not that of the day."""
        self.reconnected(now_s)
        self.usual_gap_s = 0.0


class Subscriptions:
    """What the server was told of one connection."""

    def __init__(self) -> None:
        self._told: frozenset[str] = frozenset()

    def change(self, symbols: frozenset[str]) -> list[str]:
        """Return the messages that make `symbols` the subscribed ones, none if they are."""
        gone, new = self._told - symbols, symbols - self._told
        self._told = symbols
        changes = {"unsubscribe": gone, "subscribe": new}
        return [_message(verb, which) for verb, which in changes.items() if which]

    def renewal(self) -> str:
        """Return the message that subscribes to everything again."""
        return _message("subscribe", self._told)


class Pending(Generic[T]):
    """What waits for the consumer, in order.

    Beyond `limit` items only the last tick of each symbol is kept, and one Back for all that went,
    so there are never more than `limit` or twice the symbols. Cost of `put`: constant, amortised.
    """

    def __init__(self, symbol_of: Callable[[T], str], limit: int) -> None:
        self._symbol_of = symbol_of
        self._limit = self._room = limit
        self._items: list[T | Lost | Back] = []
        self._some = asyncio.Event()
        self.conflated = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T | Lost | Back) -> None:
        """Add one item."""
        self._items.append(item)
        if len(self._items) > self._room:
            self._conflate()
        self._some.set()

    def wake(self) -> None:
        """Let the one who waits look, although there may be nothing."""
        self._some.set()

    async def wait(self) -> None:
        """Wait until there is something, or until `wake`."""
        await self._some.wait()

    def take(self) -> tuple[T | Lost | Back, ...]:
        """Return everything and keep nothing."""
        taken, self._items = tuple(self._items), []
        self._room = self._limit
        self._some.clear()
        return taken

    def _conflate(self) -> None:
        kept: dict[object, T | Lost | Back] = {}
        for item in reversed(self._items):
            last = kept.setdefault(self._key(item), item)
            if isinstance(last, Back) and isinstance(item, Back):
                kept[Back] = replace(last, from_ns=min(last.from_ns, item.from_ns))
        self.conflated += len(self._items) - len(kept)
        self._items = list(reversed(kept.values()))
        self._room = max(self._limit, 2 * len(kept))

    def _key(self, item: T | Lost | Back) -> object:
        return type(item) if isinstance(item, (Lost, Back)) else self._symbol_of(item)


class Streamer(Generic[T]):
    """The ticks of wanted symbols, over one connection that exists while some are wanted.

    `decode` makes a tick of a message, None of one that holds no price, and raises
    SourceMalformed. `probe` polls these symbols and returns whether prices are newer than the
    stream's last; a FinstageError from it counts as no. `market_open` tells whether ticks are due.
    One `run` at a time. State: soft. Not safe for several threads.
    """

    def __init__(
        self,
        url: str,
        http: Callable[[], aiohttp.ClientSession],
        clock: Clock,
        rng: random.Random,
        *,
        decode: Callable[[str | bytes], T | None],
        symbol_of: Callable[[T], str],
        probe: Callable[[frozenset[str]], Awaitable[bool]],
        market_open: Callable[[frozenset[str]], bool],
        batch_s: float = 0.003,
        max_pending: int = 10_000,
        times: StreamerTimes | None = None,
    ) -> None:
        self._url = url
        self._http = http
        self._clock = clock
        self._decode = decode
        self._probe = probe
        self._market_open = market_open
        self._batch_s = batch_s
        self._times = times = times or StreamerTimes()
        self._backoff = Backoff(rng, times.backoff_base_s, times.backoff_cap_s)
        self._watch = QuietWatch(clock.monotonic_s(), times.quiet_s, times.quiet_gaps)
        self._pending: Pending[T] = Pending(symbol_of, max_pending)
        self._is_lost = False
        self._heard_ns = 0
        self.rejected: Counter[str] = Counter()
        self._said_at_s: dict[str, float] = {}

    @property
    def conflated(self) -> int:
        """Return how many items a slow consumer never saw."""
        return self._pending.conflated

    async def run(self, wanted: Wanted) -> AsyncGenerator[tuple[T | Lost | Back, ...], None]:
        """Yield what came, in order, for ever; no batch is empty.

        The first message after a pause comes at once; in a burst, batches are `batch_s` apart.
        Closing the generator closes the connection.
        """
        self._pending.take()
        self._is_lost = False
        self._heard_ns = self._now_ns()
        follower = asyncio.ensure_future(self._follow(wanted))
        follower.add_done_callback(lambda _: self._pending.wake())
        loop = asyncio.get_running_loop()
        next_at_s = loop.time()
        try:
            while not follower.done():
                await self._pending.wait()
                # The loop's time, as this is about the machine and not about the market.
                if (wait_s := next_at_s - loop.time()) > 0:
                    await asyncio.sleep(wait_s)
                if batch := self._pending.take():
                    next_at_s = loop.time() + self._batch_s
                    yield batch
            follower.result()
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)

    async def _follow(self, wanted: Wanted) -> None:
        while True:
            if not wanted.symbols:
                await wanted.changed()
                self._heard_ns = self._now_ns()  # before this nothing was missed
                continue
            reason = await self._connection(wanted)
            if reason:
                self._lose(reason)
                await self._clock.sleep(self._backoff.next_s())

    async def _connection(self, wanted: Wanted) -> str:
        """Follow one connection to its end; return why it ended, "" if nothing is wanted."""
        try:
            async with asyncio.timeout(self._times.connect_s):
                socket = await self._http().ws_connect(
                    self._url, heartbeat=self._times.heartbeat_s, max_msg_size=MAX_MESSAGE_BYTES
                )
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            return f"connect: {type(error).__name__}"
        self._watch.reconnected(self._clock.monotonic_s())
        subscriptions = Subscriptions()
        try:
            return await _first_of(
                self._read(socket, wanted),
                self._subscribe(socket, wanted, subscriptions),
                self._renew(socket, wanted, subscriptions),
                self._until_mute(wanted),
            )
        except ConnectionError as error:
            return f"send: {type(error).__name__}"
        finally:
            with suppress(TimeoutError):  # a peer that is gone answers no farewell
                async with asyncio.timeout(_CLOSE_S):
                    await socket.close()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse, wanted: Wanted) -> str:
        async for message in socket:
            if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                self._take(message.data, wanted)
        error = socket.exception()
        return f"closed: {type(error).__name__ if error else socket.close_code}"

    def _take(self, data: str | bytes, wanted: Wanted) -> None:
        try:
            tick = self._decode(data)
        except SourceMalformed as error:
            return self._reject(error.kind, error.reason)
        except Exception as error:  # whatever an upstream sends must not end the stream
            return self._reject("undecodable", repr(error))
        if tick is None:
            return
        self._watch.note(self._clock.monotonic_s())
        self._backoff.reset()
        self._return(wanted)
        self._heard_ns = self._now_ns()
        self._pending.put(tick)

    async def _subscribe(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        wanted: Wanted,
        subscriptions: Subscriptions,
    ) -> str:
        """Keep the server's subscriptions those wanted, until there are none."""
        while symbols := wanted.symbols:
            for message in subscriptions.change(symbols):
                await socket.send_str(message)
            if wanted.symbols == symbols:
                await wanted.changed()
        return ""

    async def _renew(
        self,
        socket: aiohttp.ClientWebSocketResponse,
        wanted: Wanted,
        subscriptions: Subscriptions,
    ) -> str:
        while True:
            await self._clock.sleep(self._times.resubscribe_s)
            await socket.send_str(subscriptions.renewal())
            # At night no tick says that the stream is back: a connection that lasted does.
            self._return(wanted)

    async def _until_mute(self, wanted: Wanted) -> str:
        while True:
            await self._clock.sleep(self._watch.left_s(self._clock.monotonic_s()))
            if not self._market_open(wanted.symbols):
                self._watch.forget(self._clock.monotonic_s())
            elif self._is_quiet() and await self._is_mute(wanted.symbols):
                return "mute"

    async def _is_mute(self, symbols: frozenset[str]) -> bool:
        try:
            is_behind = await self._probe(symbols)
        except FinstageError as error:
            logger.info("yahoo.probe_failed", extra={"reason": error.message})
            is_behind = False
        if is_behind and self._is_quiet():  # still, after the time that the poll took
            return True
        self._watch.excuse(self._clock.monotonic_s())
        return False

    def _is_quiet(self) -> bool:
        return self._watch.is_quiet(self._clock.monotonic_s())

    def _lose(self, reason: str) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._pending.put(Lost(self._now_ns(), reason))

    def _return(self, wanted: Wanted) -> None:
        if self._is_lost:
            self._is_lost = False
            self._pending.put(Back(self._heard_ns, self._now_ns(), wanted.symbols))

    def _reject(self, kind: str, reason: str) -> None:
        self.rejected[kind] += 1
        now_s = self._clock.monotonic_s()
        if now_s - self._said_at_s.get(kind, -math.inf) >= _SAY_EVERY_S:
            self._said_at_s[kind] = now_s
            facts = {"kind": kind, "reason": reason[:200], "number": self.rejected[kind]}
            logger.warning("yahoo.malformed", extra=facts)

    def _now_ns(self) -> int:
        return int(self._clock.time_s() * 1e9)


async def _first_of(*works: Coroutine[Any, Any, R]) -> R:
    """Return what the first to end returns or raises; the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return next(task for task in tasks if task in done).result()


def _message(verb: str, symbols: frozenset[str]) -> str:
    return json.dumps({verb: sorted(symbols)})
