"""A database that fails: tried again where that is safe, else said, and never half written."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, event, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only

from infra.clock import SystemClock
from infra.db.bulk import upsert_bars
from infra.db.engine import PoolShare
from infra.db.imports import Import
from infra.db.store import PING, QUESTION, Limit, Store
from infra.db.stored_bars import rows_of
from infra.db.tables import bars as bars_table
from infra.db.tasks import StoredTask, TaskFilter
from infra.db.unit import Unit
from infra.db.url import shown, store_url
from infra.errors import (
    ChunkFailed,
    ConfigError,
    StoreBusy,
    StoreError,
    StoreExhausted,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
    StoreUnsure,
    StoreVersion,
)
from serve.edge.errors import error_headers
from tests.contract.test_store import bars, read, same
from tests.databases import KINDS, database
from tests.disks import fill, make_room, small_disk
from tests.fakes.tcp_proxy import TcpProxy


class HurriedClock(SystemClock):
    """The machine's clock, with pauses a tenth as long."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / 10)


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    async with TcpProxy("127.0.0.1", 3306) as made:
        yield made


@pytest.fixture
async def store(proxy: TcpProxy, tmp_path: Path) -> AsyncIterator[Store]:
    """A MariaDB behind a way that can be cut."""
    async with database("mysql", tmp_path) as url:
        made = Store(url.set(port=proxy.port), PoolShare(2, 2), HurriedClock())
        await made.migrate()
        yield made
        assert made.in_use == 0
        await made.close()


# -- MySQL -------------------------------------------------------------------------------------


async def test_a_write_goes_through_although_its_connection_is_killed(
    store: Store, proxy: TcpProxy
) -> None:
    await read(store)
    proxy.cut_after = b"INSERT INTO bars"

    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(3_000))

    assert proxy.cut_after is None
    assert same(await read(store), bars(3_000))


async def test_connections_that_died_in_the_pool_are_replaced(
    store: Store, proxy: TcpProxy
) -> None:
    await asyncio.gather(*(read(store) for _ in range(4)))
    proxy.cut()

    assert len(await read(store)) == 0


async def test_a_commit_whose_answer_is_lost_by_a_server_that_goes_is_told_as_unknown(
    store: Store, proxy: TcpProxy
) -> None:
    made = Import("OWN", "1d", "own.csv", 1, 0, 0, datetime.now(UTC))
    proxy.cut_answer_to = b"COMMIT"

    async def work(unit: Unit) -> None:
        if proxy.cut_answer_to is None:  # at the second try
            await proxy.down()
        await unit.imports.append(made)

    with pytest.raises(StoreUnsure, match="did not say") as told:
        await store.write(work)
    assert (told.value.code, told.value.retryable) == ("store_unsure", False)
    await proxy.up()
    await asyncio.sleep(1.1)  # the store is not asked for a second

    assert await store.read(lambda unit: unit.imports.latest()) == {("OWN", "1d"): (1, True)}


async def test_a_commit_whose_answer_is_lost_is_made_again_where_that_is_the_same(
    store: Store, proxy: TcpProxy
) -> None:
    proxy.cut_answer_to = b"COMMIT"

    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(10))

    assert proxy.cut_answer_to is None
    assert same(await read(store), bars(10))


async def test_a_server_that_is_gone_is_said_and_found_again(
    store: Store, proxy: TcpProxy
) -> None:
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(10))
    await proxy.down()

    with pytest.raises(StoreUnavailable, match="does not answer"):
        await read(store)
    asked_at_s = asyncio.get_running_loop().time()
    with pytest.raises(StoreUnavailable):
        await read(store)
    assert asyncio.get_running_loop().time() - asked_at_s < 0.5  # not asked again at once
    await proxy.up()

    for _ in range(100):
        try:
            found = await read(store)
            break
        except StoreUnavailable:
            await asyncio.sleep(0.1)
    assert same(found, bars(10))


async def test_a_bulk_that_dies_halfway_keeps_the_chunks_before_and_can_be_said_again(
    store: Store, proxy: TcpProxy
) -> None:
    committed: list[int] = []

    def progress(rows: int) -> None:
        committed.append(rows)
        if rows == 2_000:
            asyncio.ensure_future(proxy.down())

    with pytest.raises(ChunkFailed) as failed:
        await upsert_bars(store, "AAPL", "1d", "yahoo", bars(4_500), progress)
    await proxy.up()
    await asyncio.sleep(1.1)
    after = len(await read(store))
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(4_500))

    assert failed.value.committed == committed[-1] == failed.value.first_row == after
    assert failed.value.last_row == min(failed.value.first_row + 999, 4_499)
    assert same(await read(store), bars(4_500))


async def test_two_that_deadlock_both_get_done(store: Store) -> None:
    for symbol in ("A", "B"):
        await upsert_bars(store, symbol, "1d", "yahoo", bars(1))
    met = asyncio.Barrier(2)
    first_time = {"A", "B"}

    async def crosswise(mine: str, other: str) -> None:
        async def work(unit: Unit) -> None:
            await unit.bars.upsert(mine, "1d", "yahoo", bars(1, seed=2))
            if mine in first_time:
                first_time.discard(mine)
                await met.wait()
            await unit.bars.upsert(other, "1d", "yahoo", bars(1, seed=2))

        await store.write(work)

    await asyncio.gather(crosswise("A", "B"), crosswise("B", "A"))

    for symbol in ("A", "B"):
        assert same(await read(store, symbol), bars(1, seed=2))
    kinds = store.report("test").queries
    failures = sum(q.failures for q in kinds if q.operation == "INSERT")
    assert failures == 1  # the deadlock happened


async def test_a_pool_that_is_used_up_is_said(tmp_path: Path) -> None:
    async with database("mysql", tmp_path) as url:
        store = Store(url, PoolShare(1, 1, timeout_s=0.1))
        await store.migrate()
        enough = asyncio.Event()
        held = asyncio.Semaphore(0)

        async def hold(unit: Unit) -> None:
            await unit.bars.any()
            held.release()
            await enough.wait()

        holders = [asyncio.create_task(store.read(hold)) for _ in range(2)]
        for _ in holders:
            await held.acquire()
        with pytest.raises(StoreExhausted, match="in use"):
            await read(store)
        enough.set()
        await asyncio.gather(*holders)
        await store.close()


async def test_a_wrong_password_is_said_without_it(tmp_path: Path) -> None:
    async with database("mysql", tmp_path) as url:
        wrong = url.set(username="nobody-here", password="s3cret-word")
        store = Store(wrong)
        with pytest.raises(StoreUnavailable, match="lets nobody in") as refused:
            await store.ping()
        assert "s3cret-word" not in str(refused.value) + shown(wrong)
        await store.close()


# -- SQLite ------------------------------------------------------------------------------------


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(store_url("", tmp_path), clock=HurriedClock())
    await made.migrate()
    yield made
    assert made.in_use == 0
    await made.close()


async def test_a_file_that_another_process_writes_is_waited_for(
    file: Store, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(upsert_bars(file, "AAPL", "1d", "yahoo", bars(5)))
    await asyncio.sleep(0.3)
    assert not writing.done()
    assert len(await read(file)) == 0  # who reads waits for nobody
    other.execute("COMMIT")
    other.close()

    await writing

    assert same(await read(file), bars(5))


async def test_a_file_that_stays_locked_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.db.bulk.BULK", Limit(30.0, 1.0))
    url = store_url("", tmp_path)
    store = Store(url, clock=HurriedClock())
    await store.migrate()
    await store.read(lambda unit: unit.connection.exec_driver_sql("PRAGMA busy_timeout = 20"))
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(ChunkFailed, match="busy"):
        await upsert_bars(store, "AAPL", "1d", "yahoo", bars(5))

    other.close()
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(5))
    await store.close()


async def test_a_full_disk_is_said_and_what_was_there_stays(file: Store, tmp_path: Path) -> None:
    await upsert_bars(file, "AAPL", "1d", "yahoo", bars(1_000))

    async def full(unit: Unit) -> None:
        # The limit is the connection's, as a disk's is everybody's.
        pages = (await unit.connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await unit.connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        await unit.bars.upsert("MSFT", "1d", "yahoo", bars(5_000))

    with pytest.raises(StoreError, match="disk is full"):
        await file.write(full)

    assert same(await read(file), bars(1_000))
    assert len(await read(file, "MSFT")) == 0


async def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_text("these are my holiday photographs\n" * 100)
    store = Store(store_url("", tmp_path))

    with pytest.raises(StoreUnavailable, match="cannot be used"):
        await store.ping()

    await store.close()


async def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    store = Store(store_url(f"sqlite:///{tmp_path}/not-there/store.db", tmp_path))

    with pytest.raises(StoreUnavailable, match="cannot be used"):
        await store.migrate()

    await store.close()


async def test_what_was_committed_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from infra.db.bulk import upsert_bars\n"
        "from infra.db.store import Store\n"
        "from infra.db.url import store_url\n"
        "from tests.contract.test_store import bars\n"
        "async def main():\n"
        "    store = Store(store_url('', Path(sys.argv[1])))\n"
        "    await store.migrate()\n"
        "    def progress(rows):\n"
        "        if rows == 3000: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    await upsert_bars(store, 'AAPL', '1d', 'yahoo', bars(5000), progress)\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path))
    assert await process.wait() == -9

    store = Store(store_url("", tmp_path))
    assert same(await read(store), bars(5_000)[:3_000])
    await store.close()


# -- both --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_a_row_that_does_not_fit_is_refused_and_nothing_of_its_unit_stays(
    kind: str, tmp_path: Path
) -> None:
    async with database(kind, tmp_path) as url:
        store = Store(url)
        await store.migrate()
        twice = rows_of("AAPL", "1d", "yahoo", bars(2)) + rows_of("AAPL", "1d", "yahoo", bars(1))

        async def insert(unit: Unit) -> None:
            columns = [column.name for column in bars_table.columns]
            rows = [dict(zip(columns, row, strict=True)) for row in twice]
            await unit.connection.execute(bars_table.insert(), rows)

        with pytest.raises(StoreRefused, match="^the store does not take this: a value.*already"):
            await store.write(insert)
        assert len(await read(store)) == 0
        await store.close()


@pytest.mark.parametrize("text", ["größe", "заря", "😀", "\ud800", "a\ud800"])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_name_outside_ascii_is_refused_alike_in_our_words_and_found_nowhere(
    kind: str, text: str, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    task = StoredTask(text, "q", 1, text, text, b"{}", 2, "pending", 0, 0, 0, 0.0, None, now, now)
    written: list[Callable[[Unit], Awaitable[Any]]] = [
        lambda unit: unit.tasks.add([task]),
        lambda unit: unit.documents.put("kind", text, {}, now),
    ]
    looked_for: list[Callable[[Unit], Awaitable[Any]]] = [
        lambda unit: unit.tasks.get(text),
        lambda unit: unit.tasks.page(TaskFilter(name=text), 1, 0),
        lambda unit: unit.tasks.count(TaskFilter(name=text)),
        lambda unit: unit.alert_rules.get(text),
        lambda unit: unit.alert_rules.remove(text),
        lambda unit: unit.contents.latest(text, 1),
    ]
    async with database(kind, tmp_path) as url:
        store = Store(url)
        await store.migrate()
        for ask in written:
            with pytest.raises(StoreRefused, match=r"names are ASCII$"):
                await store.write(ask)
        await store.write(
            lambda unit: unit.tasks.add([replace(task, id="a", name="t", target="t")])
        )
        for ask in looked_for:
            assert not await store.write(ask)
        assert await store.read(lambda unit: unit.tasks.states([text, "a"])) == {"a": "pending"}
        await store.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_half_a_character_in_a_text_is_refused(kind: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    task = StoredTask(
        "id", "q", 1, "t", "m:t", b"{}", 2, "pending", 0, 0, 0, 0.0, None, now, now, "\ud800"
    )
    async with database(kind, tmp_path) as url:
        store = Store(url)
        await store.migrate()
        with pytest.raises(StoreRefused, match="half a character"):
            await store.write(lambda unit: unit.tasks.add([task]))
        await store.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_the_database_of_a_later_finstage_is_left_alone(kind: str, tmp_path: Path) -> None:
    async with database(kind, tmp_path) as url:
        store = Store(url)
        await store.migrate()

        async def later(unit: Unit) -> None:
            await unit.connection.exec_driver_sql("UPDATE alembic_version SET version_num='9999'")

        await store.write(later)
        newer = Store(url)
        for attempt in (newer.ping(), newer.migrate()):
            with pytest.raises(StoreVersion, match="run the later Finstage"):
                await attempt
        await store.close()
        await newer.close()


@pytest.mark.parametrize(
    "text",
    ["postgresql://localhost/x", "nonsense", "sqlite://", "mysql+pymysql://h/x", "mysql://h"],
)
def test_a_url_that_is_no_store_stops_the_start(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="database"):
        store_url(text, tmp_path)


@asynccontextmanager
async def locked_table(kind: str, url: URL, folder: Path) -> AsyncIterator[None]:
    """Hold a lock on the alerts, as somebody else's transaction that does not end."""
    if kind == "sqlite":
        other = sqlite3.connect(folder / "store.db", isolation_level=None)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        other.execute("UPDATE alembic_version SET version_num = version_num")
        yield
        other.execute("COMMIT")
        other.close()
        return
    engine = create_async_engine(url)
    async with engine.connect() as connection:
        await connection.execute(text("LOCK TABLES alerts WRITE"))
        yield
        await connection.execute(text("UNLOCK TABLES"))
    await engine.dispose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_locked_table_is_said_within_the_limit_and_answers_again(
    kind: str, tmp_path: Path
) -> None:
    async with database(kind, tmp_path) as url:
        store = Store(url, PoolShare(2, 2))
        await store.migrate()
        if kind == "sqlite":  # whose readers wait for nobody, in its WAL mode
            await store.close()
            with closing(sqlite3.connect(tmp_path / "store.db")) as file:
                file.execute("PRAGMA journal_mode = DELETE")
            store = Store(url, PoolShare(2, 2))
        loop = asyncio.get_running_loop()

        async def asked_s(work: Callable[[], Awaitable[object]]) -> float:
            began_s = loop.time()
            with pytest.raises(StoreBusy, match="busy"):
                await work()
            return loop.time() - began_s

        async with locked_table(kind, url, tmp_path):
            took = await asyncio.gather(
                asked_s(lambda: store.read(lambda unit: unit.alerts.newest())),
                asked_s(lambda: store.write(lambda unit: unit.alerts.newest())),
            )
            pinged_s = await asked_s(store.ping)

        assert max(took) < QUESTION.answer_s + 2
        assert pinged_s < PING.answer_s + 2
        assert await store.read(lambda unit: unit.alerts.newest()) == 0
        await store.ping()
        await store.close()
        assert store.in_use == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_a_question_that_takes_too_long_is_given_up_and_its_connection_comes_back(
    kind: str, tmp_path: Path
) -> None:
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    endless = {"sqlite": count, "mysql": "SELECT SLEEP(600)"}[kind]
    async with database(kind, tmp_path) as url:
        store = Store(url, PoolShare(1, 0))
        await store.migrate()

        with pytest.raises(StoreBusy, match=r"no answer within 0\.5 s"):
            await store.read(
                lambda unit: unit.connection.exec_driver_sql(endless), Limit(0.5, 0.5)
            )

        assert len(await read(store)) == 0  # by the only connection there may be
        await store.close()


async def test_a_caller_that_is_cancelled_waits_for_nothing_and_its_query_ends(
    tmp_path: Path,
) -> None:
    count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    store = Store(store_url("", tmp_path), PoolShare(1, 0))
    await store.migrate()
    is_asked = asyncio.Event()

    async def endless(unit: Unit) -> None:
        is_asked.set()
        await unit.connection.exec_driver_sql(count)

    asking = asyncio.create_task(store.read(endless))
    await is_asked.wait()
    await asyncio.sleep(0.2)  # its thread is at it
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert len(await read(store)) == 0  # by the only connection there may be
    await store.close()


async def test_who_waits_for_a_connection_too_long_is_told_so(tmp_path: Path) -> None:
    store = Store(store_url("", tmp_path), PoolShare(1, 0))
    await store.migrate()
    enough, held = asyncio.Event(), asyncio.Event()

    async def hold(unit: Unit) -> None:
        held.set()
        await enough.wait()

    holder = asyncio.create_task(store.read(hold))
    await held.wait()

    with pytest.raises(StoreExhausted, match="in use since"):
        await store.read(lambda unit: unit.bars.any(), Limit(0.2, 0.2))

    enough.set()
    await holder
    await store.close()


async def test_a_server_that_is_silent_is_said_within_the_limit(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        store = Store(make_url(f"mysql+asyncmy://root@127.0.0.1:{port}/none"))

        with pytest.raises(StoreUnavailable, match="does not answer within"):
            await store.read(lambda unit: unit.bars.any(), Limit(0.3, 0.3))

        await store.close()


async def test_a_work_whose_caller_is_gone_is_undone(tmp_path: Path) -> None:
    store = Store(store_url("", tmp_path))
    await store.migrate()

    async def late(unit: Unit) -> None:
        await unit.bars.upsert("AAPL", "1d", "yahoo", bars(3))
        await asyncio.Event().wait()

    with pytest.raises(StoreBusy):
        await store.write(late, limit=Limit(0.3, 0.3))

    await upsert_bars(store, "MSFT", "1d", "yahoo", bars(1))
    assert len(await read(store, "AAPL")) == 0
    await store.close()


@contextmanager
def slow_commits(store: Store, by_s: float) -> Iterator[None]:
    """Let each commit take so long before it reaches the database."""
    engine = store._engine.sync_engine

    def slow(_: object) -> None:
        await_only(asyncio.sleep(by_s))

    event.listen(engine, "commit", slow)
    try:
        yield
    finally:
        event.remove(engine, "commit", slow)


async def test_a_commit_under_way_at_the_limit_is_waited_for(tmp_path: Path) -> None:
    store = Store(store_url("", tmp_path))
    await store.migrate()

    with slow_commits(store, 0.4):
        await store.write(
            lambda unit: unit.bars.upsert("AAPL", "1d", "yahoo", bars(3)), Limit(0.3, 0.3)
        )

    assert len(await read(store, "AAPL")) == 3
    await store.close()


async def test_a_commit_that_takes_too_long_is_told_as_unknown_and_only_of_what_writes(
    tmp_path: Path,
) -> None:
    store = Store(store_url("", tmp_path))
    await store.migrate()

    with slow_commits(store, 1.0):
        with pytest.raises(StoreUnsure) as told:
            await store.write(
                lambda unit: unit.bars.upsert("AAPL", "1d", "yahoo", bars(3)), Limit(0.3, 0.3)
            )
        assert (told.value.status_code, told.value.retryable) == (503, False)
        assert "retry-after" not in error_headers(told.value)
        with pytest.raises(StoreBusy, match="busy"):
            await store.read(lambda unit: unit.bars.any(), Limit(0.1, 0.1))
        await store.close()  # which waits for what was left

    assert len(await read(store, "AAPL")) == 3
    await store.close()


async def test_a_disk_that_fills_is_said_and_all_that_was_acknowledged_is_there(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path, "6m") as disk:
        store = Store(store_url("", disk))
        await store.migrate()
        await upsert_bars(store, "AAPL", "1d", "yahoo", bars(100))
        fill(disk)

        async def written() -> int:
            count = 0
            while count < 10_000:
                at = datetime.fromtimestamp(count, UTC)
                made = Import(f"OWN{count}", "1d", "own.csv", 1, 0, 0, at)
                await store.write(lambda unit, made=made: unit.imports.append(made))  # type: ignore[misc]
                count += 1
            return count

        with pytest.raises(StoreFull, match="disk is full") as refused:
            await written()
        with pytest.raises(StoreFull):
            await store.write(lambda unit: unit.bars.upsert("MSFT", "1d", "yahoo", bars(2_000)))
        while_full = await store.read(lambda unit: unit.imports.latest())
        assert (refused.value.status_code, refused.value.code) == (503, "store_full")
        assert same(await read(store), bars(100))
        assert len(await read(store, "MSFT")) == 0

        make_room(disk)
        await upsert_bars(store, "MSFT", "1d", "yahoo", bars(100))
        assert await store.read(lambda unit: unit.imports.latest()) == while_full
        assert same(await read(store, "MSFT"), bars(100))
        await store.probe()
        await store.close()
