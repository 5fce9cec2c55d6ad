"""Answers of the indicator actor, as plain code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import Any

from actors.indicators import results
from actors.indicators.bar_store import BarStore
from actors.indicators.expressions import Call, Condition, Value
from actors.indicators.functions import function_named
from actors.indicators.screen import Screening, depth_of
from actors.indicators.signals import sentiment_of, signals_of
from actors.indicators.standard import at_end, without_nan
from actors.indicators.tables import IndicatorTable, Sentiment, Signal
from actors.indicators.tails import Tails
from infra.bars import Bars, BarSeries, Floats, History, Ints
from infra.clock import utc
from infra.errors import FinstageError, IntervalUnsupported, RangeInvalid, SymbolUnknown
from infra.periods import (
    DAILY_INTERVALS,
    INTERVALS,
    check_interval,
    check_period,
    rows_of_period,
    rows_of_range,
)
from infra.symbols import nearest

_KEPT_DEPTH = 16  # bars back; what looks farther is computed anew each time
_NO_BARS = Bars.empty()
_BLOCK = 256  # symbols, of what is not kept


class IndicatorCore:
    """Computes indicators, trends and selections from the bars in a `BarStore`.

    Values come from all closed adjusted bars held, however short `period` is; `open_bar` adds
    the one under way, and with it values that change until it closes. Every method raises
    ParameterInvalid for an unknown period, interval or method, and those for one symbol raise
    SymbolUnknown. Nothing but derived bars is remembered: each call computes anew.
    """

    def __init__(self, book: BarStore) -> None:
        self._bar_store = book
        self._tails: dict[str, Tails] = {}

    def indicators(
        self,
        symbol: str,
        period: str,
        interval: str,
        names: Sequence[str],
        method: str,
        open_bar: bool,
    ) -> dict[str, Any]:
        """Return the last values of the indicators in `names`, and which bars they come from.

        `data_points` counts the bars in `period`; `as_of` is midnight UTC of `session`, the
        first one of the last bar used; both are None without bars.
        """
        history = self._known(symbol, interval)
        bars = self._bars(symbol, interval, True, open_bar)
        return {
            **_origin(history, bars, period, interval),
            "method": method,
            "indicators": results.latest(bars, names, method),
        }

    def comprehensive(
        self, symbols: Iterable[str], period: str, interval: str, method: str, open_bar: bool
    ) -> dict[str, dict[str, Any] | FinstageError]:
        """Return all indicators and their signals of each symbol.

        An unknown symbol has a SymbolUnknown as its value, so that it does not spoil the others.
        """
        answers: dict[str, dict[str, Any] | FinstageError] = {}
        for symbol in symbols:
            history = self._bar_store.get(symbol, interval)
            if history is None:
                answers[symbol] = self._unknown(symbol)
                continue
            bars = self._bars(symbol, interval, True, open_bar)
            answers[symbol] = {
                **_origin(history, bars, period, interval),
                "method": method,
                **results.comprehensive(bars, method),
            }
        return answers

    def history(
        self,
        symbol: str,
        period: str | None,
        start: date | None,
        end: date | None,
        interval: str,
        adjusted: bool,
        open_bar: bool,
    ) -> BarSeries:
        """Return the bars that `period` selects or, when it is None, `start` to `end`.

        `start` is included, `end` is not, and either may be None: from the first bar, to the last.
        """
        history = self._known(symbol, interval)
        bars = self._bars(symbol, interval, adjusted, open_bar)
        if period is None:
            rows = rows_of_range(bars, start, end)
        else:
            rows = rows_of_period(bars, check_period(period), interval)
        chosen = bars[rows]
        source = history.source_of(chosen)
        all_of = (bars.session(0), bars.session(-1)) if len(bars) else None
        return BarSeries(chosen, history.data_version, source, history.stale_since_s, all_of)

    def histories(
        self, symbols: Sequence[str], period: str, interval: str, adjusted: bool
    ) -> dict[str, BarSeries | FinstageError]:
        """Return the closed bars of each symbol, or its error."""
        errors = self.unknown(symbols, interval)
        return {
            s: errors.get(s) or self.history(s, period, None, None, interval, adjusted, False)
            for s in symbols
        }

    def trend(self, symbol: str, period: str, interval: str) -> dict[str, Any]:
        """Return the 20 and 50 bar averages and the trend they show, from closed bars."""
        history = self._known(symbol, interval)
        bars = self._bars(symbol, interval, True, open_bar=False)
        return {
            **_origin(history, bars, period, interval),
            **results.trend(bars),
        }

    def table(
        self,
        symbol: str,
        calls: Sequence[Call],
        period: str,
        interval: str,
        last: int | None,
        open_bar: bool,
    ) -> IndicatorTable:
        """Return the lines of indicators over the bars of `period`, or over the last so many.

        Values come from all closed adjusted bars held. Raises RangeInvalid for a session's
        indicator on bars of a day.
        """
        history = self._known(symbol, interval)
        for call in calls:
            live = function_named(call.name).live
            if live and live.intraday_only and interval in DAILY_INTERVALS:
                told = f"{call.name} needs an interval under a day; see rolling_vwap"
                raise RangeInvalid(("query", "indicators"), told)
        bars = without_nan(self._bars(symbol, interval, True, open_bar))
        rows = rows_of_period(bars, check_period(period), interval)
        first = rows.start if last is None else max(0, len(bars) - last)
        lines = {
            call.text: {
                name: line[first:]
                for name, line in function_named(call.name).compute(bars, call.params).items()
            }
            for call in calls
        }
        origin = _origin(history, bars, period, interval)
        return IndicatorTable(origin, bars.opened_at_ns[first:], lines, history.stale_since_s)

    def screenings(
        self,
        node: Condition | Value,
        symbols: Sequence[str],
        interval: str,
        as_of: date | None,
    ) -> Iterator[Screening]:
        """Return a question to the last closed bars of symbols, in one part or several.

        Columns of the present are kept: asked again they cost microseconds. Those of a date, or
        of many bars back, are made for some symbols at a time.
        """
        if as_of is None and depth_of(node) <= _KEPT_DEPTH:
            if interval not in self._tails:
                self._tails[interval] = self._tails_of(interval, None)
            yield Screening(node, self._tails[interval], symbols)
            return
        for first in range(0, len(symbols), _BLOCK):
            part = symbols[first : first + _BLOCK]
            yield Screening(node, self._tails_of(interval, as_of), part)

    def _tails_of(self, interval: str, as_of: date | None) -> Tails:
        def cut(bars: Bars) -> Bars:
            bars = without_nan(bars)
            if as_of is None:
                return bars
            return bars[rows_of_range(bars, None, as_of + timedelta(days=1))]

        return Tails(
            lambda symbol: self._closed(symbol, interval),
            cut,
            lambda: self._bar_store.revision,
        )

    def _closed(self, symbol: str, interval: str) -> Bars:
        """Return the closed bars, none of a symbol that was forgotten between two steps."""
        if self._bar_store.get(symbol, interval) is None:
            return _NO_BARS
        return self._bar_store.closed(symbol, interval)

    def unknown(self, symbols: Sequence[str], interval: str) -> dict[str, FinstageError]:
        """Return why some symbols have no bars of an interval."""
        errors: dict[str, FinstageError] = {}
        for symbol in symbols:
            try:
                self._known(symbol, interval)
            except (SymbolUnknown, IntervalUnsupported) as error:
                errors[symbol] = error
        return errors

    def signals(self, symbol: str, interval: str, last: int) -> list[Signal]:
        """Return the signals of the last closed bars, oldest first."""
        return signals_of(self.true_bars(symbol, interval), last)

    def sentiment(self, symbol: str, interval: str) -> tuple[dict[str, Any], Sentiment | None]:
        """Return what the API says of the bars, and the mood of the last closed one."""
        bars = self.true_bars(symbol, interval)
        return _origin(self._known(symbol, interval), bars, "6mo", interval), sentiment_of(bars)

    def closes(self, symbol: str, period: str, interval: str) -> tuple[Ints, Floats]:
        """Return when the bars of a period opened, and their adjusted closes."""
        bars = self.true_bars(symbol, interval)
        rows = rows_of_period(bars, check_period(period), interval)
        return bars.opened_at_ns[rows], bars.close[rows]

    def true_bars(self, symbol: str, interval: str) -> Bars:
        """Return the closed adjusted bars that can be computed with; raises as the others."""
        self._known(symbol, interval)
        return without_nan(self._bars(symbol, interval, True, open_bar=False))

    def references(self, symbols: Iterable[str]) -> dict[str, dict[str, Any] | FinstageError]:
        """Return what a price is compared with: last close, high and low, all-time high and low.

        All are adjusted and of closed sessions; dates are ISO, None without bars. An unknown
        symbol has a SymbolUnknown as its value.
        """
        return {symbol: self._reference(symbol) for symbol in symbols}

    def _reference(self, symbol: str) -> dict[str, Any] | FinstageError:
        history = self._bar_store.get(symbol)
        if history is None:
            return self._unknown(symbol)
        bars = self._bar_store.closed(symbol)
        high, low = self._bar_store.extremes(symbol) or (None, None)
        return {
            "previous_close": at_end(bars.close),
            "previous_session": _session(bars),
            "previous_high": at_end(bars.high),
            "previous_low": at_end(bars.low),
            "all_time_high": high and high[0],
            "record_date": high and high[1].isoformat(),
            "all_time_low": low and low[0],
            "low_date": low and low[1].isoformat(),
            "data_version": history.data_version,
        }

    def _known(self, symbol: str, interval: str) -> History:
        history = self._bar_store.get(symbol, check_interval(interval, INTERVALS))
        if history is None and self._bar_store.get(symbol) is not None:
            raise IntervalUnsupported(("query", "interval"), interval, DAILY_INTERVALS)
        if history is None:
            raise self._unknown(symbol)
        return history

    def _unknown(self, symbol: str) -> SymbolUnknown:
        return SymbolUnknown(symbol, nearest(symbol, self._bar_store.symbols))

    def _bars(self, symbol: str, interval: str, adjusted: bool, open_bar: bool) -> Bars:
        closed = self._bar_store.closed(symbol, interval, adjusted)
        if not open_bar:
            return closed
        under_way = self._bar_store.open_bar(symbol, interval, adjusted)
        return Bars.concat(closed, under_way) if len(under_way) else closed


def _origin(history: History, bars: Bars, period: str, interval: str) -> dict[str, Any]:
    rows = rows_of_period(bars, check_period(period), interval)
    return {
        "symbol": history.symbol,
        "period": period,
        "interval": interval,
        "data_points": rows.stop - rows.start,
        "as_of": utc(int(bars.opened_at_ns[-1]) // 10**9).isoformat() if len(bars) else None,
        "session": _session(bars),
        "last_updated": utc(history.changed_at_s).isoformat(),
        "data_version": history.data_version,
        "source": history.source_of(bars),
        "stale": history.stale_since_s is not None,
    }


def _session(bars: Bars) -> str | None:
    return bars.session(-1).isoformat() if len(bars) else None
