"""What the routes work with: the actors' clients, the near cache, the settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Request

from actors.alerts.client import AlertClient
from actors.feed.client import FeedClient
from actors.hub.client import HubClient
from actors.indicators.client import IndicatorClient
from actors.monitor.client import MonitorClient
from actors.telemetry.client import TelemetryClient
from infra.bars import Quote, joined_sources
from infra.clock import Clock
from infra.db.store import Store
from infra.errors import ActorError, FinstageError, RangeInvalid, SymbolUnknown
from infra.periods import DAILY_INTERVALS
from infra.quotes import price_update
from infra.settings import Settings
from infra.sources.facts import SourceFacts
from infra.sources.runs import REPEATED
from infra.symbols import normalise
from infra.universe import Universe
from pipelines.queue.client import TaskClient
from pipelines.scheduler.client import SchedulerClient
from serve.edge.last_good import LastGood
from serve.edge.near import NearCache, Rendered


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
    alerts: AlertClient
    telemetry: TelemetryClient
    hub: HubClient
    scheduler: SchedulerClient
    tasks: TaskClient
    monitor: MonitorClient
    store: Store
    last_good: LastGood

    @property
    def cache_control(self) -> bytes:
        """Return what caches are told of answers that are the same until the version changes."""
        return b"private, no-cache" if self.settings.key_for_reads else b"public, no-cache"

    def rendered(
        self,
        body: bytes,
        symbol: str,
        data_version: str,
        route: str,
        interval: str,
        stale_since_s: float | None,
    ) -> Rendered:
        """Return an answer made from bars, with its age if the source does not answer now.

        Only answers from daily bars that are not stale last: others change without a word.
        """
        age_s = None if stale_since_s is None else self.clock.time_s() - stale_since_s
        lasts = interval in DAILY_INTERVALS and stale_since_s is None
        return Rendered(body, symbol, data_version, route, self.cache_control, lasts, age_s)

    async def prices(self, symbols: Sequence[str]) -> dict[str, dict[str, Any] | FinstageError]:
        """Return the last `price_update` of each symbol, from memory where that is the latest.

        The rest costs one call of the feed for all; a symbol that it has no price of gives the
        error as its value.
        """
        found = {s: price for s in symbols if (price := self._near_price(s)) is not None}
        missing = [s for s in symbols if s not in found]
        quotes = await self.feed.quotes(missing) if missing else {}
        fetched = {
            s: price_update(answer, None) if isinstance(answer, Quote) else answer
            for s, answer in quotes.items()
        }
        return {s: found.get(s) or fetched[s] for s in symbols}

    async def sources_by_symbol(
        self, symbols: Iterable[str], interval: str = "1d"
    ) -> dict[str, str]:
        """Return who has the bars of symbols: `import` for a user's, `replay+import` for both.

        The service's own source while the feed is away.
        """
        asked = tuple(symbols)
        try:
            return await self.feed.sources(asked, interval)
        except ActorError:
            return dict.fromkeys(asked, self.source.name)

    async def sources_of(self, symbols: Iterable[str], interval: str = "1d") -> str:
        """Return the same as one text for all."""
        return self.joined((await self.sources_by_symbol(symbols, interval)).values())

    def joined(self, sources: Iterable[str]) -> str:
        """Return the sources of what is answered as one text; the service's own without any."""
        return joined_sources(sources) or self.source.name

    async def market_day(self) -> datetime | None:
        """Return the session under way of a source that plays the past; else, or unknown, None.

        What the store has of later days is of a run before.
        """
        if self.source.name not in REPEATED:
            return None
        try:
            symbols = await self.feed.monitored()
        except ActorError:
            return None
        prices = [p for s in symbols if (p := self.near.price(s)) is not None]
        days = [p["session"] for p in prices if p["source"] == self.source.name]
        return datetime.fromisoformat(max(days)).replace(tzinfo=UTC) if days else None

    def age_s(self, at_iso: str) -> float:
        """Return the seconds since an ISO time of this service."""
        return max(0.0, self.clock.time_s() - datetime.fromisoformat(at_iso).timestamp())

    def _near_price(self, symbol: str) -> dict[str, Any] | None:
        """Return the price that the hub told, unless the feed may know a newer one.

        An open source's prices flow only while somebody wants them, so an old one says nothing.
        """
        price = self.near.price(symbol)
        if price is None or not self.source.is_open:
            return price
        is_new = self.age_s(price["received_at"]) < self.settings.quote_fresh_s
        return price if is_new else None

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


ServicesDep = Annotated[Services, Depends(services_of)]
