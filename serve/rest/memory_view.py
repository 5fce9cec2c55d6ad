"""Memory and caches of the whole service, as the routes show them."""

from __future__ import annotations

from typing import Any

from actors.telemetry.client import MemoryBook, Sample
from infra.caches.catalogue import SPECS
from infra.caches.counted import (
    BYTES,
    ENDS,
    ENTRIES,
    MAX_ENTRIES,
    READS,
    REFUSED,
    SETS,
    SHARED_FAILURES,
    SHARED_UP,
)
from infra.caches.hit_rate import Reads, all_reads, reads_by_cache
from infra.memory.health import cache_health, recommendations, status_of
from infra.memory.usage import MIB
from infra.metrics import Families, samples_of

_OF_READS = {"hit": "hits", "stale": "stale_hits", "miss": "misses"}
_PLAIN = {SETS: "sets", REFUSED: "refused", ENTRIES: "entries", MAX_ENTRIES: "max_entries",
          BYTES: "bytes"}  # fmt: skip


def cache_stats(families: Families) -> dict[str, dict[str, Any]]:
    """Return the figures of each cache by name, from the `finstage_cache_` metrics."""
    levels, reads = _levels(families), reads_by_cache(samples_of(families, READS))
    names = sorted({spec.name for spec in SPECS} | {name for name, _ in levels})
    return {
        name: _of_cache(
            {level: f for (n, level), f in levels.items() if n == name}, reads.get(name, Reads())
        )
        for name in names
    }


def _levels(families: Families) -> dict[tuple[str, str], dict[str, int]]:
    levels: dict[tuple[str, str], dict[str, int]] = {}

    def add(labels: dict[str, str], field: str, value: float) -> None:
        figures = levels.setdefault((labels["cache"], labels["level"]), {})
        figures[field] = figures.get(field, 0) + int(value)

    for family, field in _PLAIN.items():
        for labels, value in samples_of(families, family):
            add(labels, field, value)
    for labels, value in samples_of(families, READS):
        add(labels, _OF_READS[labels["result"]], value)
    for labels, value in samples_of(families, ENDS):
        add(labels, labels["reason"], value)
    return levels


def _of_cache(levels: dict[str, dict[str, int]], reads: Reads) -> dict[str, Any]:
    held = sum(f.get("bytes", 0) for f in levels.values())
    return {
        "cache_size": sum(f.get("entries", 0) for f in levels.values()),
        "max_size": sum(f.get("max_entries", 0) for f in levels.values()),
        "hits": int(reads.hits),
        "misses": int(reads.misses),
        "hit_rate": _rounded(reads.rate_pct),
        "memory_usage_bytes": held,
        "memory_usage_mb": round(held / MIB, 3),
        "levels": {level: _level(figures) for level, figures in sorted(levels.items())},
    }


def _level(figures: dict[str, int]) -> dict[str, Any]:
    names = ("entries", "max_entries", "hits", "stale_hits", "misses", "sets", "refused",
             "evicted", "expired", "changed", "deleted", "bytes")  # fmt: skip
    shown: dict[str, Any] = {name: figures.get(name, 0) for name in names}
    reads = Reads(shown["hits"] + shown["stale_hits"], shown["misses"])
    return shown | {"hit_rate": _rounded(reads.rate_pct)}


def overall_rate_pct(families: Families) -> float | None:
    """Return the hit rate of all caches so far, None before a read."""
    return _rounded(all_reads(samples_of(families, READS)).rate_pct)


def _rounded(rate_pct: float | None) -> float | None:
    return None if rate_pct is None else round(rate_pct, 2)


def object_counts(families: Families) -> dict[str, int]:
    """Return the objects of all processes by generation."""
    counts = dict.fromkeys(("0", "1", "2", "permanent"), 0)
    for labels, value in samples_of(families, "finstage_process_objects"):
        counts[labels["generation"]] += int(value)
    uncollectable = samples_of(families, "finstage_process_uncollectable_objects")
    return {
        "total_objects": sum(counts.values()),
        "generation_0": counts["0"],
        "generation_1": counts["1"],
        "generation_2": counts["2"],
        "permanent": counts["permanent"],
        "garbage_count": int(sum(value for _, value in uncollectable)),
    }


def shared_backend(families: Families) -> dict[str, Any]:
    """Return how the shared level does, as the processes that use it see it."""
    up = list(samples_of(families, SHARED_UP))
    failures = sum(value for _, value in samples_of(families, SHARED_FAILURES))
    if not up:
        return {"backend": "none", "state": "unused", "failures": int(failures)}
    state = "ok" if all(value for _, value in up) else "away"
    return {"backend": up[0][0]["backend"], "state": state, "failures": int(failures)}


def system_memory(sample: Sample) -> dict[str, Any]:
    """Return the memory of the service and its machine."""
    use, rss = sample.use, sum(sample.processes_bytes.values())
    return {
        "rss_mb": _mb(rss),
        "tree_mb": _mb(sample.tree_bytes),
        "tree_processes": sample.tree_processes,
        "percent": use.system_pct,
        "service_percent": round(100 * sample.tree_bytes / use.total_bytes, 2),
        "available_mb": _mb(use.available_bytes),
        "total_mb": _mb(use.total_bytes),
        "object_store_used_mb": _mb(sample.store_used_bytes),
        "object_store_mb": _mb(sample.store_bytes),
        "processes_mb": {p: _mb(size) for p, size in sorted(sample.processes_bytes.items())},
    }


def status_report(sample: Sample, book: MemoryBook, families: Families) -> dict[str, Any]:
    """Return all that is known of memory."""
    stats, memory, counts = cache_stats(families), system_memory(sample), object_counts(families)
    found = book.worries(sample)
    reads = all_reads(samples_of(families, READS))
    rate = _rounded(reads.rate_pct)
    held = sum(s["memory_usage_bytes"] for s in stats.values())
    advice = recommendations(sample.use, reads.judged_pct, held, found)
    return {
        "timestamp": sample.at_s,
        "system_memory": memory,
        "memory_health": {
            "timestamp": sample.at_s,
            "health_status": status_of(found),
            "alerts": [{"level": w.level, "message": w.message} for w in found],
            "memory_usage": memory,
            "object_counts": counts,
            "recommendations": advice,
        },
        "cache_health": {
            "timestamp": sample.at_s,
            "overall_health": cache_health(reads.judged_pct),
            "cache_instances": len(stats),
            "total_cached_items": sum(s["cache_size"] for s in stats.values()),
            "total_memory_usage_mb": _mb(held),
            "average_hit_rate": rate,
            "global_metrics": _totals(stats, reads),
            "shared_backend": shared_backend(families),
            "instance_details": stats,
        },
        "object_counts": counts,
        "performance_trend": trend(book, sample.at_s),
        "recommendations": advice,
    }


def _totals(stats: dict[str, dict[str, Any]], reads: Reads) -> dict[str, Any]:
    levels = [level for s in stats.values() for level in s["levels"].values()]
    rate = _rounded(reads.rate_pct)
    return {
        "total_requests": int(reads.count),
        "cache_hits": int(reads.hits),
        "cache_misses": int(reads.misses),
        "cache_sets": sum(level["sets"] for level in levels),
        "cache_deletes": sum(level["deleted"] for level in levels),
        "cache_evictions": sum(level["evicted"] for level in levels),
        "hit_rate_percent": rate,
        "miss_rate_percent": None if rate is None else round(100 - rate, 2),
    }


def trend(book: MemoryBook, now_s: float) -> dict[str, Any]:
    """Return the last hour against the one before, and what grows."""
    found = book.trend(now_s)
    memory, rate, slope = found.memory, found.hit_rate, found.slope
    samples = book.since(2.0, now_s)
    recent = sum(now_s - s.at_s < 3_600 for s in samples)
    shown: dict[str, Any] = {
        "status": "insufficient_data" if memory is None else "ok",
        "data_points": {"recent_hour": recent, "previous_hour": len(samples) - recent},
        "leaks": list(found.leaks),
    }
    if memory is not None:
        shown["memory_trend"] = "increasing" if memory.pct > 0 else "decreasing"
        shown["memory_change_percent"] = round(memory.pct, 2)
    if rate is not None:
        shown["cache_trend"] = "improving" if rate.recent >= rate.before else "declining"
        shown["cache_hit_rate_change"] = round(rate.recent - rate.before, 2)
    if slope is not None:
        shown["slope"] = {
            "mb_per_h": _mb(slope.per_h),
            "low_mb_per_h": _mb(slope.low_per_h),
            "high_mb_per_h": _mb(slope.high_per_h),
            "points": slope.points,
        }
    return shown


def _mb(size: float) -> float:
    return round(size / MIB, 2)
