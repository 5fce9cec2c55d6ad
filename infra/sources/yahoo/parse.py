"""Yahoo's answers as our types: charts, quotes and what a symbol is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from infra.bars import History, Quote
from infra.errors import FinstageError, SourceMalformed, SymbolUnknown
from infra.sources.base import Action, SymbolInfo
from infra.sources.yahoo.answers import (
    NAME,
    exchange_zone,
    major_currency,
    number,
    results,
    text,
)
from infra.sources.yahoo.chart import Period, make_history, read_events
from infra.sources.yahoo.rows import Rows, read_rows

# PREPRE and POSTPOST: nobody trades, before the early hours and after the late ones.
_STATUS = {"REGULAR": "open", "PRE": "pre", "POST": "post"}
_STATES = {*_STATUS, "PREPRE", "POSTPOST", "CLOSED"}


@dataclass(frozen=True, slots=True, eq=False)
class Chart:
    """One chart. `rejected`: rows and events that were left out or moved, by kind."""

    info: SymbolInfo
    history: History
    actions: tuple[Action, ...]
    rejected: dict[str, int]


def parse_chart(body: bytes, symbol: str, now_s: float, interval: str | None = None) -> Chart:
    """Return the chart in the body of /v8/finance/chart, asked for up to `now_s` (Unix seconds).

    Yahoo's prices are adjusted for splits; with R the product of the ratios of all later splits,
    as traded = price * R and volume / R, price_factor = adjclose / close / R, volume_factor = R.
    A dividend's amount is Yahoo's: in its currency, for a share of today.

    Raises SymbolUnknown, and SourceMalformed if nothing of it can be used, or if its bars are not
    of `interval` (None takes them as they are).
    """
    found = results(body, "chart", symbol)
    if not found:
        raise SourceMalformed("no_result", "no result in chart")
    try:
        meta, rows, period = _read_chart(found[0])
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise SourceMalformed("chart_shape", f"{type(error).__name__}: {error}") from None
    sent = {"60m": "1h"}.get(meta["dataGranularity"], meta["dataGranularity"])
    if interval is not None and sent != {"60m": "1h"}.get(interval, interval):
        raise SourceMalformed("interval", f"bars of {sent} where {interval} was asked for")
    zone = exchange_zone(meta.get("exchangeTimezoneName"))
    rejected: Counter[str] = Counter()
    actions = read_events(found[0].get("events"), symbol, zone, rejected)
    history, actions = make_history(
        symbol, interval or sent, rows, actions, period, zone, now_s, rejected
    )
    kept = {kind: count for kind, count in rejected.items() if count}
    return Chart(_chart_info(meta, symbol, zone, now_s), history, actions, kept)


def parse_quotes(
    body: bytes, asked: Sequence[str], now_ns: int
) -> dict[str, Quote | FinstageError]:
    """Return a quote for each symbol asked for, or why there is none, in the order given.

    The body is that of /v7/finance/quote. Open, high and low that Yahoo leaves out (a fund has one
    price a day) are the price. Raises SourceMalformed if the whole answer makes no sense.
    """
    try:
        found = results(body, "quoteResponse", "")
    except SymbolUnknown:
        found = []
    rows = {text(row.get("symbol")): row for row in found if isinstance(row, dict)}
    return {symbol: _quote_or_error(rows.get(symbol), symbol, now_ns) for symbol in asked}


def quote_infos(body: bytes, now_ns: int) -> dict[str, SymbolInfo]:
    """Return what each symbol in the body of /v7/finance/quote is; raises SourceMalformed."""
    infos = {}
    for row in results(body, "quoteResponse", ""):
        symbol = text(row.get("symbol")) if isinstance(row, dict) else None
        zone = text(row.get("exchangeTimezoneName")) if symbol else None
        if symbol and zone:
            delay_min = number(row.get("exchangeDataDelayedBy"))
            infos[symbol] = _info(
                symbol,
                row,
                exchange=text(row.get("fullExchangeName")) or text(row.get("exchange")),
                kind=text(row.get("quoteType")),
                time_zone=zone,
                delay_s=None if delay_min is None else delay_min * 60.0,
                received_at_ns=now_ns,
            )
    return infos


def _read_chart(result: Any) -> tuple[dict[str, Any], Rows, Period]:
    meta = result["meta"]
    regular = meta["currentTradingPeriod"]["regular"]
    traded_at_s = int(meta.get("regularMarketTime") or 0)
    period = Period(int(regular["start"]), int(regular["end"]), traded_at_s)
    if not isinstance(meta["dataGranularity"], str):
        raise TypeError("dataGranularity is no text")
    return meta, read_rows(result), period


def _chart_info(meta: dict[str, Any], symbol: str, zone: ZoneInfo, now_s: float) -> SymbolInfo:
    return _info(
        symbol,
        meta,
        exchange=text(meta.get("fullExchangeName")) or text(meta.get("exchangeName")),
        kind=text(meta.get("instrumentType")),
        time_zone=zone.key,
        delay_s=None,
        received_at_ns=int(now_s * 1e9),
    )


def _info(
    symbol: str,
    named: dict[str, Any],
    *,
    exchange: str | None,
    kind: str | None,
    time_zone: str,
    delay_s: float | None,
    received_at_ns: int,
) -> SymbolInfo:
    currency = text(named.get("currency"))
    major, minor_units = major_currency(currency)
    return SymbolInfo(
        symbol=symbol,
        name=text(named.get("longName")) or text(named.get("shortName")),
        exchange=exchange,
        currency=currency,
        major_currency=major,
        minor_units=minor_units,
        time_zone=time_zone,
        kind=(kind or "equity").lower(),
        delay_s=delay_s,
        source=NAME,
        received_at_ns=received_at_ns,
    )


def _quote_or_error(row: dict[str, Any] | None, symbol: str, now_ns: int) -> Quote | FinstageError:
    # Of a symbol that is gone Yahoo keeps a row of the kind NONE, with a name and no price.
    if row is None or row.get("quoteType") == "NONE":
        return SymbolUnknown(symbol)
    try:
        return _quote(row, symbol, now_ns)
    except SourceMalformed as error:
        return error


def _quote(row: dict[str, Any], symbol: str, now_ns: int) -> Quote:
    price = number(row.get("regularMarketPrice"))
    at_s = number(row.get("regularMarketTime"))
    if price is None or price <= 0:
        shown = str(row.get("regularMarketPrice"))[:40]
        raise SourceMalformed("quote_price", f"{symbol} has the price {shown}")
    if at_s is None or not 0 < at_s < 2**33:
        raise SourceMalformed("quote_time", f"{symbol} has no time of its price")
    state = text(row.get("marketState"))
    if state not in _STATES:
        raise SourceMalformed("quote_state", f"{symbol} is in the state {str(state)[:40]}")
    zone = exchange_zone(row.get("exchangeTimezoneName"))
    high = _positive(row, "regularMarketDayHigh") or price
    low = _positive(row, "regularMarketDayLow") or price
    if high < low:
        raise SourceMalformed("high_below_low", f"{symbol} has the high {high} below {low}")
    return Quote(
        symbol=symbol,
        price=price,
        previous_close=_positive(row, "regularMarketPreviousClose"),
        open=_positive(row, "regularMarketOpen") or price,
        high=high,
        low=low,
        volume=int(max(0.0, number(row.get("regularMarketVolume")) or 0.0)),
        session=datetime.fromtimestamp(at_s, zone).date(),
        traded_at_ns=int(at_s) * 10**9,
        market_status=_STATUS.get(state or "", "closed"),
        source=NAME,
        synthetic=False,
        data_version="",  # versions are of bars, which a quote does not know
        received_at_ns=now_ns,
        currency=text(row.get("currency")),
    )


def _positive(row: dict[str, Any], name: str) -> float | None:
    value = number(row.get(name))
    return value if value is not None and value > 0 else None
