"""When each market trades: sessions, hours, half days and holidays, by the exchange's calendar.

The calendars are those of `exchange_calendars`: they know holidays about a year ahead and, here,
back to 1990. Futures have CME's electronic hours (its calendar lacks the daily hour's break,
16:00 to 17:00 in Chicago, which is added here), currencies run from Monday to Friday by London's
date, cryptocurrencies always by the UTC date. All instants are Unix nanoseconds, UTC.
"""

from __future__ import annotations

import functools
import warnings
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import pandas

Status = Literal["open", "pre", "post", "closed"]
Part = Literal["regular", "pre", "post", "closed"]

FIRST_DAY = date(1990, 1, 1)
_HOUR_NS = 3_600 * 10**9
_NEW_YORK = "America/New_York"
_PRE_OPENS = time(4, 0)
_POST_CLOSES = time(20, 0)
_HALF_DAY_POST_CLOSES = time(17, 0)

# Yahoo's exchange codes, and the suffixes of its symbols.
_BY_EXCHANGE = {
    "NMS": "XNYS", "NGM": "XNYS", "NCM": "XNYS", "NYQ": "XNYS", "PCX": "XNYS", "ASE": "XNYS",
    "BTS": "XNYS", "SNP": "XNYS", "DJI": "XNYS", "NIM": "XNYS",
    "LSE": "XLON", "GER": "XETR", "FRA": "XFRA", "PAR": "XPAR", "AMS": "XAMS", "BRU": "XBRU",
    "MIL": "XMIL", "MCE": "XMAD", "EBS": "XSWX", "STO": "XSTO", "CPH": "XCSE", "HEL": "XHEL",
    "OSL": "XOSL", "VIE": "XWBO", "LIS": "XLIS", "ISE": "XDUB", "TOR": "XTSE", "VAN": "XTSE",
    "HKG": "XHKG", "JPX": "XTKS", "OSA": "XTKS", "KSC": "XKRX", "KOE": "XKRX", "SHH": "XSHG",
    "SHZ": "XSHG", "TAI": "XTAI", "ASX": "XASX", "NZE": "XNZE", "NSI": "XBOM", "BSE": "XBOM",
    "SES": "XSES", "JKT": "XIDX", "SAO": "BVMF", "MEX": "XMEX", "JNB": "XJSE", "TLV": "XTAE",
}  # fmt: skip
_BY_SUFFIX = {
    "L": "XLON", "DE": "XETR", "F": "XFRA", "PA": "XPAR", "AS": "XAMS", "BR": "XBRU",
    "MI": "XMIL", "MC": "XMAD", "SW": "XSWX", "ST": "XSTO", "CO": "XCSE", "HE": "XHEL",
    "OL": "XOSL", "VI": "XWBO", "LS": "XLIS", "IR": "XDUB", "TO": "XTSE", "V": "XTSE",
    "HK": "XHKG", "T": "XTKS", "KS": "XKRX", "KQ": "XKRX", "SS": "XSHG", "SZ": "XSHG",
    "TW": "XTAI", "AX": "XASX", "NZ": "XNZE", "NS": "XBOM", "BO": "XBOM", "SI": "XSES",
    "JK": "XIDX", "SA": "BVMF", "MX": "XMEX", "JO": "XJSE", "TA": "XTAE",
}  # fmt: skip
_BY_INDEX = {
    "^FTSE": "XLON", "^GDAXI": "XETR", "^FCHI": "XPAR", "^N225": "XTKS", "^HSI": "XHKG",
    "^KS11": "XKRX", "^KQ11": "XKRX", "^STOXX50E": "XETR", "^AXJO": "XASX", "^BSESN": "XBOM",
    "^NSEI": "XBOM", "^GSPTSE": "XTSE", "^TWII": "XTAI", "^STI": "XSES", "^BVSP": "BVMF",
    "^MXX": "XMEX", "^SSMI": "XSWX", "^AEX": "XAMS",
}  # fmt: skip
# Calendars that know no holidays as far back as the others.
_FIRST_DAYS = {
    "XBOM": date(1997, 1, 1),
    "XSHG": date(1990, 12, 3),
    "XTKS": date(1997, 1, 1),
}
_FUTURES, _CURRENCIES, _CRYPTO = "CMES", "currencies", "crypto"


@dataclass(frozen=True, slots=True)
class _Hours:
    """Sessions in order: days, and the instants between which they trade, regular hours."""

    days: list[date]
    opens_ns: list[int]
    closes_ns: list[int]
    break_starts_ns: list[int]  # 0 where there is none
    break_ends_ns: list[int]


@dataclass(frozen=True, slots=True)
class Market:
    """One market's calendar; equal when named alike. Methods raise ValueError before 1990."""

    name: str
    time_zone: str
    always_open: bool = False
    _hours: _Hours | None = field(default=None, repr=False, compare=False)

    def hours(self, day: date) -> tuple[int, int] | None:
        """Return when the session of a date opens and closes, or None if there is none."""
        if self._hours is None:
            return _made_hours(self, day)
        row = bisect_right(self._hours.days, day) - 1
        if row < 0 or self._hours.days[row] != day:
            return None
        return self._hours.opens_ns[row], self._hours.closes_ns[row]

    def lunch_break(self, day: date) -> tuple[int, int] | tuple[()]:
        """Return when the break of a session starts and ends, or nothing if there is none."""
        if self._hours is None:
            return ()
        row = bisect_right(self._hours.days, day) - 1
        if row < 0 or self._hours.days[row] != day or not self._hours.break_starts_ns[row]:
            return ()
        return self._hours.break_starts_ns[row], self._hours.break_ends_ns[row]

    def session_of(self, at_ns: int) -> date | None:
        """Return the exchange's date whose session, pre or post market an instant belongs to."""
        if self._hours is None:
            day = self._local(at_ns).date()
            return day if self.hours(day) else None
        row = bisect_right(self._hours.opens_ns, at_ns) - 1
        if row >= 0 and at_ns < self._hours.closes_ns[row]:
            return self._hours.days[row]
        day = self._local(at_ns).date()
        return day if self.part(at_ns) in ("pre", "post") else None

    def part(self, at_ns: int) -> Part:
        """Return which part of a session an instant is in."""
        if self._hours is None:
            return "regular" if self.session_of(at_ns) else "closed"
        hours = self._hours
        row = bisect_right(hours.opens_ns, at_ns) - 1
        if row >= 0 and at_ns < hours.closes_ns[row]:
            on_break = hours.break_starts_ns[row] <= at_ns < hours.break_ends_ns[row]
            return "closed" if on_break else "regular"
        return self._extended(at_ns) if self.name == "XNYS" else "closed"

    def status(self, at_ns: int) -> Status:
        """Return open, pre, post or closed."""
        part = self.part(at_ns)
        return "open" if part == "regular" else part

    def is_half_day(self, day: date) -> bool:
        """Return whether the session closes early: an hour or more before its usual time."""
        hours = self.hours(day)
        if hours is None or self._hours is None:
            return False
        row = bisect_right(self._hours.days, day) - 1
        around = slice(max(0, row - 10), row + 11)
        lengths = zip(self._hours.opens_ns[around], self._hours.closes_ns[around], strict=True)
        usual_ns = max(close - open_ for open_, close in lengths)
        return hours[1] - hours[0] <= usual_ns - _HOUR_NS

    def next_open(self, at_ns: int) -> int:
        """Return when the next session opens, after an instant."""
        if self._hours is not None:
            row = bisect_right(self._hours.opens_ns, at_ns)
            if row == len(self._hours.opens_ns):
                raise ValueError(f"{self.name}: no calendar so far ahead")
            return self._hours.opens_ns[row]
        day = self._local(at_ns).date()
        while (hours := self.hours(day)) is None or hours[0] <= at_ns:
            day += timedelta(days=1)
        return hours[0]

    def sessions(self, start: date, end: date) -> list[date]:
        """Return the sessions from `start` (included) to `end` (not)."""
        if self._hours is not None:
            return [day for day in self._hours.days if start <= day < end]
        days = (start + timedelta(days=n) for n in range((end - start).days))
        return [day for day in days if self.hours(day)]

    def previous_session(self, day: date) -> date:
        """Return the last session before a date."""
        before = self.sessions(day - timedelta(days=20), day)
        if not before:
            raise ValueError(f"{self.name}: no session in the 20 days before {day}")
        return before[-1]

    def _local(self, at_ns: int) -> datetime:
        return datetime.fromtimestamp(at_ns // 10**9, ZoneInfo(self.time_zone))

    def _extended(self, at_ns: int) -> Part:
        """Return the part of an instant outside regular hours: 4:00 to 20:00 in New York."""
        day = self._local(at_ns).date()
        hours = self.hours(day)
        if hours is None:
            return "closed"
        last = _HALF_DAY_POST_CLOSES if self.is_half_day(day) else _POST_CLOSES
        if _at(day, _PRE_OPENS, self.time_zone) <= at_ns < hours[0]:
            return "pre"
        return "post" if hours[1] <= at_ns < _at(day, last, self.time_zone) else "closed"


@dataclass(frozen=True, slots=True)
class MarketState:
    """A market at an instant. `opens_at_ns` and `closes_at_ns` are of `session`."""

    market: str
    status: Status
    session: date | None
    opens_at_ns: int | None
    closes_at_ns: int | None
    next_open_ns: int
    is_half_day: bool


def market_state(market: Market, at_ns: int) -> MarketState:
    """Return what a market is doing at an instant."""
    session = market.session_of(at_ns)
    hours = market.hours(session) if session else None
    return MarketState(
        market.name,
        market.status(at_ns),
        session,
        hours[0] if hours else None,
        hours[1] if hours else None,
        market.next_open(at_ns),
        session is not None and market.is_half_day(session),
    )


def calendar_for(symbol: str, exchange: str | None = None, kind: str | None = None) -> Market:
    """Return the market that a symbol trades on, by its exchange (Yahoo's code), else its name."""
    return _market(_calendar_name(symbol, exchange, kind))


@functools.lru_cache(maxsize=20_000)
def _calendar_name(symbol: str, exchange: str | None, kind: str | None) -> str:
    if kind == "cryptocurrency" or symbol.endswith(("-USD", "-EUR", "-GBP", "-USDT")):
        return _CRYPTO
    if kind == "currency" or symbol.endswith("=X"):
        return _CURRENCIES
    if kind == "future" or symbol.endswith("=F"):
        return _FUTURES
    if exchange in _BY_EXCHANGE:
        return _BY_EXCHANGE[exchange]
    if symbol.startswith("^"):
        return _BY_INDEX.get(symbol, "XNYS")
    return _BY_SUFFIX.get(symbol.rpartition(".")[2] if "." in symbol else "", "XNYS")


@functools.cache
def _market(name: str) -> Market:
    if name == _CRYPTO:
        return Market(_CRYPTO, "UTC", always_open=True)
    if name == _CURRENCIES:
        return Market(_CURRENCIES, "Europe/London")
    # Here, as importing it takes 0.8 s and only some processes need it.
    import exchange_calendars

    first_day = _FIRST_DAYS.get(name, FIRST_DAY).isoformat()
    with warnings.catch_warnings():  # its use of pandas is its own concern
        warnings.simplefilter("ignore", DeprecationWarning)
        calendar = exchange_calendars.get_calendar(name, start=first_day)
    table = calendar.schedule
    columns = {column: _ns(table[column]) for column in table.columns}
    if name == _FUTURES:
        columns["close"] = [
            close - _HOUR_NS if close - open_ == 24 * _HOUR_NS else close
            for open_, close in zip(columns["open"], columns["close"], strict=True)
        ]
    hours = _Hours(
        [stamp.date() for stamp in table.index],
        columns["open"],
        columns["close"],
        columns["break_start"],
        columns["break_end"],
    )
    return Market(name, str(calendar.tz), _hours=hours)


def _ns(stamps: Iterable[pandas.Timestamp]) -> list[int]:
    """Return Unix nanoseconds, 0 for none."""
    return [max(0, int(stamp.as_unit("ns").value)) for stamp in stamps]


def _made_hours(market: Market, day: date) -> tuple[int, int] | None:
    if not market.always_open and day.weekday() > 4:
        return None
    zone = market.time_zone
    return _at(day, time(), zone), _at(day + timedelta(days=1), time(), zone)


def _at(day: date, clock: time, zone: str) -> int:
    at = datetime.combine(day, clock, ZoneInfo(zone))
    return int(at.astimezone(UTC).timestamp()) * 10**9
