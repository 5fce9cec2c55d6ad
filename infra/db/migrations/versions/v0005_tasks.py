"""Tasks, what came of them, and who runs their queue."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from infra.db.types import Number, UtcTime, code, long_text

revision = "0005"
down_revision = "0004"
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
        "tasks",
        sa.Column("id", code(36), nullable=False),
        sa.Column("queue", code(64), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("name", code(200), nullable=False),
        sa.Column("target", code(300), nullable=False),
        sa.Column("arguments", long_text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", code(10), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("retry_delay_s", Number(), nullable=False),
        sa.Column("timeout_s", Number(), nullable=True),
        sa.Column("created_at", UtcTime(), nullable=False),
        sa.Column("available_at", UtcTime(), nullable=False),
        sa.Column("last_error", long_text(), nullable=True),
        sa.Column("unique_key", code(64), nullable=True),
        sa.Column("idempotency_key", code(64), nullable=True),
        sa.Column("parent_id", code(36), nullable=True),
        sa.Column("graph_id", code(36), nullable=True),
        sa.Column("needs", long_text(), nullable=True),
        sa.Column("webhook", long_text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("queue", "idempotency_key", name="uq_tasks_idempotency_key"),
        sa.Index("ix_tasks_queue_state", "queue", "state"),
        sa.Index("ix_tasks_created_at", "created_at"),
        sa.Index("ix_tasks_name_created_at", "name", "created_at"),
        sa.Index("ix_tasks_parent_id", "parent_id"),
        sa.Index("ix_tasks_graph_id", "graph_id"),
        **_OPTIONS,
    )
    op.create_table(
        "task_outcomes",
        sa.Column("task_id", code(36), nullable=False),
        sa.Column("state", code(10), nullable=False),
        sa.Column("started_at", UtcTime(), nullable=True),
        sa.Column("finished_at", UtcTime(), nullable=False),
        sa.Column("worker", sa.String(100), nullable=True),
        sa.Column("progress", Number(), nullable=False),
        sa.Column("error_code", code(64), nullable=True),
        sa.Column("error", long_text(), nullable=True),
        sa.Column("result", long_text(), nullable=True),
        sa.Column("result_file", sa.String(200), nullable=True),
        sa.Column("result_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task_id"),
        sa.Index("ix_task_outcomes_finished_at", "finished_at"),
        **_OPTIONS,
    )
    op.create_table(
        "task_queues",
        sa.Column("queue", code(64), nullable=False),
        sa.Column("holder", sa.String(300), nullable=False),
        sa.Column("incarnation", code(36), nullable=False),
        sa.Column("beat_at", UtcTime(), nullable=False),
        sa.PrimaryKeyConstraint("queue"),
        **_OPTIONS,
    )


def downgrade() -> None:
    """Remove the tables."""
    for name in ("task_queues", "task_outcomes", "tasks"):
        op.drop_table(name, if_exists=True)
