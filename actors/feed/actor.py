"""The feed as an actor: runs the source, sends its ticks to the hub, answers for its data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import orjson

from actors.cache.client import CacheClient
from actors.feed.core import FeedCore, MonitoredSet
from actors.hub.client import HubClient
from actors.runtime import ServiceActor, exposed, report_metrics
from infra.bars import History, Quote
from infra.clock import SystemClock
from infra.errors import ActorUnavailable, RangeInvalid, SymbolUnknown
from infra.files import write_atomically
from infra.messages import Message
from infra.metrics import TICKS
from infra.settings import Settings
from infra.sources import build_source
from infra.symbols import nearest

logger = logging.getLogger(__name__)


class FeedActor(ServiceActor):
    """Symbol fetching: one source, one stream of ticks for everybody.

    State: the monitored set is hard (a file, written before a change is acknowledged); all else
    is soft and rebuilt from the source. `started_at_s` is the replay's start (Unix seconds), an
    argument so that a restarted actor goes on where it should be. Delivery of ticks: at most
    once; after a restart of the hub its state is sent again.
    """

    role = "feed"

    def __init__(self, settings: Settings, started_at_s: float) -> None:
        super().__init__(settings)
        self._source = build_source(settings, SystemClock(), started_at_s)
        self._core = FeedCore(self._source)
        self._hub = HubClient(settings.actor_wait_s)
        self._epoch = ""
        self._file: Path = settings.data_dir / "monitored.json"
        self._monitored = MonitoredSet(self._load_monitored(), settings.max_universe)
        self.keep(self._run())
        self.keep(report_metrics(self.process, CacheClient().report_metrics))

    async def _run(self) -> None:
        is_first = True  # its batch is the session so far, of which the state is the last word
        async for events in self._source.stream():
            messages = self._core.state() if is_first else self._core.messages(events)
            is_first = False
            TICKS.inc(len(messages))
            await self._publish(messages, self._core.new_run(events))

    async def _publish(self, messages: Sequence[Message], new_run: str) -> None:
        try:
            if new_run:
                await self._hub.start_over(new_run)
            position = await self._hub.publish(messages)
            if self._epoch and position.epoch != self._epoch:
                logger.info("feed.state_resent", extra={"epoch": position.epoch})
                position = await self._hub.publish(self._core.state())
            self._epoch = position.epoch
        except ActorUnavailable:
            logger.warning("feed.ticks_lost", extra={"messages": len(messages)})
            self._epoch = "unknown"

    def _load_monitored(self) -> tuple[str, ...]:
        if self._file.exists():
            saved = orjson.loads(self._file.read_bytes())["symbols"]
            return tuple(s for s in saved if self._source.knows(s))
        return self.settings.symbols or self._source.symbols()

    def _known(self, symbol: str) -> str:
        if not self._source.knows(symbol):
            raise SymbolUnknown(symbol, nearest(symbol, self._source.symbols()))
        return symbol

    @exposed
    async def symbols(self) -> tuple[str, ...]:
        """Return all symbols that the source knows, sorted."""
        return self._source.symbols()

    @exposed
    async def histories(self, symbols: Sequence[str]) -> dict[str, History]:
        """Return all bars of each known symbol; an empty list asks for all, unknown ones lack."""
        wanted = symbols or self._source.symbols()
        return {s: self._source.history(s) for s in wanted if self._source.knows(s)}

    @exposed
    async def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """Return the latest price of each known symbol; unknown ones lack."""
        return {s: self._source.quote(s) for s in symbols if self._source.knows(s)}

    @exposed
    async def monitored(self) -> tuple[str, ...]:
        """Return the monitored set."""
        return self._monitored.symbols

    @exposed
    async def monitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Add to the monitored set, on disk before this returns; return the set.

        Raises SymbolUnknown, and RangeInvalid over the size of the universe; then nothing changed.
        """
        known = [self._known(symbol) for symbol in symbols]
        if not self._monitored.add(known):
            limit = self.settings.max_universe
            raise RangeInvalid(("body", "symbols"), f"more than {limit} symbols", limit)
        return self._saved()

    @exposed
    async def unmonitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Remove from the monitored set, on disk before this returns; return the set."""
        self._monitored.remove(symbols)
        return self._saved()

    def _saved(self) -> tuple[str, ...]:
        symbols = self._monitored.symbols
        write_atomically(self._file, orjson.dumps({"symbols": symbols}))
        return symbols
