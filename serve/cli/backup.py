"""`finstage store copy`, `finstage backup` and `finstage restore`."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from infra.db.backups import copy_file
from infra.db.copy import copy, count_rows, empty
from infra.db.engine import PoolShare, pool_share, store_processes
from infra.db.store import Store
from infra.db.unit import Unit
from infra.db.url import StoreUrl, file_url, shown, store_url
from infra.db.version import head_version
from infra.errors import ConfigError, StoreError, StoreUnavailable
from infra.files import take_place
from infra.settings import Settings
from serve.cli.new_files import need_new_file
from serve.cli.upgrade import store_version
from serve.state import read_state

_POWER = {"NORMAL": ", not a power cut", "FULL": " and a power cut"}


def copy_store(settings: Settings, console: Console, from_url: str, to_url: str) -> int:
    """Copy everything from one store into another; return 0. Raises ConfigError."""
    source_url = store_url(from_url, settings.data_dir)
    target_url = store_url(to_url, settings.data_dir)
    if source_url == target_url:
        raise ConfigError("both are the same store")
    _need_file(source_url)
    return asyncio.run(_copy(console, source_url, target_url, empties=False))


def backup_store(settings: Settings, console: Console, file: Path) -> int:
    """Write the store into one SQLite file, also while the service runs; return 0.

    A file's backup is of one instant. MySQL's is read in pages: what is written meanwhile may be
    left out. Raises ConfigError.
    """
    url = store_url(settings.database_url.get_secret_value(), settings.data_dir)
    need_new_file(file)
    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        if url.get_backend_name() == "sqlite":
            _need_file(url)
            copy_file(Path(str(url.database)), partial)
        else:
            asyncio.run(_copy(console, url, file_url(partial), empties=False))
        take_place(partial, file)
    except (sqlite3.Error, OSError) as error:
        raise ConfigError(f"no backup: {error}") from None
    finally:
        for left in partial.parent.glob(partial.name + "*"):
            left.unlink()
    console.print(f"{file}: {file.stat().st_size:,} bytes, of {shown(url)}")
    return 0


def restore_store(
    settings: Settings, console: Console, file: Path, confirm: Callable[[], object]
) -> int:
    """Replace all that the store holds by a backup; return 0. Raises ConfigError.

    `confirm` is called once nothing stands in the way, and raises if it should not be.

    Refused while the service of this data directory runs, as its jobs would write into it. A
    backup of an older version is migrated in a copy, and stays what it is.
    """
    if not file.is_file():
        raise ConfigError(f"there is no file {file}")
    state = read_state(settings)
    if state is not None and state.runs:
        raise ConfigError("the service runs: `finstage down` first")
    confirm()
    url = store_url(settings.database_url.get_secret_value(), settings.data_dir)
    with _of_this_version(file.absolute(), settings.data_dir) as current:
        return asyncio.run(_copy(console, file_url(current), url, empties=True))


def _need_file(url: StoreUrl) -> None:
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).is_file():
        raise ConfigError(f"there is no store at {shown(url)}")


@contextmanager
def _of_this_version(file: Path, data_dir: Path) -> Iterator[Path]:
    """Give the file, or a migrated copy where its version is older than this Finstage's."""
    try:
        version = asyncio.run(store_version(file_url(file)))
    except StoreUnavailable as error:
        raise ConfigError(f"{file}: {error.message}") from None
    if version is None or version >= head_version():
        yield file
        return
    partial = data_dir / ".restored.partial"
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        copy_file(file, partial)
        asyncio.run(_migrate(partial))
        yield partial
    except sqlite3.Error as error:
        raise ConfigError(f"{file}: {error}") from None
    finally:
        for left in data_dir.glob(partial.name + "*"):
            left.unlink()


async def _migrate(file: Path) -> None:
    store = Store(file_url(file))
    try:
        await store.migrate()
    except StoreError as error:
        raise ConfigError(f"{file}: {error.message}") from None
    finally:
        await store.close()


async def describe_store(settings: Settings) -> str:
    """Return where the store is, and whether MySQL grants all the connections we may want."""
    url = store_url(settings.database_url.get_secret_value(), settings.data_dir)
    place = shown(url)
    if url.get_backend_name() == "sqlite":
        return f"{place} (SQLite, survives kill -9{_POWER[settings.sqlite_synchronous]})"
    wanted = pool_share(settings).most * store_processes(settings)
    store = Store(url, PoolShare(1, 1), tables_needed=False)
    try:
        allowed = await store.read(_max_connections)
    except StoreError as error:
        return f"{place}: {error.message}; the service goes on without, and looks again"
    finally:
        await store.close()
    if wanted > allowed:
        return (
            f"{place}: up to {wanted} connections, but the server's max_connections is {allowed}: "
            "lower FINSTAGE_STORE_POOL_SIZE and FINSTAGE_STORE_POOL_OVERFLOW"
        )
    return f"{place}: up to {wanted} of the server's {allowed} connections"


async def _max_connections(unit: Unit) -> int:
    rows = await unit.connection.exec_driver_sql("SELECT @@max_connections")
    return int(rows.scalar_one())


async def _copy(
    console: Console, source_url: StoreUrl, target_url: StoreUrl, empties: bool
) -> int:
    source, target = Store(source_url), Store(target_url)
    try:
        await source.ping()
        await target.migrate()
        totals = await count_rows(source)
        if empties:
            await empty(target)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=console) as shown_progress:
            tasks = {n: shown_progress.add_task(n, total=total) for n, total in totals.items()}

            def progress(table: str, rows: int) -> None:
                shown_progress.update(tasks[table], completed=rows)

            copied = await copy(source, target, progress)
    except StoreError as error:
        raise ConfigError(f"{shown(source_url)} to {shown(target_url)}: {error.message}") from None
    finally:
        await source.close()
        await target.close()
    total = sum(part.rows for part in copied)
    console.print(f"{total:,} rows from {shown(source_url)} to {shown(target_url)}")
    return 0
