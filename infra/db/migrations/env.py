"""What alembic runs for each migration; the connection is given, and so is its transaction."""

from __future__ import annotations

from alembic import context

from infra.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
