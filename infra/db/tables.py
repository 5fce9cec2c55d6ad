"""The tables, as the latest migration leaves them. Times are UTC; names of indexes are unique."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)
from sqlalchemy.schema import SchemaItem

from infra.db.types import Json, Number, UtcTime, code, long_text

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
}
_MYSQL = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
}

metadata = MetaData(naming_convention=_NAMES)


def _id() -> Column[int]:
    # SQLite counts by itself only what it calls INTEGER.
    return Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True)


def _table(name: str, *parts: SchemaItem, **options: Any) -> Table:
    made: Table = Table(name, metadata, *parts, **(_MYSQL | options))
    return made


# `opened_at` is Unix seconds: of 1d and longer the session's date at midnight UTC, of shorter
# ones the opening. A number, since a year of bars is read twice as fast without dates to parse.
bars = _table(
    "bars",
    Column("symbol", code(32), primary_key=True),
    Column("interval", code(4), primary_key=True),
    Column("opened_at", BigInteger, primary_key=True, autoincrement=False),
    Column("open", Number, nullable=False),
    Column("high", Number, nullable=False),
    Column("low", Number, nullable=False),
    Column("close", Number, nullable=False),
    Column("volume", BigInteger, nullable=False),
    Column("source", code(32), nullable=False),
    Column("revision", Integer, nullable=False),
    sqlite_with_rowid=False,
)

# One row for each import: what the service looks at to notice new ones.
imports = _table(
    "imports",
    _id(),
    Column("symbol", code(32), nullable=False),
    Column("interval", code(4), nullable=False),
    Column("file_name", String(255), nullable=False),
    Column("accepted", Integer, nullable=False),
    Column("replaced", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("imported_at", UtcTime, nullable=False),
    Index("ix_imports_symbol_interval", "symbol", "interval"),
)

price_snapshots = _table(
    "price_snapshots",
    _id(),
    Column("symbol", code(32), nullable=False),
    Column("source", code(32), nullable=False),
    Column("session", code(10), nullable=False),  # ISO date of the exchange
    Column("close", Number),
    Column("high", Number),
    Column("low", Number),
    Column("volume", BigInteger),
    Column("snapshot_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("symbol", "source", "session"),
)

# Appended to. The latest row is what holds: a split or a new run of a replay lowers a record.
price_high_records = _table(
    "price_high_records",
    _id(),
    Column("symbol", code(32), nullable=False),
    Column("source", code(32), nullable=False),
    Column("kind", code(4), nullable=False),  # high or low
    Column("price", Number, nullable=False),
    Column("session", code(10), nullable=False),
    Column("reason", code(8), nullable=False),  # first, beaten or rebased
    Column("recorded_at", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index("ix_price_high_records_symbol_source_kind_id", "symbol", "source", "kind", "id"),
)

analyses = _table(
    "analyses",
    _id(),
    Column("symbol", code(32), nullable=False),
    Column("interval", code(4), nullable=False),
    Column("source", code(32), nullable=False),
    Column("as_of", UtcTime, nullable=False),
    Column("data_version", code(64), nullable=False),
    Column("body", long_text(), nullable=False),  # JSON, as the API gives it
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("symbol", "interval", "source", "as_of", name="uq_analyses_as_of"),
)

contents = _table(
    "contents",
    _id(),
    Column("symbol", code(32), nullable=False),
    Column("source", code(32), nullable=False),
    Column("link_hash", code(64), nullable=False),  # SHA-256, as links are too long for an index
    Column("url", long_text(), nullable=False),
    Column("title", long_text(), nullable=False),
    Column("summary", long_text()),
    Column("publisher", String(255)),
    Column("language", code(8)),
    Column("sentiment", Number),  # -1 to 1, of English only
    Column("published_at", UtcTime, nullable=False),
    Column("crawled_at", UtcTime, nullable=False),
    UniqueConstraint("source", "link_hash"),
    Index("ix_contents_symbol_published_at", "symbol", "published_at"),
    Index("ix_contents_published_at", "published_at"),
)

slow_query_logs = _table(
    "slow_query_logs",
    _id(),
    Column("query_hash", code(32), nullable=False),
    Column("query_template", long_text(), nullable=False),
    Column("duration", Number, nullable=False),  # seconds
    Column("affected_rows", Integer, nullable=False),
    Column("table_names", String(500)),
    Column("operation_type", code(20)),
    Column("process", code(64), nullable=False),
    Column("execution_timestamp", UtcTime, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index("ix_slow_query_logs_hash_time", "query_hash", "execution_timestamp"),
    Index("ix_slow_query_logs_time", "execution_timestamp"),
    Index("ix_slow_query_logs_duration", "duration"),
)

technical_signals = _table(
    "technical_signals",
    _id(),
    Column("symbol", code(32), nullable=False),
    Column("source", code(32), nullable=False),
    Column("signal_type", code(50), nullable=False),
    Column("timeframe", code(10), nullable=False),
    Column("triggered_at", UtcTime, nullable=False),
    Column("current_price", Number, nullable=False),
    Column("indicator_value", Number),
    Column("signal_strength", Number),
    Column("volume", BigInteger),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint(
        "symbol",
        "source",
        "signal_type",
        "timeframe",
        "triggered_at",
        name="uq_technical_signals_once",
    ),
    Index("ix_technical_signals_symbol_triggered_at", "symbol", "triggered_at"),
    Index("ix_technical_signals_triggered_at", "triggered_at"),
    Index("ix_technical_signals_signal_type", "signal_type"),
)

HORIZONS = ("1h", "4h", "1d", "1w", "1m")

# Returns are percent and adjusted for direction: above 0 the signal was right.
signal_outcomes = _table(
    "signal_outcomes",
    Column(
        "signal_id",
        BigInteger().with_variant(Integer(), "sqlite"),
        ForeignKey(
            "technical_signals.id", name="fk_signal_outcomes_signal_id", ondelete="CASCADE"
        ),
        primary_key=True,
        autoincrement=False,
    ),
    *(Column(f"{name}_{horizon}", Number) for horizon in HORIZONS for name in ("price", "return")),
    Column("max_return", Number),
    Column("max_drawdown", Number),
    Column("is_complete", Integer, nullable=False),
    Column("last_updated_at", UtcTime, nullable=False),
    Index("ix_signal_outcomes_is_complete", "is_complete"),
)

# What is to be told outside, written with what it tells of; each target gets a notice once.
deliveries = _table(
    "deliveries",
    _id(),
    Column("notice_id", code(64), nullable=False),
    Column("target_hash", code(64), nullable=False),  # SHA-256, as URLs are too long for an index
    Column("target", long_text(), nullable=False),
    Column("secret", code(128), nullable=False),
    Column("body", long_text(), nullable=False),  # the notice as JSON
    Column("state", code(8), nullable=False),  # waiting, sent or failed
    Column("tries", Integer, nullable=False),
    Column("next_at", UtcTime, nullable=False),
    Column("last_error", String(255)),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("notice_id", "target_hash", name="uq_deliveries_once"),
    Index("ix_deliveries_state_next_at", "state", "next_at"),
    Index("ix_deliveries_created_at", "created_at"),
)

# Every alert that was given. Their numbers are the order in which they are told.
alerts = _table(
    "alerts",
    _id(),
    Column("rule_id", code(64), nullable=False),
    Column("symbol", code(32), nullable=False),  # empty where it is about the service
    Column("alert_type", code(32), nullable=False),
    Column("base_type", code(32), nullable=False),
    Column("base_price", Number),
    Column("current_price", Number),
    Column("threshold_percent", Number),
    Column("actual_percent", Number),
    Column("severity", code(16), nullable=False),
    Column("message", String(500), nullable=False),
    Column("source", code(32), nullable=False),
    Column("synthetic", Integer, nullable=False),
    Column("traded_at", UtcTime, nullable=False),
    Column("triggered_at", UtcTime, nullable=False),
    Index("ix_alerts_symbol_triggered_at", "symbol", "triggered_at"),
    Index("ix_alerts_triggered_at", "triggered_at"),
)

# When a rule last gave an alert for a symbol: changed in the transaction that gives it, by whoever
# finds it due, so that two who see the same price give one.
alert_states = _table(
    "alert_states",
    Column("source", code(32), primary_key=True),
    Column("rule_id", code(64), primary_key=True),
    Column("symbol", code(32), primary_key=True),
    Column("fired_at", UtcTime, nullable=False),
    Column("session", code(10), nullable=False),  # ISO date, of the last firing
    Column("is_armed", Integer, nullable=False),  # of users' rules: the condition was false since
)

# Rules that users made; their conditions are text.
alert_rules = _table(
    "alert_rules",
    Column("id", code(36), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("symbols", long_text(), nullable=False),  # a JSON list, as `targets`
    Column("expression", long_text(), nullable=False),
    Column("interval", code(4), nullable=False),
    Column("repeat", code(8), nullable=False),  # once or again
    Column("cooldown_s", Number, nullable=False),
    Column("hysteresis_pct", Number, nullable=False),
    Column("severity", code(16), nullable=False),
    Column("targets", long_text(), nullable=False),
    Column("secret", code(128), nullable=False),
    Column("enabled", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Index("ix_alert_rules_created_at", "created_at"),
)

# Background work. A row is there before its caller has the id, and says what is to run: a name and
# JSON, never code. What came of it is another row, written once, so nothing ends twice.
tasks = _table(
    "tasks",
    Column("id", code(36), primary_key=True),
    Column("queue", code(64), nullable=False),
    Column("seq", BigInteger, nullable=False),  # the order in which they came
    Column("name", code(200), nullable=False),
    Column("target", code(300), nullable=False),  # where its function is: module:function
    Column("arguments", Json, nullable=False),  # args and kwargs
    Column("priority", Integer, nullable=False),
    Column("state", code(10), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("losses", Integer, nullable=False),  # tries that ended with the queue or the node
    Column("max_retries", Integer, nullable=False),
    Column("retry_delay_s", Number, nullable=False),
    Column("timeout_s", Number),
    Column("created_at", UtcTime, nullable=False),
    Column("available_at", UtcTime, nullable=False),
    Column("last_error", long_text()),
    Column("unique_key", code(64)),
    Column("idempotency_key", code(64)),
    Column("parent_id", code(36)),
    Column("graph_id", code(36)),
    Column("needs", long_text()),  # JSON: which tasks it waits for, and what it takes of them
    Column("webhook", long_text()),  # JSON: a URL and its secret
    UniqueConstraint("queue", "idempotency_key", name="uq_tasks_idempotency_key"),
    Index("ix_tasks_queue_state", "queue", "state"),
    Index("ix_tasks_created_at", "created_at"),
    Index("ix_tasks_name_created_at", "name", "created_at"),
    Index("ix_tasks_parent_id", "parent_id"),
    Index("ix_tasks_graph_id", "graph_id"),
)

task_outcomes = _table(
    "task_outcomes",
    Column("task_id", code(36), primary_key=True),
    Column("state", code(10), nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime, nullable=False),
    Column("worker", String(100)),
    Column("progress", Number, nullable=False),
    Column("error_code", code(64)),
    Column("error", long_text()),
    Column("result", Json),  # where it is not in a file
    Column("result_file", String(200)),
    Column("result_bytes", BigInteger, nullable=False),
    Index("ix_task_outcomes_finished_at", "finished_at"),
)

# Who runs a queue: one process at a time, which says so every second or so.
task_queues = _table(
    "task_queues",
    Column("queue", code(64), primary_key=True),
    Column("holder", String(300), nullable=False),
    Column("incarnation", code(36), nullable=False),
    Column("beat_at", UtcTime, nullable=False),
)

# What the monitor remembers: the present state of its parts, and what happened, both as JSON. Each
# part is a few kilobytes that one process reads and writes whole.
documents = _table(
    "documents",
    Column("kind", code(40), primary_key=True),
    Column("id", code(100), primary_key=True),
    Column("body", long_text(), nullable=False),
    Column("updated_at", UtcTime, nullable=False),
)

happenings = _table(
    "happenings",
    _id(),
    Column("kind", code(40), nullable=False),
    Column("subject", code(64), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("body", long_text(), nullable=False),
    Index("ix_happenings_kind_at", "kind", "at"),
)
