"""An older store is kept and migrated at the start, a newer one refused, on both databases."""

from __future__ import annotations

import asyncio
import io
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from rich.console import Console
from sqlalchemy import URL
from sqlalchemy.exc import OperationalError

from infra.db.backups import Backups
from infra.db.bulk import upsert_bars
from infra.db.copy import count_rows
from infra.db.engine import PoolShare, make_engine
from infra.db.migrate import migrate
from infra.db.store import Store, open_store
from infra.db.url import file_url
from infra.db.version import current_version, head_version
from infra.errors import ConfigError
from infra.settings import Settings
from serve.cli.backup import restore_store
from serve.cli.upgrade import need_current_store, upgrade_store
from tests.contract.test_store import bars, read, same
from tests.databases import KINDS, database
from tests.service import free_port
from tests.settings import made_settings

OLD = "0003"
NOW_S = 1_772_638_212.0  # 2026-03-04 15:30:12 UTC
ALERTS = (
    "insert into price_alert_logs (symbol, alert_type, base_type, base_price, base_time,"
    " current_price, threshold_percent, actual_percent, source, triggered_at) values"
    " ('AAPL', 'price_rise', 'prev_close', 10.0, '2026-03-04 15:30:00.000000', 11.0, 3.0,"
    " 10.0, 'yahoo', '2026-03-04 15:30:00.123456')"
)


@pytest.fixture(params=KINDS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[URL]:
    async with database(request.param, tmp_path) as made:
        yield made


def settings_for(url: URL, folder: Path) -> Settings:
    return made_settings(data_dir=folder, database_url=url.render_as_string(hide_password=False))


async def make_old(url: URL) -> None:
    """Make a store as an earlier Finstage left it."""
    store = Store(url, tables_needed=False)
    await store.migrate(OLD)
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(2_500))
    await upsert_bars(store, "^IXIC", "60m", "yahoo", bars(10, seed=3))
    await store.write(lambda unit: unit.connection.exec_driver_sql(ALERTS))
    await store.close()


async def version_of(url: URL) -> str | None:
    engine = make_engine(url, PoolShare(1, 0))
    try:
        return await current_version(engine)
    finally:
        await engine.dispose()


async def upgraded(url: URL, folder: Path) -> str:
    """Do what a start does; return what it says."""
    console = Console(file=io.StringIO(), width=500)
    await asyncio.to_thread(upgrade_store, settings_for(url, folder), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def backups_in(folder: Path) -> list[Path]:
    return sorted((folder / "backups").glob("*"))


def left_over(folder: Path) -> list[Path]:
    return list(folder.glob(".restored*"))


def rows_of(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of a file as it is kept there."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        names = connection.execute(
            "select name from sqlite_master where type = 'table' and name not like 'sqlite_%'"
        ).fetchall()
        return {
            name: sorted(connection.execute(f'select * from "{name}"').fetchall(), key=repr)
            for (name,) in names
        }


async def test_an_older_store_is_kept_and_then_migrated(url: URL, tmp_path: Path) -> None:
    await make_old(url)

    said = await upgraded(url, tmp_path)

    # Then it has this version, with all that was there
    store = Store(url)
    assert await version_of(url) == head_version()
    assert same(await read(store), bars(2_500))
    counts = await count_rows(store)
    assert (counts["bars"], counts["alerts"]) == (2_510, 1)
    await store.close()
    # and as it was it lies beside, said in one line
    (backup,) = backups_in(tmp_path)
    assert backup.name.startswith(f"store-{OLD}-")
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert said.count("\n") == 1
    for part in (OLD, head_version(), str(backup)):
        assert part in said


async def test_the_backup_is_the_store_as_it_was(url: URL, tmp_path: Path) -> None:
    await make_old(url)
    (tmp_path / "reference").mkdir()
    reference = tmp_path / "reference" / "store.db"
    await make_old(file_url(reference))

    await upgraded(url, tmp_path)

    (backup,) = backups_in(tmp_path)
    kept = rows_of(backup)
    assert kept["alembic_version"] == [(OLD,)]
    assert len(kept["bars"]) == 2_510
    assert len(kept["price_alert_logs"]) == 1
    assert kept == rows_of(reference)


async def test_a_newer_store_is_refused_and_untouched(url: URL, tmp_path: Path) -> None:
    store = Store(url)
    await store.migrate()
    later = "update alembic_version set version_num = '9999'"
    await store.write(lambda unit: unit.connection.exec_driver_sql(later))
    await store.close()
    file = tmp_path / "store.db"
    before = await asyncio.to_thread(file.read_bytes) if file.exists() else b""

    with pytest.raises(ConfigError, match="run the later Finstage") as refused:
        await upgraded(url, tmp_path)

    assert "\n" not in refused.value.message
    assert await version_of(url) == "9999"
    assert backups_in(tmp_path) == []
    if before:
        assert await asyncio.to_thread(file.read_bytes) == before


@pytest.mark.parametrize(
    ("moment", "left"),
    [("migrate.command.upgrade", 1), ("os.replace", 0)],
    ids=["before the migration", "before the backup was whole"],
)
async def test_a_kill_in_between_harms_nothing(
    url: URL, tmp_path: Path, moment: str, left: int
) -> None:
    # Given a start that was killed at this moment
    await make_old(url)
    text = url.render_as_string(hide_password=False)
    script = (
        "import os, signal\n"
        "from rich.console import Console\n"
        "from infra.db import migrate\n"
        "from infra.settings import Settings\n"
        "from serve.cli.upgrade import upgrade_store\n"
        f"upgrade = {moment}\n"
        "def killed(*arguments):\n"
        f"    if {moment.startswith('os')} or arguments[1] == 'head':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return upgrade(*arguments)\n"
        f"{moment} = killed\n"
        f"settings = Settings(_env_file=None, data_dir={str(tmp_path)!r}, database_url={text!r})\n"
        "upgrade_store(settings, Console())\n"
    )
    ended = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script], check=False, capture_output=True
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert await version_of(url) == OLD
    assert len(list((tmp_path / "backups").glob("store-*.db"))) == left

    # When it starts again
    await upgraded(url, tmp_path)

    # Then all is as if nothing had been, and each backup is whole
    assert await version_of(url) == head_version()
    assert 1 <= len(backups_in(tmp_path)) <= left + 1
    for backup in backups_in(tmp_path):
        assert len(rows_of(backup)["bars"]) == 2_510


async def test_without_a_backup_nothing_is_migrated(url: URL, tmp_path: Path) -> None:
    await make_old(url)
    (tmp_path / "backups").write_text("no folder")

    with pytest.raises(ConfigError, match=f"has version {OLD} and stays so") as refused:
        await upgraded(url, tmp_path)

    assert "\n" not in refused.value.message
    assert await version_of(url) == OLD
    bare = Store(url, tables_needed=False)
    logged = "select count(*) from price_alert_logs"
    found = await bare.read(lambda unit: unit.connection.exec_driver_sql(logged))
    assert found.scalar_one() == 1
    await bare.close()


async def test_a_new_store_has_its_tables_at_once_and_no_backup(url: URL, tmp_path: Path) -> None:
    for _ in range(2):
        assert await upgraded(url, tmp_path) == ""
        assert await version_of(url) == head_version()

    assert not (tmp_path / "backups").exists()


async def test_the_newest_three_backups_are_kept(tmp_path: Path) -> None:
    await make_old(file_url(tmp_path / "store.db"))
    folder = tmp_path / "backups"
    folder.mkdir()
    for name in ("store-0002-20250101T000000Z.db", "store-0001-20250201T000000Z.db"):
        (folder / name).touch()
    for name in ("store-0003-20240101T000000Z.db", "store-0002-20240201T000000Z.db"):
        (folder / name).touch()
    (folder / "mine.db").touch()

    await upgraded(file_url(tmp_path / "store.db"), tmp_path)

    kept = [path.name for path in backups_in(tmp_path)]
    assert kept[:3] == [
        "mine.db",
        "store-0001-20250201T000000Z.db",
        "store-0002-20250101T000000Z.db",
    ]
    assert len(kept) == 4


async def test_migrating_again_after_a_failure_makes_no_second_backup(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_old(url)
    backups = Backups(tmp_path / "backups", NOW_S)
    engine = make_engine(url, PoolShare(1, 0))
    upgrade = command.upgrade

    def failing(config: Any, to: str) -> None:
        if to == "head":
            raise OperationalError("alter", None, Exception("disk full"))
        upgrade(config, to)

    with monkeypatch.context() as patched:
        patched.setattr(command, "upgrade", failing)
        with pytest.raises(OperationalError):
            await migrate(engine, backups=backups)
    (made,) = backups_in(tmp_path)
    inode = made.stat().st_ino

    assert await migrate(engine, backups=backups) == (OLD, head_version())

    assert [path.stat().st_ino for path in backups_in(tmp_path)] == [inode]
    assert made.name == f"store-{OLD}-20260304T153012Z.db"
    await engine.dispose()


async def test_a_store_that_takes_no_tables_is_left_to_the_service(tmp_path: Path) -> None:
    nowhere = file_url(tmp_path / "no folder" / "store.db")

    assert await upgraded(nowhere, tmp_path) == ""
    assert not [t for t in threading.enumerate() if "_connection_worker" in t.name]


async def test_a_database_that_does_not_answer_is_left_to_the_service(tmp_path: Path) -> None:
    away = URL.create("mysql+asyncmy", "root", host="127.0.0.1", port=free_port(), database="x")

    assert await upgraded(away, tmp_path) == ""


async def test_a_store_that_answers_only_later_is_kept_too(url: URL, tmp_path: Path) -> None:
    await make_old(url)
    store = open_store(settings_for(url, tmp_path))

    await store.migrate()

    (backup,) = backups_in(tmp_path)
    assert rows_of(backup)["alembic_version"] == [(OLD,)]
    assert await version_of(url) == head_version()
    await store.close()


async def test_a_backup_of_an_older_version_is_restored_as_one_of_this(
    url: URL, tmp_path: Path
) -> None:
    await make_old(url)
    await upgraded(url, tmp_path)
    (backup,) = backups_in(tmp_path)
    store = Store(url)
    await upsert_bars(store, "LATER", "1d", "yahoo", bars(5))

    settings = settings_for(url, tmp_path)
    quiet = Console(file=io.StringIO())
    await asyncio.to_thread(restore_store, settings, quiet, backup, lambda: None)

    counts = await count_rows(store)
    assert (counts["bars"], counts["alerts"]) == (2_510, 1)
    assert rows_of(backup)["alembic_version"] == [(OLD,)]
    assert not left_over(tmp_path)
    await store.close()


async def test_a_rolling_restart_wants_the_store_of_its_own_version(
    url: URL, tmp_path: Path
) -> None:
    settings = settings_for(url, tmp_path)
    await make_old(url)

    with pytest.raises(ConfigError, match="only a whole restart migrates it"):
        await asyncio.to_thread(need_current_store, settings)
    assert await version_of(url) == OLD
    await upgraded(url, tmp_path)
    await asyncio.to_thread(need_current_store, settings)
