"""Alerts that were given, and when each may be given again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from infra.db.types import Number, UtcTime, code, long_text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEPT = (
    "symbol", "alert_type", "base_type", "base_price", "current_price", "threshold_percent",
    "actual_percent", "source", "triggered_at",
)  # fmt: skip
_NEW = ("rule_id", "severity", "message", "synthetic", "traded_at")
_MOVED = ("id", *_KEPT)
_STATE = ("source", "rule_id", "symbol", "fired_at", "session", "is_armed")

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
        sa.Column("is_armed", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("source", "rule_id", "symbol"),
        **_OPTIONS,
    )
    op.create_table(
        "alert_rules",
        sa.Column("id", code(36), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("symbols", long_text(), nullable=False),
        sa.Column("expression", long_text(), nullable=False),
        sa.Column("interval", code(4), nullable=False),
        sa.Column("repeat", code(8), nullable=False),
        sa.Column("cooldown_s", Number(), nullable=False),
        sa.Column("hysteresis_pct", Number(), nullable=False),
        sa.Column("severity", code(16), nullable=False),
        sa.Column("targets", long_text(), nullable=False),
        sa.Column("secret", code(128), nullable=False),
        sa.Column("enabled", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_alert_rules_created_at", "created_at"),
        **_OPTIONS,
    )
    _move_logs()
    op.drop_table("price_alert_logs", if_exists=True)


def _move_logs() -> None:
    """Take the alerts that were logged before, and when each was last given; run again, once."""
    if "price_alert_logs" not in sa.inspect(op.get_bind()).get_table_names():
        return
    old = sa.table("price_alert_logs", *(sa.column(name) for name in _MOVED))
    alerts = sa.table("alerts", *(sa.column(name) for name in (*_KEPT, *_NEW)))
    kept = [old.c[name] for name in _KEPT]
    message = old.c.symbol + sa.literal(": ") + old.c.alert_type
    new = [old.c.alert_type, sa.literal("info"), message, sa.literal(0), old.c.triggered_at]
    is_there = sa.exists().where(
        alerts.c.symbol == old.c.symbol,
        alerts.c.alert_type == old.c.alert_type,
        alerts.c.triggered_at == old.c.triggered_at,
    )
    rows = sa.select(*kept, *new).where(~is_there).order_by(old.c.id)
    op.execute(sa.insert(alerts).from_select([*_KEPT, *_NEW], rows))
    states = sa.table("alert_states", *(sa.column(name) for name in _STATE))
    last = (
        sa.select(
            old.c.source, old.c.alert_type, old.c.symbol, sa.func.max(old.c.triggered_at),
            sa.literal(""), sa.literal(1),
        )
        .where(~sa.exists().where(states.c.symbol == old.c.symbol))
        .group_by(old.c.source, old.c.alert_type, old.c.symbol)
    )  # fmt: skip
    op.execute(sa.insert(states).from_select(list(_STATE), last))


def downgrade() -> None:
    """Remove the tables, and make the one that was there before; its rows are not brought back."""
    op.create_table(
        "price_alert_logs",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True),
        sa.Column("symbol", code(32), nullable=False),
        sa.Column("alert_type", code(32), nullable=False),
        sa.Column("base_type", code(32), nullable=False),
        sa.Column("base_price", Number(), nullable=False),
        sa.Column("base_time", UtcTime(), nullable=False),
        sa.Column("current_price", Number(), nullable=False),
        sa.Column("threshold_percent", Number(), nullable=False),
        sa.Column("actual_percent", Number(), nullable=False),
        sa.Column("source", code(32), nullable=False),
        sa.Column("triggered_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.Index(
            "ix_price_alert_logs_newest", "symbol", "alert_type", "base_type", "triggered_at"
        ),
        sa.Index("ix_price_alert_logs_triggered_at", "triggered_at"),
        **_OPTIONS,
    )
    op.drop_table("alert_rules", if_exists=True)
    op.drop_table("alert_states", if_exists=True)
    op.drop_table("alerts", if_exists=True)
