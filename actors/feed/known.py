"""Which symbols the service has, and why those without a price have none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from actors.feed.core import MonitoredSet
from infra.bars import Quote
from infra.errors import FinstageError, SourceError, SourceUnavailable, SymbolUnknown
from infra.sources.base import Lane
from infra.sources.trouble import Trouble
from infra.symbols import nearest, normalise


class Answers(Protocol):
    """What is asked of a source here; see Source."""

    is_open: bool

    def symbols(self) -> tuple[str, ...]:
        """Return the symbols that it can list."""

    async def quotes(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Quote | FinstageError]:
        """Return prices or errors."""

    def trouble(self) -> Trouble | None:
        """Return why it does not answer."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All symbols, sorted; the monitored ones; what is wrong with the source.

    `failures`: why a monitored symbol has no price, where that is its own fault.
    """

    symbols: tuple[str, ...]
    monitored: tuple[str, ...]
    trouble: Trouble | None = None
    failures: dict[str, FinstageError] = field(default_factory=dict)


class KnownSymbols:
    """The symbols of a source and those that the service monitors, source or no source.

    An open source knows a symbol when it answered for it. While it does not answer, what is
    monitored stands there all the same, and more can be added: whether the source has it shows
    when it answers again. State: soft, why monitored symbols have no price.
    """

    def __init__(self, source: Answers, monitored: MonitoredSet) -> None:
        self._source = source
        self._monitored = monitored
        self._failures: dict[str, FinstageError] = {}

    def listing(self) -> Listing:
        """Return everything that is known, without asking anybody."""
        monitored = self._monitored.symbols
        failures = {s: e for s, e in self._failures.items() if s in monitored}
        return Listing(self.symbols(), monitored, self._source.trouble(), failures)

    def symbols(self) -> tuple[str, ...]:
        """Return all symbols, sorted."""
        return tuple(sorted({*self._source.symbols(), *self._monitored.symbols}))

    async def refused(self, symbols: Sequence[str]) -> dict[str, FinstageError]:
        """Return why ticks of some cannot be had: asked before all who do not wait for ticks.

        A source that lets no question out for a while is not waited for; one that only failed
        in something else is asked.
        """
        known = {*self._source.symbols(), *self._monitored.symbols}
        unmet = [symbol for symbol in symbols if symbol not in known]
        if not unmet:
            return {}
        trouble = self._source.trouble()
        if trouble is not None and trouble.is_paused:
            error = SourceUnavailable(trouble.text, trouble.cause)
            return dict.fromkeys(unmet, error)
        try:
            answers = await self._source.quotes(unmet, Lane.LIVE)
        except SourceError as error:
            return dict.fromkeys(unmet, error)
        return {
            s: SymbolUnknown(s, nearest(s, tuple(known))) if isinstance(a, SymbolUnknown) else a
            for s, a in answers.items()
            if isinstance(a, FinstageError)
        }

    async def checked(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Return symbols that may be monitored; raises SymbolUnknown.

        One that an open source cannot be asked for may be, if it is written as symbols are.
        """
        names = tuple(normalise(symbol) for symbol in symbols)
        for error in (await self.refused(names)).values():
            if not (self._source.is_open and isinstance(error, SourceError)):
                raise error
        return names

    async def review(self, priced: frozenset[str]) -> None:
        """Find out why monitored symbols have no price, while the source answers."""
        unpriced = [s for s in self._monitored.symbols if s not in priced]
        self._failures = {s: e for s, e in self._failures.items() if s in unpriced}
        if not unpriced or self._source.trouble() is not None:
            return
        answers = await self._source.quotes(unpriced, Lane.BACKGROUND)
        self._failures = {s: a for s, a in answers.items() if isinstance(a, FinstageError)}
