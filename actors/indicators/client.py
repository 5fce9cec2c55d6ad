"""The indicators as others see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from actors.indicators.names import METHODS, NAMES, parse_names
from actors.runtime import ActorClient
from infra.bars import BarSeries
from infra.errors import FinstageError

__all__ = ["INDICATORS", "METHODS", "NAMES", "IndicatorClient", "parse_names"]

INDICATORS = "finstage-indicators"


# The bars may have to be fetched upstream first.
_UPSTREAM_WAIT_S = 35.0


class IndicatorClient(ActorClient):
    """Calls to the indicators; each raises ActorUnavailable if they do not come back in time."""

    actor_name = INDICATORS

    async def symbols(self) -> tuple[str, ...]:
        """Return the symbols that have bars, sorted."""
        symbols: tuple[str, ...] = await self._ask("symbols")
        return symbols

    async def indicators(
        self,
        symbol: str,
        period: str = "1mo",
        interval: str = "1d",
        names: Sequence[str] = (),
        method: str = "standard",
        open_bar: bool = False,
    ) -> dict[str, Any]:
        """Return the latest values of one symbol; raises SymbolUnknown."""
        answer: dict[str, Any] = await self._upstream(
            "indicators", symbol, period, interval, tuple(names), method, open_bar
        )
        return answer

    async def indicators_json(
        self, symbol: str, period: str, interval: str, names: Sequence[str], method: str
    ) -> tuple[str, bytes, float | None]:
        """Return data version, the rendered answer of closed bars, and since when it is stale."""
        answer: tuple[str, bytes, float | None] = await self._upstream(
            "indicators_json", symbol, period, interval, tuple(names), method
        )
        return answer

    async def comprehensive(
        self,
        symbols: Sequence[str],
        period: str = "1mo",
        interval: str = "1d",
        method: str = "standard",
        open_bar: bool = False,
    ) -> dict[str, dict[str, Any] | FinstageError]:
        """Return the whole analysis of each symbol, or its error, in one call."""
        answer: dict[str, dict[str, Any] | FinstageError] = await self._upstream(
            "comprehensive", tuple(symbols), period, interval, method, open_bar
        )
        return answer

    async def history(
        self,
        symbol: str,
        period: str | None = "1mo",
        start: date | None = None,
        end: date | None = None,
        interval: str = "1d",
        adjusted: bool = True,
        open_bar: bool = False,
    ) -> BarSeries:
        """Return the bars asked for; raises SymbolUnknown."""
        answer: BarSeries = await self._upstream(
            "history", symbol, period, start, end, interval, adjusted, open_bar
        )
        return answer

    async def histories(
        self,
        symbols: Sequence[str],
        period: str = "1mo",
        interval: str = "1d",
        adjusted: bool = True,
    ) -> dict[str, BarSeries | FinstageError]:
        """Return the closed bars of each symbol, or its error."""
        answer: dict[str, BarSeries | FinstageError] = await self._upstream(
            "histories", tuple(symbols), period, interval, adjusted
        )
        return answer

    async def trend(self, symbol: str, period: str = "1mo", interval: str = "1d") -> Any:
        """Return the moving averages and the trend of one symbol; raises SymbolUnknown."""
        return await self._upstream("trend", symbol, period, interval)

    async def references(self, symbols: Sequence[str]) -> dict[str, Any]:
        """Return previous close and all-time high of each symbol, or its error."""
        answer: dict[str, Any] = await self._upstream("references", tuple(symbols))
        return answer

    async def _upstream(self, method: str, *args: Any) -> Any:
        return await self._ask(method, *args, wait_s=max(self._wait_s, _UPSTREAM_WAIT_S))
