"""Alerts that were given, and when each may be given again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from infra.db.types import Number, UtcTime, code

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OPTIONS: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    "if_not_exists": True,
}


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "alerts",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True),
        sa.Column("rule_id", code(64), nullable=False),
        sa.Column("symbol", code(32), nullable=False),
        sa.Column("alert_type", code(32), nullable=False),
        sa.Column("base_type", code(32), nullable=False),
        sa.Column("base_price", Number(), nullable=True),
        sa.Column("current_price", Number(), nullable=True),
        sa.Column("threshold_percent", Number(), nullable=True),
        sa.Column("actual_percent", Number(), nullable=True),
        sa.Column("severity", code(16), nullable=False),
        sa.Column("message", sa.String(500), nullable=False),
        sa.Column("source", code(32), nullable=False),
        sa.Column("synthetic", sa.Integer(), nullable=False),
        sa.Column("traded_at", UtcTime(), nullable=False),
        sa.Column("triggered_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_alerts_symbol_triggered_at", "symbol", "triggered_at"),
        sa.Index("ix_alerts_triggered_at", "triggered_at"),
        **_OPTIONS,
    )
    op.create_table(
        "alert_states",
        sa.Column("source", code(32), nullable=False),
        sa.Column("rule_id", code(64), nullable=False),
        sa.Column("symbol", code(32), nullable=False),
        sa.Column("fired_at", UtcTime(), nullable=False),
        sa.Column("session", code(10), nullable=False),
        sa.PrimaryKeyConstraint("source", "rule_id", "symbol"),
        **_OPTIONS,
    )


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("alert_states", if_exists=True)
    op.drop_table("alerts", if_exists=True)
