"""The live engines of all intervals, and the bars that reach them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from actors.indicators.expressions import Call
from actors.indicators.live.engine import LiveEngine
from actors.indicators.live.registry import LIVE_INDICATORS
from actors.indicators.signals import signals_between
from actors.indicators.streaming.leases import (
    BANDS,
    RSI,
    SMA20,
    SMA50,
    SMA200,
    STANDARD,
    Leases,
    Subject,
)
from actors.indicators.streaming.messages import LiveSignal, update_of
from actors.indicators.streaming.open_bar import Bar, OpenBar, bars_of
from infra.bars import Bars, Floats
from infra.calendars import calendar_for

BarsOf = Callable[[str, str], Bars]


class LiveIndicators:
    """Takes ticks and closed minutes of symbols, knows their live values.

    `bars_of(symbol, interval)` are the closed bars of the histories held; `accepts(subject,
    price)` says whether a price belongs to them: not where the next version has to be loaded
    first. State: soft; for each interval at which something is wanted an engine, for each subject
    its bar under way. Not safe for several threads; what returns an iterator may be left and gone
    on with, ticks in between.
    """

    def __init__(
        self,
        bars_of: BarsOf,
        limit: int,
        accepts: Callable[[Subject, dict[str, Any]], bool] = lambda _, __: True,
    ) -> None:
        self._accepts = accepts
        self.leases = Leases(limit)
        self.outdated: set[Subject] = set()  # their history has to be fetched again
        self._bars_of = bars_of
        self._engines: dict[str, LiveEngine] = {}
        self._bars: dict[Subject, OpenBar] = {}
        self._by_symbol: dict[str, set[Subject]] = defaultdict(set)
        self._at: dict[str, str] = {}  # the last tick of each symbol

    @property
    def symbols(self) -> Iterable[str]:
        """Return the symbols whose ticks are needed, and nothing of others."""
        return self._by_symbol.keys()

    def has_short(self, symbol: str) -> bool:
        """Return whether every single tick counts: for bars under a day."""
        return any(subject.interval != "1d" for subject in self._by_symbol.get(symbol, ()))

    def subjects(self) -> tuple[Subject, ...]:
        """Return what is held."""
        return tuple(self._bars)

    def is_held(self, subject: Subject) -> bool:
        """Return whether a subject has its values."""
        return subject in self._bars

    def bars(self, subject: Subject) -> Bars:
        """Return the closed bars of a subject's history; raises as `bars_of`."""
        return self._bars_of(*subject)

    # -- what is wanted -----------------------------------------------------------------------

    def warming(self, interval: str) -> Iterator[None]:
        """Make the sets live that are wanted of an interval and are not, in steps."""
        engine = self._engine(interval)
        for key in self.leases.sets_of(interval) - set(engine.sets):
            yield from engine.adding(key)

    def hold(self, subject: Subject, open_bar: Bars) -> None:
        """Take a subject's history, for the first time or anew, and go on from there."""
        bars = self.bars(subject)
        market = calendar_for(subject.symbol)
        under_way = self._bars.setdefault(subject, OpenBar(market, subject.interval))
        under_way.load(int(bars.opened_at_ns[-1]) if len(bars) else 0, open_bar)
        self._by_symbol[subject.symbol].add(subject)
        engine = self._engine(subject.interval)
        engine.hold(subject.symbol)
        self._show(engine, subject)

    def review(self, now_s: float) -> list[Subject]:
        """Let go of what nobody wants any more; return the subjects that are gone.

        Not while sets are being made.
        """
        gone = self.leases.drop_over(now_s)
        for subject in gone:
            self._bars.pop(subject, None)
            self.outdated.discard(subject)
            subjects = self._by_symbol[subject.symbol]
            subjects.discard(subject)
            if not subjects:
                del self._by_symbol[subject.symbol]
                self._at.pop(subject.symbol, None)
        for interval, engine in list(self._engines.items()):
            engine.forget(subject.symbol for subject in gone if subject.interval == interval)
            wanted = self.leases.sets_of(interval)
            for key in set(engine.sets) - wanted:
                engine.drop(key)
            if not wanted:
                del self._engines[interval]
        return gone

    def _engine(self, interval: str) -> LiveEngine:
        if interval not in self._engines:
            self._engines[interval] = LiveEngine(
                lambda symbol: self._closed(Subject(symbol, interval)), interval == "1d"
            )
        return self._engines[interval]

    def _closed(self, subject: Subject) -> Bars:
        """Return the bars of the history, and those that closed since."""
        bars = self.bars(subject)
        under_way = self._bars.get(subject)
        if under_way is None or not under_way.since:
            return bars
        last_ns = int(bars.opened_at_ns[-1]) if len(bars) else 0
        since = [bar for bar in under_way.since if bar.opened_at_ns > last_ns]
        return Bars.concat(bars, bars_of(since)) if since else bars

    def _show(self, engine: LiveEngine, subject: Subject) -> None:
        bar = self._bars[subject].bar
        if bar is not None:
            row = int(engine.rows_of([subject.symbol])[0])
            engine.tick(row, bar.opened_at_ns, bar.values)

    # -- ticks --------------------------------------------------------------------------------

    def take(self, prices: Sequence[dict[str, Any]]) -> list[Subject]:
        """Take ticks in order; return the subjects that have other values now."""
        touched: dict[str, dict[str, Bar]] = defaultdict(dict)
        for price in prices:
            symbol = price["symbol"]
            for subject in self._by_symbol.get(symbol, ()):
                if not self._accepts(subject, price):
                    continue
                under_way = self._bars[subject]
                closed = under_way.take(price)
                if closed is not None:
                    self._update(subject.interval, {symbol: closed}, is_final=True)
                    self._note_missed(subject)
                if under_way.bar is not None:
                    touched[subject.interval][symbol] = under_way.bar
                self._at[symbol] = price["timestamp"]
        for interval, bars in touched.items():
            self._update(interval, bars, is_final=False)
        return [Subject(symbol, i) for i, bars in touched.items() for symbol in bars]

    def take_minute(self, update: dict[str, Any]) -> list[Subject]:
        """Take a `bar_update` of the feed, the last word on a minute; return whose values are
        others."""
        changed = []
        for subject in tuple(self._by_symbol.get(update["symbol"], ())):
            if subject.interval == "1m" and self._close_minute(subject, _bar(update)):
                changed.append(subject)
            elif subject.interval not in ("1m", "1d") and update["revision"] > 0:
                self.outdated.add(subject)
        return changed

    def _close_minute(self, subject: Subject, bar: Bar) -> bool:
        """Return whether that changes a value."""
        engine, under_way = self._engine(subject.interval), self._bars[subject]
        if bar.opened_at_ns > engine.last_closed_ns(subject.symbol):
            under_way.close(bar)
            self._update(subject.interval, {subject.symbol: bar}, is_final=True)
            self._note_missed(subject)
            if under_way.bar is not None:
                self._show(engine, subject)
            return True
        if bar in under_way.since:
            return False
        under_way.replace(bar)
        if not engine.revise(subject.symbol, bar.opened_at_ns, bar.values):
            self.outdated.add(subject)  # one that was missed, in the middle
            return False
        return True

    def _note_missed(self, subject: Subject) -> None:
        if self._bars[subject].missed:
            self.outdated.add(subject)

    def _update(self, interval: str, bars: dict[str, Bar], is_final: bool) -> None:
        engine = self._engine(interval)
        if len(bars) == 1 and not is_final:
            ((symbol, bar),) = bars.items()
            engine.tick(int(engine.rows_of([symbol])[0]), bar.opened_at_ns, bar.values)
            return
        rows = engine.rows_of(bars)
        opened_at_ns = np.array([bar.opened_at_ns for bar in bars.values()], np.int64)
        columns = list(np.array([bar.values for bar in bars.values()], np.float64).T.copy())
        engine.update(rows, opened_at_ns, columns, np.full(len(rows), is_final))

    # -- what is told -------------------------------------------------------------------------

    def update_of(self, subject: Subject) -> dict[str, Any]:
        """Return what is told of a subject that is held."""
        engine = self._engine(subject.interval)
        live = [key for key in self.leases.sets(subject) if key in engine.sets]
        return update_of(engine, subject, tuple(live), self._at.get(subject.symbol))

    def signals(self, subjects: Iterable[Subject]) -> list[LiveSignal]:
        """Return the signals on the bars under way of subjects, the same again at each tick.

        None before the first tick of a symbol.
        """
        found: list[LiveSignal] = []
        for interval in {subject.interval for subject in subjects}:
            engine = self._engine(interval)
            symbols = [
                s.symbol for s in subjects if s.interval == interval and s.symbol in self._at
            ]
            if set(STANDARD) <= set(engine.sets):
                found += _signals(engine, interval, symbols)
        return found

    def closes(self, subject: Subject, count: int) -> Floats:
        """Return the last closed prices of a subject, oldest first."""
        return self._closed(subject).close[-count:]

    def volume(self, subject: Subject) -> float:
        """Return what was traded in the bar under way; 0 without one."""
        under_way = self._bars.get(subject)
        return 0.0 if under_way is None or under_way.bar is None else under_way.bar.volume

    def at(self, symbol: str) -> str:
        """Return the time of a symbol's last tick."""
        return self._at[symbol]


def _signals(engine: LiveEngine, interval: str, symbols: Sequence[str]) -> Iterator[LiveSignal]:
    rows = engine.rows_of(symbols)
    before, now = ({"close": close} for close in engine.closes(rows))
    for lines, is_closed in ((before, True), (now, False)):
        for name, key, output in _LINES:
            column = engine.column(key, is_closed)[rows]
            lines[name] = column[:, _OUTPUTS[key].index(output)]
    for kind, where, values, strengths in signals_between(before, now):
        for place in np.flatnonzero(where).tolist():
            subject, price = Subject(symbols[place], interval), float(now["close"][place])
            yield LiveSignal(subject, kind, price, float(values[place]), float(strengths[place]))


_LINES: tuple[tuple[str, Call, str], ...] = (
    ("sma20", SMA20, "sma"),
    ("sma50", SMA50, "sma"),
    ("sma200", SMA200, "sma"),
    ("rsi", RSI, "rsi"),
    ("upper", BANDS, "upper"),
    ("lower", BANDS, "lower"),
)
_OUTPUTS = {key: LIVE_INDICATORS[key.name].outputs for key in STANDARD}


def _bar(update: dict[str, Any]) -> Bar:
    opened_at_ns = round(datetime.fromisoformat(update["timestamp"]).timestamp()) * 10**9
    values = (float(update[name]) for name in ("open", "high", "low", "close", "volume"))
    return Bar(opened_at_ns, *values)
