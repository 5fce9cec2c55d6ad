"""`finstage import` and `finstage export`: bars between files and the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from infra.bar_files import ReadBars, read_bars, write_bars
from infra.bars import IMPORT, Bars
from infra.calendars import calendar_for
from infra.clock import Clock, SystemClock, utc
from infra.db import bulk
from infra.db.bulk import ImportCount, delete_import, import_bars
from infra.db.imports import Import
from infra.db.store import BULK, Store, open_store
from infra.db.url import shown, store_url
from infra.errors import ConfigError, FinstageError, StoreError, SymbolUnknown
from infra.periods import INTERVALS, check_interval
from infra.session_bars import MINUTES
from infra.settings import LIVE_SOURCES, Settings
from infra.sources import build_source
from infra.sources.imported import last_opened_ns
from infra.sources.origin import origin_of
from infra.symbols import normalise
from serve.cli.new_files import need_new_file
from serve.state import read_state

T = TypeVar("T")

_IMPORTED_INTERVALS = (*MINUTES, "1d")  # longer bars are made of daily ones
_SHOWN_REFUSALS = 20


def import_file(
    settings: Settings,
    console: Console,
    path: Path,
    symbol: str,
    interval: str,
    time_zone: str,
    dry_run: bool,
) -> int:
    """Import a file's bars; return 0, or 1 if no row could be taken. Raises ConfigError."""
    clock = SystemClock()

    async def work(store: Store) -> int:
        name = normalise(symbol)
        check_interval(interval, _IMPORTED_INTERVALS)
        zone = time_zone or calendar_for(name).time_zone
        with console.status(f"reading {path.name} …"):
            read = read_bars(path, interval, zone, int(clock.time_s() * 1e9))
        with _progress(console) as progress:
            task = progress.add_task(f"{name} {interval}", total=len(read.bars))

            def advance(rows: int) -> None:
                progress.update(task, completed=rows)

            count = await import_bars(store, name, interval, read.bars, advance, dry_run)
        if not dry_run and count.accepted:
            made = Import(
                name,
                interval,
                path.name[:255],
                count.accepted,
                count.replaced,
                read.refused_count,
                utc(clock.time_s()),
            )
            await store.write(lambda unit: unit.imports.append(made))
        _report(console, name, interval, read, count, dry_run)
        await _tell_served(settings, console, clock, name, read.bars, dry_run)
        return 0 if len(read.bars) else 1

    return _with_store(settings, work)


def export_file(
    settings: Settings, console: Console, path: Path, symbol: str, interval: str, source: str
) -> int:
    """Write a symbol's stored bars into a new file; return 0. Raises ConfigError if none are."""
    need_new_file(path)

    async def work(store: Store) -> int:
        name = normalise(symbol)
        check_interval(interval, INTERVALS)
        # Before the file is written: what fails after it would leave a file and an error.
        held = await store.read(lambda unit: unit.bars.coverage(name), BULK)
        bars = await bulk.read_bars(store, name, interval, source or None, BULK)
        if not len(bars):
            there = ", ".join(f"{c.interval} of {c.source}" for c in held) or "none at all"
            raise ConfigError(
                f"no {interval} bars of {name} in the store; there are {there}. `finstage jobs "
                "run bars.daily` keeps daily ones of the monitored symbols; what is served is at "
                f"/api/v2/prices/{name}/history?period=max&interval={interval}&format=csv"
            )
        try:
            write_bars(path, bars)
        except StoreError as error:  # of the file, not of the store
            raise ConfigError(error.message) from None
        found = {c.source for c in held if c.interval == interval and source in ("", c.source)}
        labels = ", ".join(origin_of(one).label for one in sorted(found))
        console.print(f"{path}: {len(bars):,} bars of {name} at {interval}, {_span(bars)}")
        console.print(f"source: {labels}")
        return 0

    return _with_store(settings, work)


def _with_store(settings: Settings, work: Callable[[Store], Awaitable[T]]) -> T:
    async def run() -> T:
        store = open_store(settings)
        try:
            await store.migrate()
            return await work(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except ConfigError:
        raise
    except StoreError as error:
        url = store_url(settings.database_url.get_secret_value(), settings.data_dir)
        raise ConfigError(f"{shown(url)}: {error.message}") from None
    except FinstageError as error:
        raise ConfigError(error.message) from None
    except OSError as error:
        raise ConfigError(f"{error.filename or 'a file'}: {error.strerror}") from None


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, transient=True)


def _report(
    console: Console,
    symbol: str,
    interval: str,
    read: ReadBars,
    count: ImportCount,
    dry_run: bool,
) -> None:
    title = (
        f"{symbol} {interval}: {_span(read.bars)}" if len(read.bars) else f"{symbol} {interval}"
    )
    table = Table(
        title=f"{title} (dry run, nothing written)" if dry_run else title,
        title_justify="left",
        show_header=False,
    )
    rows = {
        "accepted": f"{count.accepted:,} ({count.new:,} new, {count.unchanged:,} there already)",
        "replaced": f"{count.replaced:,} of an earlier import",
        "left to the source": f"{count.kept_live:,} that a source of ours has"
        * bool(count.kept_live),
        "refused": f"{read.refused_count:,}",
        "columns not used": ", ".join(read.ignored_columns),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    console.print(table)
    for refused in read.refused[:_SHOWN_REFUSALS]:
        console.print(f"line {refused.line}: {refused.reason}", style="yellow", markup=False)
    if read.refused_count > _SHOWN_REFUSALS:
        console.print(f"and {read.refused_count - _SHOWN_REFUSALS:,} more")


async def _tell_served(
    settings: Settings, console: Console, clock: Clock, symbol: str, bars: Bars, dry_run: bool
) -> None:
    """Say as what imported bars are served, and of a dry run too how many of them only later."""
    if not len(bars):
        return
    try:
        beside = await _beside(settings, clock, symbol)
    except FinstageError as error:  # what is imported is so all the same
        told = f"as what it is served cannot be said: {error.message}"
        console.print(told, style="yellow", markup=False, soft_wrap=True)
        return
    if not dry_run:
        told = f"as source {IMPORT!r}"
        if beside is not None:
            told = f"beside the bars of {beside[0]!r}, where it has none"
        console.print(f"served {told}; a service that runs notices within seconds")
    if beside is None:
        return
    name, end_ns = beside
    later = int(np.count_nonzero(bars.opened_at_ns > end_ns))
    if later:
        console.print(
            f"{later:,} of {len(bars):,} bars lie after {utc(end_ns // 10**9).date()}, where the "
            f"clock of {name!r} stands: of {symbol} they are shown once it gets there, and "
            "never if it does not. To see them now import them under a name of your own, as "
            f"MY{symbol.strip('^')}",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


async def _beside(settings: Settings, clock: Clock, symbol: str) -> tuple[str, int] | None:
    """Return the source that has a symbol too, and when its last bar so far opened.

    None for a live one, whose clock is ours.
    """
    if settings.source.split(",")[0] in LIVE_SOURCES:
        return None
    state = read_state(settings)
    started_at_s = settings.replay_started_at_s or clock.time_s()
    if state is not None and state.runs:
        started_at_s = state.started_at_s
    try:
        source = build_source(settings, clock, started_at_s)
        return source.name, last_opened_ns(await source.history(symbol))
    except SymbolUnknown:
        return None
    except ValueError:  # a recording that cannot be read, as `up` says
        return None


def delete_bars(settings: Settings, console: Console, symbol: str, interval: str) -> int:
    """Delete what was imported of a symbol; return 0. Raises ConfigError if nothing was."""

    async def work(store: Store) -> int:
        name = normalise(symbol)
        intervals = (check_interval(interval, INTERVALS),) if interval else ()
        now = utc(SystemClock().time_s())
        for at, count in (await delete_import(store, name, intervals, now)).items():
            console.print(f"{name} {at}: {count:,} imported bars deleted")
        console.print("a service that runs notices within seconds")
        return 0

    return _with_store(settings, work)


def _span(bars: Bars) -> str:
    ends = (utc(int(bars.opened_at_ns[row]) // 10**9) for row in (0, -1))
    return " to ".join(end.isoformat()[:16].removesuffix("T00:00") for end in ends)
