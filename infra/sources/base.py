"""What every source of prices offers, and the events of its stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from enum import IntEnum
from typing import Literal, Protocol

from infra.bars import History, Quote
from infra.errors import FinstageError, NotBuilt
from infra.sources.budget_state import BudgetState
from infra.sources.trouble import Trouble


class Lane(IntEnum):
    """How urgent a question is: the lower, the sooner it goes upstream."""

    LIVE = 0
    INTERACTIVE = 1
    BACKGROUND = 2


@dataclass(frozen=True, slots=True)
class Tick:
    """One new price; `is_streamed`: it came by itself, so the next one will too."""

    quote: Quote
    is_streamed: bool = False


@dataclass(frozen=True, slots=True)
class VersionChanged:
    """The bars of a symbol changed: take its history again.

    `restarted`: the source started over, and bars made since its start are gone.
    """

    symbol: str
    data_version: str
    restarted: bool


@dataclass(frozen=True, slots=True)
class Gap:
    """The stream was down and is back: ticks of these symbols are missing.

    `from_ns` and `until_ns` are Unix nanoseconds, UTC: the last tick before, the return.
    """

    symbols: tuple[str, ...]
    from_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class StreamLost:
    """The stream dropped: prices are as old as the last polls until it is back."""

    reason: str


@dataclass(frozen=True, slots=True)
class ActionHappened:
    """A split or a dividend takes effect: all that is on the old scale is on a new one."""

    action: Action


Event = Tick | VersionChanged | StreamLost | Gap | ActionHappened


@dataclass(frozen=True, slots=True)
class Action:
    """One corporate action.

    `value`: a split's new shares for one old, a dividend's amount, None where the source knows
    only what it did to prices. `price_step`: the adjusted price's jump against the traded one at
    the ex-date, None where the source does not say.
    """

    symbol: str
    ex_date: date
    kind: Literal["split", "dividend"]
    value: float | None
    price_step: float | None = None


@dataclass(frozen=True, slots=True)
class SymbolInfo:
    """What a symbol is.

    `currency` is the one that prices are in, as the source writes it: `GBp` is pence, and
    `major_currency` (GBP) with `minor_units` (100) says so. `kind`: equity, etf, index, future,
    currency, cryptocurrency, mutualfund. `delay_s`: how late its quotes are, None if not said.
    """

    symbol: str
    name: str | None
    exchange: str | None
    currency: str | None
    major_currency: str | None
    minor_units: int
    time_zone: str
    kind: str
    delay_s: float | None
    source: str
    received_at_ns: int


@dataclass(frozen=True, slots=True)
class NewsItem:
    """One headline; `published_at_ns` is Unix nanoseconds, UTC."""

    id: str
    title: str
    url: str
    publisher: str | None
    published_at_ns: int
    symbols: tuple[str, ...]
    summary: str | None
    source: str
    received_at_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """One result of a search."""

    symbol: str
    name: str | None
    exchange: str | None
    kind: str
    source: str
    received_at_ns: int


@dataclass(frozen=True, slots=True)
class Fundamentals:
    """Figures of a company by the source's names (numbers, text or None), as received."""

    symbol: str
    values: dict[str, float | str | None]
    source: str
    received_at_ns: int


class Wanted:
    """The symbols whose ticks somebody wants, and a way to wait for them to change."""

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self._symbols = frozenset(symbols)
        self._changed = asyncio.Event()

    @property
    def symbols(self) -> frozenset[str]:
        """Return the set as of now."""
        return self._symbols

    def replace(self, symbols: Iterable[str]) -> None:
        """Want these and no others; whoever waits is woken if that is a change."""
        now = frozenset(symbols)
        if now != self._symbols:
            self._symbols = now
            self._changed.set()
            self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until the set changes."""
        await self._changed.wait()


class Source(Protocol):
    """Where prices come from.

    `synthetic`: prices between the bars are made, not traded. `intervals`: those it has bars of.
    `is_open`: there are more symbols than it can list, and one is known when it answers for it.
    Every method that asks upstream raises SourceError when that fails for now, and SymbolUnknown
    for a symbol that does not exist; NotBuilt where it has nothing of the kind.
    """

    name: str
    synthetic: bool
    is_open: bool
    intervals: tuple[str, ...]

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that it can list, sorted; an open source those it met so far."""

    async def knows(self, symbol: str) -> bool:
        """Return whether the source has this symbol, written exactly so."""

    async def history(
        self,
        symbol: str,
        interval: str = "1d",
        start: date | None = None,
        end: date | None = None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> History:
        """Return the bars as of now: all it has, or `start` (included) to `end` (not)."""

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        """Return the latest price of each symbol, or why there is none, in the order given."""

    def stream(self, wanted: Wanted) -> AsyncIterator[tuple[Event, ...]]:
        """Yield what happens to wanted symbols, for ever: ordered batches, none empty.

        A source that lists its symbols may tell of all of them. Its first batch comes at once:
        VersionChanged for all symbols, then the ticks so far of the session under way.
        VersionChanged comes before the first ticks of a session, in the same batch. An open
        source starts with the first tick.
        """

    async def actions(self, symbol: str) -> tuple[Action, ...]:
        """Return all known splits and dividends, oldest first."""

    async def info(self, symbol: str) -> SymbolInfo:
        """Return what the symbol is."""

    async def news(self, symbol: str, count: int) -> tuple[NewsItem, ...]:
        """Return the latest headlines, newest first."""

    async def fundamentals(self, symbol: str) -> Fundamentals:
        """Return the figures of the company."""

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Return symbols that `text` may mean, best first."""

    def budgets(self) -> tuple[BudgetState, ...]:
        """Return what is spent and left of each upstream, for metrics."""

    def trouble(self) -> Trouble | None:
        """Return why the source does not answer, None while it does."""

    async def close(self) -> None:
        """Close connections; nothing works afterwards."""


class WithoutExtras:
    """The methods of a source that has prices and nothing else."""

    name: str

    async def news(self, symbol: str, count: int) -> tuple[NewsItem, ...]:
        """Raise NotBuilt."""
        raise self._lacks("news")

    async def fundamentals(self, symbol: str) -> Fundamentals:
        """Raise NotBuilt."""
        raise self._lacks("fundamentals")

    def budgets(self) -> tuple[BudgetState, ...]:
        """Return nothing: there is no upstream."""
        return ()

    def trouble(self) -> Trouble | None:
        """Return None: it answers from here."""
        return None

    async def close(self) -> None:
        """Do nothing: there are no connections."""

    def _lacks(self, what: str) -> NotBuilt:
        return NotBuilt(f"the {self.name} source has no {what}; FINSTAGE_SOURCE=yahoo has")
