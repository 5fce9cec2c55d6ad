"""What queries cost is counted where they run, and the slow ones are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.clock import FakeClock
from infra.db.bulk import upsert_bars
from infra.db.index_advice import IndexInfo, TableInfo, advice, conditions, table_infos
from infra.db.slow_queries import SlowQueryLog
from infra.db.store import Store
from infra.db.watch import QueryWatch, template
from serve.rest.database import merged
from tests.contract.test_store import bars, read
from tests.databases import KINDS, database

NOW = datetime.now(UTC)


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    async with database(request.param, tmp_path) as url:
        made = Store(url, slow_query_s=0.0)  # so that every query is slow
        await made.migrate()
        yield made
        await made.close()


async def test_slow_queries_are_kept_once_and_beget_no_others(store: Store) -> None:
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(10))
    await read(store)
    await store.keep_slow_queries("test-1")
    await store.keep_slow_queries("test-1")
    await store.keep_slow_queries("test-1")

    since = NOW - timedelta(hours=1)
    logs = await store.read(lambda unit: unit.slow_queries.since(since, 1_000))
    selects = [log for log in logs if log.operation_type == "SELECT" and "bars" in log.table_names]

    assert len(selects) == 1
    assert selects[0].process == "test-1"
    assert selects[0].duration > 0
    assert not [log for log in logs if "slow_query_logs" in log.table_names]
    assert [log for log in logs if log.operation_type == "INSERT" and log.table_names == "bars"]


async def test_tables_are_described_as_the_database_has_them(store: Store) -> None:
    await upsert_bars(store, "AAPL", "1d", "yahoo", bars(10))

    found = {table.table: table for table in await store.read(table_infos)}

    assert found["bars"].rows == 10
    assert found["bars"].indexes[0].columns == ("symbol", "interval", "opened_at")
    names = {index.columns for index in found["contents"].indexes}
    assert {("source", "link_hash"), ("symbol", "published_at"), ("id",)} <= names


def test_literals_and_layout_make_no_new_kind() -> None:
    texts = [
        "SELECT close FROM bars WHERE symbol = 'A''B' AND opened_at > 17",
        "select close\n  from bars where symbol = 'MSFT' and opened_at > 1234.5",
    ]

    assert len({template(text) for text in texts}) == 1
    assert template("INSERT INTO t VALUES (?, ?, ?)") == template("INSERT INTO t VALUES (?)")


def test_what_several_processes_counted_is_one_row() -> None:
    watches = [QueryWatch(FakeClock(), slow_s=1.0) for _ in range(2)]
    for number, watch in enumerate(watches):
        watch.note("SELECT 1 FROM bars", 0.5 + number, 3)
        watch.note("SELECT 2 FROM imports", 2.0, 0)

    rows = {row.tables: row for row in merged(q for w in watches for q in w.report("x").queries)}

    one = rows[("bars",)]
    assert (one.execution_count, one.total_s, one.min_s, one.max_s) == (2, 2.0, 0.5, 1.5)
    assert (one.slow_count, one.affected_rows) == (1, 6)
    assert [len(watch.take_slow()) for watch in watches] == [1, 2]
    assert watches[0].take_slow() == []


# -- index advice ------------------------------------------------------------------------------

_TABLES = [
    TableInfo("contents", 5, (IndexInfo("PRIMARY", ("id",), True),)),
    TableInfo("bars", 5, (IndexInfo("PRIMARY", ("symbol", "interval", "opened_at"), True),)),
]
_LOG = SlowQueryLog(
    "abc", "SELECT TITLE FROM CONTENTS WHERE CONTENTS.LANGUAGE = ? ORDER BY ID", 2.5, 0,
    "contents", "SELECT", "x", NOW, NOW,
)  # fmt: skip


def test_an_index_is_advised_where_none_begins_with_what_was_looked_for() -> None:
    (found,) = advice([_LOG, _LOG], _TABLES)

    assert (found.table, found.columns) == ("contents", ("language",))
    assert "took 2.50 s" in found.reason
    assert found.sql == "CREATE INDEX ix_contents_language ON contents (language)"


def test_none_is_advised_where_one_is_used_already_or_none_would_help() -> None:
    by_symbol = replace(_LOG, query_template="SELECT 1 FROM BARS WHERE BARS.SYMBOL = ?",
                        table_names="bars")  # fmt: skip
    all_rows = replace(_LOG, query_template="SELECT COUNT(*) FROM CONTENTS")
    other = replace(_LOG, table_names="alembic_version")

    assert advice([by_symbol, all_rows, other], _TABLES) == []


def test_conditions_are_the_columns_of_the_table() -> None:
    text = "SELECT A FROM BARS WHERE BARS.SYMBOL = ? AND `INTERVAL` IN (?) AND X.FOO > 1 LIMIT 3"

    assert conditions(text, "bars") == ("symbol", "interval")
