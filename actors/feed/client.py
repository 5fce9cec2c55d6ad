"""The feed as others see it."""

from __future__ import annotations

from collections.abc import Sequence

from actors.runtime import ActorClient
from infra.bars import History, Quote

FEED = "finstage-feed"


class FeedClient(ActorClient):
    """Calls to the feed; each raises ActorUnavailable if it does not come back in time."""

    actor_name = FEED

    async def symbols(self) -> tuple[str, ...]:
        """Return all symbols that the source knows, sorted."""
        symbols: tuple[str, ...] = await self._ask("symbols")
        return symbols

    async def histories(self, symbols: Sequence[str] = ()) -> dict[str, History]:
        """Return all bars of each known symbol; without symbols, of all."""
        histories: dict[str, History] = await self._ask("histories", tuple(symbols))
        return histories

    async def quotes(self, symbols: Sequence[str]) -> dict[str, Quote]:
        """Return the latest price of each known symbol; unknown ones lack."""
        quotes: dict[str, Quote] = await self._ask("quotes", tuple(symbols))
        return quotes

    async def monitored(self) -> tuple[str, ...]:
        """Return the monitored set."""
        symbols: tuple[str, ...] = await self._ask("monitored")
        return symbols

    async def monitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Add to the monitored set and return it; raises SymbolUnknown or RangeInvalid."""
        now: tuple[str, ...] = await self._ask("monitor", tuple(symbols))
        return now

    async def unmonitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Remove from the monitored set and return it."""
        now: tuple[str, ...] = await self._ask("unmonitor", tuple(symbols))
        return now
