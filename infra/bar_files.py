"""Bars in files of users: CSV, plain or gzipped, and Parquet, checked row by row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.bars import NS_PER_DAY, NS_PER_MINUTE, Bars, Floats, Ints
from infra.file_tables import PRICE_COLUMNS, Part, ending_of, opened_table
from infra.file_times import MOST_REASONS, NOT_A_TIME, FileTimes
from infra.files import replacing

_SAME = 1e-9  # relative: prices of some vendors are rounded apart from each other
_MOST_VOLUME = 2**62

_Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Refused:
    """One row that was not taken; `line` is the file's (the header is 1), Parquet's row from 1."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class ReadBars:
    """The good rows in order of time, and columns not used.

    `refused` are the first thousand in order of line, `refused_count` is how many there are.
    """

    bars: Bars
    refused: tuple[Refused, ...]
    refused_count: int
    ignored_columns: tuple[str, ...]


def read_bars(path: Path, interval: str, time_zone: str, now_ns: int) -> ReadBars:
    """Return the bars of a file; times without a zone are of `time_zone` (IANA name).

    Of bars of 1d and longer the date counts as it is written. Rows are refused one by one: what is
    no number or time, prices that are not positive or outside low and high, volumes that are not
    whole, times after `now_ns`, twice, out of order (a file that wholly goes back in time is read
    backwards), and for bars under a day off the whole minute.

    The file is read in parts, in memory of about 100 bytes a bar. Raises ImportUnreadable for a
    file that cannot be read as bars at all, or is larger than `infra.file_tables` allows.
    """
    times = FileTimes(interval, time_zone)
    checked = _Checked()
    with opened_table(path) as table:
        for part in table.parts():
            times.take(part.times)
            checked.take(part)
        first_line, ignored = table.first_line, table.ignored
    blank = checked.are_blank()
    opened_at_ns, no_times = times.opened_at(blank)
    del times
    reasons = checked.reasons | no_times
    rows = _Rows(first_line, opened_at_ns, checked.are_good(), blank, reasons)
    rows.refuse(opened_at_ns > now_ns, lambda _: "the time is in the future")
    rows.refuse(
        opened_at_ns % NS_PER_MINUTE != 0, lambda _: f"the time of a {interval} bar has seconds"
    )
    return ReadBars(
        checked.bars(opened_at_ns, rows.in_order()), rows.refused(), rows.refused_count, ignored
    )


def write_bars(path: Path, bars: Bars) -> None:
    """Write bars, the format by the name's ending; the file is there whole or not at all.

    Raises ImportUnreadable for another ending, StoreError where it cannot be written.
    """
    ending = ending_of(path)
    is_daily = bool(np.all(bars.opened_at_ns % NS_PER_DAY == 0))
    frame = pd.DataFrame({name: getattr(bars, name) for name in Bars.__slots__[1:]})
    stamps = pd.DatetimeIndex(bars.opened_at_ns.astype("datetime64[ns]")).tz_localize("UTC")
    with replacing(path, 0o644) as new:
        if ending == ".parquet":
            frame.insert(0, "opened_at", stamps)
            pq.write_table(pa.Table.from_pandas(frame), new)
            return
        form = "%Y-%m-%d" if is_daily else "%Y-%m-%dT%H:%M:%S+00:00"
        frame.insert(0, "opened_at", stamps.strftime(form))
        packed: Literal["gzip"] | None = "gzip" if ending == ".csv.gz" else None
        frame.to_csv(new, index=False, compression=packed)


# -- checking a part of the rows ---------------------------------------------------------------


class _Checked:
    """The numbers of a file, taken part by part, and which rows they are wrong in."""

    def __init__(self) -> None:
        self.reasons: dict[int, str] = {}
        self._good: list[_Bools] = []
        self._blank: list[_Bools] = []
        self._columns: dict[str, list[NDArray[Any]]] = {
            name: [] for name in (*PRICE_COLUMNS, "volume")
        }
        self._count = 0

    def take(self, part: Part) -> None:
        """Take the next rows."""
        checks = _PartChecks(part)
        prices = {name: numbers(part.cells[name]) for name in PRICE_COLUMNS}
        for name in PRICE_COLUMNS:
            checks.price(name, prices[name])
        checks.range(prices)
        columns: dict[str, NDArray[Any]] = {**prices, "volume": checks.volume()}
        for name, values in columns.items():
            self._columns[name].append(values)
        first = sorted(checks.reasons)[: MOST_REASONS - len(self.reasons)]
        self.reasons |= {self._count + row: checks.reasons[row] for row in first}
        self._good.append(checks.are_good)
        self._blank.append(checks.are_blank)
        self._count += len(checks.are_good)

    def are_good(self) -> _Bools:
        """Return which rows have nothing wrong."""
        return np.concatenate(self._good) if self._good else np.empty(0, np.bool_)

    def are_blank(self) -> _Bools:
        """Return which rows have nothing at all."""
        return np.concatenate(self._blank) if self._blank else np.empty(0, np.bool_)

    def bars(self, opened_at_ns: Ints, rows: Ints) -> Bars:
        """Return some rows as bars; what was taken is let go."""

        def column(name: str, kind: type) -> NDArray[Any]:
            parts = self._columns.pop(name)
            whole = np.concatenate(parts) if parts else np.empty(0, kind)
            return whole[rows]

        open_, high, low, close = (column(name, np.float64) for name in PRICE_COLUMNS)
        return Bars(opened_at_ns[rows], open_, high, low, close, column("volume", np.int64))


def numbers(cells: pd.Series[Any]) -> Floats:
    """Return numbers, NaN for what is none; `$` and commas between thousands are understood."""
    if cells.dtype == object or pd.api.types.is_string_dtype(cells):
        texts = cells.astype(str)
        if texts.str.contains(r"[$,\s]", regex=True).any():
            texts = texts.str.replace(r"[$,\s]", "", regex=True)
        cells = texts
    return np.asarray(pd.to_numeric(cells, errors="coerce"), np.float64)


class _PartChecks:
    """What is wrong with the numbers of some rows; the first reason of a row stands."""

    def __init__(self, part: Part) -> None:
        self.reasons: dict[int, str] = {}  # of the first of each check
        self.are_blank: _Bools = part.are_blank()
        self.are_good: _Bools = ~self.are_blank
        self._cells = part.cells

    def price(self, name: str, values: Floats) -> None:
        """Check that prices are above 0."""
        cells = self._cells[name]

        def said(row: int) -> str:
            cell = str(cells.iloc[row]).strip()
            if not cell:
                return f"{name} is missing"
            if not np.isfinite(values[row]):
                return f"{name} {cell[:30]!r} is no number"
            return f"{name} {cell[:30]} is not above 0"

        with np.errstate(invalid="ignore"):
            self._refuse(~(np.isfinite(values) & (values > 0)), said)

    def range(self, prices: dict[str, Floats]) -> None:
        """Check that open and close lie between low and high."""
        low, high = prices["low"], prices["high"]
        slack = _SAME * np.abs(high)
        with np.errstate(invalid="ignore"):
            self._refuse(
                low > high + slack, lambda row: f"low {low[row]:g} is above high {high[row]:g}"
            )
            for name in ("open", "close"):
                values = prices[name]
                self._refuse(
                    (values > high + slack) | (values < low - slack),
                    lambda row, n=name, v=values: (  # type: ignore[misc]
                        f"{n} {v[row]:g} is outside low {low[row]:g} to high {high[row]:g}"
                    ),
                )

    def volume(self) -> Ints:
        """Check that volumes are whole, and return them; without any they are 0."""
        cells = self._cells.get("volume")
        if cells is None:
            return np.zeros(len(self.are_good), np.int64)
        is_empty = cells.isna() | (cells.astype(str).str.strip() == "")
        values = np.where(np.asarray(is_empty), 0.0, numbers(cells))
        with np.errstate(invalid="ignore"):
            wrong = ~((values >= 0) & (values < _MOST_VOLUME) & (values == np.floor(values)))
        self._refuse(wrong, lambda row: f"volume {str(cells.iloc[row])[:30]!r} is no whole number")
        return np.where(wrong, 0, np.nan_to_num(values)).astype(np.int64)

    def _refuse(self, wrong: _Bools, reason: Callable[[int], str]) -> None:
        wrong = wrong & self.are_good
        self.are_good &= ~wrong
        for row in np.flatnonzero(wrong)[:MOST_REASONS]:
            self.reasons[int(row)] = reason(int(row))


# -- checking all rows -------------------------------------------------------------------------


class _Rows:
    """Which rows are good, and what is wrong with the first thousand others."""

    def __init__(
        self,
        first_line: int,
        times: Ints,
        are_good: _Bools,
        blank: _Bools,
        reasons: dict[int, str],
    ) -> None:
        self._first_line = first_line
        self._times = times
        self._are_good = are_good & (times != NOT_A_TIME)
        self._blank_count = int(np.count_nonzero(blank))
        self._reasons = reasons

    @property
    def refused_count(self) -> int:
        """Return how many are not good; what has nothing in it is left out."""
        return int(np.count_nonzero(~self._are_good)) - self._blank_count

    def refused(self) -> tuple[Refused, ...]:
        """Return the first that are not good, in order of line."""
        rows = sorted(self._reasons)[:MOST_REASONS]
        return tuple(Refused(self._first_line + row, self._reasons[row]) for row in rows)

    def refuse(self, wrong: _Bools, reason: Callable[[int], str]) -> None:
        """Refuse rows that were good so far."""
        wrong = wrong & self._are_good
        self._are_good &= ~wrong
        for row in np.flatnonzero(wrong)[:MOST_REASONS]:
            self._reasons[int(row)] = reason(int(row))

    def in_order(self) -> Ints:
        """Refuse rows twice or out of order; return the good ones in order of time."""
        rows = np.flatnonzero(self._are_good)
        times = self._times[rows]
        steps = np.diff(times)
        goes_back = len(steps) > 0 and bool(np.all(steps <= 0)) and bool(np.any(steps < 0))
        if not goes_back and not np.all(steps > 0):
            late = np.zeros(len(self._times), np.bool_)
            late[rows[1:]] = times[1:] < np.maximum.accumulate(times)[:-1]
            self.refuse(late, lambda _: "the time is before that of an earlier line")
        if not np.all(steps > 0):
            self._refuse_twice(rows[self._are_good[rows]])
        return np.flatnonzero(self._are_good)[:: -1 if goes_back else 1]

    def _refuse_twice(self, rows: Ints) -> None:
        """Refuse all but the first of rows with the same time; they are in order, or all back."""
        times = self._times[rows]
        keys = times if times[0] <= times[-1] else -times
        again = np.zeros(len(self._times), np.bool_)
        again[rows[1:]] = keys[1:] == keys[:-1]
        firsts = np.searchsorted(keys, keys)

        def said(row: int) -> str:
            first = rows[firsts[np.searchsorted(rows, row)]]
            return f"the same time as line {self._first_line + first}"

        self.refuse(again, said)
