"""The indicators as others see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from actors.indicators.names import METHODS, NAMES, parse_names
from actors.runtime import ActorClient
from infra.bars import Bars
from infra.errors import FinstageError

__all__ = ["INDICATORS", "METHODS", "NAMES", "IndicatorClient", "parse_names"]

INDICATORS = "finstage-indicators"


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
        answer: dict[str, Any] = await self._ask(
            "indicators", symbol, period, interval, tuple(names), method, open_bar
        )
        return answer

    async def indicators_json(
        self, symbol: str, period: str, interval: str, names: Sequence[str], method: str
    ) -> tuple[str, bytes]:
        """Return the data version and the rendered answer of `indicators`, closed bars only."""
        answer: tuple[str, bytes] = await self._ask(
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
        answer: dict[str, dict[str, Any] | FinstageError] = await self._ask(
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
    ) -> tuple[Bars, str, str]:
        """Return bars, their data version and their source; raises SymbolUnknown."""
        answer: tuple[Bars, str, str] = await self._ask(
            "history", symbol, period, start, end, interval, adjusted, open_bar
        )
        return answer

    async def histories(
        self,
        symbols: Sequence[str],
        period: str = "1mo",
        interval: str = "1d",
        adjusted: bool = True,
    ) -> dict[str, tuple[Bars, str, str] | FinstageError]:
        """Return the closed bars of each symbol with version and source, or its error."""
        answer: dict[str, tuple[Bars, str, str] | FinstageError] = await self._ask(
            "histories", tuple(symbols), period, interval, adjusted
        )
        return answer

    async def trend(self, symbol: str, period: str = "1mo", interval: str = "1d") -> Any:
        """Return the moving averages and the trend of one symbol; raises SymbolUnknown."""
        return await self._ask("trend", symbol, period, interval)

    async def references(self, symbols: Sequence[str]) -> dict[str, Any]:
        """Return previous close and all-time high of each symbol, or its error."""
        answer: dict[str, Any] = await self._ask("references", tuple(symbols))
        return answer
