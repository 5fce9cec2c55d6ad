"""The rows of a chart as Yahoo sends them, and which of them make sense."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Self
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from infra.bars import Floats, Ints
from infra.errors import SourceMalformed

_PRICES = ("open", "high", "low", "close")
_EPOCH = date(1970, 1, 1).toordinal()
_MAX_AT_S = 2**33  # the year 2242: nanoseconds still fit into 64 bits
_MAX_VOLUME = 2**62


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Columns of length n: split-adjusted prices and volume, NaN where Yahoo sent none.

    `at_s`: Unix seconds, the session's opening (daily) or the bar's. `adjusted`: the close less
    later dividends too, `close` itself where the chart has no such column.
    """

    at_s: Floats
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    adjusted: Floats

    def __len__(self) -> int:
        return len(self.at_s)

    def __getitem__(self, rows: NDArray[np.bool_] | Ints) -> Self:
        return type(self)(*(getattr(self, name)[rows] for name in self.__slots__))


def read_rows(result: Mapping[str, Any]) -> Rows:
    """Return all rows of a chart's result; raises SourceMalformed, or what a wrong shape does."""
    stamps = _floats(result.get("timestamp") or ())
    if not len(stamps):
        raise SourceMalformed("no_rows", "the chart has no bars")
    indicators = result["indicators"]
    quote = indicators["quote"][0]
    columns = [_floats(quote[name]) for name in (*_PRICES, "volume")]
    adjusted = indicators.get("adjclose")
    columns.append(_floats(adjusted[0]["adjclose"]) if adjusted else columns[3])
    lengths = {len(column) for column in (stamps, *columns)}
    if len(lengths) > 1:
        raise SourceMalformed("lengths_differ", f"columns of {sorted(lengths)} rows")
    return Rows(stamps, *columns)


def good_rows(rows: Rows, rejected: Counter[str]) -> Rows:
    """Return the rows that can be bars, oldest first; count by kind what was left out or moved."""
    prices = np.stack([getattr(rows, name) for name in _PRICES])
    lacking = np.isnan(prices).any(axis=0) | np.isnan(rows.at_s)
    # Where a row is lacking, the other reasons are not looked at: each is counted once.
    bad_time = ~lacking & ~(np.abs(rows.at_s) < _MAX_AT_S)
    bad_price = ~lacking & ~bad_time & ~(np.isfinite(prices) & (prices > 0)).all(axis=0)
    good = ~(lacking | bad_time | bad_price)
    reversed_ = good & (rows.high < rows.low)
    for kind, wrong in (
        ("null", lacking),
        ("bad_time", bad_time),
        ("bad_price", bad_price),
        ("high_below_low", reversed_),
    ):
        _count(rejected, kind, wrong)
    rows = rows[good & ~reversed_]
    _count(rejected, "out_of_order", rows.at_s < np.maximum.accumulate(rows.at_s))
    return rows[np.argsort(rows.at_s, kind="stable")]


def good_volume(rows: Rows, rejected: Counter[str]) -> Floats:
    """Return the volumes with 0 for none, and for those that cannot be, which are counted."""
    wrong = ~np.isnan(rows.volume) & ~((rows.volume >= 0) & (rows.volume < _MAX_VOLUME))
    _count(rejected, "bad_volume", wrong)
    kept: Floats = np.where(wrong | np.isnan(rows.volume), 0.0, rows.volume)
    return kept


def last_of_each(keys: Ints, live_s: int, rows: Rows, rejected: Counter[str]) -> NDArray[np.bool_]:
    """Return which rows are the last of their key; keys are sorted.

    The row of `live_s`, the last trade's time, repeats today's: that is Yahoo's way, no mistake.
    """
    is_last: NDArray[np.bool_] = np.r_[keys[1:] != keys[:-1], True]
    repeats_today = len(rows) > 1 and int(rows.at_s[-1]) == live_s and not is_last[-2]
    _count(rejected, "duplicate", ~is_last)
    if repeats_today:
        rejected["duplicate"] -= 1
    return is_last


def exchange_days(at_s: Floats, zone: ZoneInfo, live_s: int) -> Ints:
    """Return the exchange's date of each row as days since 1970 (int64).

    Around changes of the clocks Yahoo stamps some rows 22:00 or 23:00 of the day before.
    """
    return np.array([_day(at, zone, at == live_s) for at in at_s.astype(int).tolist()], np.int64)


def _day(at_s: int, zone: ZoneInfo, is_live: bool) -> int:
    local = datetime.fromtimestamp(at_s, zone)
    day = local.toordinal() - _EPOCH
    before_midnight = local.hour >= 22 and local.minute == 0 and local.second == 0
    return day + 1 if before_midnight and not is_live else day


def _floats(values: Sequence[object]) -> Floats:
    # None becomes NaN; text such as "Infinity" the number that it says.
    column = np.array(values, dtype=np.float64)
    if column.ndim != 1:
        raise ValueError("a column is a list of numbers")
    return column


def _count(rejected: Counter[str], kind: str, wrong: NDArray[np.bool_]) -> None:
    number = int(np.count_nonzero(wrong))
    if number:
        rejected[kind] += number
