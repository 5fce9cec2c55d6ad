"""The version that this Finstage needs of a store."""

from __future__ import annotations

from alembic.script import ScriptDirectory

from infra.db.version import MIGRATIONS, head_version


def test_it_is_that_of_the_last_migration() -> None:
    assert head_version() == ScriptDirectory(str(MIGRATIONS)).get_current_head()
