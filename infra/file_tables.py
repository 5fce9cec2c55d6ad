"""Tables in files of users, read part by part within limits: CSV, plain or gzipped, and Parquet.

Nothing that a file claims is believed: a few hundred kilobytes can unpack to gigabytes. So a row
is read no further than its limit, no more rows than the limit are taken, and of a row only the
columns that are needed. Parquet says in its metadata how large its parts are before they are read.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.errors import ImportUnreadable

FORMATS = ".csv, .csv.gz or .parquet"
PRICE_COLUMNS = ("open", "high", "low", "close")

MOST_ROWS = 1_000_000  # ten years of an exchange's minutes
MOST_ROW_CHARS = 65_536  # of all lines that quotes join
MOST_COLUMNS = 256
MOST_CHARS = 512 * 2**20  # of a CSV's text
MOST_COLUMN_BYTES = 32 * 2**20  # of one column in one of a Parquet's row groups, unpacked
_PART_ROWS = 8_192
_CELL_CHARS = 64  # of a cell: longer ones are nothing that a bar has

# What a Parquet's own description may be, whatever it claims.
_FOOTER = {"thrift_string_size_limit": 2**24, "thrift_container_size_limit": 100_000}

_NAMES = {
    "time": ("openedat", "datetime", "timestamp", "date/time", "date", "time", "t"),
    "open": ("open", "o"),
    "high": ("high", "h"),
    "low": ("low", "l"),
    "close": ("close", "close/last", "last", "c"),
    "volume": ("volume", "vol", "v"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some rows: their times, and the cells of `PRICE_COLUMNS` and, if there is one, `volume`."""

    times: pd.Series[Any]
    cells: dict[str, pd.Series[Any]]

    def are_blank(self) -> NDArray[np.bool_]:
        """Return which rows have nothing in any cell: lines between, or after the last."""
        blank = np.ones(len(self.times), np.bool_)
        for cells in (self.times, *self.cells.values()):
            if not blank.any():
                break
            blank &= np.asarray(cells.isna() | (cells.astype(str).str.strip() == ""), np.bool_)
        return blank


class Table(Protocol):
    """A file that is open. `first_line`: of the first row; `ignored`: columns not used."""

    first_line: int
    ignored: tuple[str, ...]

    def parts(self) -> Iterator[Part]:
        """Yield all rows in order; raises ImportUnreadable where a limit is passed."""


@contextmanager
def opened_table(path: Path) -> Iterator[Table]:
    """Open a user's file; raises ImportUnreadable, in the block too, for what is no such table."""
    ending = ending_of(path)
    try:
        if ending == ".parquet":
            yield _Parquet(path)
        else:
            packed = gzip.open(path, "rb") if ending == ".csv.gz" else path.open("rb")
            with packed, io.TextIOWrapper(packed, "utf-8-sig") as text:
                yield _Csv(path.name, text)
    except FileNotFoundError:
        raise ImportUnreadable(f"{path} is not there") from None
    except (
        pa.ArrowException,
        csv.Error,
        gzip.BadGzipFile,
        EOFError,
        zlib.error,
        UnicodeDecodeError,
    ) as error:
        reason = str(error).partition("\n")[0]
        raise ImportUnreadable(f"{path.name} is no {ending} file: {reason}") from None
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise ImportUnreadable(f"{path.name} cannot be read: {reason}") from None


def ending_of(path: Path) -> str:
    """Return the ending that tells a file's format; raises ImportUnreadable for others."""
    for ending in (".csv", ".csv.gz", ".parquet"):
        if path.name.lower().endswith(ending):
            return ending
    raise ImportUnreadable(f"{path.name}: what kind of file is that? Use {FORMATS}")


class _Csv:
    first_line = 2

    def __init__(self, name: str, text: io.TextIOWrapper) -> None:
        self._name = name
        self._row_chars = 0  # read of the row under way
        lines = self._lines(text)
        header = next(lines, "")
        if not header.strip():
            raise ImportUnreadable(f"{name} is empty")
        mark = max(",;\t", key=header.count)
        self._has_decimal_commas = mark == ";"
        (names,) = csv.reader([header], delimiter=mark)
        self._row_chars = 0
        self._rows = csv.reader(lines, delimiter=mark)
        self._columns = _Columns(name, [cell.strip() for cell in names])
        self.ignored = self._columns.ignored

    def parts(self) -> Iterator[Part]:
        """Yield all rows; lines that are short or empty keep their number, and lack something."""
        places = list(self._columns.places)
        count = 0
        while rows := [self._cells(row, places) for row in islice(self._rows, _PART_ROWS)]:
            count += len(rows)
            _check_rows(self._name, count)
            columns = zip(*rows, strict=True)
            cells = {p: pd.Series(c, dtype=object) for p, c in zip(places, columns, strict=True)}
            yield self._columns.part(cells)

    def _lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        chars = 0
        number = 0
        while line := text.readline(MOST_ROW_CHARS + 1):
            number += 1
            chars += len(line)
            self._row_chars += len(line)
            if self._row_chars > MOST_ROW_CHARS:
                told = f"the row up to line {number} is longer than {MOST_ROW_CHARS:,} characters"
                raise ImportUnreadable(f"{self._name}: {told}")
            if chars > MOST_CHARS:
                told = f"unpacked it has more than {MOST_CHARS // 2**20} MiB; import it in parts"
                raise ImportUnreadable(f"{self._name}: {told}")
            yield line

    def _cells(self, row: Sequence[str], places: Sequence[int]) -> list[str]:
        self._row_chars = 0
        width = len(row)
        cells = [row[place][:_CELL_CHARS] if place < width else "" for place in places]
        return [c.replace(",", ".") for c in cells] if self._has_decimal_commas else cells


class _Parquet:
    first_line = 1

    def __init__(self, path: Path) -> None:
        with pq.ParquetFile(path, **_FOOTER) as file:
            metadata, schema = file.metadata, file.schema_arrow
        _check_rows(path.name, metadata.num_rows)  # as it claims
        self._path = path
        self._metadata = metadata
        self._columns = _Columns(path.name, list(map(str, schema.names)))
        self.ignored = self._columns.ignored
        self._names = [schema.names[place] for place in self._columns.places]
        kinds = {column: schema.field(column).type for column in self._names}
        for column, kind in kinds.items():
            _check_type(path.name, column, kind)
        self._texts = [column for column, kind in kinds.items() if _is_text(kind)]
        self._check_sizes(path.name)

    def _check_sizes(self, name: str) -> None:
        metadata, wanted = self._metadata, set(self._names)
        for group in range(metadata.num_row_groups):
            of_group = metadata.row_group(group)
            for number in range(metadata.num_columns):
                column = of_group.column(number)
                size = column.total_uncompressed_size
                if column.path_in_schema in wanted and size > MOST_COLUMN_BYTES:
                    told = f"column {column.path_in_schema} has {size:,} bytes in one row group"
                    most = f"{MOST_COLUMN_BYTES // 2**20} MiB at most"
                    raise ImportUnreadable(f"{name}: {told}; {most}, write it in smaller ones")

    def parts(self) -> Iterator[Part]:
        """Yield all rows; texts stay packed as a dictionary until they are cut."""
        with pq.ParquetFile(
            self._path,
            metadata=self._metadata,
            read_dictionary=self._texts,
            buffer_size=2**16,
            pre_buffer=False,
        ) as file:
            count = 0
            for batch in file.iter_batches(_PART_ROWS, columns=self._names):
                count += batch.num_rows
                _check_rows(self._path.name, count)
                columns = (batch.column(column) for column in self._names)
                pairs = zip(self._columns.places, columns, strict=True)
                yield self._columns.part({place: _cut(column) for place, column in pairs})


def _check_type(name: str, column: str, kind: pa.DataType) -> None:
    types = pa.types
    known = (types.is_integer, types.is_floating, types.is_decimal, types.is_temporal,
             types.is_null, _is_text)  # fmt: skip
    if not any(is_one(kind) for is_one in known):
        raise ImportUnreadable(f"{name}: column {column} is {kind}, not numbers, times or text")


def _cut(column: pa.Array) -> pd.Series[Any]:
    """Return cells as pandas has them, texts no longer than a bar's can be."""
    if pa.types.is_date(column.type):  # as days since 1970: Python's dates end in 9999
        column = column.cast(pa.timestamp("s" if pa.types.is_date32(column.type) else "ms"))
    if not isinstance(column, pa.DictionaryArray):
        return pd.Series(column.to_pandas())
    indices = column.indices.fill_null(-1).to_numpy()
    used, places = np.unique(indices, return_inverse=True)
    texts = column.dictionary.take(pa.array(used[used >= 0]))  # each once, however long it is
    short = [text or "" for text in pc.utf8_slice_codeunits(texts, 0, _CELL_CHARS).to_pylist()]
    short = [""] * int((used < 0).any()) + short
    return pd.Series([short[place] for place in places], dtype=object)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    known = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_one(kind) for is_one in known)


class _Columns:
    """Which columns of a header are needed, by their places."""

    def __init__(self, name: str, header: Sequence[str]) -> None:
        if len(header) > MOST_COLUMNS:
            raise ImportUnreadable(f"{name} has {len(header):,} columns, {MOST_COLUMNS} at most")
        names = [column for column in header if column]  # a heading may end in commas
        if len(set(names)) < len(names):
            raise ImportUnreadable(f"{name} names a column twice: {', '.join(header)[:200]}")
        known = {_plain(column): place for place, column in enumerate(header)}
        found: dict[str, int] = {}
        for needed, spellings in _NAMES.items():
            match = next((known[s] for s in spellings if s in known), None)
            if match is not None:
                found[needed] = match
        if "date" in known and "time" in known:  # a time of day beside a date
            found |= {"time": known["date"], "clock": known["time"]}
        missing = [needed for needed in ("time", *PRICE_COLUMNS) if needed not in found]
        if missing:
            there = ", ".join(column[:40] for column in header[:20])
            raise ImportUnreadable(f"no column for {', '.join(missing)}; there are {there}")
        self._found = found
        self.places = tuple(dict.fromkeys(found.values()))
        self.ignored = tuple(
            column for place, column in enumerate(header) if column and place not in self.places
        )

    def part(self, cells: dict[int, pd.Series[Any]]) -> Part:
        """Return the cells of some rows, by place, as what they are."""
        found = self._found
        times = cells[found["time"]]
        if "clock" in found:
            times = times.astype(str) + " " + cells[found["clock"]].astype(str)
        names = [name for name in (*PRICE_COLUMNS, "volume") if name in found]
        return Part(times, {name: cells[found[name]] for name in names})


def _plain(column: str) -> str:
    return column.lower().translate(str.maketrans("", "", " _."))


def _check_rows(name: str, count: int) -> None:
    if count > MOST_ROWS:
        raise ImportUnreadable(f"{name} has more than {MOST_ROWS:,} rows; import it in parts")
