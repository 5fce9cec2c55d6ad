"""The indicators as others see them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from actors.indicators.correlation import Correlation
from actors.indicators.expressions import LiveCondition
from actors.indicators.names import METHODS, NAMES, is_of_the_six, parse_names
from actors.indicators.tables import (
    BULLISH,
    SIGNAL_TYPES,
    IndicatorTable,
    LiveWant,
    Match,
    Sentiment,
    Signal,
)
from actors.runtime import ActorClient
from infra.bars import BarSeries
from infra.errors import FinstageError
from infra.sources.base import Lane

__all__ = [
    "BULLISH",
    "INDICATORS",
    "METHODS",
    "NAMES",
    "SIGNAL_TYPES",
    "Correlation",
    "IndicatorClient",
    "IndicatorTable",
    "LiveCondition",
    "LiveWant",
    "Match",
    "Sentiment",
    "Signal",
    "is_of_the_six",
    "parse_names",
]

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

    async def live_condition(self, text: str) -> LiveCondition:
        """Return a condition on quotes and live indicators; raises ExpressionInvalid."""
        condition: LiveCondition = await self._ask("live_condition", text)
        return condition

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

    async def catalogue(self) -> list[dict[str, Any]]:
        """Return every indicator that there is."""
        entries: list[dict[str, Any]] = await self._ask("catalogue")
        return entries

    async def table(
        self,
        symbol: str,
        indicators: str,
        period: str = "1mo",
        interval: str = "1d",
        last: int | None = None,
        open_bar: bool = False,
    ) -> IndicatorTable:
        """Return the lines of indicators such as `rsi(21),bbands(20,2.5)`.

        Raises SymbolUnknown, ParameterInvalid, RangeInvalid, ExpressionInvalid.
        """
        table: IndicatorTable = await self._upstream(
            "table", symbol, indicators, period, interval, last, open_bar
        )
        return table

    async def screen(
        self,
        expression: str,
        symbols: Sequence[str] = (),
        interval: str = "1d",
        as_of: date | None = None,
    ) -> tuple[list[Match], dict[str, FinstageError]]:
        """Return the symbols that fulfil a condition, and errors; without symbols, of all held."""
        found: tuple[list[Match], dict[str, FinstageError]] = await self._upstream(
            "screen", expression, tuple(symbols), interval, as_of
        )
        return found

    async def ranking(
        self,
        value: str,
        symbols: Sequence[str] = (),
        interval: str = "1d",
        as_of: date | None = None,
    ) -> tuple[list[Match], dict[str, FinstageError]]:
        """Return the symbols by a value, the highest first, and errors."""
        found: tuple[list[Match], dict[str, FinstageError]] = await self._upstream(
            "ranking", value, tuple(symbols), interval, as_of
        )
        return found

    async def correlation(
        self, symbols: Sequence[str], period: str = "1y", interval: str = "1d"
    ) -> Correlation:
        """Return how the returns of symbols moved together; raises the first error of any."""
        found: Correlation = await self._upstream("correlation", tuple(symbols), period, interval)
        return found

    async def signals(
        self, symbols: Sequence[str] = (), interval: str = "1d", last: int = 1
    ) -> dict[str, list[Signal] | FinstageError]:
        """Return the signals of each symbol's last closed bars; without symbols, of all held."""
        found: dict[str, list[Signal] | FinstageError] = await self._upstream(
            "signals", tuple(symbols), interval, last
        )
        return found

    async def sentiment(
        self, symbol: str, interval: str = "1d"
    ) -> tuple[dict[str, Any], Sentiment | None]:
        """Return the mood of a symbol's last closed bar; raises SymbolUnknown."""
        found: tuple[dict[str, Any], Sentiment | None] = await self._upstream(
            "sentiment", symbol, interval
        )
        return found

    async def want_live(self, wants: Sequence[LiveWant]) -> dict[LiveWant, FinstageError]:
        """Let live values be told through the hub for `live_grace_s`; return why some cannot.

        The first values of what is new are published before this returns.
        """
        refused: dict[LiveWant, FinstageError] = await self._upstream("want_live", tuple(wants))
        return refused

    async def live(self, want: LiveWant) -> dict[str, Any]:
        """Return the live values of a symbol, which go on for `live_grace_s`.

        Raises SymbolUnknown, ParameterInvalid, RangeInvalid, ExpressionInvalid.
        """
        values: dict[str, Any] = await self._upstream("live", want)
        return values

    async def compiling(self) -> bool:
        """Return whether kernels are being compiled."""
        answer: bool = await self._ask("compiling")
        return answer

    async def references(
        self, symbols: Sequence[str], lane: Lane = Lane.INTERACTIVE
    ) -> dict[str, Any]:
        """Return previous close and all-time high of each symbol, or its error."""
        answer: dict[str, Any] = await self._upstream("references", tuple(symbols), lane)
        return answer

    async def _upstream(self, method: str, *args: Any) -> Any:
        return await self._ask(method, *args, wait_s=max(self._wait_s, _UPSTREAM_WAIT_S))
