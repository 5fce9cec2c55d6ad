"""What the monitor has in the store: the present state of its parts, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from infra.clock import Clock, utc
from infra.db.happenings import Happening
from infra.db.store import BATCH, Store
from infra.db.unit import Unit

_MOST = 10_000


class MonitorRepository:
    """Reads and writes of the monitor's parts; each raises StoreError."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store = store
        self._clock = clock

    @property
    def now_s(self) -> float:
        """Unix seconds."""
        return self._clock.time_s()

    async def get(self, kind: str, name: str = "") -> Any:
        """Return a document, None if there is none."""
        return await self.store.read(lambda unit: unit.documents.get(kind, name))

    async def all(self, kind: str) -> dict[str, Any]:
        """Return the documents of a kind by name."""
        return await self.store.read(lambda unit: unit.documents.all(kind))

    async def put(self, kind: str, name: str, body: Any) -> None:
        """Write a document."""
        now = utc(self.now_s)
        await self.store.write(lambda unit: unit.documents.put(kind, name, body, now))

    async def put_noted(
        self, kind: str, name: str, body: Any, history: str, subject: str, noted: Any
    ) -> None:
        """Write a document and what happened to it, both or neither."""
        now = utc(self.now_s)

        async def work(unit: Unit) -> None:
            await unit.documents.put(kind, name, body, now)
            await unit.happenings.add([Happening(history, subject, now, noted)])

        await self.store.write(work)

    async def remove(self, kinds: Sequence[str], name: str) -> None:
        """Delete documents of a name, all or none."""

        async def work(unit: Unit) -> None:
            for kind in kinds:
                await unit.documents.remove(kind, name)

        await self.store.write(work)

    async def note(self, kind: str, subject: str, body: Any) -> None:
        """Keep something that happened now."""
        happened = Happening(kind, subject, utc(self.now_s), body)
        await self.store.write(lambda unit: unit.happenings.add([happened]))

    async def since(self, kind: str, hours: float, subject: str | None = None) -> list[Any]:
        """Return what happened in the last hours, oldest first; the last 10,000 of it."""
        start = utc(self.now_s) - timedelta(hours=hours)
        found = await self.store.read(
            lambda unit: unit.happenings.since(kind, start, _MOST, subject)
        )
        return [one.body for one in found]

    async def forget_documents(self, kind: str, hours: float) -> None:
        """Delete documents that were not written for so long."""
        before = utc(self.now_s) - timedelta(hours=hours)
        await self.store.write(lambda unit: unit.documents.forget(kind, before), limit=BATCH)

    async def forget(self, kinds: Sequence[str], hours: float) -> None:
        """Delete what is older."""
        before = utc(self.now_s) - timedelta(hours=hours)

        async def work(unit: Unit) -> None:
            for kind in kinds:
                await unit.happenings.forget(kind, before)

        await self.store.write(work, limit=BATCH)
