"""What the monitor remembers."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from infra.db.types import UtcTime, code, long_text

revision = "0006"
down_revision = "0005"
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
        "documents",
        sa.Column("kind", code(40), nullable=False),
        sa.Column("id", code(100), nullable=False),
        sa.Column("body", long_text(), nullable=False),
        sa.Column("updated_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id"),
        **_OPTIONS,
    )
    op.create_table(
        "happenings",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("kind", code(40), nullable=False),
        sa.Column("subject", code(64), nullable=False),
        sa.Column("at", UtcTime(), nullable=False),
        sa.Column("body", long_text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.Index("ix_happenings_kind_at", "kind", "at"),
        **_OPTIONS,
    )


def downgrade() -> None:
    """Remove the tables."""
    for name in ("happenings", "documents"):
        op.drop_table(name, if_exists=True)
