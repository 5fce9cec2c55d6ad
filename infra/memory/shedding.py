"""Give memory back: expired entries first, then what is least worth its bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from infra.caches.named import NamedCaches, caches
from infra.memory.allocator import give_back
from infra.memory.usage import MIB, memory_use

KEEP, KEEP_AGGRESSIVE = 0.5, 0.1  # shares of the bytes in caches


@dataclass(frozen=True, slots=True)
class Shed:
    """What one process gave back; the estimate is what its caches said they dropped."""

    before_bytes: int
    after_bytes: int
    estimate_bytes: int
    entries_purged: int
    took_s: float

    @property
    def freed_bytes(self) -> int:
        """Return by how much resident memory fell; 0 where it grew."""
        return max(0, self.before_bytes - self.after_bytes)

    def as_dict(self) -> dict[str, float | int]:
        """Return the figures in megabytes, for those who read them."""
        return {
            "before_memory_mb": round(self.before_bytes / MIB, 2),
            "after_memory_mb": round(self.after_bytes / MIB, 2),
            "memory_freed_mb": round(self.freed_bytes / MIB, 2),
            "estimate_mb": round(self.estimate_bytes / MIB, 2),
            "expired_items_removed": self.entries_purged,
            "optimization_time_seconds": round(self.took_s, 3),
        }


def shed(aggressive: bool = False, chosen: NamedCaches = caches) -> Shed:
    """Purge what is expired, halve the caches (`aggressive`: to a tenth), return the memory.

    The cache with the fewest hits for its bytes is cut first. Blocks for as long as a collection
    of garbage takes.
    """
    began_s = time.perf_counter()
    before_bytes = memory_use().rss_bytes
    held = _held(chosen)
    purged = chosen.purge()
    chosen.shrink(KEEP_AGGRESSIVE if aggressive else KEEP)
    estimate = held - _held(chosen)
    give_back()
    return Shed(
        before_bytes,
        memory_use().rss_bytes,
        estimate,
        sum(purged.values()),
        time.perf_counter() - began_s,
    )


def _held(chosen: NamedCaches) -> int:
    return sum(stats.bytes for stats in chosen.stats())
