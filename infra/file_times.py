"""When the bars of a user's file opened, in the forms in which people write dates."""

from __future__ import annotations

import re
from typing import Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from infra.bars import NS_PER_DAY, Ints
from infra.errors import ImportUnreadable
from infra.periods import DAILY_INTERVALS

NOT_A_TIME = np.iinfo(np.int64).min

Order = Literal["month", "day"]

_NUMBER = re.compile(r"\d{9,19}")
_ISO = re.compile(r"\d{4}-?\d{2}-?\d{2}")
_SLASHED = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{2,4})(.*)")
_DOTTED = re.compile(r"(\d{1,2})\.(\d{1,2})\.(\d{2,4})(.*)")
_YEAR_FIRST = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})(.*)")


def opened_at(
    cells: pd.Series[Any], interval: str, time_zone: str
) -> tuple[Ints, list[str | None]]:
    """Return Unix nanoseconds, `NOT_A_TIME` where there is none, and then why.

    Of bars of 1d and longer the date as written, at midnight UTC; a number's date is that of
    `time_zone`. Raises ImportUnreadable where 03/05/2024 may be March or May in every row.
    """
    try:
        zone = ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ImportUnreadable(
            f"{time_zone!r} is no time zone; use one as America/New_York"
        ) from None
    is_daily = interval in DAILY_INTERVALS
    if pd.api.types.is_datetime64_any_dtype(cells):
        stamps = pd.DatetimeIndex(cells)
    else:
        texts = _written(cells)
        numbers = texts.str.fullmatch(_NUMBER.pattern)
        if len(texts) and numbers.all():
            return _from_numbers(texts, is_daily, zone), [None] * len(texts)
        texts = _year_first(texts)
        if not texts.str.contains("[T ]", regex=True).any() or is_daily:
            stamps = _dates(texts)
        else:
            stamps = _instants(texts, zone)
    reasons = [
        None if ok else f"{str(c)[:40]!r} is no time"
        for ok, c in zip(stamps.notna(), cells, strict=True)
    ]
    return _nanoseconds(stamps, is_daily, zone), reasons


def _written(cells: pd.Series[Any]) -> pd.Series[Any]:
    texts = cells.map(lambda c: c.isoformat() if hasattr(c, "isoformat") else str(c))
    return texts.astype(str).str.strip()


def _from_numbers(texts: pd.Series[Any], is_daily: bool, zone: ZoneInfo) -> Ints:
    values = np.asarray(texts.astype(np.int64), np.int64)
    digits = len(str(int(np.median(values))))
    # 10 digits are seconds from 2001 to 2286, 13 milliseconds, 16 microseconds.
    scale = 10 ** max(0, 9 - 3 * max(0, (digits - 8) // 3))
    stamps = pd.DatetimeIndex((values * scale).astype("datetime64[ns]")).tz_localize("UTC")
    return _nanoseconds(stamps, is_daily, zone)


def _nanoseconds(stamps: pd.DatetimeIndex, is_daily: bool, zone: ZoneInfo) -> Ints:
    if is_daily:
        local = stamps
        if stamps.tz is not None and str(stamps.tz) == "UTC":
            local = stamps.tz_convert(zone) if _has_hours(stamps) else stamps
        naive = local.tz_localize(None) if local.tz is not None else local
        return _as_ns(naive, days=True)
    aware = (
        stamps
        if stamps.tz is not None
        else stamps.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    )
    return _as_ns(aware.tz_convert("UTC").tz_localize(None), days=False)


def _has_hours(stamps: pd.DatetimeIndex) -> bool:
    return bool((stamps.dropna() != stamps.dropna().normalize()).any())


def _as_ns(stamps: pd.DatetimeIndex, days: bool) -> Ints:
    values = stamps.to_numpy("datetime64[ns]").astype(np.int64).copy()
    missing = np.asarray(stamps.isna())
    if days:
        values -= values % NS_PER_DAY
    values[missing] = NOT_A_TIME
    return values


def _dates(texts: pd.Series[Any]) -> pd.DatetimeIndex:
    """Return the dates as written, without time of day or zone."""
    days = texts.str.extract(r"^(\d{8}|\d{4}-\d{2}-\d{2})(?:[T ].*)?$")[0]
    if days.notna().mean() > 0.5:
        plain = days.str.replace("-", "")
        return pd.DatetimeIndex(pd.to_datetime(plain, format="%Y%m%d", errors="coerce"))
    return pd.DatetimeIndex(pd.to_datetime(texts, format="mixed", errors="coerce")).normalize()


def _instants(texts: pd.Series[Any], zone: ZoneInfo) -> pd.DatetimeIndex:
    has_offset = texts.str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$", regex=True)
    aware = pd.to_datetime(texts.where(has_offset), format="mixed", utc=True, errors="coerce")
    naive = pd.to_datetime(texts.where(~has_offset), format="mixed", errors="coerce")
    local = pd.DatetimeIndex(naive).tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
    return pd.DatetimeIndex(
        aware.where(aware.notna(), local.tz_convert("UTC").to_series(index=texts.index))
    )


def _year_first(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Return dates in other orders as ISO."""
    slashed, dotted = texts.str.match(_SLASHED.pattern), texts.str.match(_DOTTED.pattern)
    texts = texts.str.replace(_YEAR_FIRST.pattern, _iso_parts((1, 2, 3, 4)), regex=True)
    if dotted.any():
        texts = texts.str.replace(_DOTTED.pattern, _iso_parts((3, 2, 1, 4)), regex=True)
    if slashed.any():
        groups = (3, 1, 2, 4) if _order(texts[slashed]) == "month" else (3, 2, 1, 4)
        texts = texts.str.replace(_SLASHED.pattern, _iso_parts(groups), regex=True)
    return texts


def _iso_parts(groups: tuple[int, int, int, int]) -> Any:
    def iso(match: re.Match[str]) -> str:
        year, month, day, rest = (match.group(number) for number in groups)
        year = f"20{year}" if len(year) == 2 else year
        return f"{year}-{int(month):02}-{int(day):02}{rest}"

    return iso


def _order(texts: pd.Series[Any]) -> Order:
    parts = texts.str.extract(_SLASHED.pattern)
    first, second = parts[0].astype(int), parts[1].astype(int)
    if (first > 12).any():
        return "day"
    if (second > 12).any():
        return "month"
    orders: tuple[Order, Order] = ("month", "day")
    sorted_as = [order for order in orders if _is_sorted(parts, order)]
    if len(sorted_as) == 1:
        return sorted_as[0]
    raise ImportUnreadable(
        f"{texts.iloc[0]!r} may be month or day first, and no row tells; write dates as 2024-03-05"
    )


def _is_sorted(parts: pd.DataFrame, order: Order) -> bool:
    month, day = (parts[0], parts[1]) if order == "month" else (parts[1], parts[0])
    keys = parts[2].astype(int) * 10_000 + month.astype(int) * 100 + day.astype(int)
    return bool(keys.is_monotonic_increasing or keys.is_monotonic_decreasing) and keys.is_unique
