"""The store does the same on both databases: migrations, units of work, each repository."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from infra.bars import IMPORT, NS_PER_DAY, Bars
from infra.db import bulk
from infra.db.analyses import Analysis
from infra.db.bulk import delete_import, import_bars, upsert_bars
from infra.db.contents import Content
from infra.db.high_records import Record
from infra.db.import_reader import ImportReader
from infra.db.imports import Import
from infra.db.signals import Outcome, StoredSignal
from infra.db.slow_queries import SlowQueryLog
from infra.db.snapshots import Snapshot
from infra.db.store import Store
from infra.db.stored_bars import as_bars
from infra.db.tables import metadata
from infra.db.unit import Unit
from infra.db.version import BASE
from infra.errors import NotImported, StoreUnavailable
from tests.databases import KINDS, database
from tests.service import wait_until

NOW = datetime(2026, 3, 4, 15, 30, 12, 345678, tzinfo=UTC)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with database(request.param, tmp_path) as url:
        made = Store(url)
        await made.migrate()
        yield made
        assert made.in_use == 0, "a connection was not given back"
        await made.close()


def bars(count: int, first_day: int = 15_000, seed: int = 1) -> Bars:
    draws = np.random.default_rng(seed)
    prices = draws.uniform(1, 1_000, (4, count))
    return Bars(
        (first_day + np.arange(count, dtype=np.int64)) * NS_PER_DAY,
        prices[0],
        prices.max(axis=0),
        prices.min(axis=0),
        prices[3],
        draws.integers(0, 2**50, count),
    )


def same(first: Bars, second: Bars) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in Bars.__slots__
    )


async def read(store: Store, symbol: str = "AAPL", interval: str = "1d") -> Bars:
    return await store.read(lambda unit: unit.bars.read(symbol, interval))


# -- migrations --------------------------------------------------------------------------------


async def test_migrations_make_the_tables_that_the_code_knows(store: Store) -> None:
    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async def compare(unit: Unit) -> list[object]:
        return await unit.connection.run_sync(differences)

    assert await store.read(compare) == []


async def test_migrations_go_down_and_up_again(store: Store) -> None:
    async def tables(unit: Unit) -> list[str]:
        return await unit.connection.run_sync(lambda c: inspect(c).get_table_names())

    bare = Store(store.url, tables_needed=False)
    _, base = await bare.migrate(BASE)
    left = await bare.read(tables)
    before, after = await bare.migrate()

    assert (base, before) == (None, None)
    assert set(left) <= {"alembic_version"}
    assert after is not None
    assert set(metadata.tables) <= set(await bare.read(tables))
    await bare.close()


async def test_alerts_logged_before_are_kept_with_their_cool_downs(store: Store) -> None:
    bare = Store(store.url, tables_needed=False)
    await bare.migrate(BASE)
    await bare.migrate("0003")
    row = (
        "insert into price_alert_logs (symbol, alert_type, base_type, base_price, base_time,"
        " current_price, threshold_percent, actual_percent, source, triggered_at) values"
        " ('AAPL', 'price_rise', 'prev_close', 10.0, '2026-03-04 15:30:00.000000', 11.0, 3.0,"
        " 10.0, 'yahoo', '2026-03-04 15:30:00.000000')"
    )
    await bare.write(lambda unit: unit.connection.exec_driver_sql(row))
    await bare.migrate()

    ((_, alert),) = await bare.read(lambda unit: unit.alerts.after(0, 10))
    (state,) = await bare.read(lambda unit: unit.alerts.states("yahoo"))

    at = datetime(2026, 3, 4, 15, 30, tzinfo=UTC)
    assert (alert.symbol, alert.rule_id, alert.current_price) == ("AAPL", "price_rise", 11.0)
    assert (alert.triggered_at, state.fired_at) == (at, at)
    await bare.close()


async def test_migrating_twice_at_once_is_migrating_once(tmp_path: Path) -> None:
    for kind in KINDS:
        async with database(kind, tmp_path) as url:
            stores = [Store(url), Store(url)]
            done = await asyncio.gather(*(store.migrate() for store in stores))
            assert [before for before, _ in done].count(None) == 1
            await asyncio.gather(*(store.close() for store in stores))


_MIGRATE = """
import asyncio, sys
from sqlalchemy import make_url
from infra.db.store import Store
async def main():
    store = Store(make_url(sys.argv[1]))
    before, after = await store.migrate()
    print("made" if before is None else "found")
    await store.close()
asyncio.run(main())
"""


async def test_of_several_processes_one_migrates(tmp_path: Path) -> None:
    for kind in KINDS:
        async with database(kind, tmp_path) as url:
            given = (sys.executable, "-c", _MIGRATE, url.render_as_string(hide_password=False))
            started = [
                await asyncio.create_subprocess_exec(*given, stdout=asyncio.subprocess.PIPE)
                for _ in range(4)
            ]
            told = [(await process.communicate())[0].decode().strip() for process in started]
            assert sorted(told) == ["found", "found", "found", "made"], kind


async def test_without_tables_the_store_says_so(tmp_path: Path) -> None:
    for kind in KINDS:
        async with database(kind, tmp_path) as url:
            store = Store(url)
            with pytest.raises(StoreUnavailable, match="not there yet"):
                await store.ping()
            await store.migrate()
            await store.ping()
            await store.close()


# -- units of work -----------------------------------------------------------------------------


async def test_work_that_raises_leaves_nothing(store: Store) -> None:
    async def fail(unit: Unit) -> None:
        await unit.bars.upsert("AAPL", "1d", "yahoo", bars(3))
        raise KeyError("afterwards")

    with pytest.raises(KeyError):
        await store.write(fail)

    assert len(await read(store)) == 0


async def test_work_that_is_cancelled_leaves_nothing_and_gives_its_connection_back(
    store: Store,
) -> None:
    reached = asyncio.Event()

    async def hang(unit: Unit) -> None:
        await unit.bars.upsert("AAPL", "1d", "yahoo", bars(3))
        reached.set()
        await asyncio.Event().wait()

    work = asyncio.create_task(store.write(hang))
    await reached.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert len(await read(store)) == 0
    # It is undone in its own time.
    await asyncio.to_thread(wait_until, lambda: store.in_use == 0, 2, "its connection")


async def test_many_readers_and_writers_at_once_all_get_their_turn(store: Store) -> None:
    async def one(number: int) -> None:
        symbol = f"S{number}"
        await upsert_bars(store, symbol, "1d", "yahoo", bars(50, seed=number))
        assert same(await read(store, symbol), bars(50, seed=number))

    await asyncio.gather(*(one(number) for number in range(40)))

    assert store.in_use == 0


# -- bars --------------------------------------------------------------------------------------


async def test_bars_come_back_as_they_went(store: Store) -> None:
    given = bars(2_500)
    steps: list[int] = []

    count = await upsert_bars(store, "^IXIC", "1d", "yahoo", given, steps.append)

    assert count == 2_500
    assert steps == [1_000, 2_000, 2_500]
    assert same(await read(store, "^IXIC"), given)


async def test_symbols_that_differ_in_capitals_are_two(store: Store) -> None:
    await upsert_bars(store, "BRK-b", "1d", "yahoo", bars(1, seed=1))
    await upsert_bars(store, "BRK-B", "1d", "yahoo", bars(1, seed=2))

    assert same(await read(store, "BRK-b"), bars(1, seed=1))


async def test_a_span_starts_with_its_start_and_ends_before_its_end(store: Store) -> None:
    given = bars(10)
    await upsert_bars(store, "AAPL", "1d", "yahoo", given)
    start_ns, end_ns = (int(given.opened_at_ns[row]) for row in (2, 5))

    found = await store.read(lambda unit: unit.bars.read("AAPL", "1d", start_ns, end_ns))

    assert same(found, given[2:5])


async def test_the_same_bars_again_are_no_revision_and_others_are(store: Store) -> None:
    given = bars(5)
    changed = replace(given, volume=given.volume + 1)
    for _ in range(2):
        await upsert_bars(store, "AAPL", "1d", "yahoo", given)
    await upsert_bars(store, "AAPL", "1d", "yahoo", changed[:2])

    (held,) = await store.read(lambda unit: unit.bars.coverage("AAPL"))

    assert (held.count, held.revised, held.last_revision) == (5, 2, 1)
    assert (await read(store)).volume.tolist() == [*changed.volume[:2], *given.volume[2:]]


async def test_an_import_fills_what_the_source_has_not_and_replaces_none_of_it(
    store: Store,
) -> None:
    live, mine = bars(4, 15_002, seed=1), bars(4, 15_000, seed=2)
    await upsert_bars(store, "AAPL", "1d", "yahoo", live)

    count = await import_bars(store, "AAPL", "1d", mine)

    assert (count.new, count.kept_live, count.accepted) == (2, 2, 2)
    assert same(await read(store), Bars.concat(mine[:2], live))
    assert (await read(store)).close.tolist()[2:] == live.close.tolist()


async def test_a_source_replaces_an_import(store: Store) -> None:
    await import_bars(store, "AAPL", "1d", bars(3, seed=1))
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(3, seed=2))

    (held,) = await store.read(lambda unit: unit.bars.coverage("AAPL"))

    assert held.source == "yahoo"
    assert same(await read(store), bars(3, seed=2))


async def test_an_import_counts_what_is_new_replaced_and_the_same(store: Store) -> None:
    first, other = bars(3, seed=1), bars(4, seed=2)
    await import_bars(store, "AAPL", "1d", first)
    mixed = Bars.concat(first[:1], other[1:])

    dry = await import_bars(store, "AAPL", "1d", mixed, dry_run=True)
    after_dry = await read(store)
    real = await import_bars(store, "AAPL", "1d", mixed)

    assert (dry.unchanged, dry.replaced, dry.new) == (1, 2, 1)
    assert dry == real
    assert same(after_dry, first)
    assert same(await read(store), mixed)


async def test_coverage_is_by_interval_and_source(store: Store) -> None:
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(3, 15_000))
    await import_bars(store, "AAPL", "1d", bars(2, 14_000))
    await upsert_bars(store, "AAPL", "60m", "yahoo", bars(1, 15_000))

    held = await store.read(lambda unit: unit.bars.coverage("AAPL"))

    assert [(c.interval, c.source, c.count) for c in held] == [
        ("1d", IMPORT, 2),
        ("1d", "yahoo", 3),
        ("60m", "yahoo", 1),
    ]
    assert (held[1].first_at_s, held[1].last_at_s) == (15_000 * 86_400, 15_002 * 86_400)


@pytest.mark.parametrize("count", [0, 7, 8, 20])
async def test_many_bars_are_read_in_pages_of_which_each_has_the_time_of_a_question(
    store: Store, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.db.bulk.PAGE_ROWS", 4)
    pages: list[tuple[int, int]] = []  # rows, and whose thread made columns of them

    def noted(rows: Sequence[Sequence[Any]]) -> Bars:
        pages.append((len(rows), threading.get_ident()))
        return as_bars(rows)

    monkeypatch.setattr("infra.db.bulk.as_bars", noted)
    await import_bars(store, "OWN", "1d", bars(count))
    await upsert_bars(store, "OWN", "1d", "yahoo", bars(5, first_day=14_000))

    found = await ImportReader(store).bars("OWN", "1d")

    assert same(found, bars(count))
    assert [rows for rows, _ in pages] == [4] * (count // 4) + [count % 4]
    assert threading.get_ident() not in {thread for _, thread in pages}
    assert same(await bulk.read_bars(store, "OWN", "1d"), await read(store, "OWN"))


async def test_one_year_is_read_by_the_key(store: Store) -> None:
    for symbol in ("AAPL", "IBM", "MSFT"):
        await upsert_bars(store, symbol, "1d", "yahoo", bars(2_000))
    days = f"opened_at BETWEEN {15_500 * 86_400} AND {15_865 * 86_400}"
    query = f"SELECT close FROM bars WHERE symbol = 'IBM' AND `interval` = '1d' AND {days}"

    async def plan(unit: Unit) -> str:
        explain = "EXPLAIN QUERY PLAN" if store.dialect == "sqlite" else "EXPLAIN"
        rows = await unit.connection.exec_driver_sql(f"{explain} {query} ORDER BY opened_at")
        return str(rows.mappings().all())

    said = await store.read(plan)

    assert "USING PRIMARY KEY" in said or "'key': 'PRIMARY'" in said, said
    assert "'type': 'range'" in said or "opened_at>" in said, said
    assert "filesort" not in said
    assert "TEMP B-TREE" not in said


# -- the other tables --------------------------------------------------------------------------


def snapshot(**values: object) -> Snapshot:
    empty = Snapshot("AAPL", "yahoo", "2026-03-03", None, None, None, None, NOW, NOW)
    return replace(empty, **values)  # type: ignore[arg-type]


async def test_three_jobs_fill_one_snapshot(store: Store) -> None:
    for part in ({"close": 10.5}, {"high": 11.0}, {"low": 9.5, "volume": 2**40}):
        made = snapshot(**part)
        await store.write(lambda unit, made=made: unit.snapshots.put([made]))  # type: ignore[misc]
    await store.write(lambda unit: unit.snapshots.put([snapshot(session="2026-03-02", close=1.0)]))
    await store.write(lambda unit: unit.snapshots.put([snapshot(source="replay", close=2.0)]))

    found = await store.read(lambda unit: unit.snapshots.latest("yahoo"))

    assert found == {"AAPL": snapshot(close=10.5, high=11.0, low=9.5, volume=2**40)}
    assert await store.read(lambda unit: unit.snapshots.latest("yahoo", ["MSFT"])) == {}


async def test_the_last_record_holds_though_it_is_lower(store: Store) -> None:
    first = Record("AAPL", "yahoo", "high", 700.0, "2012-09-19", "first", NOW, NOW)
    split = replace(first, price=100.0, reason="rebased")
    low = replace(first, kind="low", price=0.2)
    for made in (first, low, split):
        await store.write(lambda unit, made=made: unit.high_records.append([made]))  # type: ignore[misc]

    found = await store.read(lambda unit: unit.high_records.latest("yahoo", ["AAPL"]))

    assert found == {("AAPL", "high"): split, ("AAPL", "low"): low}


async def test_an_analysis_of_the_same_bar_is_replaced(store: Store) -> None:
    first = Analysis("AAPL", "1d", "yahoo", NOW, "v1", '{"a":1}', NOW)
    second = replace(first, data_version="v2", body='{"a":"é😀"}')
    for made in (first, second):
        await store.write(lambda unit, made=made: unit.analyses.put([made]))  # type: ignore[misc]

    assert await store.read(lambda unit: unit.analyses.latest("AAPL", "1d", "yahoo")) == second


async def test_a_link_is_kept_once(store: Store) -> None:
    article = Content(
        "AAPL", "yahoo", "https://x.example/" + "a" * 900, "Tim 😀", None, "P", "en", 0.5, NOW, NOW
    )
    other = replace(article, url="https://x.example/b", published_at=NOW - timedelta(days=1))

    added = await store.write(lambda unit: unit.contents.add([article, other, article]))
    again = await store.write(lambda unit: unit.contents.add([replace(article, title="new")]))

    assert (added, again) == (2, 0)
    assert await store.read(lambda unit: unit.contents.latest("AAPL", 10)) == [article, other]
    known = await store.read(lambda unit: unit.contents.known("yahoo", [article.url, "https://c"]))
    assert known == {article.url}


async def test_imports_are_noticed_by_their_number(store: Store) -> None:
    made = Import("OWN", "1d", "own.csv", 3, 0, 1, NOW)
    await store.write(lambda unit: unit.imports.append(made))
    first = await store.read(lambda unit: unit.imports.latest())
    await store.write(lambda unit: unit.imports.append(made))

    later = await store.read(lambda unit: unit.imports.latest(first["OWN", "1d"].id))

    assert later["OWN", "1d"].id > first["OWN", "1d"].id
    assert await store.read(lambda unit: unit.imports.latest(later["OWN", "1d"].id)) == {}


async def test_what_was_imported_is_deleted_and_the_sources_bars_stay(store: Store) -> None:
    own = bars(2_500)
    await store.write(lambda unit: unit.bars.upsert("OWN", "1d", "replay", own[:100]))
    await import_bars(store, "OWN", "1d", own)
    await import_bars(store, "OWN", "15m", own[:10])
    await store.write(lambda unit: unit.imports.append(Import("OWN", "1d", "a", 1, 0, 0, NOW)))

    with pytest.raises(NotImported, match="OWN 60m"):
        await delete_import(store, "OWN", ("60m",), NOW)
    counts = await delete_import(store, "OWN", (), NOW)

    assert counts == {"15m": 10, "1d": 2_400}
    held = await store.read(lambda unit: unit.bars.coverage("OWN"))
    assert [(c.interval, c.source, c.count) for c in held] == [("1d", "replay", 100)]
    latest = await store.read(lambda unit: unit.imports.latest())
    assert [last.is_there for last in latest.values()] == [False, False]
    with pytest.raises(NotImported):
        await delete_import(store, "OWN", (), NOW)


async def test_slow_queries_are_found_and_purged(store: Store) -> None:
    log = SlowQueryLog("abc", "SELECT ?", 1.5, 3, "bars,imports", "SELECT", "feed-1", NOW, NOW)
    old = replace(log, execution_timestamp=NOW - timedelta(days=31))
    await store.write(lambda unit: unit.slow_queries.append([log, old]))
    since = NOW - timedelta(hours=1)

    found = await store.read(
        lambda unit: unit.slow_queries.since(since, 10, 1.0, "select", "imports")
    )
    gone = await store.write(lambda unit: unit.slow_queries.purge(NOW - timedelta(days=30)))

    assert found == [log]
    assert gone == 1
    assert await store.read(lambda unit: unit.slow_queries.since(since, 10, 1.6)) == []


async def test_a_signal_is_kept_once_and_followed_until_it_is_complete(store: Store) -> None:
    first = StoredSignal("AAPL", "yahoo", "golden_cross", "1d", NOW, 10.0, 9.0, 1.5, 2**40, NOW)
    other = replace(first, signal_type="dead_cross")
    added = await store.write(lambda unit: unit.signals.add([first, other, first]))
    again = await store.write(lambda unit: unit.signals.add([replace(first, current_price=1.0)]))
    found = await store.read(lambda unit: unit.signals.latest("yahoo", "AAPL", "golden_cross"))
    ((number, kept),) = found

    assert (added, again, kept) == (2, 0, first)
    followed = Outcome(number, {"1d": 11.0}, {"1d": 10.0}, 12.0, -1.0, False, NOW)
    await store.write(lambda unit: unit.signals.put_outcomes([followed]))
    waiting = await store.read(lambda unit: unit.signals.open("yahoo", 10))
    done = replace(followed, returns={"1d": 10.0, "1w": -2.0}, is_complete=True)
    await store.write(lambda unit: unit.signals.put_outcomes([done]))

    assert len(waiting) == 2
    assert [s for _, s in await store.read(lambda unit: unit.signals.open("yahoo", 10))] == [other]
    assert await store.read(lambda unit: unit.signals.outcome(number)) == done
    assert await store.read(lambda unit: unit.signals.outcome(999)) is None
    day, week = await store.read(lambda unit: unit.signals.performance("yahoo"))
    assert (day.horizon, day.samples, day.success_rate, day.mean_return) == ("1d", 1, 100.0, 10.0)
    assert (week.horizon, week.success_rate, week.worst_return) == ("1w", 0.0, -2.0)


# -- the watch ---------------------------------------------------------------------------------


async def test_the_watch_counts_what_was_done(store: Store) -> None:
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(random.randrange(1, 50)))
    store.watch.reset()
    for _ in range(3):
        await read(store)

    report = store.report("test")
    (stats,) = [q for q in report.queries if q.operation == "SELECT" and "bars" in q.tables]

    assert stats.execution_count == 3
    assert 0 < stats.min_s <= stats.total_s / 3 <= stats.max_s
    assert report.pool.checked_out == 0
    assert report.pool.checkouts == report.pool.checkins > 0
