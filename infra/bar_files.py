"""Bars in files of users: CSV, plain or gzipped, and Parquet, checked row by row."""

from __future__ import annotations

import csv
import gzip
import os
import tempfile
import zlib
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
from infra.errors import ImportUnreadable
from infra.file_times import NOT_A_TIME, opened_at

FORMATS = ".csv, .csv.gz or .parquet"

_SAME = 1e-9  # relative: prices of some vendors are rounded apart from each other
_MOST_VOLUME = 2**62
_NAMES = {
    "time": ("openedat", "datetime", "timestamp", "date/time", "date", "time", "t"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "close/last", "last", "c"),
    "volume": ("volume", "vol", "v"),
}
_PRICES = ("open", "high", "low", "close")

_Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Refused:
    """One row that was not taken; `line` is the file's (the header is 1), Parquet's row from 1."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class ReadBars:
    """The good rows in order of time, the refused ones in order of line, columns not used."""

    bars: Bars
    refused: tuple[Refused, ...]
    ignored_columns: tuple[str, ...]


def read_bars(path: Path, interval: str, time_zone: str, now_ns: int) -> ReadBars:
    """Return the bars of a file; times without a zone are of `time_zone` (IANA name).

    Of bars of 1d and longer the date counts as it is written. Rows are refused one by one: what is
    no number or time, prices that are not positive or outside low and high, volumes that are not
    whole, times after `now_ns`, twice, out of order (a file that wholly goes back in time is read
    backwards), and for bars under a day off the whole minute.

    Raises ImportUnreadable for a file that cannot be read as bars at all.
    """
    frame, first_line = _frame(path)
    columns = _columns(frame)
    times, kinds = opened_at(_time_texts(frame, columns), interval, time_zone)
    table = _Table(first_line, times, kinds)
    prices = {name: _numbers(frame[columns[name]]) for name in _PRICES}
    volume = _numbers(frame[columns["volume"]]) if "volume" in columns else None
    for name in _PRICES:
        _check_price(table, name, prices[name], frame[columns[name]])
    _check_range(table, prices)
    counts = _check_volume(table, volume, frame[columns["volume"]] if volume is not None else None)
    _check_times(table, interval, now_ns)
    order = _check_order(table)
    rows = order[table.is_good[order]]
    open_, high, low, close = (prices[name][rows] for name in _PRICES)
    bars = Bars(times[rows], open_, high, low, close, counts[rows])
    used = {columns[name] for name in columns}
    ignored = tuple(c for c in frame.columns if c not in used and c != columns.get("clock"))
    return ReadBars(bars, table.refused(), ignored)


def write_bars(path: Path, bars: Bars) -> None:
    """Write bars, the format by the name's ending; the file is there whole or not at all.

    Raises ImportUnreadable for another ending.
    """
    ending = _ending(path)
    is_daily = bool(np.all(bars.opened_at_ns % NS_PER_DAY == 0))
    frame = pd.DataFrame({name: getattr(bars, name) for name in Bars.__slots__[1:]})
    stamps = pd.DatetimeIndex(bars.opened_at_ns.astype("datetime64[ns]")).tz_localize("UTC")
    if ending == ".parquet":
        frame.insert(0, "opened_at", stamps)
        _atomically(path, lambda name: pq.write_table(pa.Table.from_pandas(frame), name))
        return
    form = "%Y-%m-%d" if is_daily else "%Y-%m-%dT%H:%M:%S+00:00"
    frame.insert(0, "opened_at", stamps.strftime(form))
    packed: Literal["gzip"] | None = "gzip" if ending == ".csv.gz" else None
    _atomically(path, lambda name: frame.to_csv(name, index=False, compression=packed))


def _atomically(path: Path, write: Callable[[str], object]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


# -- reading -----------------------------------------------------------------------------------


def _ending(path: Path) -> str:
    for ending in (".csv", ".csv.gz", ".parquet"):
        if path.name.lower().endswith(ending):
            return ending
    raise ImportUnreadable(f"{path.name}: what kind of file is that? Use {FORMATS}")


def _frame(path: Path) -> tuple[pd.DataFrame, int]:
    """Return all cells as text, Parquet's as they are, and the line of the first row."""
    ending = _ending(path)
    try:
        if ending == ".parquet":
            frame = pq.read_table(path).to_pandas(ignore_metadata=True)
            return frame.rename(columns=str), 1
        text = _text(path, ending)
    except FileNotFoundError:
        raise ImportUnreadable(f"{path} is not there") from None
    except (pa.ArrowInvalid, gzip.BadGzipFile, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise ImportUnreadable(f"{path.name} is no {ending} file: {reason}") from None
    except OSError as error:
        raise ImportUnreadable(f"{path.name} cannot be read: {error.strerror}") from None
    header = text.split("\n", 1)[0]
    if not header.strip():
        raise ImportUnreadable(f"{path.name} is empty")
    mark = max(",;\t", key=header.count)
    return _csv_frame(text, mark, path.name), 2


def _text(path: Path, ending: str) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if ending == ".csv.gz" else raw).decode("utf-8-sig")


def _csv_frame(text: str, mark: str, name: str) -> pd.DataFrame:
    lines = text.splitlines()
    plain = '"' not in text
    rows = (
        [line.split(mark) for line in lines] if plain else list(csv.reader(lines, delimiter=mark))
    )
    header = [cell.strip() for cell in rows[0]]
    if len(set(header)) < len(header):
        raise ImportUnreadable(f"{name} names a column twice: {', '.join(header)}")
    width = len(header)
    # Lines that are short or empty keep their number, and are refused for what they lack.
    cells = [row if len(row) == width else (row + [""] * width)[:width] for row in rows[1:]]
    frame = pd.DataFrame(cells, columns=header, dtype=object)
    if mark == ";":  # where commas are decimal points
        return frame.map(lambda cell: cell.replace(",", "."))
    return frame


def _columns(frame: pd.DataFrame) -> dict[str, str]:
    """Return which column is what; `clock` is a time of day beside a date."""
    known = {_plain(column): column for column in frame.columns}
    found: dict[str, str] = {}
    for name, spellings in _NAMES.items():
        match = next((known[s] for s in spellings if s in known), None)
        if match is not None:
            found[name] = match
    if "date" in known and "time" in known:
        found |= {"time": known["date"], "clock": known["time"]}
    missing = [name for name in ("time", *_PRICES) if name not in found]
    if missing:
        there = ", ".join(map(str, frame.columns[:20]))
        raise ImportUnreadable(f"no column for {', '.join(missing)}; there are {there}")
    return found


def _plain(column: str) -> str:
    return str(column).lower().translate(str.maketrans("", "", " _."))


def _time_texts(frame: pd.DataFrame, columns: dict[str, str]) -> pd.Series[Any]:
    times: pd.Series[Any] = frame[columns["time"]]
    if "clock" in columns:
        return times.astype(str) + " " + frame[columns["clock"]].astype(str)
    return times


def _numbers(cells: pd.Series[Any]) -> Floats:
    """Return numbers, NaN for what is none; `$` and commas between thousands are understood."""
    if cells.dtype == object or pd.api.types.is_string_dtype(cells):
        texts = cells.astype(str)
        if texts.str.contains(r"[$,\s]", regex=True).any():
            texts = texts.str.replace(r"[$,\s]", "", regex=True)
        cells = texts
    return np.asarray(pd.to_numeric(cells, errors="coerce"), np.float64)


# -- checking ----------------------------------------------------------------------------------


class _Table:
    """Which rows are good, and what was wrong with the others; the first reason stands."""

    def __init__(self, first_line: int, times: Ints, kinds: list[str | None]) -> None:
        self.first_line = first_line
        self.times = times
        self.is_good: _Bools = np.ones(len(times), np.bool_)
        self._reasons: dict[int, str] = {}
        for row in np.flatnonzero(times == NOT_A_TIME):
            self._refuse(int(row), kinds[row] or "no time")

    def refuse(self, wrong: _Bools, reason: Callable[[int], str]) -> None:
        """Refuse rows that were good so far."""
        for row in np.flatnonzero(wrong & self.is_good):
            self._refuse(int(row), reason(int(row)))

    def line(self, row: int) -> int:
        """Return the line of a row in the file."""
        return self.first_line + row

    def refused(self) -> tuple[Refused, ...]:
        """Return the refused rows in order of line."""
        return tuple(Refused(self.line(r), self._reasons[r]) for r in sorted(self._reasons))

    def _refuse(self, row: int, reason: str) -> None:
        self.is_good[row] = False
        self._reasons.setdefault(row, reason)


def _check_price(table: _Table, name: str, values: Floats, cells: pd.Series[Any]) -> None:
    def said(row: int) -> str:
        cell = str(cells.iloc[row]).strip()
        if not cell:
            return f"{name} is missing"
        if not np.isfinite(values[row]):
            return f"{name} {cell[:30]!r} is no number"
        return f"{name} {cell[:30]} is not above 0"

    with np.errstate(invalid="ignore"):
        table.refuse(~(np.isfinite(values) & (values > 0)), said)


def _check_range(table: _Table, prices: dict[str, Floats]) -> None:
    low, high = prices["low"], prices["high"]
    slack = _SAME * np.abs(high)
    with np.errstate(invalid="ignore"):
        table.refuse(
            low > high + slack, lambda row: f"low {low[row]:g} is above high {high[row]:g}"
        )
        for name in ("open", "close"):
            values = prices[name]
            table.refuse(
                (values > high + slack) | (values < low - slack),
                lambda row, n=name, v=values: (  # type: ignore[misc]
                    f"{n} {v[row]:g} is outside low {low[row]:g} to high {high[row]:g}"
                ),
            )


def _check_volume(table: _Table, values: Floats | None, cells: pd.Series[Any] | None) -> Ints:
    if values is None or cells is None:
        return np.zeros(len(table.times), np.int64)
    is_empty = cells.isna() | (cells.astype(str).str.strip() == "")
    values = np.where(np.asarray(is_empty), 0.0, values)
    with np.errstate(invalid="ignore"):
        wrong = ~((values >= 0) & (values < _MOST_VOLUME) & (values == np.floor(values)))
    table.refuse(wrong, lambda row: f"volume {str(cells.iloc[row])[:30]!r} is no whole number")
    return np.where(wrong, 0, np.nan_to_num(values)).astype(np.int64)


def _check_times(table: _Table, interval: str, now_ns: int) -> None:
    table.refuse(table.times > now_ns, lambda _: "the time is in the future")
    table.refuse(
        table.times % NS_PER_MINUTE != 0, lambda _: f"the time of a {interval} bar has seconds"
    )


def _check_order(table: _Table) -> Ints:
    """Refuse rows twice or out of order; return all rows in order of time."""
    rows = np.flatnonzero(table.is_good)
    steps = np.diff(table.times[rows])
    goes_back = len(steps) > 0 and bool(np.all(steps <= 0)) and bool(np.any(steps < 0))
    order = np.arange(len(table.times))[:: -1 if goes_back else 1]
    seen: dict[int, int] = {}
    latest = np.iinfo(np.int64).min
    if goes_back or not np.all(steps > 0):
        for row in rows:  # in the order of the file: the first of a time stands
            at = int(table.times[row])
            if at in seen:
                table._refuse(int(row), f"the same time as line {table.line(seen[at])}")
            elif not goes_back and at < latest:
                table._refuse(int(row), "the time is before that of an earlier line")
            else:
                seen[at] = int(row)
                latest = max(latest, at)
    return order
