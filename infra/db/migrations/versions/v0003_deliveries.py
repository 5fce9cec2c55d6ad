"""What is to be told outside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from infra.db.types import UtcTime, code, long_text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "deliveries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True),
        sa.Column("notice_id", code(64), nullable=False),
        sa.Column("target_hash", code(64), nullable=False),
        sa.Column("target", long_text(), nullable=False),
        sa.Column("secret", code(128), nullable=False),
        sa.Column("body", long_text(), nullable=False),
        sa.Column("state", code(8), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_at", UtcTime(), nullable=False),
        sa.Column("last_error", sa.String(255), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("notice_id", "target_hash", name="uq_deliveries_once"),
        sa.Index("ix_deliveries_state_next_at", "state", "next_at"),
        sa.Index("ix_deliveries_created_at", "created_at"),
        mysql_engine="InnoDB",
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
        if_not_exists=True,
    )


def downgrade() -> None:
    """Remove the table."""
    op.drop_table("deliveries", if_exists=True)
