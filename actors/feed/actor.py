"""The feed as an actor: runs the source, sends its ticks to the hub, answers for its data."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from actors.feed.core import FeedCore, Interest, MonitoredSet
from actors.feed.known import KnownSymbols, Listing
from actors.feed.minutes import MinuteBars
from actors.feed.pins import Pins
from actors.feed.rescaling import actions_between
from actors.hub.client import HubClient
from actors.reporting import report_metrics
from actors.runtime import ServiceActor, exposed
from actors.telemetry.client import TelemetryClient
from infra.bars import IMPORT, NS_PER_MINUTE, History, Quote
from infra.caches.named import caches
from infra.clock import SystemClock
from infra.db.import_reader import ImportReader
from infra.db.store import open_store
from infra.db.watch import StoreReport
from infra.directives import Directives, following
from infra.errors import (
    ActorUnavailable,
    FinstageError,
    SourceError,
    StoreError,
    SymbolUnknown,
)
from infra.messages import Message
from infra.metrics import STAGE_SECONDS, TICKS, UPSTREAM_BREAKER, UPSTREAM_RATE, UPSTREAM_WAITING
from infra.saved_symbols import read_monitored
from infra.settings import Settings
from infra.sources import build_source
from infra.sources.base import (
    Action,
    ActionHappened,
    Event,
    Found,
    Fundamentals,
    Gap,
    Lane,
    NewsItem,
    SymbolInfo,
    Tick,
    VersionChanged,
    Wanted,
)
from infra.sources.imported import WithImports
from infra.sources.steady import SteadySource
from infra.sources.trouble import Trouble
from infra.universe import load_universe

logger = logging.getLogger(__name__)

_REVIEW_EVERY_S = 2.0
_UNPRICED_EVERY_S = 10.0
_BARS_LATE_S = 16.0  # a source's own bars are asked for at most every 15 s
_BREAKER_LEVELS = {"closed": 0, "half_open": 1, "open": 2}
_LIVE_DEFAULT = ("index", "stock")  # categories that a live source monitors at first

# Longer than any other call: it may wait for its turn upstream.
_UPSTREAM_WAIT_S = 30.0


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
        self._clock = SystemClock()
        self._store = open_store(settings, self._clock)
        inner = build_source(settings, self._clock, started_at_s)
        if isinstance(inner, SteadySource):
            caches.add(inner.kept)
        self._source = WithImports(inner, ImportReader(self._store), self._clock)
        self._store_away = ""
        self._unread: set[str] = set()  # imports that are not told yet
        self._core = FeedCore(self._source.name)
        self._hub = HubClient(settings.actor_wait_s)
        self._epoch = ""
        self._batch_s = settings.batch_ms / 1_000
        file = settings.data_dir / "monitored.json"
        self._monitored = MonitoredSet(file, self._load_monitored(file), settings.max_universe)
        self._known = KnownSymbols(self._source, self._monitored)
        self._pins = Pins(settings.data_dir / "pins.json", settings.max_universe)
        self._interest = Interest(settings.interest_s, settings.max_universe)
        self._wanted = Wanted(self._monitored.symbols)
        self._held: dict[str, History] = {}
        has_minutes = "1m" in self._source.intervals
        self._minutes = MinuteBars(self._source.name) if has_minutes else None
        following.follow(self._follow)
        self.keep(self._run())
        self.keep(self._review())
        self.keep(self._follow_imports())
        self.keep(self._look_for_prices())
        self.keep(report_metrics(self.process, TelemetryClient()))

    # -- ticks ------------------------------------------------------------------------------

    async def _run(self) -> None:
        is_first = True  # its batch is the session so far, of which the state is the last word
        async for events in self._source.stream(self._wanted):
            messages = self._core.messages(events)
            if is_first and not self._source.is_open:
                messages = self._core.state(self._clock.time_s())
            is_first = False
            TICKS.inc(len(messages))
            began_s = self._clock.monotonic_s()
            messages += self._minutes_of(events)
            STAGE_SECONDS.labels("source").observe(self._since_received_s(events))
            await self._publish(messages, self._core.new_run(events))
            # A call costs what a hundred ticks cost: those that come meanwhile go together.
            took_s = self._clock.monotonic_s() - began_s
            await self._clock.sleep(max(0.0, self._batch_s - took_s))

    def _since_received_s(self, events: Sequence[Event]) -> float:
        """Return how long ago the first tick came, 0 where ticks are made here."""
        ticks = (e.quote.received_at_ns for e in events if isinstance(e, Tick) and e.is_streamed)
        first_ns = min((at_ns for at_ns in ticks if at_ns), default=0)
        return max(0.0, self._clock.time_s() - first_ns / 1e9) if first_ns else 0.0

    def _follow(self, directives: Directives) -> None:
        batch_ms = directives.batch_ms
        self._batch_s = (self.settings.batch_ms if batch_ms is None else batch_ms) / 1_000

    def _minutes_of(self, events: Sequence[Event]) -> list[Message]:
        for event in events:
            if isinstance(event, Gap):
                self.keep(self._repair(event))
        if self._minutes is None:
            return []
        return self._minutes.take(e.quote for e in events if isinstance(e, Tick))

    async def _repair(self, gap: Gap) -> None:
        """Repair the minutes that are over, and later the one in which ticks came back."""
        await self._repair_closed(gap)
        minute_over_ns = gap.until_ns - gap.until_ns % NS_PER_MINUTE + NS_PER_MINUTE
        wait_s = minute_over_ns / 1e9 + _BARS_LATE_S - self._clock.time_s()
        await self._clock.sleep(max(_BARS_LATE_S, wait_s))
        await self._repair_closed(gap)

    async def _repair_closed(self, gap: Gap) -> None:
        """Fetch what was missed, symbol by symbol, and tell the bars that this revises."""
        for symbol in gap.symbols:
            history = await self._history(symbol, "1m", Lane.BACKGROUND)
            if isinstance(history, FinstageError):
                logger.warning("feed.gap_left", extra={"symbol": symbol, "why": history.code})
            elif self._minutes is not None:
                missed = history.bars.opened_at_ns > gap.from_ns - NS_PER_MINUTE
                await self._publish(self._minutes.repair(symbol, history.bars[missed]))
        logger.info("feed.gap_repaired", extra={"symbols": len(gap.symbols)})

    async def _publish(self, messages: Sequence[Message], new_run: str = "") -> None:
        if not messages and not new_run:
            return
        try:
            if new_run:
                await self._hub.start_over(new_run)
            position = await self._hub.publish(messages)
            if self._epoch and position.epoch != self._epoch:
                logger.info("feed.state_resent", extra={"epoch": position.epoch})
                position = await self._hub.publish(self._core.state(self._clock.time_s()))
            self._epoch = position.epoch
        except ActorUnavailable:
            logger.warning("feed.ticks_lost", extra={"messages": len(messages)})
            self._epoch = "unknown"

    async def _review(self) -> None:
        """Keep the wanted set true, and notice new bars of what is wanted from an open source."""
        while True:
            self._want_now()
            self._measure()
            await self._publish(self._core.news_of(self._source.trouble(), self._clock.time_s()))
            if self._minutes is not None:
                due = self._minutes.close_due(int(self._clock.time_s() * 1e9))
                await self._publish(due)
            if self._source.is_open:
                await self._look_for_new_bars()
            await asyncio.sleep(_REVIEW_EVERY_S)

    def _measure(self) -> None:
        for state in self._source.budgets():
            labels = (state.name, self.process)
            UPSTREAM_RATE.labels(*labels).set(state.rate_per_s)
            UPSTREAM_WAITING.labels(*labels).set(state.waiting)
            UPSTREAM_BREAKER.labels(*labels).set(_BREAKER_LEVELS[state.breaker])

    def _want_now(self) -> None:
        asked_for = self._interest.symbols(self._clock.monotonic_s())
        now = asked_for.union(self._monitored.symbols, self._pins.symbols)
        self._wanted.replace(now.difference(self._source.import_only))

    async def _look_for_prices(self) -> None:
        """Find out, apart from all else, why something monitored has no price."""
        while True:
            await asyncio.sleep(_UNPRICED_EVERY_S)
            with contextlib.suppress(SourceError):
                await self._known.review(self._core.priced)

    async def _follow_imports(self) -> None:
        """Look for imports, apart from all else: a store that hangs holds nothing up."""
        while True:
            await self._look_for_imports()
            await asyncio.sleep(_REVIEW_EVERY_S)

    async def _look_for_imports(self) -> None:
        """Notice what was imported while the service runs, and tell of it as of new bars."""
        try:
            changed = await self._source.look()
        except StoreError as error:
            if self._store_away != error.message:
                logger.warning("feed.store_away", extra={"reason": error.message})
            self._store_away = error.message
            return
        self._store_away = ""
        with contextlib.suppress(StoreError):
            await self._store.keep_slow_queries(self.process)
        for symbol in sorted(self._unread.union(changed)):
            await self._tell_import(symbol)

    async def _tell_import(self, symbol: str) -> None:
        was_unread = symbol in self._unread
        self._unread.discard(symbol)
        quote = (await self._source.quotes([symbol]))[symbol]
        history = await self._history(symbol, "1d", Lane.BACKGROUND)  # last: it says what is gone
        if isinstance(history, SymbolUnknown):
            await self._forget(symbol)
            return
        if isinstance(history, FinstageError):
            if history.retryable:
                self._unread.add(symbol)
            if not was_unread:
                logger.warning("feed.import_unread", extra={"symbol": symbol, "why": history.code})
            return
        events: list[Event] = []
        if not self._source.is_open:
            events.append(VersionChanged(symbol, history.data_version, False))
        if isinstance(quote, Quote) and quote.source == IMPORT:
            events.append(Tick(quote))  # the only one it has: its last close
        await self._publish(self._core.messages(events))

    async def _forget(self, symbol: str) -> None:
        """Let a symbol go that only an import had, which is deleted."""
        self._held.pop(symbol, None)
        await self._publish(self._core.forget(symbol))
        with contextlib.suppress(StoreError):  # a full disk keeps it in the set, as unknown
            self._monitored.remove([symbol])
        self._want_now()

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def look_for_imports(self) -> None:
        """Notice now what was imported or deleted, not within seconds."""
        await self._look_for_imports()

    @exposed
    async def sources(self, symbols: Sequence[str], interval: str = "1d") -> dict[str, str]:
        """Return who has the bars given of each: the source, `import`, or both joined by `+`."""
        return {symbol: self._source.source_of(symbol, interval) for symbol in symbols}

    async def _look_for_new_bars(self) -> None:
        """Ask for the daily bars of symbols that somebody holds; the source paces itself."""
        held = [s for s in self._held if s in self._wanted.symbols]
        await asyncio.gather(*(self._history(s, "1d", Lane.BACKGROUND) for s in held))

    async def _history(self, symbol: str, interval: str, lane: Lane) -> History | FinstageError:
        try:
            history = await self._source.history(symbol, interval, lane=lane)
        except FinstageError as error:
            return error
        if interval == "1d" and self._source.is_open:
            await self._note_version(history)
        return history

    async def _note_version(self, history: History) -> None:
        before = self._held.get(history.symbol)
        self._held[history.symbol] = history
        if before is not None and before.data_version == history.data_version:
            return
        actions = [] if before is None else actions_between(before, history)
        events: list[Event] = [
            VersionChanged(history.symbol, history.data_version, False),
            *(ActionHappened(action) for action in actions),
        ]
        await self._publish(self._core.messages(events))

    # -- the monitored set ------------------------------------------------------------------

    def _load_monitored(self, file: Path) -> tuple[str, ...]:
        if (saved := read_monitored(file)) is not None:
            return saved  # also those of an import, which may not be read yet
        if self.settings.symbols or not self._source.is_open:
            return self.settings.symbols or self._source.symbols()
        universe = load_universe()
        return tuple(s for category in _LIVE_DEFAULT for s in universe.symbols(category))

    @exposed
    async def monitored(self) -> tuple[str, ...]:
        """Return the monitored set."""
        return self._monitored.symbols

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def monitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Add to the monitored set, on disk before this returns; return the set.

        Raises SymbolUnknown, RangeInvalid over the size of the universe, and StoreError where the
        file cannot be written; then nothing changed.
        While an open source does not answer, what it may know is added.
        """
        known = await self._known.checked(symbols)
        self._monitored.add(known)
        self._want_now()
        return self._monitored.symbols

    @exposed
    async def unmonitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Remove from the monitored set, on disk before this returns; return the set."""
        self._monitored.remove(symbols)
        self._want_now()
        return self._monitored.symbols

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def pin(self, symbols: Sequence[str], is_live: bool = False) -> tuple[str, ...]:
        """Stream symbols until `unpin`, on disk before this returns; return all that are pinned.

        Raises SymbolUnknown, and RangeInvalid over the size of the universe; then nothing changed.
        """
        known = await self._known.checked(symbols)
        self._pins.add(known, is_live)
        self._want_now()
        return self._pins.symbols

    @exposed
    async def unpin(self) -> None:
        """Let all that is pinned go."""
        self._pins.clear()
        self._want_now()

    @exposed
    async def pinned(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what is pinned, and what of it has live indicators."""
        return self._pins.symbols, self._pins.live

    # -- what others ask --------------------------------------------------------------------

    @exposed
    async def symbols(self) -> tuple[str, ...]:
        """Return the symbols that the source can list and the monitored ones, sorted."""
        return self._known.symbols()

    @exposed
    async def listing(self) -> Listing:
        """Return all symbols, the monitored ones, and how the source does."""
        return self._known.listing()

    @exposed
    async def trouble(self) -> Trouble | None:
        """Return why the source does not answer, None while it does."""
        return self._source.trouble()

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def want(self, symbols: Sequence[str]) -> dict[str, FinstageError]:
        """Let the ticks of these flow for `interest_s` seconds; return why some cannot."""
        refused = await self._known.refused(symbols)
        self._note_interest([s for s in symbols if s not in refused])
        return refused

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def histories(
        self,
        symbols: Sequence[str] = (),
        interval: str = "1d",
        lane: Lane = Lane.INTERACTIVE,
    ) -> dict[str, History | FinstageError]:
        """Return all bars of each symbol, or its error; no symbols asks for all it lists."""
        wanted = symbols or self._source.symbols()
        answers = await asyncio.gather(*(self._history(s, interval, lane) for s in wanted))
        return dict(zip(wanted, answers, strict=True))

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def quotes(self, symbols: Sequence[str]) -> dict[str, Quote | FinstageError]:
        """Return the latest price of each symbol, or its error."""
        quotes = await self._source.quotes(symbols)
        self._note_interest([s for s, q in quotes.items() if isinstance(q, Quote)])
        return quotes

    def _note_interest(self, symbols: Sequence[str]) -> None:
        self._interest.note(symbols, self._clock.monotonic_s())
        if not self._wanted.symbols.issuperset(symbols):
            self._want_now()

    @exposed
    async def store_report(self) -> StoreReport:
        """Return what queries cost here."""
        return self._store.report(self.process)

    @exposed
    async def reset_store_report(self) -> str:
        """Count queries from zero; return this process's name."""
        self._store.watch.reset()
        return self.process

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def actions(self, symbol: str) -> tuple[Action, ...]:
        """Return splits and dividends, oldest first; raises SymbolUnknown, SourceError."""
        return await self._source.actions(symbol)

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def info(self, symbol: str) -> SymbolInfo:
        """Return what the symbol is; raises SymbolUnknown, SourceError."""
        return await self._source.info(symbol)

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def news(self, symbol: str, count: int) -> tuple[NewsItem, ...]:
        """Return headlines, newest first; raises as `info`, and NotBuilt."""
        return await self._source.news(symbol, count)

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def fundamentals(self, symbol: str) -> Fundamentals:
        """Return the company's figures; raises as `news`."""
        return await self._source.fundamentals(symbol)

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Return symbols that `text` may mean, best first; raises SourceError."""
        return await self._source.search(text, count)
