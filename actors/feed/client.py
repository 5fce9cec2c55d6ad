"""The feed as others see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actors.feed.known import Listing
from actors.runtime import ActorClient
from infra.bars import History, Quote
from infra.errors import FinstageError
from infra.sources.base import Action, Found, Fundamentals, Lane, NewsItem, SymbolInfo
from infra.sources.trouble import Trouble

if TYPE_CHECKING:  # who only calls does without the database
    from infra.db.watch import StoreReport

__all__ = ["FEED", "FeedClient", "Listing"]

FEED = "finstage-feed"

# Longer than any other call: it may wait for its turn upstream.
_UPSTREAM_WAIT_S = 30.0


class FeedClient(ActorClient):
    """Calls to the feed; each raises ActorUnavailable if it does not come back in time."""

    actor_name = FEED

    async def symbols(self) -> tuple[str, ...]:
        """Return the symbols that the source can list and the monitored ones, sorted."""
        symbols: tuple[str, ...] = await self._ask("symbols")
        return symbols

    async def listing(self) -> Listing:
        """Return all symbols, the monitored ones, and how the source does; asks no source."""
        listing: Listing = await self._ask("listing")
        return listing

    async def trouble(self, wait_s: float = 1.0) -> Trouble | None:
        """Return why the source does not answer, None while it does; waits for no restart."""
        trouble: Trouble | None = await self._ask_now("trouble", wait_s=wait_s)
        return trouble

    async def want(self, symbols: Sequence[str]) -> dict[str, FinstageError]:
        """Let the ticks of these flow for a while; return why some cannot."""
        refused: dict[str, FinstageError] = await self._upstream("want", tuple(symbols))
        return refused

    async def histories(
        self, symbols: Sequence[str] = (), interval: str = "1d", lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, History | FinstageError]:
        """Return all bars of each symbol, or its error; without symbols, of all it lists."""
        histories: dict[str, History | FinstageError] = await self._upstream(
            "histories", tuple(symbols), interval, lane
        )
        return histories

    async def quotes(self, symbols: Sequence[str]) -> dict[str, Quote | FinstageError]:
        """Return the latest price of each symbol, or its error."""
        quotes: dict[str, Quote | FinstageError] = await self._upstream("quotes", tuple(symbols))
        return quotes

    async def look_for_imports(self) -> None:
        """Let the feed notice now what was imported or deleted, not within seconds."""
        await self._upstream("look_for_imports")

    async def sources(self, symbols: Sequence[str], interval: str = "1d") -> dict[str, str]:
        """Return who has the bars given of each: the source, `import`, or both joined by `+`."""
        sources: dict[str, str] = await self._ask("sources", tuple(symbols), interval)
        return sources

    async def store_report(self) -> StoreReport:
        """Return what queries cost in the feed."""
        report: StoreReport = await self._ask("store_report")
        return report

    async def reset_store_report(self) -> str:
        """Count the feed's queries from zero; return its process's name."""
        name: str = await self._ask("reset_store_report")
        return name

    async def actions(self, symbol: str) -> tuple[Action, ...]:
        """Return splits and dividends, oldest first; raises SymbolUnknown, SourceError."""
        actions: tuple[Action, ...] = await self._upstream("actions", symbol)
        return actions

    async def info(self, symbol: str) -> SymbolInfo:
        """Return what the symbol is; raises SymbolUnknown, SourceError."""
        info: SymbolInfo = await self._upstream("info", symbol)
        return info

    async def news(self, symbol: str, count: int) -> tuple[NewsItem, ...]:
        """Return headlines, newest first; raises as `info`, and NotBuilt."""
        news: tuple[NewsItem, ...] = await self._upstream("news", symbol, count)
        return news

    async def fundamentals(self, symbol: str) -> Fundamentals:
        """Return the company's figures; raises as `news`."""
        fundamentals: Fundamentals = await self._upstream("fundamentals", symbol)
        return fundamentals

    async def search(self, text: str, count: int) -> tuple[Found, ...]:
        """Return symbols that `text` may mean, best first; raises SourceError."""
        found: tuple[Found, ...] = await self._upstream("search", text, count)
        return found

    async def monitored(self) -> tuple[str, ...]:
        """Return the monitored set."""
        symbols: tuple[str, ...] = await self._ask("monitored")
        return symbols

    async def monitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Add to the monitored set and return it; raises SymbolUnknown or RangeInvalid."""
        now: tuple[str, ...] = await self._upstream("monitor", tuple(symbols))
        return now

    async def pin(self, symbols: Sequence[str], is_live: bool = False) -> tuple[str, ...]:
        """Stream symbols until `unpin`; return all pinned. Raises SymbolUnknown, RangeInvalid."""
        now: tuple[str, ...] = await self._upstream("pin", tuple(symbols), is_live)
        return now

    async def unpin(self) -> None:
        """Let all that is pinned go."""
        await self._ask("unpin")

    async def pinned(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return what is pinned, and what of it has live indicators."""
        found: tuple[tuple[str, ...], tuple[str, ...]] = await self._ask("pinned")
        return found

    async def unmonitor(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Remove from the monitored set and return it."""
        now: tuple[str, ...] = await self._ask("unmonitor", tuple(symbols))
        return now

    async def _upstream(self, method: str, *args: Any) -> Any:
        return await self._ask(method, *args, wait_s=max(self._wait_s, _UPSTREAM_WAIT_S))
