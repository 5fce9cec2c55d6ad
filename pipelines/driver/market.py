"""What Python users ask of Finstage, the same over Ray and over HTTP, awaited or not.

`AsyncMarket` is the surface, `Market` the same without `await`: it runs an `AsyncMarket` in a
thread of its own, and so works in a notebook, whose loop runs already. Nothing here imports Ray.
"""

from __future__ import annotations

import math
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import pandas as pd
from anyio.from_thread import BlockingPortal, start_blocking_portal
from numpy.typing import NDArray

from infra.errors import FinstageError, ParameterInvalid, RangeInvalid, SymbolUnknown
from infra.symbols import normalise

SYMBOLS_IN_CALL = 500  # what a service takes in one call unless it was set lower

Day = date | str | None
Symbols = Sequence[str] | str
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Quoted:
    """One row of `quotes`: a price and the market's time of it (ISO), or the code of an error."""

    price: float = math.nan
    as_of: str | None = None
    source: str | None = None
    error: str | None = None


class AsyncMarket(ABC):
    """Bars, indicators, analyses and prices. Every call only reads, so all may be repeated.

    Symbols may be written in small letters; a list may also be text, `"AAPL,MSFT"`. Every method
    raises RequestError for what cannot be (SymbolUnknown is one) and ActorError if the service
    does not answer.
    """

    async def history(
        self,
        symbol: str,
        period: str | None = None,
        start: Day = None,
        end: Day = None,
        interval: str = "1d",
        adjusted: bool = True,
    ) -> pd.DataFrame:
        """Return closed bars as `history_frame` does, oldest first.

        `period` (default `1mo`) counts back from the last bar and excludes `start` (included)
        and `end` (not), dates of the exchange. `adjusted`: for splits and dividends.
        """
        first, stop = as_day("start", start), as_day("end", end)
        chosen = chosen_period(period, first, stop)
        return await self._history(normalise(symbol), chosen, first, stop, interval, adjusted)

    async def indicators(
        self,
        symbol: str,
        period: str = "1mo",
        indicators: str = "all",
        interval: str = "1d",
        method: str = "standard",
    ) -> dict[str, Any]:
        """Return the last values of `indicators` (`all`, or a comma list), from closed bars.

        The list may name any of the catalogue, with parameters: `rsi(21),bbands(20,2.5)`. A value
        that needs more bars than there are is None. `method` is `standard` or `reference`;
        `period` sets how much is reported, never what is computed from.
        """
        return await self._indicators(normalise(symbol), period, indicators, interval, method)

    async def analyze(self, symbols: Symbols, period: str = "1mo") -> dict[str, dict[str, Any]]:
        """Return the whole analysis of each symbol with its `current_price`, in the order given.

        A symbol that failed has `{"symbol", "error": {"code", "message", …}}`. More than 500
        symbols are asked for in several calls.
        """
        asked = asked_symbols(symbols)
        results: dict[str, dict[str, Any]] = {}
        for names in chunks(asked):
            results |= await self._analyses(names, period)
        return {s: failure(s, error) if error else results[s] for s, error in asked.items()}

    async def quotes(self, symbols: Symbols) -> pd.DataFrame:
        """Return the last price of each symbol as `quotes_frame` does, in the order given.

        A symbol that failed has its error's code in `error` and no price. More than 500 symbols
        are asked for in several calls.
        """
        asked = asked_symbols(symbols)
        rows: dict[str, Quoted] = {}
        for names in chunks(asked):
            rows |= await self._quotes(names)
        return quotes_frame(
            {s: Quoted(error=error.code) if error else rows[s] for s, error in asked.items()}
        )

    @abstractmethod
    async def _history(
        self,
        symbol: str,
        period: str | None,
        start: date | None,
        end: date | None,
        interval: str,
        adjusted: bool,
    ) -> pd.DataFrame: ...

    @abstractmethod
    async def _indicators(
        self, symbol: str, period: str, indicators: str, interval: str, method: str
    ) -> dict[str, Any]: ...

    @abstractmethod
    async def _analyses(
        self, symbols: Sequence[str], period: str
    ) -> dict[str, dict[str, Any]]: ...

    @abstractmethod
    async def _quotes(self, symbols: Sequence[str]) -> dict[str, Quoted]: ...


class Market:
    """The methods of `AsyncMarket` without `await`; `async with` gives those with it.

    Opens at the first call, and closes at the end of its `with`, by `close()` or with the
    program. Threads may share one.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[AsyncMarket]]) -> None:
        self._opened = opened
        self._lock = threading.Lock()
        self._running: tuple[BlockingPortal, AsyncMarket] | None = None
        self._closer: Callable[[], object] | None = None
        self._awaited: list[AbstractAsyncContextManager[AsyncMarket]] = []

    def history(
        self,
        symbol: str,
        period: str | None = None,
        start: Day = None,
        end: Day = None,
        interval: str = "1d",
        adjusted: bool = True,
    ) -> pd.DataFrame:
        """Return closed bars, oldest first, by `opened_at`: open, high, low, close, volume.

        `period` (default `1mo`) counts back from the last bar and excludes `start` (included)
        and `end` (not), dates of the exchange. `adjusted`: for splits and dividends.
        """
        return self._call(lambda m: m.history(symbol, period, start, end, interval, adjusted))

    def indicators(
        self,
        symbol: str,
        period: str = "1mo",
        indicators: str = "all",
        interval: str = "1d",
        method: str = "standard",
    ) -> dict[str, Any]:
        """Return the last values of `indicators` (`all`, or a comma list), from closed bars.

        A value that needs more bars than there are is None. `method` is `standard` or
        `reference`; `period` sets how much is reported, never what is computed from.
        """
        return self._call(lambda m: m.indicators(symbol, period, indicators, interval, method))

    def analyze(self, symbols: Symbols, period: str = "1mo") -> dict[str, dict[str, Any]]:
        """Return the whole analysis of each symbol with its `current_price`, in the order given.

        A symbol that failed has `{"symbol", "error": {"code", "message", …}}`.
        """
        return self._call(lambda m: m.analyze(symbols, period))

    def quotes(self, symbols: Symbols) -> pd.DataFrame:
        """Return the last price of each symbol, by `symbol`: price, as_of, source, error.

        A symbol that failed has its error's code in `error` and no price.
        """
        return self._call(lambda m: m.quotes(symbols))

    def close(self) -> None:
        """Close what was opened; a later call opens it again."""
        with self._lock:
            closer, self._closer, self._running = self._closer, None, None
            if closer is not None:
                closer()

    def __enter__(self) -> Self:
        """Open now, so that what is wrong shows here."""
        self._open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close what was opened."""
        self.close()

    async def __aenter__(self) -> AsyncMarket:
        """Return the object whose methods are awaited; it works in the loop of the caller."""
        opening = self._opened()
        market = await opening.__aenter__()
        self._awaited.append(opening)
        return market

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close what was opened."""
        await self._awaited.pop().__aexit__(kind, error, traceback)

    def _open(self) -> tuple[BlockingPortal, AsyncMarket]:
        try:
            return self._opened_once()
        except FinstageError as error:
            raise error.with_traceback(None) from None

    def _opened_once(self) -> tuple[BlockingPortal, AsyncMarket]:
        with self._lock:
            if self._running is None:
                with ExitStack() as stack:
                    portal = stack.enter_context(start_blocking_portal(name="finstage-market"))
                    market = stack.enter_context(portal.wrap_async_context_manager(self._opened()))
                    # Also when nobody closes: left to the interpreter, the thread hangs its end.
                    self._closer = weakref.finalize(self, stack.pop_all().close)
                self._running = portal, market
            return self._running

    def _call(self, ask: Callable[[AsyncMarket], Awaitable[T]]) -> T:
        portal, market = self._open()
        answer = portal.start_task_soon(ask, market)
        try:
            return answer.result()
        except FinstageError as error:
            raise error.with_traceback(None) from None  # how it came here is nobody's concern
        except BaseException:
            answer.cancel()  # after Ctrl-C nobody waits for it
            raise


# -- what is asked for -------------------------------------------------------------------------


def asked_symbols(symbols: Symbols) -> dict[str, SymbolUnknown | None]:
    """Return each symbol once, in capitals and the order given, with its error if it cannot be.

    Raises RangeInvalid if there is none.
    """
    parts = symbols.split(",") if isinstance(symbols, str) else symbols
    asked: dict[str, SymbolUnknown | None] = {}
    for part in parts:
        try:
            asked[normalise(part)] = None
        except SymbolUnknown as error:
            asked[error.symbol] = error
    if not asked:
        raise RangeInvalid(("symbols",), "symbols must name at least one")
    return asked


def chunks(asked: Mapping[str, SymbolUnknown | None]) -> Iterator[list[str]]:
    """Yield the symbols that can be, as many at a time as one call takes."""
    names = [symbol for symbol, error in asked.items() if error is None]
    for first in range(0, len(names), SYMBOLS_IN_CALL):
        yield names[first : first + SYMBOLS_IN_CALL]


def as_day(name: str, value: Day) -> date | None:
    """Return a date; raises ParameterInvalid for text that is not one (`2012-08-31`)."""
    if isinstance(value, datetime):
        return value.date()
    if not isinstance(value, str):
        return value
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ParameterInvalid((name,), value, ("a date such as 2012-08-31",)) from None


def chosen_period(period: str | None, start: date | None, end: date | None) -> str | None:
    """Return the period to ask for, None where `start` or `end` select.

    Raises ParameterInvalid for a period beside them, RangeInvalid if `end` is not after `start`.
    """
    if start is None and end is None:
        return period or "1mo"
    if period is not None:
        raise ParameterInvalid(("period",), period, ("no period beside start or end",))
    if start is not None and end is not None and start >= end:
        raise RangeInvalid(("end",), f"end {end} must be after start {start}")
    return None


# -- what is answered --------------------------------------------------------------------------


def history_frame(
    opened_at_ns: NDArray[np.int64],
    prices: Mapping[str, Sequence[float] | NDArray[np.float64]],
    volume: Sequence[int] | NDArray[np.int64],
    *,
    symbol: str,
    source: str,
    data_version: str,
) -> pd.DataFrame:
    """Return bars as a frame of its own memory.

    Index: `opened_at`, datetime64[ns, UTC], midnight of the exchange's date. Columns: `open`,
    `high`, `low`, `close` (float64), `volume` (int64). `attrs`: symbol, source, data_version.
    """
    index = pd.DatetimeIndex(opened_at_ns.astype("datetime64[ns]"), name="opened_at")
    columns: dict[str, NDArray[Any]] = {
        name: np.array(prices[name], np.float64) for name in ("open", "high", "low", "close")
    }
    columns["volume"] = np.array(volume, np.int64)
    frame = pd.DataFrame(columns, index=index.tz_localize("UTC"))
    frame.attrs = {"symbol": symbol, "source": source, "data_version": data_version}
    return frame


def quotes_frame(rows: Mapping[str, Quoted]) -> pd.DataFrame:
    """Return last prices as a frame.

    Index: `symbol`. Columns: `price` (float64, NaN where it failed), `as_of` (datetime64[ns,
    UTC], the market's time), `source` (str), `error` (a code, or None).
    """
    quoted = list(rows.values())
    index = pd.Index(list(rows), name="symbol", dtype="str")
    times = pd.Series([q.as_of for q in quoted], dtype=object)
    columns = {
        "price": np.array([q.price for q in quoted], np.float64),
        "as_of": pd.DatetimeIndex(pd.to_datetime(times, utc=True, format="ISO8601")).as_unit("ns"),
        "source": pd.array([q.source for q in quoted], dtype="str"),
        "error": pd.Series([q.error for q in quoted], index, dtype=object),
    }
    return pd.DataFrame(columns, index)


def failure(symbol: str, error: FinstageError) -> dict[str, Any]:
    """Return what stands in the place of a symbol's result."""
    detail: dict[str, Any] = {
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    return {
        "symbol": symbol,
        "error": detail | ({"context": error.context} if error.context else {}),
    }
