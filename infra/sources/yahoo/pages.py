"""What yfinance reads of Yahoo's pages, as our types: headlines, symbols found, figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any

from infra.errors import SourceMalformed
from infra.sources.base import Found, NewsItem
from infra.sources.yahoo.answers import NAME, exchange_zone, number, text

_DAY_NS = 86_400 * 10**9

# So Yahoo writes a ratio whose divisor is zero or missing.
_NO_NUMBERS = {"NaN", "Infinity", "-Infinity"}
_ESTIMATES = (
    "earningsAverage",
    "earningsLow",
    "earningsHigh",
    "revenueAverage",
    "revenueLow",
    "revenueHigh",
)


def news_items(
    rows: Iterable[Any], symbol: str, count: int, now_ns: int, rejected: Counter[str]
) -> tuple[NewsItem, ...]:
    """Return at most `count` items of the symbol's stream, newest first, each id once.

    What has no title, no link or no time that has come is left out and counted by its kind.
    """
    items: dict[str, NewsItem] = {}
    for row in rows:
        try:
            item = _news_item(row, symbol, now_ns)
        except SourceMalformed as error:
            rejected[error.kind] += 1
        else:
            items.setdefault(item.id, item)
    newest = sorted(items.values(), key=lambda item: item.published_at_ns, reverse=True)
    return tuple(newest[:count])


def found_symbols(
    rows: Iterable[Any], count: int, now_ns: int, rejected: Counter[str]
) -> tuple[Found, ...]:
    """Return at most `count` symbols in Yahoo's order, each once; the rest as in `news_items`."""
    found: dict[str, Found] = {}
    for row in rows:
        symbol = text(row.get("symbol")) if isinstance(row, dict) else None
        kind = text(row.get("quoteType")) if symbol else None
        if symbol is None or kind is None:
            rejected["search_row"] += 1
            continue
        one = Found(
            symbol=symbol,
            name=text(row.get("longname")) or text(row.get("shortname")),
            exchange=text(row.get("exchDisp")) or text(row.get("exchange")),
            kind=kind.lower(),
            source=NAME,
            received_at_ns=now_ns,
        )
        found.setdefault(symbol, one)
    return tuple(found.values())[:count]


def figures(info: Mapping[str, Any]) -> dict[str, float | str | None]:
    """Return the numbers and texts of yfinance's `info` by Yahoo's names.

    A number that is not finite is None. Lists, such as the officers, truth values and `maxAge`,
    which tells nothing of the company, are left out. Times stay Unix seconds, as they are there.
    """
    values: dict[str, float | str | None] = {}
    for name, value in info.items():
        if name == "maxAge":
            continue
        if isinstance(value, str):
            values[name] = None if value in _NO_NUMBERS else text(value)
        elif value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            values[name] = number(value)
    return values


def calendar_figures(
    events: Mapping[str, Any], zone_name: str | None, rejected: Counter[str]
) -> dict[str, float | str | None]:
    """Return dates as ISO text, and what analysts expect of the next earnings.

    `ex_dividend_date` and `dividend_date` are days that Yahoo stamps with midnight UTC.
    `earnings_date` is the day at the exchange, and `earnings_date_end` the last one where Yahoo
    has a span because the company has not said; both are missing without a time zone.
    """
    earnings = _part(events, "earnings")
    values: dict[str, float | str | None] = {
        name: figure for name in _ESTIMATES if (figure := number(earnings.get(name))) is not None
    }
    found = {
        "ex_dividend_date": _day(events.get("exDividendDate"), UTC),
        "dividend_date": _day(events.get("dividendDate"), UTC),
    }
    try:
        days = _days(earnings.get("earningsDate"), exchange_zone(zone_name))
    except SourceMalformed as error:
        rejected[error.kind] += 1
        days = []
    if days:
        found |= {"earnings_date": days[0]}
    if len(days) > 1 and days[-1] != days[0]:
        found |= {"earnings_date_end": days[-1]}
    return values | {name: day for name, day in found.items() if day is not None}


def _news_item(row: Any, symbol: str, now_ns: int) -> NewsItem:
    content = row.get("content") if isinstance(row, dict) else None
    if not isinstance(content, dict):
        raise SourceMalformed("news_row", "an item without content")
    key, title = text(row.get("id")) or text(content.get("id")), text(content.get("title"))
    if key is None or title is None:
        raise SourceMalformed("news_title", "an item without an id or a title")
    return NewsItem(
        id=key,
        title=title,
        url=_link(content),
        publisher=text(_part(content, "provider").get("displayName")),
        published_at_ns=_published_at_ns(content, now_ns),
        symbols=(symbol, *_others(content, symbol)),
        summary=text(content.get("summary")),
        source=NAME,
        received_at_ns=now_ns,
    )


def _part(whole: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = whole.get(name)
    return part if isinstance(part, dict) else {}


def _link(content: dict[str, Any]) -> str:
    """Return where to read it; only such links as can do no harm in a page."""
    for name in ("clickThroughUrl", "canonicalUrl"):
        url = text(_part(content, name).get("url"))
        if url is not None and url.startswith(("https://", "http://")):
            return url
    raise SourceMalformed("news_url", "an item without a link")


def _published_at_ns(content: dict[str, Any], now_ns: int) -> int:
    said = text(content.get("pubDate")) or text(content.get("displayTime")) or ""
    refusal = SourceMalformed("news_date", f"published at {said[:40]!r}")
    try:
        published = datetime.fromisoformat(said)
    except ValueError:
        raise refusal from None
    if published.tzinfo is None:
        raise refusal
    at_ns = int(published.timestamp()) * 10**9
    if not 0 < at_ns <= now_ns + _DAY_NS:  # clocks differ, and some papers come a bit early
        raise refusal
    return at_ns


def _others(content: dict[str, Any], symbol: str) -> tuple[str, ...]:
    """Return the other symbols that it is about, each once."""
    listed = _part(content, "finance").get("stockTickers")
    rows = listed if isinstance(listed, list) else []
    told = [text(row.get("symbol")) for row in rows if isinstance(row, dict)]
    return tuple(dict.fromkeys(other for other in told if other and other != symbol))


def _days(stamps: object, zone: tzinfo) -> list[str]:
    days = [_day(stamp, zone) for stamp in stamps] if isinstance(stamps, list) else []
    return sorted(day for day in days if day is not None)


def _day(stamp: object, zone: tzinfo) -> str | None:
    """Return the day of Unix seconds; None for what is no time."""
    at_s = number(stamp)
    if at_s is None or not 0 < at_s < 2**33:
        return None
    return datetime.fromtimestamp(at_s, zone).date().isoformat()
