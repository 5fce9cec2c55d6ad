"""When the bars of a user's file opened, in the forms in which people write dates."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.bars import NS_PER_DAY, Ints
from infra.errors import ImportUnreadable
from infra.periods import DAILY_INTERVALS

NOT_A_TIME = np.iinfo(np.int64).min

Order = Literal["month", "day"]

MOST_REASONS = 1_000  # that are kept: of the rest only how many
_CELL_BYTES = 41  # of a time that is written out; longer ones are none
_NS_PER = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_MOST_NS = np.iinfo(np.int64).max
_NUMBER = re.compile(r"\d{9,19}(?:\.0*)?")
_ISO_DAY = re.compile(r"^(\d{8}|\d{4}-\d{2}-\d{2})(?:[T ].*)?$")
# Such ones, and those that `_year_first` makes such ones of.
_DAY = re.compile(
    r"^(\d{8}|\d{4}-\d{2}-\d{2}|\d{1,2}[/.-]\d{1,2}[/.-]\d{2,4}|\d{4}/\d{1,2}/\d{1,2})(?:[T ].*)?$"
)
_SLASHED = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{2,4})(.*)")
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{2,4})(.*)")
# A zone behind a time of day: 5-Mar-2024 has none.
_ZONE = re.compile(
    r"((?::\d\d|T\d{4,6})(?:[.,]\d+)?(?: *[AP]M)?) *"
    r"(?:Z|UTC|GMT|(?:UTC|GMT)?[+-]\d\d(?::?\d\d)?)$",
    re.IGNORECASE,
)
_EAST = re.compile(r"(?:UTC|GMT)(?=[+-])", re.IGNORECASE)  # what pandas takes as west
_YEAR_FIRST = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})(.*)")


class FileTimes:
    """The times of a file's rows, taken part by part; only all of them tell how they are written.

    Raises ImportUnreadable for a time zone that is none.
    """

    def __init__(self, interval: str, time_zone: str) -> None:
        try:
            self._zone = ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ImportUnreadable(
                f"{time_zone!r} is no time zone; use one as America/New_York"
            ) from None
        self._is_daily = interval in DAILY_INTERVALS
        self._parts: list[pd.DatetimeIndex | NDArray[np.bytes_]] = []
        self._order = _Order()
        self._numbers: list[NDArray[np.bool_]] = []  # which of each part's cells are such
        self._has_clock = False
        self._count = self._days = self._written = 0

    def take(self, cells: pd.Series[Any]) -> None:
        """Take the next rows' cells: texts, or a file's own times."""
        self._count += len(cells)
        if pd.api.types.is_datetime64_any_dtype(cells):
            self._parts.append(pd.DatetimeIndex(cells))
            self._numbers.append(np.zeros(len(cells), np.bool_))
            self._written += len(cells)
            return
        texts = _written(cells)
        are_numbers = texts.str.fullmatch(_NUMBER.pattern)
        self._numbers.append(np.asarray(are_numbers, np.bool_))
        self._written += int((texts != "").sum())
        if are_numbers.any():
            texts = texts.where(~are_numbers, texts.str.partition(".")[0])
        self._parts.append(np.array([_clipped(text) for text in texts], f"S{_CELL_BYTES}"))
        self._has_clock = self._has_clock or bool(texts.str.contains("[T ]", regex=True).any())
        slashed = texts.str.match(_SLASHED.pattern)
        if slashed.any():
            self._order.take(texts[slashed])
        if self._is_daily or not self._has_clock:  # else nobody asks
            self._days += int(texts.str.match(_DAY.pattern).sum())

    def opened_at(self, skipped: NDArray[np.bool_]) -> tuple[Ints, dict[int, str]]:
        """Return Unix nanoseconds, `NOT_A_TIME` where there is none, and why, of the first rows.

        Of `skipped` rows it is not said why. Where most cells are numbers, what else is none.

        Of bars of 1d and longer the date as written, at midnight UTC; a number's date is that of
        the time zone. Raises ImportUnreadable where 03/05/2024 may be March or May in every row.
        """
        if 2 * sum(int(part.sum()) for part in self._numbers) > self._written:
            return self._from_numbers(skipped)
        times = np.full(self._count, NOT_A_TIME)
        reasons: dict[int, str] = {}
        has_hours = any(_has_hours(p) for p in self._parts if isinstance(p, pd.DatetimeIndex))
        first = 0
        for part in self._parts:
            stamps = self._stamps(part)
            found = self._nanoseconds(stamps, has_hours)
            times[first : first + len(part)] = found
            missing = (found == NOT_A_TIME) & ~skipped[first : first + len(part)]
            for row in np.flatnonzero(missing)[: MOST_REASONS - len(reasons)]:
                reasons[first + int(row)] = _reason(part, int(row))
            first += len(part)
        return times, reasons

    def _stamps(self, part: pd.DatetimeIndex | NDArray[np.bytes_]) -> pd.DatetimeIndex:
        if isinstance(part, pd.DatetimeIndex):
            return _within(part)
        texts = _year_first(pd.Series([_shown(cell) for cell in part], dtype=object), self._order)
        if not self._has_clock or self._is_daily:
            return _within(_dates(texts, 2 * self._days > self._written))
        return _instants(texts, self._zone)

    def _from_numbers(self, skipped: NDArray[np.bool_]) -> tuple[Ints, dict[int, str]]:
        are_numbers = np.concatenate(self._numbers)
        cells = np.concatenate([_texts(part) for part in self._parts])
        plain = np.where(are_numbers, cells, b"0")
        too_large = plain.astype(np.float64) >= float(_MOST_NS)
        values = np.where(too_large, b"0", plain).astype(np.int64)
        told = np.sort(values[are_numbers])
        digits = len(str(int(told[(len(told) - 1) // 2])))
        # 10 digits are seconds from 2001 to 2286, 13 milliseconds, 16 microseconds.
        scale = 10 ** max(0, 9 - 3 * max(0, (digits - 8) // 3))
        too_large |= values > _MOST_NS // scale
        values[too_large] = 0
        stamps = pd.DatetimeIndex((values * scale).astype("datetime64[ns]")).tz_localize("UTC")
        times = self._nanoseconds(stamps, _has_hours(stamps))
        times[too_large | ~are_numbers] = NOT_A_TIME
        rows = np.flatnonzero((times == NOT_A_TIME) & ~skipped)[:MOST_REASONS]
        said = {True: _out_of_range, False: _no_time}
        return times, {int(row): said[bool(are_numbers[row])](_shown(cells[row])) for row in rows}

    def _nanoseconds(self, stamps: pd.DatetimeIndex, has_hours: bool) -> Ints:
        if self._is_daily:
            local = stamps
            if stamps.tz is not None and str(stamps.tz) == "UTC":
                local = stamps.tz_convert(self._zone) if has_hours else stamps
            naive = local.tz_localize(None) if local.tz is not None else local
            return _as_ns(naive, days=True)
        if stamps.tz is None:
            stamps = stamps.tz_localize(self._zone, ambiguous="NaT", nonexistent="NaT")
        return _as_ns(stamps.tz_convert("UTC").tz_localize(None), days=False)


def _clipped(text: str) -> bytes:
    """Return a time as it is kept; of one that is too long what is no time for sure."""
    cell = text.encode("utf-8", "replace")
    return cell if len(cell) < _CELL_BYTES else cell[: _CELL_BYTES - 1] + b"?"


def _texts(part: pd.DatetimeIndex | NDArray[np.bytes_]) -> NDArray[np.bytes_]:
    return np.asarray(part.astype(str), "S") if isinstance(part, pd.DatetimeIndex) else part


def _shown(cell: bytes) -> str:
    return cell.decode("utf-8", "replace")


def _reason(part: pd.DatetimeIndex | NDArray[np.bytes_], row: int) -> str:
    if not isinstance(part, pd.DatetimeIndex):
        text = _shown(part[row])
        stamp = pd.to_datetime(text, errors="coerce")
        is_far = not pd.isna(stamp) and not 1678 <= stamp.year <= 2261
    else:  # as numpy has it, which knows years of any length
        text = str(np.datetime64(int(part.asi8[row]), part.unit))
        is_far = text != "NaT"
    return _out_of_range(text) if is_far else _no_time(text)


def _no_time(text: str) -> str:
    return f"{text[:40]!r} is no time"


def _out_of_range(text: str) -> str:
    return f"the time {text[:40]} is out of range, 1678 to 2261"


def _within(stamps: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return times of which nanoseconds can be counted; the others are none."""
    far = np.abs(stamps.asi8) > (_MOST_NS - 2 * NS_PER_DAY) // _NS_PER[stamps.unit]
    return pd.DatetimeIndex(stamps.where(~far)) if far.any() else stamps


def _written(cells: pd.Series[Any]) -> pd.Series[Any]:
    texts = cells.map(lambda c: c.isoformat() if hasattr(c, "isoformat") else str(c))
    return texts.astype(str).str.strip()


def _has_hours(stamps: pd.DatetimeIndex) -> bool:
    return bool((stamps.dropna() != stamps.dropna().normalize()).any())


def _as_ns(stamps: pd.DatetimeIndex, days: bool) -> Ints:
    missing = np.asarray(stamps.isna())
    values = np.where(missing, 0, stamps.asi8) * _NS_PER[stamps.unit]
    if days:
        values -= values % NS_PER_DAY
    values[missing] = NOT_A_TIME
    return values


def _dates(texts: pd.Series[Any], are_iso: bool) -> pd.DatetimeIndex:
    """Return the dates as written, without time of day or zone."""
    if are_iso:
        days = texts.str.extract(_ISO_DAY.pattern)[0].str.replace("-", "")
        return pd.DatetimeIndex(pd.to_datetime(days, format="%Y%m%d", errors="coerce"))
    return _parsed(_without_zone(texts)).tz_localize(None).normalize()


def _instants(texts: pd.Series[Any], zone: ZoneInfo) -> pd.DatetimeIndex:
    has_zone = _without_zone(texts) != texts
    zoned = texts.where(has_zone).str.replace(_EAST, "", regex=True)
    aware = pd.to_datetime(zoned, format="mixed", utc=True, errors="coerce")
    local = _within(_parsed(texts.where(~has_zone)))
    if local.tz is None:
        local = local.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    return _within(
        pd.DatetimeIndex(
            aware.where(aware.notna(), local.tz_convert("UTC").to_series(index=texts.index))
        )
    )


def _without_zone(texts: pd.Series[Any]) -> pd.Series[Any]:
    return texts.str.replace(_ZONE, r"\1", regex=True)


def _parsed(texts: pd.Series[Any]) -> pd.DatetimeIndex:
    """Return times in any form; raises ImportUnreadable where zones in odd places differ."""
    try:
        return pd.DatetimeIndex(pd.to_datetime(texts, format="mixed", errors="coerce"))
    except ValueError:
        raise ImportUnreadable(
            f"times as {texts.dropna().iloc[0]!r} have several time zones; "
            "write them as 2024-03-05T09:30:00-05:00"
        ) from None


def _year_first(texts: pd.Series[Any], order: _Order) -> pd.Series[Any]:
    """Return dates in other orders as ISO."""
    slashed, dotted = texts.str.match(_SLASHED.pattern), texts.str.match(_DOTTED.pattern)
    texts = texts.str.replace(_YEAR_FIRST.pattern, _iso_parts((1, 2, 3, 4)), regex=True)
    if dotted.any():
        texts = texts.str.replace(_DOTTED.pattern, _iso_parts((3, 2, 1, 4)), regex=True)
    if slashed.any():
        groups = (3, 1, 2, 4) if order.told() == "month" else (3, 2, 1, 4)
        texts = texts.str.replace(_SLASHED.pattern, _iso_parts(groups), regex=True)
    return texts


def _iso_parts(groups: tuple[int, int, int, int]) -> Any:
    def iso(match: re.Match[str]) -> str:
        year, month, day, rest = (match.group(number) for number in groups)
        year = f"20{year}" if len(year) == 2 else year
        return f"{year}-{int(month):02}-{int(day):02}{rest}"

    return iso


@dataclass(slots=True)
class _Sorted:
    """Whether dates go one way only, each once, when they are read in an order."""

    last: int | None = None
    ways: set[bool] = field(default_factory=set)
    is_broken: bool = False

    def take(self, keys: NDArray[np.int64]) -> None:
        """Take the next dates."""
        line = keys if self.last is None else np.append(self.last, keys)
        steps = np.diff(line)
        self.ways.update(np.unique(steps > 0).tolist())
        self.is_broken = self.is_broken or bool((steps == 0).any())
        self.last = int(keys[-1])

    @property
    def holds(self) -> bool:
        """Return whether they do."""
        return not self.is_broken and len(self.ways) < 2


class _Order:
    """Whether the month or the day comes first in 03/05/2024, which all rows together tell."""

    def __init__(self) -> None:
        self._example = ""
        self._second_is_day = self._first_is_day = False
        self._sorted: dict[Order, _Sorted] = {"month": _Sorted(), "day": _Sorted()}

    def take(self, texts: pd.Series[Any]) -> None:
        """Take the next rows that are written so."""
        self._example = self._example or str(texts.iloc[0])
        parts = texts.str.extract(_SLASHED.pattern)
        first, second, year = (np.asarray(parts[n].astype(int), np.int64) for n in range(3))
        self._first_is_day = self._first_is_day or bool((first > 12).any())
        self._second_is_day = self._second_is_day or bool((second > 12).any())
        self._sorted["month"].take(year * 10_000 + first * 100 + second)
        self._sorted["day"].take(year * 10_000 + second * 100 + first)

    def told(self) -> Order:
        """Return what they tell; raises ImportUnreadable where they tell nothing."""
        if self._first_is_day:
            return "day"
        if self._second_is_day:
            return "month"
        orders = [order for order, found in self._sorted.items() if found.holds]
        if len(orders) == 1:
            return orders[0]
        raise ImportUnreadable(
            f"{self._example!r} may be month or day first, and no row tells; "
            "write dates as 2024-03-05"
        )
