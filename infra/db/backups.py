"""Copies of a store as a file, and where an older one is kept before it is migrated."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from infra.clock import utc


@dataclass(frozen=True, slots=True)
class Backups:
    """Where an older store is kept before it is migrated: SQLite files, the newest three.

    One is made once for each of these and version: migrating again after a failure writes no
    other one. `now_s` is in their names, Unix seconds.
    """

    folder: Path
    now_s: float

    def path(self, version: str) -> Path:
        """Return the file of a store of this version."""
        return self.folder / f"store-{version}-{utc(self.now_s):%Y%m%dT%H%M%SZ}.db"


def copy_file(source: Path, target: Path) -> None:
    """Copy an SQLite database that others may write, as of one instant; raises sqlite3.Error.

    The copy is one file, without a log beside it.
    """
    with closing(sqlite3.connect(source)) as from_, closing(sqlite3.connect(target)) as to:
        from_.backup(to)
        to.execute("PRAGMA journal_mode = DELETE")
