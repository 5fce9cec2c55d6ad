"""The indicators as an actor: holds every symbol's bars, computes from all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any

import numpy as np
import orjson

from actors.feed.client import FeedClient
from actors.hub.client import HubClient, HubReader
from actors.indicators.bar_store import BarStore, base_interval
from actors.indicators.core import IndicatorCore
from actors.indicators.correlation import Correlation, correlation
from actors.indicators.expressions import Condition, LiveCondition, Value
from actors.indicators.functions import functions
from actors.indicators.language import (
    parse_calls,
    parse_condition,
    parse_live_condition,
    parse_value,
)
from actors.indicators.live.warm import warm
from actors.indicators.screen import Screening
from actors.indicators.slices import Slice
from actors.indicators.streaming.alert_filter import TrackRecord, quality_score
from actors.indicators.streaming.indicators import LiveIndicators
from actors.indicators.streaming.leases import Subject
from actors.indicators.streaming.worker import Links, LiveWorker
from actors.indicators.tables import IndicatorTable, LiveWant, Match, Sentiment, Signal
from actors.reporting import report_metrics
from actors.runtime import ServiceActor, exposed
from actors.telemetry.client import TelemetryClient
from infra.bars import Bars, BarSeries, History
from infra.clock import SystemClock
from infra.db.signals import Performance
from infra.db.store import open_store
from infra.errors import ActorUnavailable, FinstageError, StoreError, SymbolUnknown
from infra.messages import DATA, GONE, PRICES, Batch, Kind, Message, Snapshot, body_of, hand, read
from infra.metrics import STAGE_SECONDS
from infra.periods import day_ns
from infra.session_bars import MINUTES
from infra.settings import Settings
from infra.sources.base import Lane
from infra.sources.facts import source_facts

logger = logging.getLogger(__name__)

_INTRADAY_FRESH_S = 15.0
_PATIENCE = 16  # times the hub's batch, while nobody is pushed what is computed here
_RECORDS_EVERY_S = 600.0
_LOAD_AGAIN_S = 5.0
_JUDGED_AFTER = "1d"

# The bars may have to be fetched upstream first.
_UPSTREAM_WAIT_S = 35.0


class IndicatorActor(ServiceActor):
    """Bars of all symbols, and what is computed from them.

    State: soft; a restart loads all histories of a source that lists its symbols before it
    answers, those of an open one when they are asked for. It says `DATA`
    through the hub when a symbol's new version is in place, so whoever drops what it kept upon
    that message gets the new version when it asks again.
    """

    role = "indicators"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._bar_store = BarStore()
        self._core = IndicatorCore(self._bar_store)
        self._feed = FeedClient(settings.actor_wait_s)
        self._hub = HubClient(settings.actor_wait_s)
        self._prices: dict[str, Message] = {}
        self._outdated: set[str] = set()
        self._unsaid = True
        self._heard_s = 0.0  # when the last batch came, of which nothing was published yet
        self._work = asyncio.Event()
        self._loaded = asyncio.Event()
        self._versions: dict[str, str] = {}
        self._facts = source_facts(settings)
        self._clock = SystemClock()
        self._loaded_at_s: dict[tuple[str, str], float] = {}
        self._compiled = asyncio.Event()
        self._store = open_store(settings, self._clock)
        self._live = self._live_worker()
        self._reader = HubReader(self._hub, self, _PATIENCE)
        self.keep(self._compile())
        self.keep(self._reader.run())
        self.keep(self._run())
        self.keep(self._live.run())
        self.keep(self._live.review())
        self.keep(self._renew())
        self.keep(self._follow_records())
        self.keep(report_metrics(self.process, TelemetryClient()))

    async def _compile(self) -> None:
        """Compile kernels, or load them, beside everything else."""
        took_s = await asyncio.to_thread(warm)
        logger.info("indicators.compiled", extra={"took_s": round(took_s, 2)})
        self._compiled.set()

    # -- following the hub ------------------------------------------------------------------

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take the state of a hub that was just met, and tell it ours."""
        self._unsaid = True
        self._work.set()
        for _, message in snapshot.messages:
            hand(message, self._on_message)
        self._live.on_restart()

    def on_batch(self, batch: Batch) -> None:
        """Take news in order."""
        self._heard_s = self._clock.monotonic_s()
        for message in batch.messages:
            hand(message, self._on_message)

    def _on_message(self, kind: Kind, message: Message) -> None:
        if kind is Kind.PRICES:
            self._prices[message.topic.removeprefix(PRICES)] = message
            self._live.on_message(kind, message)
        elif kind is Kind.BARS:
            self._live.on_message(kind, message)
        elif kind is Kind.SOURCE_DATA:
            news = body_of(message)
            symbol = news["symbol"]
            held = symbol in self._versions or not self._facts.is_open
            if held and self._versions.get(symbol) != news["data_version"]:
                self._outdate([symbol])

    def _outdate(self, symbols: Iterable[str]) -> None:
        self._outdated.update(symbols)
        self._work.set()

    async def _run(self) -> None:
        if not self._facts.is_open:
            await self._load(())
        self._loaded.set()
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._catch_up()
            except ActorUnavailable as error:
                logger.warning("indicators.waiting", extra={"actor_away": error.name})
                self._work.set()
                await asyncio.sleep(0.2)

    async def _catch_up(self) -> None:
        while self._outdated or self._unsaid:
            # Taken out first: what comes while others are awaited is for the next time.
            outdated, self._outdated = tuple(self._outdated), set()
            everything, self._unsaid = self._unsaid, False
            try:
                if outdated:
                    await self._load(outdated)
                await self._say(tuple(self._versions) if everything else outdated)
            except ActorUnavailable:
                self._unsaid = True
                raise

    async def _load(self, symbols: Sequence[str]) -> None:
        failed = []
        for symbol, history in (await self._load_histories(symbols)).items():
            if isinstance(history, History):
                self._outdate_short(symbol)
                self._hold_history(history)
            elif isinstance(history, SymbolUnknown):
                await self._forget(symbol)
            else:
                logger.warning(
                    "indicators.unloaded", extra={"symbol": symbol, "why": history.code}
                )
                if history.retryable:
                    failed.append(symbol)
        if failed:
            self.keep(self._load_again(failed))

    async def _load_again(self, symbols: Sequence[str]) -> None:
        await self._clock.sleep(_LOAD_AGAIN_S)
        self._outdate(symbols)

    def _outdate_short(self, symbol: str) -> None:
        """Let bars under a day be fetched anew when they are asked for: an import may be other."""
        for interval in MINUTES:
            if (symbol, interval) in self._loaded_at_s:
                self._loaded_at_s[symbol, interval] = float("-inf")
        self._live.on_outdated(symbol)

    async def _forget(self, symbol: str) -> None:
        """Drop a symbol that there is no longer; that it is gone is said as a version."""
        await self._live.end(symbol)
        self._bar_store.forget(symbol)
        self._prices.pop(symbol, None)
        self._versions[symbol] = GONE

    def _hold_history(self, history: History) -> None:
        self._bar_store.put(history)
        self._loaded_at_s[history.symbol, history.interval] = self._clock.monotonic_s()
        if history.interval == "1d":
            is_new = self._versions.get(history.symbol) != history.data_version
            self._versions[history.symbol] = history.data_version
            if is_new:
                self._live.on_history(history.symbol, self._prices.get(history.symbol))

    async def _load_histories(self, symbols: Sequence[str]) -> dict[str, History | FinstageError]:
        while True:
            try:
                return await self._feed.histories(symbols)
            except ActorUnavailable:
                logger.warning("indicators.feed_away")

    async def _held(
        self, symbols: Sequence[str], interval: str, lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, FinstageError]:
        """Get the bars that are missing or may be outdated; return what cannot be had.

        Daily bars are outdated when the feed says so, shorter ones after a while.
        """
        await self._loaded.wait()
        base = base_interval(interval)
        if base == "1d" and not self._facts.is_open:
            return {}
        missing = [s for s in symbols if not self._is_held(s, base)]
        if not missing:
            return {}
        answers = await self._feed.histories(missing, base, lane)
        new = [a for a in answers.values() if isinstance(a, History)]
        for history in new:
            self._hold_history(history)
        if base == "1d":
            await self._say([history.symbol for history in new])
        return {s: a for s, a in answers.items() if isinstance(a, FinstageError)}

    def _is_held(self, symbol: str, base: str) -> bool:
        held = self._bar_store.get(symbol, base)
        if held is None or held.stale_since_s is not None:
            return False
        age_s = self._clock.monotonic_s() - self._loaded_at_s[symbol, base]
        return base == "1d" or age_s < _INTRADAY_FRESH_S

    async def _held_one(self, symbol: str, interval: str) -> None:
        errors = await self._held([symbol], interval)
        if symbol in errors:
            raise errors[symbol]

    async def _say(self, symbols: Sequence[str]) -> None:
        bodies = [
            {"type": "data_version", "symbol": s, "data_version": self._versions[s]}
            for s in symbols
            if s in self._versions
        ]
        if not bodies:
            return
        await self._hub.publish([Message(DATA + b["symbol"], orjson.dumps(b)) for b in bodies])

    def _take_open_bars(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            history, message = self._bar_store.get(symbol), self._prices.get(symbol)
            if history is None or message is None:
                continue
            for _, price in read([message]):
                if self._facts.is_open or price["data_version"] == history.data_version:
                    self._bar_store.set_open_bar(symbol, _open_bar(price))

    # -- live -------------------------------------------------------------------------------

    def _live_worker(self) -> LiveWorker:
        settings = self.settings
        desk = LiveIndicators(self._core.true_bars, settings.live_sets, self._accepts)
        links = Links(
            self._hold_now, self._open_bar_of, self._publish, self._follow, self._source_of
        )
        grace_s = settings.live_grace_s
        return LiveWorker(desk, links, self._facts, self._clock, grace_s, self._compiled.wait)

    def _accepts(self, subject: Subject, price: dict[str, Any]) -> bool:
        """Return whether a price goes with the bars held: not before a new session's are."""
        if self._facts.is_open or subject.interval != "1d":
            return True
        held = self._bar_store.get(subject.symbol)
        return held is not None and held.data_version == price["data_version"]

    async def _hold_now(self, symbols: Sequence[str], interval: str) -> dict[str, FinstageError]:
        errors = await self._held(symbols, interval)
        errors |= self._core.unknown([s for s in symbols if s not in errors], interval)
        return errors

    def _open_bar_of(self, subject: Subject) -> Bars:
        if subject.interval == "1d":
            self._take_open_bars([subject.symbol])
        return self._bar_store.open_bar(subject.symbol, subject.interval)

    def _source_of(self, subject: Subject) -> str:
        history = self._bar_store.get(subject.symbol, subject.interval)
        return self._facts.name if history is None else history.source_of(history.bars)

    async def _publish(self, messages: Sequence[Message]) -> None:
        if self._heard_s:
            STAGE_SECONDS.labels("compute").observe(self._clock.monotonic_s() - self._heard_s)
            self._heard_s = 0.0
        await self._hub.publish(messages)

    async def _follow(self, symbols: Sequence[str]) -> dict[str, FinstageError]:
        """Let ticks of symbols flow, where they do not by themselves."""
        if not self._facts.is_open or not symbols:
            return {}
        return await self._feed.want(symbols)

    async def _renew(self) -> None:
        """Keep up what the settings name and what is pinned, and the ticks of what is live."""
        always = [LiveWant(*topic.split(":")) for topic in self.settings.live_topics]
        every_s = min(self.settings.live_grace_s, self.settings.interest_s) / 3
        said: set[str] = set()
        await self._loaded.wait()
        while True:
            try:
                pinned = [LiveWant(symbol) for symbol in (await self._feed.pinned())[1]]
                for want, error in (await self._live.want([*always, *pinned])).items():
                    if want.symbol not in said:
                        logger.warning("live.refused", extra={"why": error.message})
                        said.add(want.symbol)
                await self._follow(self._live.symbols)
            except FinstageError as error:
                logger.warning("live.unrenewed", extra={"why": error.message})
            self._reader.patience = 1 if self._live.has_demand else _PATIENCE
            await asyncio.sleep(every_s)

    async def _follow_records(self) -> None:
        """Know what became of former signals, for the filter of alerts."""
        source = self._facts.name
        while True:
            try:
                found = await self._store.read(lambda unit: unit.signals.performance(source))
                self._live.filter.records = _track_records(found)
            except StoreError as error:
                logger.info("live.records_unread", extra={"reason": error.message})
            await asyncio.sleep(_RECORDS_EVERY_S)

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def want_live(self, wants: Sequence[LiveWant]) -> dict[LiveWant, FinstageError]:
        """Make indicators live for a while, and return why some cannot be."""
        await self._loaded.wait()
        refused = await self._live.want(wants)
        self._reader.patience = 1 if self._live.has_demand else _PATIENCE
        return refused

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def live(self, want: LiveWant) -> dict[str, Any]:
        """Return the live values of a symbol, which stay live for a while."""
        await self._loaded.wait()
        for error in (await self._live.want([want])).values():
            raise error
        return self._live.values(want)

    @exposed
    async def live_condition(self, text: str) -> LiveCondition:
        """Return a condition on quotes and live indicators, ready to be asked elsewhere."""
        return parse_live_condition(text)

    # -- what others ask --------------------------------------------------------------------

    @exposed
    async def symbols(self) -> tuple[str, ...]:
        """Return the symbols that have bars, sorted."""
        await self._loaded.wait()
        return self._all_symbols()

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def indicators(
        self,
        symbol: str,
        period: str = "1mo",
        interval: str = "1d",
        names: Sequence[str] = (),
        method: str = "standard",
        open_bar: bool = False,
    ) -> dict[str, Any]:
        """Return the latest values of one symbol; raises SymbolUnknown."""
        await self._held_one(symbol, interval)
        if open_bar:
            self._take_open_bars([symbol])
        return self._core.indicators(symbol, period, interval, tuple(names), method, open_bar)

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def indicators_json(
        self, symbol: str, period: str, interval: str, names: Sequence[str], method: str
    ) -> tuple[str, bytes, float | None]:
        """Return the data version, the rendered answer, closed bars only, and since when stale.

        Bytes cross to the caller as they are; an object would be pickled and rendered there.
        """
        await self._held_one(symbol, interval)
        answer = self._core.indicators(symbol, period, interval, tuple(names), method, False)
        held = self._bar_store.get(symbol, interval)
        stale_since_s = None if held is None else held.stale_since_s
        return answer["data_version"], orjson.dumps(answer), stale_since_s

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def comprehensive(
        self,
        symbols: Sequence[str],
        period: str = "1mo",
        interval: str = "1d",
        method: str = "standard",
        open_bar: bool = False,
    ) -> dict[str, dict[str, Any] | FinstageError]:
        """Return the whole analysis of each symbol, or the error that it met."""
        errors = await self._held(symbols, interval)
        if open_bar:
            self._take_open_bars(symbols)
        answers: dict[str, dict[str, Any] | FinstageError] = {}
        slice_ = Slice()
        for symbol in symbols:
            answers |= self._core.comprehensive([symbol], period, interval, method, open_bar)
            await slice_.breathe()
        return answers | errors

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def history(
        self,
        symbol: str,
        period: str | None = "1mo",
        start: date | None = None,
        end: date | None = None,
        interval: str = "1d",
        adjusted: bool = True,
        open_bar: bool = False,
    ) -> BarSeries:
        """Return the bars asked for; raises SymbolUnknown."""
        await self._held_one(symbol, interval)
        if open_bar:
            self._take_open_bars([symbol])
        return self._core.history(symbol, period, start, end, interval, adjusted, open_bar)

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def histories(
        self,
        symbols: Sequence[str],
        period: str = "1mo",
        interval: str = "1d",
        adjusted: bool = True,
    ) -> dict[str, BarSeries | FinstageError]:
        """Return the closed bars of each symbol, or its error."""
        errors = await self._held(symbols, interval)
        return self._core.histories(symbols, period, interval, adjusted) | errors

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def trend(
        self, symbol: str, period: str = "1mo", interval: str = "1d"
    ) -> dict[str, Any]:
        """Return the moving averages and the trend of one symbol; raises SymbolUnknown."""
        await self._held_one(symbol, interval)
        return self._core.trend(symbol, period, interval)

    @exposed
    async def catalogue(self) -> list[dict[str, Any]]:
        """Return every indicator that there is."""
        return [function.described() for function in functions().values()]

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def table(
        self,
        symbol: str,
        indicators: str,
        period: str = "1mo",
        interval: str = "1d",
        last: int | None = None,
        open_bar: bool = False,
    ) -> IndicatorTable:
        """Return the lines of indicators of one symbol; raises as `indicators`, and as the parser.

        `indicators` is a list such as `rsi(21),bbands(20,2.5)`.
        """
        calls = parse_calls(indicators)
        await self._held_one(symbol, interval)
        await self._compiled.wait()
        if open_bar:
            self._take_open_bars([symbol])
        return self._core.table(symbol, calls, period, interval, last, open_bar)

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def screen(
        self,
        expression: str,
        symbols: Sequence[str] = (),
        interval: str = "1d",
        as_of: date | None = None,
    ) -> tuple[list[Match], dict[str, FinstageError]]:
        """Return the symbols that fulfil a condition, and those that could not be asked.

        Without symbols, of all that are held. Ticks are served every 5 ms in between.
        """
        node = parse_condition(expression)
        answered, errors = await self._answered(node, symbols, interval, as_of)
        return [match for part in answered for match in part.matches()], errors

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def ranking(
        self,
        value: str,
        symbols: Sequence[str] = (),
        interval: str = "1d",
        as_of: date | None = None,
    ) -> tuple[list[Match], dict[str, FinstageError]]:
        """Return the symbols that have a value, the highest first, and errors of others."""
        answered, errors = await self._answered(parse_value(value), symbols, interval, as_of)
        found = [match for part in answered for match in part.ranked()]
        return sorted(found, key=lambda match: -(match.values["value"] or 0.0)), errors

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def correlation(
        self, symbols: Sequence[str], period: str = "1y", interval: str = "1d"
    ) -> Correlation:
        """Return how the returns of symbols moved together; raises the first error of any."""
        errors = await self._held(symbols, interval)
        if errors:
            raise next(iter(errors.values()))
        return correlation({s: self._core.closes(s, period, interval) for s in symbols})

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def signals(
        self, symbols: Sequence[str] = (), interval: str = "1d", last: int = 1
    ) -> dict[str, list[Signal] | FinstageError]:
        """Return the signals of each symbol's last closed bars, oldest first, or its error."""
        await self._loaded.wait()
        asked = tuple(symbols) or self._all_symbols()
        errors = await self._held(asked, interval)
        await self._compiled.wait()
        answers: dict[str, list[Signal] | FinstageError] = dict(errors)
        slice_ = Slice()
        for symbol in asked:
            if symbol not in errors:
                try:
                    answers[symbol] = self._core.signals(symbol, interval, last)
                except FinstageError as error:
                    answers[symbol] = error
                await slice_.breathe()
        return answers

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def sentiment(
        self, symbol: str, interval: str = "1d"
    ) -> tuple[dict[str, Any], Sentiment | None]:
        """Return the mood of a symbol's last closed bar; raises SymbolUnknown."""
        await self._held_one(symbol, interval)
        await self._compiled.wait()
        return self._core.sentiment(symbol, interval)

    @exposed
    async def compiling(self) -> bool:
        """Return whether kernels are being compiled, for which some answers wait."""
        return not self._compiled.is_set()

    async def _answered(
        self,
        node: Condition | Value,
        symbols: Sequence[str],
        interval: str,
        as_of: date | None,
    ) -> tuple[list[Screening], dict[str, FinstageError]]:
        """Return the parts of a question, ready to be asked, and errors of symbols."""
        await self._loaded.wait()
        asked = tuple(symbols) or self._all_symbols()
        errors = await self._held(asked, interval)
        await self._compiled.wait()
        errors |= self._core.unknown(asked, interval)
        if errors:
            asked = tuple(symbol for symbol in asked if symbol not in errors)
        answered, slice_ = [], Slice()
        for part in self._core.screenings(node, asked, interval, as_of):
            for _ in part.steps():
                await slice_.breathe()
            answered.append(part)
            await slice_.breathe()
        return answered, errors

    def _all_symbols(self) -> tuple[str, ...]:
        return tuple(sorted(s for s, version in self._versions.items() if version != GONE))

    @exposed(wait_s=_UPSTREAM_WAIT_S)
    async def references(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Any]:
        """Return previous close and all-time high of each symbol, or the error that it met."""
        errors = await self._held(symbols, "1d", lane)
        return self._core.references(symbols) | errors


def _open_bar(price: dict[str, Any]) -> Bars:
    opened_at_ns = day_ns(date.fromisoformat(price["session"]))
    names = ("open", "high", "low", "current_price")
    open_, high, low, close = (np.array([price[name]], np.float64) for name in names)
    volume = np.array([price["volume"]], np.int64)
    return Bars(np.array([opened_at_ns], np.int64), open_, high, low, close, volume)


def _track_records(performances: Sequence[Performance]) -> dict[str, TrackRecord]:
    records = {}
    for p in performances:
        if p.horizon != _JUDGED_AFTER:
            continue
        success = p.success_rate / 100
        factor = float("inf") if p.profit_factor is None else p.profit_factor
        quality = quality_score(success, p.mean_return, p.worst_return, factor, p.samples)
        records[p.signal_type] = TrackRecord(p.samples, success, quality)
    return records
