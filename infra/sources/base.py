"""What every source of prices offers, and the events of its stream."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from infra.bars import History, Quote


@dataclass(frozen=True, slots=True)
class Tick:
    """One new price."""

    quote: Quote


@dataclass(frozen=True, slots=True)
class VersionChanged:
    """The bars of a symbol changed: take its history again.

    `restarted`: the source started over, and bars made since its start are gone.
    """

    symbol: str
    data_version: str
    restarted: bool


Event = Tick | VersionChanged


class Source(Protocol):
    """Where prices come from.

    `synthetic`: prices between the bars are made, not traded. `intervals`: those it has bars of.
    """

    name: str
    synthetic: bool
    intervals: tuple[str, ...]

    def symbols(self) -> tuple[str, ...]:
        """Return the known symbols, sorted."""

    def knows(self, symbol: str) -> bool:
        """Return whether the source has this symbol, written exactly so."""

    def history(self, symbol: str) -> History:
        """Return the daily bars as of now; raises SymbolUnknown."""

    def quote(self, symbol: str) -> Quote:
        """Return the latest tick as of now; raises SymbolUnknown."""

    def stream(self) -> AsyncIterator[tuple[Event, ...]]:
        """Yield what happens, for ever: ordered batches, none empty, everything due in one.

        The first batch comes at once: VersionChanged for all symbols, then the ticks so far of
        the session under way. VersionChanged for all symbols comes before the first ticks of a
        session, in the same batch.
        """
