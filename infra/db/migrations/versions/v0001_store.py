"""The first tables: bars, imports, records, alerts, analyses, news, slow queries."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from infra.db.types import Number, UtcTime, code, long_text

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "if_not_exists": True,  # MySQL keeps what was made before a failure
}
_TABLES = (
    "bars",
    "imports",
    "price_snapshots",
    "price_high_records",
    "price_alert_logs",
    "analyses",
    "contents",
    "slow_query_logs",
)


def _id() -> sa.Column[int]:
    return sa.Column(
        "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True
    )


def _needed(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=False)


def _optional(name: str, type_: Any) -> sa.Column[Any]:
    return sa.Column(name, type_, nullable=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "bars",
        _needed("symbol", code(32)),
        _needed("interval", code(4)),
        sa.Column("opened_at", sa.BigInteger(), autoincrement=False, nullable=False),
        _needed("open", Number()),
        _needed("high", Number()),
        _needed("low", Number()),
        _needed("close", Number()),
        _needed("volume", sa.BigInteger()),
        _needed("source", code(32)),
        _needed("revision", sa.Integer()),
        sa.PrimaryKeyConstraint("symbol", "interval", "opened_at"),
        sqlite_with_rowid=False,
        **_OPTIONS,
    )
    op.create_table(
        "imports",
        _id(),
        _needed("symbol", code(32)),
        _needed("interval", code(4)),
        _needed("file_name", sa.String(255)),
        _needed("accepted", sa.Integer()),
        _needed("replaced", sa.Integer()),
        _needed("refused", sa.Integer()),
        _needed("imported_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_imports_symbol_interval", "symbol", "interval"),
        **_OPTIONS,
    )
    op.create_table(
        "price_snapshots",
        _id(),
        _needed("symbol", code(32)),
        _needed("source", code(32)),
        _needed("session", code(10)),
        _optional("close", Number()),
        _optional("high", Number()),
        _optional("low", Number()),
        _optional("volume", sa.BigInteger()),
        _needed("snapshot_at", UtcTime()),
        _needed("created_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "symbol", "source", "session", name="uq_price_snapshots_symbol_source_session"
        ),
        **_OPTIONS,
    )
    op.create_table(
        "price_high_records",
        _id(),
        _needed("symbol", code(32)),
        _needed("source", code(32)),
        _needed("kind", code(4)),
        _needed("price", Number()),
        _needed("session", code(10)),
        _needed("reason", code(8)),
        _needed("recorded_at", UtcTime()),
        _needed("created_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_price_high_records_symbol_source_kind_id", "symbol", "source", "kind", "id"),
        **_OPTIONS,
    )
    op.create_table(
        "price_alert_logs",
        _id(),
        _needed("symbol", code(32)),
        _needed("alert_type", code(32)),
        _needed("base_type", code(32)),
        _needed("base_price", Number()),
        _needed("base_time", UtcTime()),
        _needed("current_price", Number()),
        _needed("threshold_percent", Number()),
        _needed("actual_percent", Number()),
        _needed("source", code(32)),
        _needed("triggered_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.Index(
            "ix_price_alert_logs_newest", "symbol", "alert_type", "base_type", "triggered_at"
        ),
        sa.Index("ix_price_alert_logs_triggered_at", "triggered_at"),
        **_OPTIONS,
    )
    op.create_table(
        "analyses",
        _id(),
        _needed("symbol", code(32)),
        _needed("interval", code(4)),
        _needed("source", code(32)),
        _needed("as_of", UtcTime()),
        _needed("data_version", code(64)),
        _needed("body", long_text()),
        _needed("created_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("symbol", "interval", "source", "as_of", name="uq_analyses_as_of"),
        **_OPTIONS,
    )
    op.create_table(
        "contents",
        _id(),
        _needed("symbol", code(32)),
        _needed("source", code(32)),
        _needed("link_hash", code(64)),
        _needed("url", long_text()),
        _needed("title", long_text()),
        _optional("summary", long_text()),
        _optional("publisher", sa.String(255)),
        _optional("language", code(8)),
        _optional("sentiment", Number()),
        _needed("published_at", UtcTime()),
        _needed("crawled_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source", "link_hash", name="uq_contents_source_link_hash"),
        sa.Index("ix_contents_symbol_published_at", "symbol", "published_at"),
        sa.Index("ix_contents_published_at", "published_at"),
        **_OPTIONS,
    )
    op.create_table(
        "slow_query_logs",
        _id(),
        _needed("query_hash", code(32)),
        _needed("query_template", long_text()),
        _needed("duration", Number()),
        _needed("affected_rows", sa.Integer()),
        _optional("table_names", sa.String(500)),
        _optional("operation_type", code(20)),
        _needed("process", code(64)),
        _needed("execution_timestamp", UtcTime()),
        _needed("created_at", UtcTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_slow_query_logs_hash_time", "query_hash", "execution_timestamp"),
        sa.Index("ix_slow_query_logs_time", "execution_timestamp"),
        sa.Index("ix_slow_query_logs_duration", "duration"),
        **_OPTIONS,
    )


def downgrade() -> None:
    """Remove the tables, and with them all that they hold."""
    for table in reversed(_TABLES):
        op.drop_table(table, if_exists=True)
