"""Imported bars, as the source beside which they stand reads them."""

from __future__ import annotations

from infra.bars import IMPORT, Bars
from infra.db.bulk import read_bars
from infra.db.imports import LastImport
from infra.db.store import Store


class ImportReader:
    """Reads imports from a store; raises StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def latest(self, after_id: int) -> dict[tuple[str, str], LastImport]:
        """Return what was imported or deleted after an import's id, each with the last of it."""
        return await self._store.read(lambda unit: unit.imports.latest(after_id))

    async def bars(self, symbol: str, interval: str) -> Bars:
        """Return all imported bars that no source has replaced."""
        return await read_bars(self._store, symbol, interval, IMPORT)
