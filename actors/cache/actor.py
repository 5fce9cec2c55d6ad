"""The shared level of the caches as an actor, and the sum of all processes' metrics."""

from __future__ import annotations

import time
from typing import Any

from actors.cache.core import CacheCore
from actors.runtime import ServiceActor, exposed, report_metrics
from infra.metrics import MetricsTable, ProcessReport
from infra.settings import Settings

_SILENT_AFTER_S = 10.0


class CacheActor(ServiceActor):
    """Cache state that all processes share.

    State: soft; a restart begins empty, which costs a recomputation and nothing else. Processes
    report their counts again within two seconds.
    """

    role = "cache"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._core = CacheCore(
            settings.shared_cache_bytes, settings.shared_cache_entries, time.monotonic
        )
        self._metrics = MetricsTable()
        self._notes: dict[str, tuple[float, bytes]] = {}
        self.keep(report_metrics(self.process, self._take))

    async def _take(self, report: ProcessReport) -> None:
        self._metrics.put(report, time.monotonic())

    @exposed
    async def get(self, key: str) -> bytes | None:
        """Return a value, or None."""
        return self._core.get(key)

    @exposed
    async def set(self, key: str, value: bytes, ttl_s: float | None) -> bool:
        """Keep a value for `ttl_s` seconds (None: for ever, 0: not at all)."""
        return self._core.set(key, value, ttl_s)

    @exposed
    async def delete(self, key: str) -> bool:
        """Forget a value; say whether it was there."""
        return self._core.delete(key)

    @exposed
    async def clear(self) -> int:
        """Forget all values; return how many there were."""
        return self._core.clear()

    @exposed
    async def stats(self) -> dict[str, Any]:
        """Return entries, bytes, hits, misses and evictions since the start."""
        return self._core.stats()

    @exposed
    async def report_metrics(self, report: ProcessReport) -> None:
        """Take the counts of one process."""
        await self._take(report)

    @exposed
    async def metrics_text(self) -> bytes:
        """Return the Prometheus text of all processes, at most two seconds old."""
        return self._metrics.render()

    @exposed
    async def note(self, process: str, text: bytes) -> None:
        """Keep what a process says of itself, until it is silent."""
        self._notes[process] = time.monotonic(), text

    @exposed
    async def notes(self) -> dict[str, bytes]:
        """Return what processes said of themselves lately."""
        oldest_s = time.monotonic() - _SILENT_AFTER_S
        self._notes = {name: n for name, n in self._notes.items() if n[0] > oldest_s}
        return {name: text for name, (_, text) in self._notes.items()}

    @exposed
    async def processes(self) -> tuple[str, ...]:
        """Return the processes that report, as role-pid."""
        return self._metrics.processes
