"""Keeps the live stream in a file that the source `replay:FILE` plays.

Runs in a process that has joined the service's Ray (see `driver.join`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from actors.feed.client import FeedClient
from actors.hub.client import HubClient, HubReader
from infra.bars import History
from infra.clock import Clock
from infra.errors import FinstageError, IntervalUnsupported, NotBuilt, SourceUnavailable
from infra.messages import PRICES, SOURCE_DATA, Batch, Kind, Message, Snapshot, body_of, hand, read
from infra.sources.base import Action, Lane
from infra.sources.recorded.recording import RECORDED_TOPICS, Header, RecordingWriter

logger = logging.getLogger(__name__)

_FLUSH_EVERY_S = 1.0
_WANT_EVERY_S = 60.0
_INTERVALS = ("1d", "1m")
_PATIENCE = 4  # times the hub's batch


@dataclass(slots=True)
class Progress:
    """What was kept so far, and how often messages were missed (`resyncs`)."""

    symbols: int = 0
    events: int = 0
    elapsed_s: float = 0.0
    resyncs: int = 0


class Recorder:
    """Records the stream of some symbols: every price, version and corporate action.

    Delivery: all that the hub tells, in its order; after a restart of the hub, or if this process
    was held up for longer than the hub remembers, on from the hub's snapshot, and
    `progress.resyncs` counts that. A version is kept after the histories that belong to it.
    """

    def __init__(self, feed: FeedClient, hub: HubClient, clock: Clock) -> None:
        self._feed = feed
        self._hub = hub
        self._clock = clock
        self._came: asyncio.Queue[tuple[float, tuple[Message, ...]]] = asyncio.Queue()
        self._topics: frozenset[str] = frozenset()
        self._held: dict[str, str] = {}  # data version of the daily bars kept last, by symbol
        self._started_s = 0.0
        self._is_first = True
        self.progress = Progress()

    async def run(self, path: Path, symbols: Sequence[str] = ()) -> None:
        """Write `path` until cancelled; without symbols, of all that are monitored.

        Raises OSError where the file cannot be written, the error of a symbol that is unknown or
        has no bars, ActorUnavailable.
        """
        symbols = tuple(symbols) or await self._feed.monitored()
        await self._want(symbols)
        self._topics = frozenset(kind + s for kind in RECORDED_TOPICS for s in symbols)
        self._started_s = self._clock.monotonic_s()
        self.progress.symbols = len(symbols)
        with RecordingWriter(path, await self._header(symbols)) as writer:
            await self._begin(writer, symbols)
            works = [
                asyncio.ensure_future(HubReader(self._hub, self, _PATIENCE).run()),
                asyncio.ensure_future(self._keep_wanting(symbols)),
                asyncio.ensure_future(self._write(writer)),
            ]
            try:
                await asyncio.gather(*works)
            finally:
                for work in works:
                    work.cancel()
                await asyncio.gather(*works, return_exceptions=True)

    # -- what the hub tells -------------------------------------------------------------------

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take the last message of each topic, versions first."""
        self.progress.resyncs += not self._is_first
        self._is_first = False
        messages = [message for _, message in snapshot.messages]
        messages.sort(key=lambda message: not message.topic.startswith(SOURCE_DATA))
        self._take([m for m in messages if m.topic.startswith((PRICES, SOURCE_DATA))])

    def on_batch(self, batch: Batch) -> None:
        """Take the next messages."""
        self._take(batch.messages)

    def _take(self, messages: Sequence[Message]) -> None:
        ours: list[Message] = []
        for message in messages:
            hand(message, self._keep, ours)
        if ours:
            self._came.put_nowait((self._now_s(), tuple(ours)))

    def _keep(self, kind: Kind, message: Message, ours: list[Message]) -> None:
        if kind is not Kind.ENDED and message.topic in self._topics:
            body_of(message)
            ours.append(message)

    # -- what is written ----------------------------------------------------------------------

    async def _header(self, symbols: Sequence[str]) -> Header:
        quotes = await self._feed.quotes(symbols[:1])
        first = quotes[symbols[0]]
        if isinstance(first, FinstageError):
            raise first
        now_ns = int(self._clock.time_s() * 1e9)
        return Header(first.source, first.synthetic, now_ns, tuple(symbols))

    async def _begin(self, writer: RecordingWriter, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            writer.describe(await self._feed.info(symbol), await self._actions(symbol))
        await self._hold(writer, symbols, 0.0)

    async def _actions(self, symbol: str) -> tuple[Action, ...]:
        try:
            return await self._feed.actions(symbol)
        except NotBuilt:
            return ()

    async def _hold(self, writer: RecordingWriter, symbols: Sequence[str], at_s: float) -> None:
        """Keep the histories of now; one without daily bars cannot be played."""
        for interval in _INTERVALS:
            answers = await self._feed.histories(symbols, interval, Lane.BACKGROUND)
            for symbol, history in answers.items():
                if isinstance(history, History):
                    writer.hold(at_s, history)
                    if interval == "1d":
                        self._held[symbol] = history.data_version
                elif interval == "1d" and not at_s:
                    raise history
                elif not isinstance(history, IntervalUnsupported):
                    why = {"symbol": symbol, "why": history.code}
                    logger.warning("recording.history_left", extra=why)

    async def _write(self, writer: RecordingWriter) -> None:
        flushed_s = 0.0
        while True:
            try:
                at_s, messages = await asyncio.wait_for(self._came.get(), _FLUSH_EVERY_S)
            except TimeoutError:
                writer.flush()
                continue
            if renewed := self._renewed(messages):
                await self._hold(writer, renewed, at_s)
            self.progress.events += writer.keep(at_s, messages)
            self.progress.elapsed_s = self._now_s()
            if at_s - flushed_s > _FLUSH_EVERY_S:
                writer.flush()
                flushed_s = at_s

    def _renewed(self, messages: Sequence[Message]) -> list[str]:
        """Return the symbols whose daily bars are of another version than those kept."""
        told = [body for kind, body in read(messages) if kind is Kind.SOURCE_DATA]
        return [t["symbol"] for t in told if self._held.get(t["symbol"]) != t["data_version"]]

    async def _keep_wanting(self, symbols: Sequence[str]) -> None:
        """Renew the lease: ticks of what nobody monitors flow only while somebody wants them."""
        while True:
            await self._clock.sleep(_WANT_EVERY_S)
            try:
                await self._want(symbols)
            except SourceUnavailable:
                logger.warning("recording.source_away")

    async def _want(self, symbols: Sequence[str]) -> None:
        for error in (await self._feed.want(symbols)).values():
            raise error

    def _now_s(self) -> float:
        return self._clock.monotonic_s() - self._started_s
