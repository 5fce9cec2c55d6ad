"""The store beside the bare drivers: many bars in, one year out."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.peers.bare_store import BareMysql, BareSqlite, Row
from benchmarks.report import Claim, Report, Table
from benchmarks.service import Bench
from benchmarks.stats import Summary, ratio, ratio_interval
from infra.bars import NS_PER_DAY, Bars
from infra.db.bulk import CHUNK_ROWS, upsert_bars
from infra.db.store import Store
from tests.databases import KINDS, database

NAME = "store"
_LEAST_OF_BARE, _LEAST_OF_ROW_BY_ROW, _MOST_OF_BARE_READ = 0.7, 10.0, 2.0
_FIRST_DAY, _SYMBOLS = 9_000, 20

_METHOD = """No Ray. 100,000 daily bars of 20 symbols, from columns to the last commit, in
transactions of 1,000 rows, into empty tables; then the same bars again, all of which are there
already. The peer is the driver alone with `executemany`, an upsert of its own on the same table
and the same transactions, its rows made of the same columns in the time measured. Row by row is
the driver alone too, with a commit for each row. A year is 252 bars by symbol, interval and span,
out of those 100,000, to numpy columns on both sides. Rounds take turns."""


def run(bench: Bench) -> Report:
    """Measure both databases in this process; the service is not needed."""
    is_tiny = bench.given is not None
    rounds, days = (1, 60) if is_tiny else (7, 5_000)
    report = Report(NAME, "The store beside its drivers", _METHOD)
    for kind in KINDS:
        bench.tell(kind)
        asyncio.run(_measure(kind, report, rounds, days))
    return report


async def _measure(kind: str, report: Report, rounds: int, days: int) -> None:
    bars = _bars(days)
    symbols = [f"S{number:02}" for number in range(_SYMBOLS)]
    times: dict[str, list[float]] = {n: [] for n in ("ours", "bare", "again", "bare_again")}
    years: dict[str, list[float]] = {"ours": [], "bare": []}
    row_by_row: list[float] = []
    for _ in range(rounds):
        for which in ("ours", "bare"):
            with tempfile.TemporaryDirectory() as folder:
                async with database(kind, Path(folder)) as url:
                    store = Store(url)
                    await store.migrate()
                    bare = BareSqlite() if kind == "sqlite" else BareMysql()
                    await bare.open(url)
                    for name in (which, "again" if which == "ours" else "bare_again"):
                        began_s = time.perf_counter()
                        for symbol in symbols:
                            if which == "ours":
                                await upsert_bars(store, symbol, "1d", "yahoo", bars)
                            else:
                                await _write_bare(bare, symbol, bars)
                        times[name].append(time.perf_counter() - began_s)
                    if which == "bare":
                        row_by_row.append(await _row_by_row(bare, bars))
                    await _read_years(store, bare, symbols, years)
                    await bare.close()
                    await store.close()
    _note(kind, report, len(bars) * _SYMBOLS, times, row_by_row, years)


async def _write_bare(bare: BareSqlite | BareMysql, symbol: str, bars: Bars) -> None:
    for first in range(0, len(bars), CHUNK_ROWS):
        await bare.write(_tuples(symbol, bars[first : first + CHUNK_ROWS]))


def _tuples(symbol: str, bars: Bars) -> list[Row]:
    seconds = (bars.opened_at_ns // 10**9).tolist()
    names = ("open", "high", "low", "close", "volume")
    columns = [getattr(bars, name).tolist() for name in names]
    return [(symbol, "1d", *row, "yahoo", 0) for row in zip(seconds, *columns, strict=True)]


async def _row_by_row(bare: BareSqlite | BareMysql, bars: Bars) -> float:
    """Return the seconds that a row takes with a commit of its own."""
    rows = _tuples("ROW", bars)[:1_000]
    began_s = time.perf_counter()
    for row in rows:
        await bare.write([row])
    return (time.perf_counter() - began_s) / len(rows)


async def _read_years(
    store: Store, bare: BareSqlite | BareMysql, symbols: list[str], years: dict[str, list[float]]
) -> None:
    start_s = _FIRST_DAY * 86_400
    end_s = start_s + 252 * 86_400
    for symbol in symbols:
        began_s = time.perf_counter()
        found = await store.read(
            lambda unit, s=symbol: unit.bars.read(s, "1d", start_s * 10**9, end_s * 10**9)  # type: ignore[misc]
        )
        years["ours"].append(time.perf_counter() - began_s)
        began_s = time.perf_counter()
        rows = await bare.year(symbol, "1d", start_s, end_s)
        columns = [np.array(column) for column in zip(*rows, strict=True)]
        years["bare"].append(time.perf_counter() - began_s)
        assert found.close.tolist() == columns[4].tolist()


def _note(
    kind: str,
    report: Report,
    count: int,
    times: dict[str, list[float]],
    row_by_row: list[float],
    years: dict[str, list[float]],
) -> None:
    rates = {name: [count / s for s in seconds] for name, seconds in times.items()}
    alone = [1 / seconds for seconds in row_by_row]
    years_ms = {name: [s * 1_000 for s in seconds] for name, seconds in years.items()}
    for ours, bare, what in (("ours", "bare", "new"), ("again", "bare_again", "the same again")):
        found = ratio(rates[ours], rates[bare])
        low, high = ratio_interval(rates[ours], rates[bare])
        report.claims.append(
            Claim(
                f"{kind}: {count:,} bars, {what}, at least {_LEAST_OF_BARE:g} x the driver alone",
                f"{found:.2f} x ({low:.2f} to {high:.2f})",
                found >= _LEAST_OF_BARE,
            )
        )
    faster = ratio(rates["ours"], alone)
    report.claims.append(
        Claim(
            f"{kind}: at least {_LEAST_OF_ROW_BY_ROW:g} x row by row",
            f"{faster:.0f} x",
            faster >= _LEAST_OF_ROW_BY_ROW,
        )
    )
    slower = ratio(years_ms["ours"], years_ms["bare"])
    low, high = ratio_interval(years_ms["ours"], years_ms["bare"])
    report.claims.append(
        Claim(
            f"{kind}: a year of a symbol at most {_MOST_OF_BARE_READ:g} x the driver alone",
            f"{slower:.2f} x ({low:.2f} to {high:.2f})",
            slower <= _MOST_OF_BARE_READ,
        )
    )
    names = {
        "ours": "store",
        "bare": "driver alone",
        "again": "store, the same again",
        "bare_again": "driver alone, the same again",
    }
    rows = [(names[name], Summary.of(values).shown(0)) for name, values in rates.items()]
    rows.append(("driver alone, row by row", Summary.of(alone).shown(0)))
    report.tables.append(Table(f"{kind}: bars a second", ("how", "median (range)"), rows))
    year_rows = [(names[name], Summary.of(values).shown(3)) for name, values in years_ms.items()]
    report.tables.append(Table(f"{kind}: a year, ms", ("how", "median (range)"), year_rows))
    report.samples |= {
        f"{kind}_bars_per_s": rates,
        f"{kind}_row_by_row_per_s": alone,
        f"{kind}_year_ms": years_ms,
    }


def _bars(days: int) -> Bars:
    draws = np.random.default_rng(1)
    prices = draws.uniform(1, 1_000, (4, days))
    return Bars(
        (_FIRST_DAY + np.arange(days, dtype=np.int64)) * NS_PER_DAY,
        prices[0],
        prices.max(axis=0),
        prices.min(axis=0),
        prices[3],
        draws.integers(0, 10**9, days),
    )
