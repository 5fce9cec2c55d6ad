"""Follows ticks, and publishes what became of live indicators, in slices."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from actors.indicators.expressions import Call
from actors.indicators.slices import Slice
from actors.indicators.streaming.alert_filter import AlertFilter, Candidate
from actors.indicators.streaming.indicators import LiveIndicators
from actors.indicators.streaming.leases import LIVE_INTERVALS, Subject, live_sets
from actors.indicators.streaming.messages import LiveSignal, alert_of
from actors.indicators.tables import LiveWant
from infra.bars import Bars
from infra.clock import Clock
from infra.errors import ActorUnavailable, FinstageError, SymbolUnknown
from infra.messages import (
    BARS,
    ENDED,
    PRICES,
    TECHNICAL,
    TECHNICAL_ALERTS,
    Kind,
    Message,
    read,
)
from infra.periods import check_interval
from infra.sources.facts import SourceFacts

logger = logging.getLogger(__name__)

_CHUNK = 256  # symbols
_REVIEW_EVERY_S = 5.0
_RELOAD_AFTER_S = 16.0  # bars of a minute are asked for again no sooner, and come late upstream
_MOVE_BARS = 5

Load = Callable[[Sequence[str], str], Awaitable[dict[str, FinstageError]]]


@dataclass(frozen=True, slots=True)
class Links:
    """What the worker needs of others.

    `load(symbols, interval)` holds histories, fetched anew where they may be outdated, and returns
    why some cannot be had; `open_bar(subject)` is the bar under way that came with one, or the
    last price's; `publish` raises ActorUnavailable; `source_of(subject)` is who has its bars.
    """

    load: Load
    open_bar: Callable[[Subject], Bars]
    publish: Callable[[Sequence[Message]], Awaitable[None]]
    follow: Callable[[Sequence[str]], Awaitable[dict[str, FinstageError]]]
    source_of: Callable[[Subject], str]


class LiveWorker:
    """Live indicators as the actor sees them.

    State: soft, gone with the process; who wants something renews it. Values are published once a
    batch of ticks, of each subject the newest. `ready` is awaited before any is computed.
    """

    def __init__(
        self,
        indicators: LiveIndicators,
        links: Links,
        facts: SourceFacts,
        clock: Clock,
        grace_s: float,
        ready: Callable[[], Awaitable[object]],
    ) -> None:
        self.filter = AlertFilter()
        self._indicators = indicators
        self._links = links
        self._facts = facts
        self._clock = clock
        self._grace_s = grace_s
        self._ready = ready
        self._lock = asyncio.Lock()  # one at a time makes sets, or lets symbols go
        self._queue: dict[str, list[Message]] = defaultdict(list)
        self._dirty: set[Subject] = set()
        self._ended: set[Subject] = set()
        self._work = asyncio.Event()
        self._reloaded_at_s: dict[Subject, float] = {}

    @property
    def has_demand(self) -> bool:
        """Return whether somebody is told of something."""
        return bool(self._indicators.subjects())

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the symbols of which something is live."""
        return tuple(self._indicators.symbols)

    # -- news ---------------------------------------------------------------------------------

    def on_message(self, kind: Kind, message: Message) -> None:
        """Take a price or a minute's bar; what nobody wants is left out."""
        symbol = message.topic.removeprefix(PRICES if kind is Kind.PRICES else BARS)
        if symbol not in self._indicators.symbols:
            return
        queue = self._queue[symbol]
        if not self._indicators.has_short(symbol):
            queue.clear()  # of bars of a day the last price tells all
        queue.append(message)
        self._work.set()

    def on_restart(self) -> None:
        """Begin again after ticks may have been missed, and tell the hub of everything."""
        for subject in self._indicators.subjects():
            self._dirty.add(subject)
            if subject.interval != "1d":
                self._indicators.outdated.add(subject)
        self._work.set()

    def on_history(self, symbol: str, last_price: Message | None) -> None:
        """Take a symbol's new daily bars."""
        subject = Subject(symbol, "1d")
        if not self._indicators.is_held(subject):
            return
        self._indicators.hold(subject, self._links.open_bar(subject))
        self._dirty.add(subject)
        if last_price is not None:
            self.on_message(Kind.PRICES, last_price)
        self._work.set()

    def on_outdated(self, symbol: str) -> None:
        """Let bars under a day be fetched anew."""
        self._indicators.outdated.update(
            s for s in self._indicators.subjects() if s.symbol == symbol and s.interval != "1d"
        )

    # -- what is wanted -----------------------------------------------------------------------

    async def end(self, symbol: str) -> None:
        """Let a symbol go, before its bars are forgotten."""
        async with self._lock:
            self._indicators.leases.end(symbol)
            self._ended.update(self._indicators.review(self._clock.monotonic_s()))
        self._work.set()

    async def want(self, wants: Iterable[LiveWant]) -> dict[LiveWant, FinstageError]:
        """Make indicators live for a while; return why some cannot be.

        What is new is published before this returns.
        """
        errors: dict[LiveWant, FinstageError] = {}
        checked: dict[LiveWant, tuple[Subject, tuple[Call, ...]]] = {}
        for want in wants:
            try:
                checked[want] = self._checked(want)
            except FinstageError as error:
                errors[want] = error
        await self._ready()
        refused = await self._loaded({subject for subject, _ in checked.values()})
        async with self._lock:
            fresh = await self._made(checked, refused, errors)
        await self._publish([self._update_of(subject) for subject in fresh])
        return errors

    def values(self, want: LiveWant) -> dict[str, Any]:
        """Return what is told of a subject that is wanted; raises SymbolUnknown if it ended."""
        subject = Subject(want.symbol, want.interval)
        if not self._indicators.is_held(subject):
            raise SymbolUnknown(want.symbol)
        return self._told(subject)

    def _checked(self, want: LiveWant) -> tuple[Subject, tuple[Call, ...]]:
        allowed = [i for i in LIVE_INTERVALS if i in self._facts.intervals]
        check_interval(want.interval, allowed)
        subject = Subject(want.symbol, want.interval)
        return subject, live_sets(want.indicators, want.interval)

    async def _loaded(self, subjects: Iterable[Subject]) -> dict[Subject, FinstageError]:
        """Hold the histories of those that are not live yet."""
        missing: dict[str, list[str]] = defaultdict(list)
        for subject in subjects:
            if not self._indicators.is_held(subject):
                missing[subject.interval].append(subject.symbol)
        refused: dict[Subject, FinstageError] = {}
        for interval, symbols in missing.items():
            errors = await self._links.load(symbols, interval)
            errors |= await self._links.follow([s for s in symbols if s not in errors])
            refused |= {Subject(symbol, interval): error for symbol, error in errors.items()}
        return refused

    async def _made(
        self,
        checked: dict[LiveWant, tuple[Subject, tuple[Call, ...]]],
        refused: dict[Subject, FinstageError],
        errors: dict[LiveWant, FinstageError],
    ) -> list[Subject]:
        """Return the subjects that have more values than before."""
        live, until_s = self._indicators, self._clock.monotonic_s() + self._grace_s
        fresh: dict[Subject, None] = {}
        for want, (subject, sets) in checked.items():
            try:
                if subject in refused:
                    raise refused[subject]
                if not live.is_held(subject):
                    live.bars(subject)  # raises: it may have ended since it was loaded
                if not live.is_held(subject) or set(sets) - set(live.leases.sets(subject)):
                    fresh[subject] = None
                live.leases.want(subject, sets, until_s)
            except FinstageError as error:
                errors[want] = error
                fresh.pop(subject, None)
        slice_ = Slice()
        for interval in {subject.interval for subject in fresh}:
            for _ in live.warming(interval):
                await slice_.breathe()
        for subject in fresh:
            if not live.is_held(subject):
                live.hold(subject, self._links.open_bar(subject))
                await slice_.breathe()
            self._ended.discard(subject)
        return [subject for subject in fresh if live.is_held(subject)]

    # -- work ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell what ticks change, for ever."""
        while True:
            await self._work.wait()
            self._work.clear()
            await self._ready()
            queue, self._queue = self._queue, defaultdict(list)
            dirty, self._dirty = self._dirty, set()
            ended, self._ended = self._ended, set()
            slice_ = Slice()
            await self._publish([Message(_topic(subject), ENDED) for subject in ended])
            symbols = tuple(queue)
            for first in range(0, len(symbols), _CHUNK):
                part = symbols[first : first + _CHUNK]
                changed = self._take([m for symbol in part for m in queue[symbol]])
                dirty.difference_update(changed)
                await slice_.breathe()
                await self._tell(changed, slice_)
            await self._tell(list(dirty), slice_)

    async def review(self) -> None:
        """Let go of what nobody wants, and fetch again what may be wrong, for ever."""
        while True:
            await self._clock.sleep(_REVIEW_EVERY_S)
            await self.review_now()

    async def review_now(self) -> None:
        """Do so once."""
        async with self._lock:
            self._ended.update(self._indicators.review(self._clock.monotonic_s()))
        await self._reload()
        if self._ended or self._dirty:
            self._work.set()

    async def _reload(self) -> None:
        now_s = self._clock.monotonic_s()
        held = set(self._indicators.subjects())
        self._reloaded_at_s = {s: at for s, at in self._reloaded_at_s.items() if s in held}
        due: dict[str, list[str]] = defaultdict(list)
        for subject in self._indicators.outdated & held:
            if now_s - self._reloaded_at_s.get(subject, float("-inf")) >= _RELOAD_AFTER_S:
                self._reloaded_at_s[subject] = now_s
                due[subject.interval].append(subject.symbol)
                self._indicators.outdated.discard(subject)
        for interval, symbols in due.items():
            try:
                errors = await self._links.load(symbols, interval)
            except ActorUnavailable as error:
                errors = dict.fromkeys(symbols, error)
            for symbol in symbols:
                subject = Subject(symbol, interval)
                if symbol in errors:
                    self._indicators.outdated.add(subject)
                    logger.warning("live.outdated", extra={"why": errors[symbol].code})
                elif self._indicators.is_held(subject):
                    self._indicators.hold(subject, self._links.open_bar(subject))
                    self._dirty.add(subject)

    def _take(self, messages: Sequence[Message]) -> list[Subject]:
        """Take messages of the hub; return the subjects that have other values now."""
        said: dict[Kind, list[dict[str, Any]]] = defaultdict(list)
        for kind, body in read(messages):
            said[kind].append(body)
        changed = dict.fromkeys(self._indicators.take(said[Kind.PRICES]))
        for minute in said[Kind.BARS]:
            changed |= dict.fromkeys(self._indicators.take_minute(minute))
        return list(changed)

    async def _tell(self, subjects: Sequence[Subject], slice_: Slice) -> None:
        held = [subject for subject in subjects if self._indicators.is_held(subject)]
        messages = self._alerts(held)
        for subject in held:
            if self._indicators.is_held(subject):  # a slice is long enough to let go of one
                messages.append(self._update_of(subject))
            await slice_.breathe()
        await self._publish(messages)

    def _alerts(self, subjects: Sequence[Subject]) -> list[Message]:
        now_s, told = self._clock.monotonic_s(), []
        for signal in self._indicators.signals(subjects):
            candidate = self._candidate(signal)
            if self.filter.refusal(candidate, now_s) is None:
                self.filter.tell(candidate, now_s)
                symbol, interval = signal.subject
                body = alert_of(signal, self._indicators.at(symbol)) | self._origin(signal.subject)
                topic = f"{TECHNICAL_ALERTS}{symbol}:{interval}:{signal.type}"
                told.append(Message(topic, orjson.dumps(body)))
        return told

    def _candidate(self, signal: LiveSignal) -> Candidate:
        closes = self._indicators.closes(signal.subject, _MOVE_BARS)
        move = signal.price / float(closes[0]) - 1 if len(closes) and closes[0] else 0.0
        volume = self._indicators.volume(signal.subject)
        return Candidate(*signal.subject, signal.type, signal.strength, volume, move)

    def _told(self, subject: Subject) -> dict[str, Any]:
        return self._indicators.update_of(subject) | self._origin(subject)

    def _origin(self, subject: Subject) -> dict[str, Any]:
        return {"source": self._links.source_of(subject), "synthetic": self._facts.synthetic}

    def _update_of(self, subject: Subject) -> Message:
        return Message(_topic(subject), orjson.dumps(self._told(subject)))

    async def _publish(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        try:
            await self._links.publish(messages)
        except ActorUnavailable:  # a new hub is told of everything
            logger.warning("live.unsaid", extra={"messages": len(messages)})


def _topic(subject: Subject) -> str:
    return f"{TECHNICAL}{subject.symbol}:{subject.interval}"
