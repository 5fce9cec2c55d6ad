"""The memory of this process by hand, for scripts and notebooks."""

from __future__ import annotations

import threading
import time
from typing import Any

from infra.caches.hit_rate import all_reads, read_counts
from infra.caches.named import caches
from infra.memory.health import cache_health, recommendations, status_of, worries
from infra.memory.shedding import shed
from infra.memory.usage import MIB, memory_use

SHED_PCT = 85.0


def get_memory_status() -> dict[str, Any]:
    """Return what this process and this machine use, and what the process's caches hold."""
    use, stats = memory_use(), caches.stats()
    reads = all_reads(read_counts(stats))
    held = sum(s.bytes for s in stats)
    found = worries(use)
    return {
        "timestamp": time.time(),
        "system_memory": {
            "rss_mb": round(use.rss_bytes / MIB, 2),
            "vms_mb": round(use.vms_bytes / MIB, 2),
            "percent": round(use.process_pct, 2),
            "system_percent": use.system_pct,
            "available_mb": round(use.available_bytes / MIB, 2),
        },
        "memory_health": status_of(found),
        "cache_health": cache_health(reads.judged_pct),
        "cache_hit_rate": reads.rate_pct,
        "cached_items": sum(s.entries for s in stats),
        "cache_mb": round(held / MIB, 2),
        "recommendations": recommendations(use, reads.judged_pct, held, found),
    }


def check_memory_health() -> dict[str, Any]:
    """Return `status` (healthy, warning, critical) and what is wrong."""
    found = worries(memory_use())
    return {
        "status": status_of(found),
        "alerts": [{"level": worry.level, "message": worry.message} for worry in found],
    }


def optimize_memory(aggressive: bool = False) -> dict[str, Any]:
    """Purge and cut the caches of this process, collect garbage, return memory to the system."""
    return shed(aggressive).as_dict()


class MemoryMonitoring:
    """A thread that looks at memory; `stop()` ends it."""

    def __init__(self, interval_s: float, shed_pct: float = SHED_PCT) -> None:
        self._interval_s = interval_s
        self._shed_pct = shed_pct
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="finstage-memory", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._interval_s):
            if memory_use().system_pct >= self._shed_pct:
                shed()


def start_memory_monitoring(interval_minutes: float = 5.0) -> MemoryMonitoring:
    """Cut this process's caches whenever the machine's memory is 85 % full; ends with `stop()`.

    For scripts: the processes of the service do this by themselves.
    """
    if not interval_minutes > 0:
        raise ValueError(f"interval_minutes must be positive, got {interval_minutes}")
    return MemoryMonitoring(60 * interval_minutes)
