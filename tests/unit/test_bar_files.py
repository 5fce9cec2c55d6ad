"""Files of users become bars, row by row, and what is wrong is said with its line."""

from __future__ import annotations

import gzip
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.bar_files import ReadBars, read_bars, write_bars
from infra.bars import NS_PER_DAY, NS_PER_MINUTE, Bars
from infra.errors import ImportUnreadable

NEW_YORK = "America/New_York"
NOW_NS = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 10**9


def read(
    path: Path, text: str, interval: str = "1d", name: str = "bars.csv", zone: str = NEW_YORK
) -> ReadBars:
    file = path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_bars(file, interval, zone, NOW_NS)


def rows(*times: str, header: str = "Date,Open,High,Low,Close,Volume") -> str:
    return "\n".join([header, *(f"{time},10,12,9,11,100" for time in times)])


def days(found: ReadBars) -> list[str]:
    return [found.bars.session(row).isoformat() for row in range(len(found.bars))]


def instants(found: ReadBars) -> list[str]:
    stamps = found.bars.opened_at_ns // 10**9
    return [datetime.fromtimestamp(int(s), UTC).strftime("%Y-%m-%d %H:%M") for s in stamps]


# -- forms -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        ("2024-03-05", "2024-03-13"),
        ("20240305", "20240313"),
        ("2024/03/05", "2024/3/13"),
        ("03/05/2024", "03/13/2024"),
        ("05/03/2024", "13/03/2024"),
        ("05.03.2024", "13.03.2024"),
        ("5-Mar-24", "13-Mar-24"),
        ('"Mar 5, 2024"', '"Mar 13, 2024"'),
        ("2024-03-05 16:00:00", "2024-03-13 16:00:00"),
        ("2024-03-05T00:00:00-05:00", "2024-03-13T00:00:00-04:00"),
        ("2024-03-05T23:30:00+09:00", "2024-03-13T00:30:00+09:00"),
        ("1709614800", "1710302400"),
        ("1709614800000", "1710302400000"),
    ],
)
def test_dates_are_read_as_people_write_them(tmp_path: Path, times: tuple[str, ...]) -> None:
    found = read(tmp_path, rows(*times))

    assert found.refused == ()
    assert days(found) == ["2024-03-05", "2024-03-13"]


@pytest.mark.parametrize(
    "times",
    [
        ("2024-03-05 09:30", "2024-03-05 09:31"),
        ("2024-03-05T09:30:00-05:00", "2024-03-05T14:31:00Z"),
        ("2024-03-05 09:30:00.0 -0500", "2024-03-05 14:31 UTC"),
        ("20240305T093000-05", "20240305T143100Z"),
        ("5-Mar-2024 9:30 AM GMT-05:00", "5-Mar-2024 09:31"),
        ("Tue Mar 5 14:30:00 UTC 2024", "Tue Mar 5 14:31:00 UTC 2024"),
        ("03/15/2024 09:30", "03/15/2024 09:31"),
        ("1709649000", "1709649060"),
        ("1709649000000000000", "1709649060000000000"),
    ],
)
def test_times_are_instants_in_utc(tmp_path: Path, times: tuple[str, ...]) -> None:
    found = read(tmp_path, rows(*times), "1m")

    assert found.refused == ()
    shift = 13 if "03/15" in times[0] else 14  # daylight saving between them
    assert [i[-5:] for i in instants(found)] == [f"{shift}:30", f"{shift}:31"]


def test_a_day_alone_between_times_is_midnight_of_the_zone(tmp_path: Path) -> None:
    found = read(tmp_path, rows("5-Mar-2024", "5-Mar-2024 00:01"), "1m")

    assert instants(found) == ["2024-03-05 05:00", "2024-03-05 05:01"]


@pytest.mark.parametrize("interval", ["1d", "1m"])
def test_zones_that_differ_in_odd_places_are_refused_with_the_file(
    tmp_path: Path, interval: str
) -> None:
    text = rows("Tue Mar 5 09:30:00 -0500 2024", "Tue Mar 12 09:30:00 -0400 2024")
    with pytest.raises(ImportUnreadable, match="several time zones; write them as 2024"):
        read(tmp_path, text, interval)


def test_date_and_time_in_two_columns_are_one(tmp_path: Path) -> None:
    text = (
        "date,time,open,high,low,close\n2024-03-05,09:30,10,12,9,11\n2024-03-05,09:31,10,12,9,11"
    )

    assert instants(read(tmp_path, text, "1m")) == ["2024-03-05 14:30", "2024-03-05 14:31"]


def test_dates_that_no_row_tells_apart_are_refused_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(ImportUnreadable, match="month or day first"):
        read(tmp_path, rows("03/05/2024", "04/06/2024"))


def test_dates_that_are_in_order_one_way_only_are_taken_so(tmp_path: Path) -> None:
    assert days(read(tmp_path, rows("01/02/2024", "02/02/2024", "01/03/2024"))) == [
        "2024-02-01",
        "2024-02-02",
        "2024-03-01",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "t;o;h;l;c;v\n2024-03-05;10,5;12;9;11;100",
        "Date\tOpen\tHigh\tLow\tClose\tVol.\n2024-03-05\t10.5\t12\t9\t11\t100",
        '\ufeffDate,"Close/Last",Volume,Open,High,Low\n2024-03-05,$11,100,"$10.50",$12,$9',
        "opened_at,open,high,low,close,volume,Adj Close\n2024-03-05,10.5,12,9,11,100.0,7",
    ],
)
def test_columns_are_found_by_name(tmp_path: Path, text: str) -> None:
    (bars,) = [read(tmp_path, text).bars]

    values = [getattr(bars, name)[0] for name in ("open", "high", "low", "close", "volume")]
    assert values == [10.5, 12, 9, 11, 100]


def test_thousands_are_understood(tmp_path: Path) -> None:
    text = 'Date,Open,High,Low,Close,Volume\n2024-03-05,"1,010.5","1,012","1,009","1,011","1,000"'
    found = read(tmp_path, text).bars

    assert (found.open[0], found.volume[0]) == (1_010.5, 1_000)


def test_columns_that_mean_nothing_here_are_told(tmp_path: Path) -> None:
    text = "Date,Open,High,Low,Close,Adj Close,Volume\n2024-03-05,10,12,9,11,7,100"

    assert read(tmp_path, text).ignored_columns == ("Adj Close",)


def test_without_a_volume_it_is_nothing(tmp_path: Path) -> None:
    text = "Date,Open,High,Low,Close\n2024-03-05,10,12,9,11"

    assert read(tmp_path, text).bars.volume.tolist() == [0]


def test_gzip_and_parquet_are_read(tmp_path: Path) -> None:
    packed = read(tmp_path, rows("2024-03-05"), name="bars.CSV.GZ".lower())
    stamps = pd.to_datetime(["2024-03-05 09:30", "2024-03-05 09:31"]).tz_localize(NEW_YORK)
    frame = pd.DataFrame(
        {"Datetime": stamps, "Open": 10.0, "High": 12.0, "Low": 9.0, "Close": 11.0}
    )
    frame.to_parquet(tmp_path / "bars.parquet")
    found = read_bars(tmp_path / "bars.parquet", "1m", NEW_YORK, NOW_NS)

    assert days(packed) == ["2024-03-05"]
    assert instants(found) == ["2024-03-05 14:30", "2024-03-05 14:31"]


# -- order -------------------------------------------------------------------------------------


def test_a_file_that_goes_back_in_time_is_read_backwards(tmp_path: Path) -> None:
    found = read(tmp_path, rows("2024-03-07", "2024-03-06", "2024-03-05"))

    assert found.refused == ()
    assert days(found) == ["2024-03-05", "2024-03-06", "2024-03-07"]


def test_rows_out_of_order_and_twice_are_refused_with_their_lines(tmp_path: Path) -> None:
    found = read(tmp_path, rows("2024-03-05", "2024-03-07", "2024-03-06", "2024-03-07"))

    assert [(r.line, r.reason) for r in found.refused] == [
        (4, "the time is before that of an earlier line"),
        (5, "the same time as line 3"),
    ]
    assert days(found) == ["2024-03-05", "2024-03-07"]


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("2024-03-06,x,12,9,11,100", "open 'x' is no number"),
        ("2024-03-06,,12,9,11,100", "open is missing"),
        ("2024-03-06,nan,12,9,11,100", "open 'nan' is no number"),
        ("2024-03-06,10,inf,9,11,100", "high 'inf' is no number"),
        ("2024-03-06,10,12,-9,11,100", "low -9 is not above 0"),
        ("2024-03-06,10,12,9,0,100", "close 0 is not above 0"),
        ("2024-03-06,10,9,12,11,100", "low 12 is above high 9"),
        ("2024-03-06,13,12,9,11,100", "open 13 is outside low 9 to high 12"),
        ("2024-03-06,10,12,9,8,100", "close 8 is outside low 9 to high 12"),
        ("2024-03-06,10,12,9,11,-1", "volume '-1' is no whole number"),
        ("2024-03-06,10,12,9,11,1.5", "volume '1.5' is no whole number"),
        ("2024-13-45,10,12,9,11,100", "'2024-13-45' is no time"),
        ("yesterday,10,12,9,11,100", "'yesterday' is no time"),
        ("2031-01-01,10,12,9,11,100", "the time is in the future"),
    ],
)
def test_one_bad_row_is_refused_and_the_others_stand(
    tmp_path: Path, row: str, reason: str
) -> None:
    text = "\n".join([rows("2024-03-05"), row, "2024-03-07,10,12,9,11,100"])

    found = read(tmp_path, text)

    assert [(r.line, r.reason) for r in found.refused] == [(3, reason)]
    assert days(found) == ["2024-03-05", "2024-03-07"]


def test_a_bar_under_a_day_opens_on_a_whole_minute(tmp_path: Path) -> None:
    found = read(tmp_path, rows("2024-03-05 09:30:00", "2024-03-05 09:31:07"), "1m")

    assert [(r.line, r.reason) for r in found.refused] == [(3, "the time of a 1m bar has seconds")]


def test_an_hour_that_the_clock_jumps_over_is_no_time(tmp_path: Path) -> None:
    found = read(tmp_path, rows("2024-03-10 01:30", "2024-03-10 02:30", "2024-03-10 03:30"), "1m")

    assert [r.line for r in found.refused] == [3]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("bars.csv", "", "is empty"),
        ("bars.csv", "Date,Open,High\n2024-03-05,1,2", "no column for low, close"),
        ("bars.csv", "Date,Open,Open,High,Low,Close\n", "names a column twice"),
        ("bars.xlsx", "x", "Use .csv, .csv.gz or .parquet"),
        ("bars.parquet", "x", "is no .parquet file"),
    ],
)
def test_a_file_that_is_no_table_of_bars_is_refused_as_a_whole(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    with pytest.raises(ImportUnreadable, match=said):
        read(tmp_path, text, name=name)


def test_what_is_not_there_not_gzip_or_not_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(b"not gzip")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    for name, said in (("a.csv.gz", "is no"), ("b.csv", "is no"), ("c.csv", "is not there")):
        with pytest.raises(ImportUnreadable, match=said):
            read_bars(tmp_path / name, "1d", NEW_YORK, NOW_NS)


def test_a_time_zone_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImportUnreadable, match="no time zone"):
        read(tmp_path, rows("2024-03-05"), zone="Mars/Olympus")


# -- writing -----------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60), is_daily=st.booleans())
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, ending: str, seed: int, count: int, is_daily: bool
) -> None:
    draws = np.random.default_rng(seed)
    step = NS_PER_DAY if is_daily else NS_PER_MINUTE
    prices = draws.uniform(0.01, 10_000, (4, count))
    stamps = 19_000 * NS_PER_DAY + (not is_daily) * 34_260 * 10**9
    bars = Bars(
        stamps + np.cumsum(draws.integers(1, 4, count)) * step,
        prices[0],
        prices.max(axis=0),
        prices.min(axis=0),
        prices[3],
        draws.integers(0, 2**50, count),
    )
    file = tmp_path_factory.mktemp("written") / f"bars{ending}"

    write_bars(file, bars)
    found = read_bars(file, "1d" if is_daily else "1m", NEW_YORK, NOW_NS)

    assert found.refused == ()
    for name in Bars.__slots__:
        assert getattr(found.bars, name).tolist() == getattr(bars, name).tolist(), f"seed {seed}"


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
def test_a_file_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    file, synced = tmp_path / f"bars{ending}", []

    def note(handle: int) -> None:
        about = os.fstat(handle)
        synced.append((stat.S_ISDIR(about.st_mode), about.st_ino, about.st_size, file.exists()))

    monkeypatch.setattr(os, "fsync", note)
    write_bars(file, read(tmp_path, rows("2024-03-05", "2024-03-06"), name="given.csv").bars)

    about = file.stat()
    assert synced[0] == (False, about.st_ino, about.st_size, False)
    assert synced[1][0]  # then the folder, which has its name
    assert synced[1][3]


# -- lines that are no rows --------------------------------------------------------------------

_UNIX = [f"{1_709_652_600 + 60 * n},10,12,9,11,100" for n in range(4)]
_HEADING = "time,open,high,low,close,volume"


@pytest.mark.parametrize("blank", ["", ",,,,,", " , ,,,,"])
def test_a_line_with_nothing_in_it_is_no_row(tmp_path: Path, blank: str) -> None:
    lines = [_HEADING, *_UNIX[:2], blank, *_UNIX[2:], "x,10,12,9,11,100", blank]

    found = read(tmp_path, "\r\n".join(lines) + "\r\n", "1m")

    assert len(found.bars) == 4
    assert found.refused_count == 1
    assert [(one.line, one.reason) for one in found.refused] == [(7, "'x' is no time")]


@pytest.mark.parametrize("between", ["", "\r\n"])
@pytest.mark.parametrize("day", ["2024-03-{:02}T", "Mar {}, 2024 "])
def test_daily_dates_count_as_written_with_empty_lines_and_offsets_between(
    tmp_path: Path, day: str, between: str
) -> None:
    # New York's offset changes on March 10
    times = [
        *(f'"{day.format(n)}00:00:00-05:00"' for n in (7, 8)),
        *(f'"{day.format(n)}00:00:00-04:00"' for n in (11, 12)),
    ]

    found = read(tmp_path, rows(*times).replace("\n", f"\r\n{between}"))

    assert found.refused == ()
    assert days(found) == ["2024-03-07", "2024-03-08", "2024-03-11", "2024-03-12"]


def test_a_foot_line_does_not_unmake_unix_times(tmp_path: Path) -> None:
    lines = [_HEADING, *_UNIX, "Downloaded from somewhere,,,,,", ",10,12,9,11,100"]

    found = read(tmp_path, "\n".join(lines), "1m")

    assert len(found.bars) == 4
    assert [one.line for one in found.refused] == [6, 7]
    assert found.refused[1].reason == "'' is no time"


def test_unix_times_may_be_written_as_whole_floats(tmp_path: Path) -> None:
    lines = [_HEADING, *(line.replace(",", ".0,", 1) for line in _UNIX), "1709653000.5,1,1,1,1,1"]

    found = read(tmp_path, "\n".join(lines), "1m")

    assert instants(found)[0] == "2024-03-05 15:30"
    assert len(found.bars) == 4
    assert [one.reason for one in found.refused] == ["'1709653000.5' is no time"]


def test_a_heading_may_end_in_commas(tmp_path: Path) -> None:
    lines = [f"{_HEADING},,", *(f"{line},," for line in _UNIX)]

    found = read(tmp_path, "\n".join(lines), "1m")

    assert (len(found.bars), found.ignored_columns) == (4, ())


def test_texts_of_a_parquet_may_be_views(tmp_path: Path) -> None:
    days_ = pa.array(["2024-03-05", "2024-03-06"], pa.string_view())
    prices = {name: [10.0, 11.0] for name in ("open", "high", "low", "close")}
    pq.write_table(pa.table({"date": days_, **prices}), tmp_path / "bars.parquet")

    found = read_bars(tmp_path / "bars.parquet", "1d", NEW_YORK, NOW_NS)

    assert days(found) == ["2024-03-05", "2024-03-06"]
