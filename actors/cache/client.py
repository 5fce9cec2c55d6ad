"""The shared cache as others see it."""

from __future__ import annotations

from typing import Any

from actors.runtime import ActorClient
from infra.metrics import ProcessReport

CACHE = "finstage-cache"


class CacheClient(ActorClient):
    """Calls to the shared cache; each raises ActorUnavailable if it does not come back in time."""

    actor_name = CACHE

    async def get(self, key: str) -> bytes | None:
        """Return a value, or None."""
        value: bytes | None = await self._ask("get", key)
        return value

    async def set(self, key: str, value: bytes, ttl_s: float | None) -> bool:
        """Keep a value for `ttl_s` seconds (None: for ever, 0: not at all)."""
        kept: bool = await self._ask("set", key, value, ttl_s)
        return kept

    async def delete(self, key: str) -> bool:
        """Forget a value; say whether it was there (False too if a retried call removed it)."""
        was_there: bool = await self._ask("delete", key)
        return was_there

    async def clear(self) -> int:
        """Forget all values; return how many there were."""
        count: int = await self._ask("clear")
        return count

    async def stats(self) -> dict[str, Any]:
        """Return entries, bytes, hits, misses and evictions since the start."""
        stats: dict[str, Any] = await self._ask("stats")
        return stats

    async def report_metrics(self, report: ProcessReport) -> None:
        """Report the counts of this process."""
        await self._ask("report_metrics", report)

    async def metrics_text(self) -> bytes:
        """Return the Prometheus text of all processes."""
        text: bytes = await self._ask("metrics_text")
        return text

    async def note(self, process: str, text: bytes) -> None:
        """Say something of this process; it is kept for ten seconds."""
        await self._ask("note", process, text)

    async def notes(self) -> dict[str, bytes]:
        """Return what processes said of themselves in the last ten seconds."""
        notes: dict[str, bytes] = await self._ask("notes")
        return notes

    async def processes(self) -> tuple[str, ...]:
        """Return the processes that report, as role-pid."""
        names: tuple[str, ...] = await self._ask("processes")
        return names
