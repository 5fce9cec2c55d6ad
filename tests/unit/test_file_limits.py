"""A user's file cannot take the machine: small ones that unpack to gigabytes are refused early."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import file_tables
from infra.bar_files import ReadBars, read_bars
from infra.errors import ImportUnreadable

NEW_YORK = "America/New_York"
NOW_NS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 10**9
HEADER = b"date,open,high,low,close\n"
MIB = 2**20

# Reads files in a process of its own, and says of each what came and by how much memory grew.
_PROBE = """
import sys
from pathlib import Path
import orjson
from infra.bar_files import read_bars
from infra.errors import ImportUnreadable
def peak():
    # not getrusage's, which begins with the peak of the process that started this one
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
def said(file):
    try:
        found = read_bars(Path(file), "1d", "America/New_York", 1_767_225_600 * 10**9)
    except ImportUnreadable as error:
        return error.message
    return f"{len(found.bars)} bars, {found.refused_count} refused"
said(sys.argv[1])  # what is loaded at first use
before = peak()
print(orjson.dumps([[said(file), peak() - before] for file in sys.argv[2:]]).decode())
"""


def packed(path: Path, first: bytes, block: bytes, times: int) -> Path:
    """Write `first` and then a block many times, packed once, as gzip allows."""
    path.write_bytes(gzip.compress(first) + gzip.compress(block) * times)
    return path


def rows_of_groups(path: Path, groups: int, column: pa.Array) -> Path:
    table = pa.table(dict.fromkeys(("date", "open", "high", "low", "close"), column))
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(groups):
            writer.write_table(table)
    return path


def bombs(folder: Path) -> Iterator[tuple[Path, str]]:
    zeros, lines = b"\0" * 16 * MIB, b"\n" * 4 * MIB
    line = b"2024-03-05,1,2,1,2" + b"," + b"x" * 60_000 + b"\n"
    long = "longer than 65,536 characters"
    yield packed(folder / "zeros.csv.gz", b"", zeros, 20), f"line 1 is {long}"
    yield packed(folder / "zeros-after.csv.gz", HEADER, zeros, 20), f"line 2 is {long}"
    yield packed(folder / "lines.csv.gz", HEADER, lines, 70), "more than 1,000,000 rows"
    yield packed(folder / "wide.csv.gz", HEADER, line * 100, 100), "has more than 512 MiB"
    field = folder / "field.csv"
    field.write_bytes(HEADER + b'2024-03-05,"' + b"1" * 50 * MIB + b'",2,1,2\n')
    yield field, "line 2 is longer"
    quote = folder / "quote.csv"
    quote.write_bytes(HEADER + b'"' + b"2024-03-05,1,2,1,2\n" * 500_000)
    yield quote, long
    cells = b"2024-03-05,1,2,1,2," + b'"ab\n",' * MIB
    yield packed(folder / "cells.csv.gz", HEADER, cells, 8), long
    columns = folder / "columns.csv"
    columns.write_bytes(b",".join(b"%d" % n for n in range(10_000)) + b"\n")
    yield columns, "has 10,000 columns, 256 at most"
    yield (
        rows_of_groups(folder / "rows.parquet", 60, pa.array(np.ones(MIB))),
        "more than 1,000,000 rows",
    )
    text = pa.array(["2024-03-05" + "0" * MIB]).dictionary_encode()
    texts = pa.DictionaryArray.from_arrays(np.zeros(100_000, np.int32), text.dictionary)
    yield rows_of_groups(folder / "texts.parquet", 1, texts), "0 bars, 100000 refused"
    many = pa.table({str(n): [1] for n in range(1_000)})
    pq.write_table(many, folder / "columns.parquet")
    yield folder / "columns.parquet", "has 1,000 columns"
    nested = pa.table({"date": [[1]], "open": [1], "high": [1], "low": [1], "close": [1]})
    pq.write_table(nested, folder / "nested.parquet")
    yield folder / "nested.parquet", "not numbers, times or text"


def test_memory_stays_bounded_whatever_a_file_unpacks_to(tmp_path: Path) -> None:
    good = tmp_path / "good.csv"
    good.write_bytes(HEADER + b"2024-03-05,1,2,1,2\n")
    pq.write_table(pa.table({"date": ["2024-03-05"]}), tmp_path / "good.parquet")
    wanted = list(bombs(tmp_path))

    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(good), *(str(path) for path, _ in wanted)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = orjson.loads(done.stdout)
    for (path, said), (message, grown_bytes) in zip(wanted, found, strict=True):
        assert said in message, path.name
        assert grown_bytes < 200 * MIB, f"{path.name}: {grown_bytes:,} bytes more"


def test_a_row_group_that_says_it_is_too_large_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tables, "MOST_COLUMN_BYTES", 1_000)
    path = rows_of_groups(
        tmp_path / "rows.parquet", 1, pa.array(np.random.default_rng(1).random(500))
    )

    with pytest.raises(ImportUnreadable, match=r"bytes in one row group; 0 MiB at most"):
        read_bars(path, "1d", NEW_YORK, NOW_NS)


def varint(number: int) -> bytes:
    """Return a number as a Parquet's footer has it: zigzag, seven bits a byte."""
    rest, parts = number << 1, []
    while rest > 127:
        parts.append(rest & 127 | 128)
        rest >>= 7
    return bytes([*parts, rest])


def test_rows_of_a_parquet_are_counted_whatever_it_claims(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tables, "MOST_ROWS", 100_000)
    path = rows_of_groups(tmp_path / "rows.parquet", 1, pa.array(np.ones(300_000)))
    body, footer = path.read_bytes(), len(varint(300_000))
    at = body.index(varint(300_000), len(body) - pq.read_metadata(path).serialized_size - 8)
    path.write_bytes(body[:at] + varint(20_000) + body[at + footer :])
    assert pq.read_metadata(path).num_rows == 20_000

    with pytest.raises(ImportUnreadable, match="more than 100,000 rows"):
        read_bars(path, "1d", NEW_YORK, NOW_NS)


def test_a_row_after_a_long_heading_may_be_long_too(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    line = b'2024-03-05,1,2,1,2,"' + b"x" * 40_000 + b'"\n'
    path.write_bytes(HEADER[:-1] + b"," + b"y" * 40_000 + b"\n" + line * 2)

    assert len(read_bars(path, "1d", NEW_YORK, NOW_NS).bars) == 1


def test_the_first_that_are_refused_are_told_whatever_is_wrong_with_them(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(HEADER + b"2024-03-05,1,0.5,1,1\n" + b"2024-03-05,x,2,1,2\n" * 3_000)

    found = read_bars(path, "1d", NEW_YORK, NOW_NS)

    assert [one.line for one in found.refused] == list(range(2, 1_002))
    assert "low 1 is above high 0.5" in found.refused[0].reason


def test_what_is_refused_is_counted_and_the_first_thousand_are_told(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(HEADER + b"2024-03-05,x,2,1,2\n" * 20_000)

    found = read_bars(path, "1d", NEW_YORK, NOW_NS)

    assert (found.refused_count, len(found.refused)) == (20_000, 1_000)
    assert found.refused[-1].line == 1_001


# -- times -------------------------------------------------------------------------------------


def written(path: Path, times: object) -> Path:
    count = len(times)  # type: ignore[arg-type]
    columns = {"open": [10.0] * count, "high": 12.0, "low": 9.0, "close": 11.0}
    pd.DataFrame({"date": times} | columns).to_parquet(path)
    return path


def numbers(*values: int) -> object:
    return np.array(values, np.int64)


def stamps(unit: str) -> Callable[[], object]:
    return lambda: np.array(["2024-03-05", "9999-12-31"], f"datetime64[{unit}]")


@pytest.mark.parametrize("interval", ["1d", "1m"])
@pytest.mark.parametrize(
    "times",
    [
        stamps("s"),
        stamps("ms"),
        stamps("us"),
        lambda: numbers(1_709_614_800, 2**62),
        lambda: numbers(1_709_614_800, 2**63 - 1),
        lambda: np.array([1_709_614_800_000_000, 2**62], "datetime64[us]"),
        lambda: pd.DatetimeIndex(["2024-03-05", "9999-12-31"]).as_unit("us").tz_localize("UTC"),
        lambda: [datetime(2024, 3, 5).date(), datetime(9999, 12, 31).date()],
        lambda: ["2024-03-05", "9999-12-31"],
        lambda: pd.Series([19_787, 2**31 - 1], dtype=pd.ArrowDtype(pa.date32())),
        lambda: pd.Series([19_787 * 86_400_000, 2**62], dtype=pd.ArrowDtype(pa.date64())),
        lambda: ["1709614800", "9999999999999999999"],
    ],
)
def test_a_time_that_nanoseconds_cannot_count_is_refused_with_its_row(
    tmp_path: Path, times: Callable[[], object], interval: str
) -> None:
    found = read_bars(written(tmp_path / "bars.parquet", times()), interval, NEW_YORK, NOW_NS)

    assert [r.line for r in found.refused] == [2]
    assert "is out of range, 1678 to 2261" in found.refused[0].reason
    assert found.bars.session(0).year == 2024


@pytest.mark.parametrize("zone", ["+00:00", "-05:00", ""])
def test_so_is_one_in_a_csv(tmp_path: Path, zone: str) -> None:
    path = tmp_path / "bars.csv"
    lines = [f"{day}T09:30:00{zone},10,12,9,11" for day in ("2024-03-05", "9999-12-31")]
    path.write_text("\n".join([HEADER.decode().strip(), *lines]))

    for interval in ("1d", "1m"):
        found = read_bars(path, interval, NEW_YORK, NOW_NS)
        assert [(r.line, "out of range" in r.reason) for r in found.refused] == [(3, True)]


# -- all rows together tell how times are written ----------------------------------------------


def read(path: Path, times: list[str], interval: str = "1d") -> ReadBars:
    lines = [f"{time},10,12,9,11" for time in times]
    path.write_text("\n".join([HEADER.decode().strip(), *lines]))
    return read_bars(path, interval, NEW_YORK, NOW_NS)


def test_what_a_late_row_tells_holds_for_those_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tables, "_PART_ROWS", 2)
    early = [f"{day:02}/01/2024" for day in range(1, 13)]
    found = read(tmp_path / "bars.csv", [*early, "13/01/2024"])

    assert found.refused == ()
    assert [found.bars.session(row).day for row in range(13)] == list(range(1, 14))
    assert {found.bars.session(row).month for row in range(13)} == {1}


def test_a_time_twice_is_told_with_its_first_line_over_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tables, "_PART_ROWS", 2)
    days = [f"2024-03-{day:02}" for day in (1, 2, 3, 4, 4, 4, 5)]
    for times, first in ((days, 5), (days[::-1], 3)):
        found = read(tmp_path / "bars.csv", times)
        said = [(r.line, r.reason) for r in found.refused]
        assert said == [(first + n, f"the same time as line {first}") for n in (1, 2)]
        assert len(found.bars) == 5
