"""What the fake Yahoo knows: real daily bars as of some moment, and minutes made from them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from infra.bars import Bars, Floats, Ints
from infra.periods import DAILY_INTERVALS, bar_keys, day_ns
from infra.sources.replay import Record, load_records
from infra.sources.tick_path import SessionBar, TickPath, make_path, path_rng

DAY_S = 86_400
TICK_S = 15
STEP_S = {
    "1m": 60, "2m": 120, "5m": 300, "15m": 900, "30m": 1800, "60m": 3600, "90m": 5400, "1h": 3600,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listing:
    """A symbol and where it is traded; `opens` and `closes` are local times of the same day."""

    symbol: str
    name: str
    kind: str = "EQUITY"
    currency: str = "USD"
    exchange: str = "NMS"
    exchange_name: str = "NasdaqGS"
    time_zone: str = "America/New_York"
    opens: time = time(9, 30)
    closes: time = time(16)
    delay_min: int = 0

    @property
    def zone(self) -> ZoneInfo:
        """Return the exchange's time zone."""
        return ZoneInfo(self.time_zone)


LISTINGS = (
    Listing("AAPL", "Apple Inc."),
    Listing("GOOGL", "Alphabet Inc."),
    Listing("IBM", "International Business Machines", exchange="NYQ", exchange_name="NYSE"),
    Listing("META", "Meta Platforms, Inc."),
    Listing("MSFT", "Microsoft Corporation"),
    Listing("^GSPC", "S&P 500", "INDEX", exchange="SNP", exchange_name="SNP"),
    Listing("^IXIC", "NASDAQ Composite", "INDEX", exchange="NIM", exchange_name="Nasdaq GIDS"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Rows as Yahoo sends them: stamps in Unix seconds, prices and volume adjusted for splits."""

    at_s: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints
    adjclose: Floats

    def __len__(self) -> int:
        return len(self.at_s)

    def __getitem__(self, rows: slice | Any) -> Sheet:
        return Sheet(*(getattr(self, name)[rows] for name in self.__slots__))

    def merged(self, keys: Ints) -> Sheet:
        """Return one row for each key; equal keys stand together."""
        if not len(self):
            return self
        firsts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        lasts = np.r_[firsts[1:], len(keys)] - 1
        return Sheet(
            self.at_s[firsts],
            self.open[firsts],
            np.maximum.reduceat(self.high, firsts),
            np.minimum.reduceat(self.low, firsts),
            self.close[lasts],
            np.add.reduceat(self.volume, firsts),
            self.adjclose[lasts],
        )


class Book:
    """One symbol: its daily bars as traded, and what Yahoo says of them at a moment."""

    def __init__(self, listing: Listing, record: Record) -> None:
        self.listing = listing
        self.record = record
        self.bars: dict[str, Bars] = {}  # bars under a day, where a test sets them
        self.days = [record.bars.session(row) for row in range(len(record.bars))]
        zone = listing.zone
        self.opens_s = np.array([_at_s(day, listing.opens, zone) for day in self.days], np.int64)
        self.closes_s = np.array([_at_s(day, listing.closes, zone) for day in self.days], np.int64)
        self.path = lru_cache(maxsize=800)(self._path)

    def count(self, now_s: float) -> int:
        """Return how many sessions have begun."""
        return int(np.searchsorted(self.opens_s, now_s, "right"))

    def is_under_way(self, now_s: float) -> bool:
        """Return whether the last session begun has not ended."""
        return now_s < int(self.closes_s[self.count(now_s) - 1])

    def traded_at_s(self, now_s: float) -> int:
        """Return the time of the last trade: a tick's, or the last session's end."""
        last = self.count(now_s) - 1
        return min(int(self.closes_s[last]), self._tick(last, now_s)[1])

    def factors(self, now_s: float) -> tuple[Floats, Floats]:
        """Return for each session begun what later splits, and all later actions, divide by."""
        count = self.count(now_s)
        return _after(self.record.split[:count]), _after(self.record.price_step[:count])

    def traded(self, now_s: float) -> Bars:
        """Return the daily bars as traded; of the session under way, what was traded so far."""
        count = self.count(now_s)
        bars = self.record.bars[:count]
        if not self.is_under_way(now_s):
            return bars
        path, tick = self.path(count - 1), self._tick(count - 1, now_s)[0]
        now = slice(tick, tick + 1)
        so_far = Bars(
            bars.opened_at_ns[-1:],
            path.price[:1],
            path.high_so_far[now],
            path.low_so_far[now],
            path.price[now],
            path.volume_so_far[now],
        )
        return Bars.concat(bars[: count - 1], so_far)

    def daily(self, now_s: float, interval: str = "1d") -> Sheet:
        """Return daily or longer rows; today's has the last trade's time while it is open."""
        split, step = self.factors(now_s)
        bars = self.traded(now_s)
        at_s = self.opens_s[: len(bars)].copy()
        if self.is_under_way(now_s):
            at_s[-1] = self.traded_at_s(now_s)
        sheet = Sheet(
            at_s,
            bars.open / split,
            bars.high / split,
            bars.low / split,
            bars.close / split,
            np.rint(bars.volume * split).astype(np.int64),
            bars.close / step,
        )
        return sheet if interval == "1d" else sheet.merged(bar_keys(bars.opened_at_ns, interval))

    def intraday(self, interval: str, from_s: float, until_s: float, now_s: float) -> Sheet:
        """Return rows of `interval` that open from `from_s` (included) to `until_s` (not)."""
        split = self.factors(now_s)[0]
        if interval in self.bars:
            sheet = self._set_sheet(interval, split)
            return sheet[(sheet.at_s >= from_s) & (sheet.at_s < until_s) & (sheet.at_s <= now_s)]
        first = int(np.searchsorted(self.closes_s, from_s))
        last = min(self.count(now_s), int(np.searchsorted(self.opens_s, until_s)))
        parts = [self._session(row, interval, split[row], now_s) for row in range(first, last)]
        sheet = _joined(parts)
        return sheet[(sheet.at_s >= from_s) & (sheet.at_s < until_s)]

    def _session(self, row: int, interval: str, split: float, now_s: float) -> Sheet:
        path, ticks = self.path(row), self._tick(row, now_s)[0] + 1
        price = path.price[:ticks] / split
        at_s = self.opens_s[row] + np.arange(ticks) * TICK_S
        volume = np.diff(path.volume_so_far[:ticks], prepend=0) * split
        whole = np.rint(volume).astype(np.int64)
        slots = np.arange(ticks) * TICK_S // STEP_S[interval]
        return Sheet(at_s, price, price, price, price, whole, price).merged(slots)

    def _set_sheet(self, interval: str, split: Floats) -> Sheet:
        bars = self.bars[interval]
        zone = self.listing.zone
        at_s = bars.opened_at_ns // 10**9
        days = [day_ns(datetime.fromtimestamp(at, zone).date()) for at in at_s.tolist()]
        rows = np.searchsorted(self.record.bars.opened_at_ns, np.array(days, np.int64))
        ratio = np.r_[split, 1.0][np.minimum(rows, len(split))]
        return Sheet(
            at_s,
            bars.open / ratio,
            bars.high / ratio,
            bars.low / ratio,
            bars.close / ratio,
            np.rint(bars.volume * ratio).astype(np.int64),
            bars.close / ratio,
        )

    def _tick(self, row: int, now_s: float) -> tuple[int, int]:
        """Return the index and the time of the session's last tick."""
        ticks = len(self.path(row))
        tick = min(ticks - 1, int((now_s - self.opens_s[row]) // TICK_S))
        is_over = now_s >= self.closes_s[row]
        at_s = self.closes_s[row] if is_over else self.opens_s[row] + tick * TICK_S
        return (ticks - 1 if is_over else tick), int(at_s)

    def _path(self, row: int) -> TickPath:
        bars = self.record.bars
        bar = SessionBar(
            float(bars.open[row]),
            float(bars.high[row]),
            float(bars.low[row]),
            float(bars.close[row]),
            int(bars.volume[row]),
        )
        ticks = int(self.closes_s[row] - self.opens_s[row]) // TICK_S
        return make_path(bar, ticks, path_rng(0, self.listing.symbol, self.days[row]))


class Market:
    """All books by symbol."""

    def __init__(self, records: Mapping[str, Record] | None = None) -> None:
        records = load_records() if records is None else records
        listings = {listing.symbol: listing for listing in LISTINGS}
        self.books = {
            symbol: Book(listings.get(symbol, Listing(symbol, symbol)), record)
            for symbol, record in records.items()
        }

    @classmethod
    def until(cls, last: date) -> Market:
        """Return the same bars under newer dates: the last one on the session at or before."""
        # Here, as its half second is for those who run the fake against the real clock.
        import exchange_calendars

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what pandas tells of exchange_calendars
            calendar = exchange_calendars.get_calendar("XNYS")
        ns = calendar.sessions.to_numpy().astype("datetime64[ns]").astype(np.int64)
        ns = ns[ns <= day_ns(last)]
        dated = {}
        for symbol, record in load_records().items():
            bars = record.bars[max(0, len(record.bars) - len(ns)) :]
            kept = slice(len(record.bars) - len(bars), None)
            dated[symbol] = Record(
                replace(bars, opened_at_ns=ns[-len(bars) :].copy()),
                record.price_step[kept],
                record.split[kept],
            )
        return cls(dated)

    def book(self, symbol: str, now_s: float) -> Book | None:
        """Return what is known of a symbol, None if nothing is (yet)."""
        book = self.books.get(symbol.upper())
        return book if book is not None and book.count(now_s) else None

    def set_bars(
        self,
        symbol: str,
        interval: str,
        bars: Bars,
        *,
        price_step: Floats | None = None,
        split: Floats | None = None,
        listing: Listing | None = None,
    ) -> None:
        """Put bars as traded in place of all others of this symbol and interval.

        Bars under a day need daily ones of the same days. `price_step` and `split` as in a
        replay's Record; None is no action at all.
        """
        held = self.books.get(symbol)
        known = listing or (held.listing if held else Listing(symbol, symbol))
        if interval not in DAILY_INTERVALS:
            self.books[symbol].bars[interval] = bars
            return
        if interval != "1d":
            raise ValueError("longer bars are made from days")
        ones = np.ones(len(bars))
        split = ones if split is None else split
        price_step = split if price_step is None else price_step
        self.books[symbol] = Book(known, Record(bars, price_step, split))


def day_of(at_s: float, zone: tzinfo = UTC) -> date:
    """Return the date at a moment."""
    return datetime.fromtimestamp(at_s, zone).date()


def clock_at(now_s: float | Callable[[], float]) -> Callable[[], float]:
    """Return a function of the time, which stands still at a number."""
    if callable(now_s):
        return now_s
    fixed_s = float(now_s)
    return lambda: fixed_s


def _after(steps: Floats) -> Floats:
    """Return for each row the product of all later steps."""
    products: Floats = np.cumprod(np.r_[steps[1:], 1.0][::-1])[::-1]
    return products


def _at_s(day: date, at: time, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, at, zone).timestamp())


def _joined(parts: list[Sheet]) -> Sheet:
    empty = np.empty(0)
    none = np.empty(0, np.int64)
    parts = [*parts, Sheet(none, empty, empty, empty, empty, none, empty)]
    return Sheet(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Sheet.__slots__)
    )
