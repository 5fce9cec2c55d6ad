"""All that a store holds moves between files and MySQL, and comes back from a backup."""

from __future__ import annotations

import asyncio
import gzip
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import URL, select

from infra.db.analyses import Analysis
from infra.db.bulk import upsert_bars
from infra.db.copy import copy, count_rows, tables
from infra.db.imports import Import
from infra.db.store import BULK, QUESTION, Limit, Store
from infra.db.unit import Unit
from infra.db.url import file_url
from infra.errors import ConfigError
from infra.settings import Settings
from serve.cli.backup import backup_store, copy_store, describe_store, restore_store
from serve.cli.bars import delete_bars, export_file, import_file
from tests.contract.test_store import bars, read, same
from tests.databases import KINDS, database
from tests.service import environment, run_finstage
from tests.settings import made_settings

NOW = datetime(2026, 3, 4, 15, 30, 12, 345678, tzinfo=UTC)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def agreed() -> None:
    """Nobody says no."""


def not_asked() -> None:
    raise AssertionError("asked, though something stands in the way")


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def settings_for(url: URL, folder: Path) -> Settings:
    return made_settings(data_dir=folder, database_url=url.render_as_string(hide_password=False))


async def fill(store: Store) -> None:
    await store.migrate()
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(2_500))
    await upsert_bars(store, "^IXIC", "60m", "yahoo", bars(10, seed=3))
    made = Import("OWN", "1d", "own ✓.csv", 3, 0, 1, NOW)
    body = Analysis("AAPL", "1d", "yahoo", NOW, "v1", '{"a":"é😀"}', NOW)
    await store.write(lambda unit: unit.imports.append(made))
    await store.write(lambda unit: unit.analyses.put([body]))


async def everything(store: Store) -> dict[str, list[Any]]:
    async def all_rows(unit: Unit) -> dict[str, list[Any]]:
        found = {}
        for table in tables():
            query = select(table).order_by(*table.primary_key.columns)
            found[table.name] = [tuple(row) for row in await unit.connection.execute(query)]
        return found

    return await store.read(all_rows)


@pytest.fixture(params=KINDS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[URL]:
    async with database(request.param, tmp_path) as made:
        yield made


@pytest.mark.parametrize("other_kind", KINDS)
async def test_a_copy_is_equal_and_copying_again_changes_nothing(
    url: URL, other_kind: str, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    async with database(other_kind, tmp_path / "other") as other_url:
        source, target = Store(url), Store(other_url)
        await fill(source)
        await target.migrate()
        for _ in range(2):
            await copy(source, target, lambda table, rows: None)
            assert await everything(source) == await everything(target)
        assert (await count_rows(target))["bars"] == 2_510
        await source.close()
        await target.close()


async def test_the_command_copies_and_says_how_much(url: URL, tmp_path: Path) -> None:
    source = Store(url)
    await fill(source)
    target_file, console = tmp_path / "copy.db", quiet()
    texts = url.render_as_string(hide_password=False), f"sqlite:///{target_file}"

    await asyncio.to_thread(copy_store, made_settings(data_dir=tmp_path), console, *texts)

    assert "2,512 rows from" in printed(console)
    target = Store(file_url(target_file))
    assert await everything(source) == await everything(target)
    await source.close()
    await target.close()


async def test_a_backup_restores_all_that_was_there(url: URL, tmp_path: Path) -> None:
    store, settings = Store(url), settings_for(url, tmp_path)
    await fill(store)
    before, file = await everything(store), tmp_path / "backup.db"

    await asyncio.to_thread(backup_store, settings, quiet(), file)
    await upsert_bars(store, "LATER", "1d", "yahoo", bars(5))
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(2_500, seed=9))
    await asyncio.to_thread(restore_store, settings, quiet(), file, agreed)

    assert await everything(store) == before
    assert await asyncio.to_thread(lambda: list(tmp_path.glob(".*partial*"))) == []
    await store.close()


async def test_a_backup_is_whole_while_others_write(tmp_path: Path) -> None:
    store = Store(file_url(tmp_path / "store.db"))
    await store.migrate()
    goes_on = True

    async def write() -> None:
        seed = 0
        while goes_on:
            seed += 1
            await upsert_bars(store, "AAPL", "1d", "yahoo", bars(1_000, seed=seed))
            await asyncio.sleep(0)

    writing = asyncio.create_task(write())
    await asyncio.sleep(0.1)
    for number in range(5):
        file = tmp_path / f"backup{number}.db"
        settings = made_settings(data_dir=tmp_path)
        await asyncio.to_thread(backup_store, settings, quiet(), file)
        copied = Store(file_url(file))
        found = await read(copied)
        volumes = {tuple(bars(1_000, seed=seed).volume.tolist()) for seed in range(1, 400)}
        assert len(found) in (0, 1_000)
        assert not len(found) or tuple(found.volume.tolist()) in volumes
        await copied.close()
    goes_on = False
    await writing
    await store.close()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda s, f: backup_store(s, quiet(), f / "store.db"), "is there already"),
        (lambda s, f: backup_store(s, quiet(), f / "no" / "x.db"), "no folder"),
        (lambda s, f: restore_store(s, quiet(), f / "none.db", not_asked), "no file"),
        (
            lambda s, f: restore_store(s, quiet(), f / "text.db", agreed),
            r"text\.db is damaged \([^)]*\)$",
        ),
        (lambda s, f: copy_store(s, quiet(), "sqlite:///none.db", "sqlite:///x.db"), "no store"),
        (lambda s, f: copy_store(s, quiet(), "", ""), "same store"),
    ],
)
def test_what_cannot_be_moved_is_said_in_one_line(call: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database at all\n" * 300)
    asyncio.run(_touch(tmp_path / "store.db"))

    with pytest.raises(ConfigError, match=said):
        call(made_settings(data_dir=tmp_path), tmp_path)


async def _touch(path: Path) -> None:
    store = Store(file_url(path))
    await store.migrate()
    await store.close()


async def test_the_start_says_where_the_store_is(url: URL, tmp_path: Path) -> None:
    said = await describe_store(settings_for(url, tmp_path))
    many = made_settings(
        data_dir=tmp_path,
        database_url=url.render_as_string(hide_password=False),
        store_pool_size=5_000,
    )

    if url.get_backend_name() == "sqlite":
        assert "survives kill -9, not a power cut" in said
    else:
        assert "of the server's" in said
        assert "lower FINSTAGE_STORE_POOL_SIZE" in await describe_store(many)


# -- files of users ----------------------------------------------------------------------------

_CSV = """Date,Open,High,Low,Close,Adj Close,Volume
2024-03-05,10,12,9,11,11,100
2024-03-05,10,12,9,11,11,100
2024-03-07,-10,12,9,11,11,100
2024-03-06,11,13,9,12,12,100
2124-03-08,11,13,9,12,12,100
"""


async def test_an_import_reports_each_row_and_is_served_from_the_store(
    url: URL, tmp_path: Path
) -> None:
    file, console, settings = tmp_path / "own.csv", quiet(), settings_for(url, tmp_path)
    file.write_text(_CSV)

    def imported(dry_run: bool) -> int:
        return import_file(settings, console, file, "own", "1d", "", dry_run)

    assert await asyncio.to_thread(imported, True) == 0
    store = Store(url)
    assert len(await read(store, "OWN")) == 0
    assert await asyncio.to_thread(imported, False) == 0
    assert await asyncio.to_thread(imported, False) == 0
    said = printed(console)

    assert len(await read(store, "OWN")) == 2
    assert "line 3: the same time as line 2" in said
    assert "line 4: open -10 is not above 0" in said
    assert "line 6: the time is in the future" in said
    assert "2 (0 new, 2 there already)" in said
    assert "Adj Close" in said
    latest = await store.read(lambda unit: unit.imports.latest())
    assert set(latest) == {("OWN", "1d")}
    await store.close()


async def test_what_is_exported_can_be_imported(url: URL, tmp_path: Path) -> None:
    store, settings = Store(url), settings_for(url, tmp_path)
    await fill(store)
    file = tmp_path / "out.csv.gz"

    await asyncio.to_thread(export_file, settings, quiet(), file, "aapl", "1d", "")
    await asyncio.to_thread(import_file, settings, quiet(), file, "COPY", "1d", "", False)

    assert same(await read(store, "COPY"), bars(2_500))
    with pytest.raises(ConfigError, match="there are 1d of yahoo"):
        await asyncio.to_thread(
            export_file, settings, quiet(), tmp_path / "1m.csv", "aapl", "1m", ""
        )
    await store.close()


async def test_an_export_of_more_than_a_question_has_time_for_is_whole(
    url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, settings = Store(url), settings_for(url, tmp_path)
    await fill(store)
    file, out = tmp_path / "out.csv", quiet()
    monkeypatch.setattr("infra.db.bulk.PAGE_ROWS", 1_000)
    asked = Store.read

    async def hurried(self: Store, work: Any, limit: Limit = QUESTION) -> Any:
        assert limit == BULK
        assert not file.exists()  # or an error after it would be told of a file that is there
        return await asked(self, work, limit)

    monkeypatch.setattr(Store, "read", hurried)
    await asyncio.to_thread(export_file, settings, out, file, "aapl", "1d", "")

    assert "2,500 bars of AAPL at 1d" in printed(out)
    assert len(file.read_text().splitlines()) == 2_501
    await store.close()


async def test_an_import_says_what_is_shown_only_once_the_replay_gets_there(
    url: URL, tmp_path: Path
) -> None:
    file, console, settings = tmp_path / "own.csv", quiet(), settings_for(url, tmp_path)
    lines = ["1980-12-12,10,12,9,11,100", *(f"2024-03-0{n},10,12,9,11,100" for n in range(4, 9))]
    file.write_text("\n".join(["date,open,high,low,close,volume", *lines]))

    assert (
        await asyncio.to_thread(import_file, settings, console, file, "aapl", "1d", "", True) == 0
    )

    said = printed(console)
    assert "5 of 6 bars lie after 2012-08-29, where the clock of 'replay' stands" in said
    assert "MYAAPL" in said
    console = quiet()
    await asyncio.to_thread(import_file, settings, console, file, "myaapl", "1d", "", False)
    assert "lie after" not in printed(console)
    assert "served as source 'import'" in printed(console)


async def test_a_dry_run_does_not_say_that_anything_is_served(url: URL, tmp_path: Path) -> None:
    file, console, settings = tmp_path / "own.csv", quiet(), settings_for(url, tmp_path)
    file.write_text(_CSV)

    for symbol in ("own", "aapl"):
        await asyncio.to_thread(import_file, settings, console, file, symbol, "1d", "", True)

    assert "nothing written" in printed(console)
    assert "served" not in printed(console)


async def test_an_import_stands_though_it_cannot_be_said_as_what_it_is_served(
    url: URL, tmp_path: Path
) -> None:
    file, console, settings = tmp_path / "own.csv", quiet(), settings_for(url, tmp_path)
    file.write_text(_CSV)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    (settings.run_dir / "state.json").write_bytes(b"{")

    done = await asyncio.to_thread(import_file, settings, console, file, "own", "1d", "", False)

    assert done == 0
    assert "cannot be said" in printed(console)
    assert "state.json is damaged" in printed(console)
    store = Store(url)
    assert len(await read(store, "OWN")) == 2
    await store.close()


async def test_an_import_is_deleted_by_the_command_line(url: URL, tmp_path: Path) -> None:
    file, console, settings = tmp_path / "own.csv", quiet(), settings_for(url, tmp_path)
    file.write_text(_CSV)
    await asyncio.to_thread(import_file, settings, console, file, "own", "1d", "", False)

    assert await asyncio.to_thread(delete_bars, settings, console, "own", "") == 0

    assert "OWN 1d: 2 imported bars deleted" in printed(console)
    store = Store(url)
    assert len(await read(store, "OWN")) == 0
    await store.close()
    with pytest.raises(ConfigError, match="nothing is imported of OWN"):
        await asyncio.to_thread(delete_bars, settings, console, "own", "")


def test_a_file_that_unpacks_to_gigabytes_is_one_line_and_exit_2(tmp_path: Path) -> None:
    zeros, field = tmp_path / "zeros.csv.gz", tmp_path / "field.csv"
    zeros.write_bytes(gzip.compress(b"\0" * 2**24) * 20)
    field.write_bytes(b"date,open,high,low,close\n2024-03-05," + b"1" * 50 * 2**20)
    env = environment(tmp_path)

    for file, line in ((zeros, 1), (field, 2)):
        done = run_finstage("import", str(file), "--symbol", "OWN", "--dry-run", env=env)

        assert done.returncode == 2
        (said,) = done.stderr.splitlines()
        assert f"{file.name}: the row up to line {line} is longer than 65,536" in said
