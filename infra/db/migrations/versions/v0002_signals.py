"""Signals, and what became of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from infra.db.types import Number, UtcTime, code

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_HORIZONS = ("1h", "4h", "1d", "1w", "1m")


def _id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "technical_signals",
        sa.Column("id", _id(), autoincrement=True),
        sa.Column("symbol", code(32), nullable=False),
        sa.Column("source", code(32), nullable=False),
        sa.Column("signal_type", code(50), nullable=False),
        sa.Column("timeframe", code(10), nullable=False),
        sa.Column("triggered_at", UtcTime(), nullable=False),
        sa.Column("current_price", Number(), nullable=False),
        sa.Column("indicator_value", Number(), nullable=True),
        sa.Column("signal_strength", Number(), nullable=True),
        sa.Column("volume", sa.BigInteger(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "symbol",
            "source",
            "signal_type",
            "timeframe",
            "triggered_at",
            name="uq_technical_signals_once",
        ),
        sa.Index("ix_technical_signals_symbol_triggered_at", "symbol", "triggered_at"),
        sa.Index("ix_technical_signals_triggered_at", "triggered_at"),
        sa.Index("ix_technical_signals_signal_type", "signal_type"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        if_not_exists=True,
    )
    numbers: list[sa.Column[float]] = [
        sa.Column(f"{name}_{horizon}", Number(), nullable=True)
        for horizon in _HORIZONS
        for name in ("price", "return")
    ]
    op.create_table(
        "signal_outcomes",
        sa.Column("signal_id", _id(), autoincrement=False, nullable=False),
        *numbers,
        sa.Column("max_return", Number(), nullable=True),
        sa.Column("max_drawdown", Number(), nullable=True),
        sa.Column("is_complete", sa.Integer(), nullable=False),
        sa.Column("last_updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("signal_id"),
        sa.ForeignKeyConstraint(
            ["signal_id"],
            ["technical_signals.id"],
            name="fk_signal_outcomes_signal_id",
            ondelete="CASCADE",
        ),
        sa.Index("ix_signal_outcomes_is_complete", "is_complete"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        if_not_exists=True,
    )


def downgrade() -> None:
    """Remove the tables."""
    op.drop_table("signal_outcomes", if_exists=True)
    op.drop_table("technical_signals", if_exists=True)
