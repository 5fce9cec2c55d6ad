"""Where an older store is kept before it is migrated."""

from __future__ import annotations

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
