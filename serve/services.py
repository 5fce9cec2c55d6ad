"""What the routes work with: the actors' clients, the near cache, the settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from actors.cache.client import CacheClient
from actors.feed.client import FeedClient
from actors.hub.client import HubClient
from actors.indicators.client import IndicatorClient
from infra.clock import Clock
from infra.errors import RangeInvalid, SymbolUnknown
from infra.quotes import price_update
from infra.settings import Settings
from infra.sources.facts import SourceFacts
from infra.symbols import nearest, normalise
from infra.universe import Universe
from serve.near import NearCache


@dataclass(frozen=True, slots=True)
class Services:
    """One of these in each replica; the routes get it as an argument."""

    settings: Settings
    source: SourceFacts
    universe: Universe
    clock: Clock
    near: NearCache
    feed: FeedClient
    indicators: IndicatorClient
    cache: CacheClient
    hub: HubClient

    @property
    def cache_control(self) -> bytes:
        """Return what caches are told of answers that are the same until the version changes."""
        return b"private, no-cache" if self.settings.key_for_reads else b"public, no-cache"

    async def prices(self, symbols: Sequence[str]) -> dict[str, dict[str, Any] | SymbolUnknown]:
        """Return the last `price_update` of each symbol, from memory where it is there.

        The rest costs one call of the feed for all; a symbol that it does not know gives the
        error as its value.
        """
        found = {s: price for s in symbols if (price := self.near.price(s)) is not None}
        missing = [s for s in symbols if s not in found]
        quotes = await self.feed.quotes(missing) if missing else {}
        fetched = {s: price_update(quote, None) for s, quote in quotes.items()}
        known = tuple(self.near.versions)
        return {
            s: found.get(s) or fetched.get(s) or SymbolUnknown(s, nearest(s, known))
            for s in symbols
        }

    def symbol_list(self, text: str) -> list[str]:
        """Return the symbols of a comma separated list; raises as `checked_symbols`."""
        return self.checked_symbols([part for part in text.split(",") if part.strip()], "query")

    def checked_symbols(self, symbols: Sequence[str], place: str) -> list[str]:
        """Return symbols upper-cased, each once, in the order given.

        Raises RangeInvalid for an empty list or too many; a malformed one stays as it is, cut,
        and is unknown later, so that it fails alone.
        """
        limit = self.settings.max_symbols_in_list
        if not symbols:
            raise RangeInvalid((place, "symbols"), "symbols must name at least one")
        if len(symbols) > limit:
            reason = f"symbols has {len(symbols)} entries, the limit is {limit}"
            raise RangeInvalid((place, "symbols"), reason, limit)
        return list(dict.fromkeys(_upper(symbol) for symbol in symbols))


def _upper(symbol: str) -> str:
    try:
        return normalise(symbol)
    except SymbolUnknown as error:
        return error.symbol


async def services_of(request: Request) -> Services:
    """Return the services of the replica that handles `request`.

    A coroutine, though it waits for nothing: FastAPI runs plain functions in a thread.
    """
    services: Services = request.app.state.services
    return services


State = Annotated[Services, Depends(services_of)]
