"""The fake Yahoo's answers, in the shapes of the real one's."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time
from typing import Any

import numpy as np
from dateutil.relativedelta import relativedelta

from tests.fakes.yahoo_data import DAY_S, STEP_S, Book, Market, Sheet, day_of
from tests.fakes.yahoo_faults import Answer

RANGES = ("1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max")
INTERVALS = (*STEP_S, "1d", "5d", "1wk", "1mo", "3mo")
_NO_DATA = "No data found, symbol may be delisted"

# How far back, and how long a span, in days.
_DEPTH_DAYS = {"1m": (30, 8), "60m": (730, 730), "1h": (730, 730)}
_OTHER_DEPTH_DAYS = (60, 60)

# Figures of Apple's annual reports, in dollars.
_FIGURES: dict[str, dict[str, dict[str, float]]] = {
    "AAPL": {
        "annualTotalRevenue": {"2011-09-30": 108_249e6, "2012-09-30": 156_508e6},
        "annualNetIncome": {"2011-09-30": 25_922e6, "2012-09-30": 41_733e6},
        "annualDilutedEPS": {"2011-09-30": 27.68, "2012-09-30": 44.15},
    }
}
_PROFILES = {"AAPL": {"sector": "Technology", "industry": "Consumer Electronics"}}


def chart(market: Market, symbol: str, query: Mapping[str, str], now_s: float) -> Answer:
    """Return /v8/finance/chart/{symbol}."""
    book = market.book(symbol, now_s)
    if book is None:
        return _error("chart", 404, "Not Found", _NO_DATA)
    interval, range_ = query.get("interval", "1d"), query.get("range", "")
    if interval not in INTERVALS:
        allowed = f"Valid intervals: [{', '.join(INTERVALS)}]"
        said = f"Invalid input - interval={interval} is not supported. {allowed}"
        return _error("chart", 422, "Unprocessable Entity", said)
    if range_ and range_ not in RANGES:
        said = f"Invalid input - range={range_} is not supported. Valid ranges: {list(RANGES)}"
        return _error("chart", 422, "Unprocessable Entity", said)
    from_s, until_s = _span(book, query, range_, now_s)
    refusal = _too_far(interval, from_s, until_s, now_s)
    if refusal:
        return _error("chart", 422, "Unprocessable Entity", refusal)
    if interval in STEP_S:
        sheet = book.intraday(interval, from_s, until_s, now_s)
    else:
        sheet = book.daily(now_s, interval)
        opened_s = np.minimum(sheet.at_s, book.opens_s[book.count(now_s) - 1])
        sheet = sheet[(opened_s >= from_s) & (opened_s < until_s)]
    return Answer(200, _chart(book, sheet, interval, range_, from_s, until_s, now_s))


def quotes(market: Market, query: Mapping[str, str], now_s: float) -> dict[str, Any]:
    """Return /v7/finance/quote."""
    symbols = [symbol for symbol in query.get("symbols", "").split(",") if symbol]
    books = [market.book(symbol, now_s) for symbol in symbols]
    rows = [_quote(book, now_s) for book in books if book is not None]
    return {"quoteResponse": {"result": rows, "error": None}}


def search(market: Market, query: Mapping[str, str], now_s: float) -> Answer:
    """Return /v1/finance/search."""
    wanted = query.get("q", "").strip().upper()
    found = [
        {
            "exchange": book.listing.exchange,
            "shortname": book.listing.name,
            "quoteType": book.listing.kind,
            "symbol": symbol,
            "index": "quotes",
            "score": 20_000.0,
            "typeDisp": book.listing.kind.capitalize(),
            "longname": book.listing.name,
            "exchDisp": book.listing.exchange_name,
            "isYahooFinance": True,
        }
        for symbol, book in sorted(market.books.items())
        if wanted and (wanted in symbol or wanted in book.listing.name.upper())
    ]
    shown = found[: int(query.get("quotesCount", "7"))]
    lists = ("explains", "news", "nav", "lists", "researchReports")
    return Answer(200, {"count": len(shown), "quotes": shown, **{name: [] for name in lists}})


def summary(market: Market, symbol: str, query: Mapping[str, str], now_s: float) -> Answer:
    """Return /v10/finance/quoteSummary/{symbol}: the modules asked for."""
    book = market.book(symbol, now_s)
    if book is None:
        return _error("quoteSummary", 404, "Not Found", f"Quote not found for symbol: {symbol}")
    quote, figures = _quote(book, now_s), _FIGURES.get(symbol, {})
    latest = {name: list(values.values())[-1] for name, values in figures.items()}
    modules: dict[str, dict[str, Any]] = {
        "assetProfile": _PROFILES.get(symbol, {}),
        "quoteType": {
            "symbol": symbol,
            "quoteType": book.listing.kind,
            "longName": book.listing.name,
            "exchange": book.listing.exchange,
        },
        "summaryDetail": {
            "currency": book.listing.currency,
            "previousClose": quote["regularMarketPreviousClose"],
            "fiftyTwoWeekHigh": quote["fiftyTwoWeekHigh"],
            "fiftyTwoWeekLow": quote["fiftyTwoWeekLow"],
            "volume": quote["regularMarketVolume"],
        },
        "defaultKeyStatistics": {"trailingEps": latest.get("annualDilutedEPS")},
        "financialData": {
            "currentPrice": quote["regularMarketPrice"],
            "totalRevenue": latest.get("annualTotalRevenue"),
            "financialCurrency": book.listing.currency,
        },
    }
    asked = query.get("modules", "").split(",")
    result = {name: {"maxAge": 1, **modules[name]} for name in asked if name in modules}
    return Answer(200, {"quoteSummary": {"result": [result], "error": None}})


def timeseries(symbol: str, query: Mapping[str, str]) -> Answer:
    """Return /ws/fundamentals-timeseries/v1/finance/timeseries/{symbol}."""
    series = [_series(symbol, name) for name in query.get("type", "").split(",") if name]
    return Answer(200, {"timeseries": {"result": series, "error": None}})


def news(market: Market, body: Mapping[str, Any], now_s: float) -> Answer:
    """Return /xhr/ncp: made headlines, a minute apart, and an advertisement among them."""
    asked = body.get("serviceConfig", {})
    symbols = [str(symbol) for symbol in asked.get("s", [])]
    known = [symbol for symbol in symbols if market.book(symbol, now_s)]
    count = int(asked.get("snippetCount", 10))
    items: list[dict[str, Any]] = [
        _article(symbol, number, now_s) for symbol in known for number in range(1, count + 1)
    ]
    items.insert(1, {"ad": [{"id": "made-advertisement"}]})
    return Answer(200, {"data": {"tickerStream": {"stream": items}}, "status": "OK"})


def _error(root: str, status: int, code: str, description: str) -> Answer:
    error = {"code": code, "description": description}
    return Answer(status, {root: {"result": None, "error": error}})


def _span(book: Book, query: Mapping[str, str], range_: str, now_s: float) -> tuple[float, float]:
    """Return Unix seconds from (included) and until (not)."""
    if "period1" in query:
        return float(query["period1"]), float(query.get("period2", now_s + 1))
    range_ = range_ or "1mo"
    sessions = book.opens_s[: book.count(now_s)]
    today = day_of(now_s, book.listing.zone)
    if range_ == "max":
        start = float(sessions[0])
    elif range_ in ("1d", "5d"):
        start = float(sessions[-int(range_[0]) :][0])
    elif range_ == "ytd":
        start = datetime(today.year, 1, 1, tzinfo=book.listing.zone).timestamp()
    else:
        number = int(range_[:-2] if range_.endswith("mo") else range_[:-1])
        back = relativedelta(months=number if range_.endswith("mo") else number * 12)
        start = datetime.combine(today - back, time(), book.listing.zone).timestamp()
    return start, now_s + 1


def _too_far(interval: str, from_s: float, until_s: float, now_s: float) -> str:
    if interval not in STEP_S:
        return ""
    depth, longest = _DEPTH_DAYS.get(interval, _OTHER_DEPTH_DAYS)
    if min(until_s, now_s) - from_s > longest * DAY_S + 1:
        return f"{interval} data: only {longest} days worth are allowed to be fetched per request."
    if from_s < now_s - depth * DAY_S:
        return (
            f"{interval} data not available for startTime={from_s:.0f} and "
            f"endTime={until_s:.0f}. The requested range must be within the last {depth} days."
        )
    return ""


def _chart(
    book: Book,
    sheet: Sheet,
    interval: str,
    range_: str,
    from_s: float,
    until_s: float,
    now_s: float,
) -> dict[str, Any]:
    meta = _meta(book, interval, range_, from_s, now_s)
    result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [{}]}}
    if len(sheet):
        names = ("open", "high", "low", "close", "volume")
        result["timestamp"] = sheet.at_s.tolist()
        result["indicators"]["quote"] = [{n: getattr(sheet, n).tolist() for n in names}]
        events = _events(book, from_s, until_s, now_s)
        if events:
            result["events"] = events
    if interval not in STEP_S:
        adjusted = {"adjclose": sheet.adjclose.tolist()} if len(sheet) else {}
        result["indicators"]["adjclose"] = [adjusted]
    return {"chart": {"result": [result], "error": None}}


def _meta(book: Book, interval: str, range_: str, from_s: float, now_s: float) -> dict[str, Any]:
    listing, quote, daily = book.listing, _quote(book, now_s), book.daily(now_s)
    before = int(np.searchsorted(daily.at_s, from_s)) - 1
    meta = {
        "currency": listing.currency,
        "symbol": listing.symbol,
        "exchangeName": listing.exchange,
        "fullExchangeName": listing.exchange_name,
        "instrumentType": listing.kind,
        "firstTradeDate": int(book.opens_s[0]),
        "regularMarketTime": quote["regularMarketTime"],
        "hasPrePostMarketData": listing.kind == "EQUITY",
        "gmtoffset": _offset_s(book, now_s),
        "timezone": datetime.fromtimestamp(now_s, listing.zone).tzname(),
        "exchangeTimezoneName": listing.time_zone,
        "regularMarketPrice": quote["regularMarketPrice"],
        "fiftyTwoWeekHigh": quote["fiftyTwoWeekHigh"],
        "fiftyTwoWeekLow": quote["fiftyTwoWeekLow"],
        "regularMarketDayHigh": quote["regularMarketDayHigh"],
        "regularMarketDayLow": quote["regularMarketDayLow"],
        "regularMarketVolume": quote["regularMarketVolume"],
        "longName": listing.name,
        "shortName": listing.name,
        "chartPreviousClose": float(daily.close[max(0, before)]),
        "priceHint": 2,
        "currentTradingPeriod": _trading_period(book, now_s),
        "dataGranularity": "1h" if interval == "60m" else interval,
        "range": range_,
        "validRanges": list(RANGES),
    }
    if interval in STEP_S:
        meta |= {"previousClose": quote["regularMarketPreviousClose"], "scale": 3}
        first = int(np.searchsorted(book.closes_s, from_s))
        rows = range(first, book.count(now_s))
        meta["tradingPeriods"] = [[_period(book, row, now_s)] for row in rows]
    return meta


def _trading_period(book: Book, now_s: float) -> dict[str, Any]:
    regular = _period(book, _period_row(book, now_s), now_s)
    if book.listing.kind != "EQUITY":
        early = late = 0
    else:
        early, late = 5 * 3600 + 1800, 4 * 3600  # New York: 4:00 to 20:00
    start, end = regular["start"], regular["end"]
    return {
        "pre": regular | {"start": start - early, "end": start},
        "regular": regular,
        "post": regular | {"start": end, "end": end + late},
    }


def _period_row(book: Book, now_s: float) -> int:
    """Return the session of today, also before it begins, or the last one."""
    following = book.count(now_s)
    today = day_of(now_s, book.listing.zone)
    return (
        following
        if following < len(book.days) and book.days[following] == today
        else (following - 1)
    )


def _period(book: Book, row: int, now_s: float) -> dict[str, Any]:
    return {
        "timezone": datetime.fromtimestamp(now_s, book.listing.zone).tzname(),
        "start": int(book.opens_s[row]),
        "end": int(book.closes_s[row]),
        "gmtoffset": _offset_s(book, now_s),
    }


def _offset_s(book: Book, now_s: float) -> int:
    offset = datetime.fromtimestamp(now_s, book.listing.zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


def _events(book: Book, from_s: float, until_s: float, now_s: float) -> dict[str, Any]:
    split, _ = book.factors(now_s)
    traded, record = book.traded(now_s), book.record
    splits: dict[str, Any] = {}
    dividends: dict[str, Any] = {}
    for row in np.flatnonzero(record.price_step[: len(traded)] != 1.0).tolist():
        at_s, ratio = int(book.opens_s[row]), float(record.split[row])
        if not from_s <= at_s < until_s:
            continue
        if ratio != 1.0:
            new, old = ratio.as_integer_ratio()
            splits[str(at_s)] = {
                "date": at_s,
                "numerator": float(new),
                "denominator": float(old),
                "splitRatio": f"{new}:{old}",
            }
        rest = float(record.price_step[row]) / ratio
        if abs(rest - 1) > 1e-9 and row:
            # What was paid follows from what it did to the adjusted close.
            amount = float(traded.close[row - 1] / split[row - 1] * (1 - 1 / rest))
            dividends[str(at_s)] = {"amount": round(amount, 6), "date": at_s}
    found = {"splits": splits, "dividends": dividends}
    return {name: events for name, events in found.items() if events}


def _quote(book: Book, now_s: float) -> dict[str, Any]:
    listing, daily = book.listing, book.daily(now_s)
    price, at_s = float(daily.close[-1]), book.traded_at_s(now_s)
    before = float(daily.close[-2]) if len(daily) > 1 else None
    year = slice(max(0, len(daily) - 252), None)
    return {
        "language": "en-US",
        "region": "US",
        "quoteType": listing.kind,
        "typeDisp": listing.kind.capitalize(),
        "quoteSourceName": "Delayed Quote" if listing.delay_min else "Nasdaq Real Time Price",
        "currency": listing.currency,
        "exchange": listing.exchange,
        "fullExchangeName": listing.exchange_name,
        "exchangeTimezoneName": listing.time_zone,
        "exchangeTimezoneShortName": datetime.fromtimestamp(now_s, listing.zone).tzname(),
        "gmtOffSetMilliseconds": _offset_s(book, now_s) * 1000,
        "exchangeDataDelayedBy": listing.delay_min,
        "sourceInterval": 15,
        "marketState": _state(book, now_s),
        "shortName": listing.name,
        "longName": listing.name,
        "regularMarketPrice": price,
        "regularMarketTime": at_s,
        "regularMarketChange": None if before is None else price - before,
        "regularMarketChangePercent": None if before is None else (price / before - 1) * 100,
        "regularMarketPreviousClose": before,
        "regularMarketOpen": float(daily.open[-1]),
        "regularMarketDayHigh": float(daily.high[-1]),
        "regularMarketDayLow": float(daily.low[-1]),
        "regularMarketVolume": int(daily.volume[-1]),
        "fiftyTwoWeekHigh": float(daily.high[year].max()),
        "fiftyTwoWeekLow": float(daily.low[year].min()),
        "priceHint": 2,
        "tradeable": False,
        "triggerable": True,
        "symbol": listing.symbol,
    }


def _state(book: Book, now_s: float) -> str:
    if book.is_under_way(now_s):
        return "REGULAR"
    row = _period_row(book, now_s)
    if book.days[row] != day_of(now_s, book.listing.zone):
        return "CLOSED"
    period = _trading_period(book, now_s)
    if now_s < period["regular"]["start"]:
        return "PRE" if now_s >= period["pre"]["start"] else "PREPRE"
    return "POST" if now_s < period["post"]["end"] else "POSTPOST"


def _series(symbol: str, name: str) -> dict[str, Any]:
    values = _FIGURES.get(symbol, {}).get(name)
    meta = {"meta": {"symbol": [symbol], "type": [name]}}
    if not values:
        return meta
    at_s = [int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) for day in values]
    rows = [
        {
            "asOfDate": day,
            "periodType": "12M",
            "currencyCode": "USD",
            "reportedValue": {"raw": value, "fmt": f"{value:g}"},
        }
        for day, value in values.items()
    ]
    return meta | {"timestamp": at_s, name: rows}


def _article(symbol: str, number: int, now_s: float) -> dict[str, Any]:
    published = datetime.fromtimestamp(now_s - 60 * number, UTC)
    key = f"made-{symbol}-{number}"
    url = f"https://finance.yahoo.com/news/{key}.html"
    content = {
        "id": key,
        "contentType": "STORY",
        "title": f"Made headline {number} on {symbol}",
        "summary": f"Made summary {number}.",
        "pubDate": published.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "displayTime": published.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "provider": {"displayName": "Made News", "url": "https://example.com/"},
        "canonicalUrl": {"url": url, "site": "finance", "region": "US", "lang": "en-US"},
        "clickThroughUrl": {"url": url, "site": "finance", "region": "US", "lang": "en-US"},
        "finance": {"stockTickers": [{"symbol": symbol}]},
        "thumbnail": None,
    }
    return {"id": key, "content": content}
