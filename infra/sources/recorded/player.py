"""Plays a recording forward, and knows how things stand where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from infra.bars import NS_PER_MINUTE, Bars, History, Quote
from infra.periods import day_ns
from infra.sources.base import Event, Tick, VersionChanged
from infra.sources.recorded.recording import Described, Happened, Held, read_recording
from infra.tick_bars import BarBuilder


class Player:
    """A recording up to some point of it.

    State: the last price, version and histories of each symbol, and the minute bars of the ticks
    so far; what was played is not kept. `source_name` stands in place of the source's own name.
    """

    def __init__(self, path: Path, source_name: str) -> None:
        self._source_name = source_name
        self._lines = read_recording(path)
        self._next: Happened | None = None
        self._histories: dict[tuple[str, str], History] = {}
        self._builder = BarBuilder()
        self.described: dict[str, Described] = {}
        self.quotes: dict[str, Quote] = {}
        self.versions: dict[str, str] = {}
        self._read_on()

    @property
    def next_at_s(self) -> float | None:
        """Return when the next events come, in seconds of the recording; None at its end."""
        return None if self._next is None else self._next.at_s

    def step(self) -> tuple[Event, ...]:
        """Return the next events that came together; nothing at the end."""
        if self._next is None:
            return ()
        events = tuple(self._taken(event) for event in self._next.events)
        self._read_on()
        return events

    def until(self, at_s: float) -> Iterator[tuple[Event, ...]]:
        """Yield the events up to a point of the recording, in seconds from its start."""
        while self._next is not None and self._next.at_s <= at_s:
            yield self.step()

    def daily(self, symbol: str) -> History:
        """Return the daily bars as of now: the session under way is that of the last price."""
        history = self._histories[symbol, "1d"]
        quote = self.quotes.get(symbol)
        if quote is None:
            return history
        if len(history.bars) and quote.session <= history.bars.session(-1):
            return history
        if len(history.open_bar) and history.open_bar.session(0) < quote.session:
            history = _with_closed(history, history.open_bar)
        return replace(history, open_bar=_bar_of(quote))

    def minutes(self, symbol: str) -> History:
        """Return the minute bars as of now: those kept at the start, and those of the ticks."""
        history = self._histories.get((symbol, "1m"))
        built = self._builder.bars(symbol)
        if history is None:
            history = _empty_minutes(self._histories[symbol, "1d"])
        else:
            history = replace(history, open_bar=Bars.empty())
        if len(history.bars):
            built = built[built.opened_at_ns > history.bars.opened_at_ns[-1]]
        history = _with_closed(history, built)
        last_ns = int(history.bars.opened_at_ns[-1]) if len(history.bars) else 0
        return replace(history, data_version=f"{history.data_version}-{last_ns // NS_PER_MINUTE}")

    def _read_on(self) -> None:
        """Take in what is held until the next events."""
        for line in self._lines:
            if isinstance(line, Happened):
                self._next = line
                return
            if isinstance(line, Held):
                history = replace(line.history, source=self._source_name)
                self._histories[history.symbol, history.interval] = history
                if history.interval == "1d":
                    self.versions[history.symbol] = history.data_version
            else:
                info = replace(line.info, source=self._source_name)
                self.described[info.symbol] = Described(info, line.actions)
        self._next = None

    def _taken(self, event: Event) -> Event:
        if isinstance(event, VersionChanged):
            self.versions[event.symbol] = event.data_version
        if not isinstance(event, Tick):
            return event
        quote = replace(event.quote, source=self._source_name)
        if quote.session_part != "regular":
            return Tick(quote, event.is_streamed)
        self.quotes[quote.symbol] = quote
        if not quote.stale:
            self._builder.add(
                quote.symbol, quote.traded_at_ns, quote.price, quote.volume, quote.session
            )
        return Tick(quote, event.is_streamed)


def _bar_of(quote: Quote) -> Bars:
    """Return the session so far as one daily bar."""
    return Bars(
        np.array([day_ns(quote.session)], np.int64),
        np.array([quote.open], np.float64),
        np.array([quote.high], np.float64),
        np.array([quote.low], np.float64),
        np.array([quote.price], np.float64),
        np.array([quote.volume], np.int64),
    )


def _with_closed(history: History, bars: Bars) -> History:
    """Return a history with later bars, which nothing was done to since."""
    ones = np.ones(len(bars))
    price_factor = np.concatenate((history.price_factor, ones))
    volume_factor = np.concatenate((history.volume_factor, ones))
    for factors in (price_factor, volume_factor):
        factors.flags.writeable = False
    return replace(
        history,
        bars=Bars.concat(history.bars, bars),
        open_bar=Bars.empty(),
        price_factor=price_factor,
        volume_factor=volume_factor,
    )


def _empty_minutes(daily: History) -> History:
    none = np.empty(0)
    none.flags.writeable = False
    return replace(
        daily,
        bars=Bars.empty(),
        open_bar=Bars.empty(),
        price_factor=none,
        volume_factor=none,
        interval="1m",
    )
