"""Shapes of the memory routes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from serve.rest.schemas import Shape

HealthWord = Literal["healthy", "warning", "critical", "unknown"]


class CacheChoice(Shape):
    """One cache by its name; all without it."""

    cache_name: str | None = Field(None, max_length=64)


class LevelStats(Shape):
    """One level of a cache, summed over the processes that have it.

    `edge`: rendered answers of REST replicas; `near`: values in each process; `shared`: of all
    processes; `source`: upstream's answers in the feed; `history`: of the hub.
    """

    entries: int
    max_entries: int
    hits: int
    stale_hits: int
    misses: int
    hit_rate: float | None
    sets: int
    refused: int
    evicted: int
    expired: int
    changed: int
    deleted: int
    bytes: int


class NamedCacheStats(Shape):
    """A cache over all processes and levels. `hit_rate` is in per cent, null before a read.

    A read counts once: what is missed near and found in the shared level is a hit.
    """

    cache_size: int
    max_size: int
    hits: int
    misses: int
    hit_rate: float | None
    memory_usage_bytes: int
    memory_usage_mb: float
    levels: dict[str, LevelStats]


class TechnicalCacheStats(Shape):
    """The cache of technical analyses."""

    cache_name: str
    statistics: NamedCacheStats
    timestamp: float


class SharedBackend(Shape):
    """The shared level: what it is, and whether it answers every process that asks it."""

    backend: str
    state: Literal["ok", "away", "unused"]
    failures: int


class SystemMemory(Shape):
    """Memory of the service, its processes' own and Ray's, and of its machine.

    `rss_mb` sums what processes that report hold, pages that they share in each; `tree_mb` shares
    those out and has Ray's processes too. `percent` is of the machine, by all its programs.
    """

    rss_mb: float
    tree_mb: float
    tree_processes: int
    percent: float
    service_percent: float
    available_mb: float
    total_mb: float
    object_store_used_mb: float
    object_store_mb: float
    processes_mb: dict[str, float]


class ObjectCounts(Shape):
    """Python's objects over all processes, counted every five minutes."""

    total_objects: int
    generation_0: int
    generation_1: int
    generation_2: int
    permanent: int
    garbage_count: int


class MemoryAlert(Shape):
    """Something that was wrong, once for as long as it lasted."""

    timestamp: float
    level: Literal["warning", "critical"]
    message: str


class CurrentWorry(Shape):
    """Something that is wrong now."""

    level: Literal["warning", "critical"]
    message: str


class MemoryHealth(Shape):
    """How memory does."""

    timestamp: float
    health_status: HealthWord
    alerts: list[CurrentWorry]
    memory_usage: SystemMemory
    object_counts: ObjectCounts
    recommendations: list[str]


class CacheTotals(Shape):
    """All caches together since their processes began."""

    total_requests: int
    cache_hits: int
    cache_misses: int
    cache_sets: int
    cache_deletes: int
    cache_evictions: int
    hit_rate_percent: float | None
    miss_rate_percent: float | None


class CacheHealth(Shape):
    """How caches do."""

    timestamp: float
    overall_health: HealthWord
    cache_instances: int
    total_cached_items: int
    total_memory_usage_mb: float
    average_hit_rate: float | None
    global_metrics: CacheTotals
    shared_backend: SharedBackend
    instance_details: dict[str, NamedCacheStats]


class SlopeShown(Shape):
    """A slope in MB an hour with its 95 % interval."""

    mb_per_h: float
    low_mb_per_h: float
    high_mb_per_h: float
    points: int


class DataPoints(Shape):
    """Samples in the last hour and in the one before."""

    recent_hour: int
    previous_hour: int


class PerformanceTrend(Shape):
    """The last hour against the hour before; `slope` and `leaks` are of up to a day."""

    status: Literal["ok", "insufficient_data"]
    memory_trend: Literal["increasing", "decreasing"] | None = None
    memory_change_percent: float | None = None
    cache_trend: Literal["improving", "declining"] | None = None
    cache_hit_rate_change: float | None = None
    data_points: DataPoints
    slope: SlopeShown | None = None
    leaks: list[str]


class MemoryStatus(Shape):
    """All that is known of memory."""

    timestamp: float
    system_memory: SystemMemory
    memory_health: MemoryHealth
    cache_health: CacheHealth
    object_counts: ObjectCounts
    performance_trend: PerformanceTrend
    recommendations: list[str]


class MemoryHealthShort(Shape):
    """How memory does, in a line; rates in per cent, null before a read."""

    status: HealthWord
    memory_usage_percent: float
    available_memory_mb: float
    cache_hit_rate: float | None
    recommendations_count: int
    timestamp: float


class Performed(Shape):
    """What one process did; null figures where it did not answer."""

    process: str
    before_memory_mb: float | None
    after_memory_mb: float | None
    memory_freed_mb: float | None
    estimate_mb: float | None
    expired_items_removed: int | None
    optimization_time_seconds: float | None


class SystemOptimisation(Shape):
    """What all processes gave back; `estimate_mb` is what their caches said they dropped."""

    timestamp: float
    before_memory_mb: float
    after_memory_mb: float
    memory_freed_mb: float
    memory_reduction_percent: float
    estimate_mb: float
    optimization_time_seconds: float
    optimizations_performed: list[Performed]
    success: bool


class CacheCleanup(Shape):
    """Expired entries that went."""

    expired_items_removed: int


class FinalState(Shape):
    """Memory after it."""

    memory_usage_mb: float
    memory_percent: float
    cache_hit_rate: float | None


class Optimised(Shape):
    """What an optimisation did."""

    timestamp: float
    execution_time_seconds: float
    system_optimization: SystemOptimisation
    cache_cleanup: CacheCleanup
    final_state: FinalState
    success: bool


class CacheCleaned(Shape):
    """Entries that could not be given any more, by cache."""

    timestamp: float
    total_expired_items: int
    cache_details: dict[str, int]
    success: bool


class CacheCleared(Shape):
    """What was cleared in every process; `success` is false where one did not answer."""

    timestamp: float
    cleared_cache: str | None = None
    cleared_caches: Literal["all"] | None = None
    cache_count: int
    cleared_items: dict[str, int]
    success: bool


class MemoryPoint(Shape):
    """One sample of the watch."""

    timestamp: float
    memory_usage_mb: float
    memory_percent: float
    available_mb: float
    cache_hit_rate: float | None
    total_cached_items: int
    cache_mb: float
    object_store_used_mb: float
    processes_mb: dict[str, float]


class PerformanceSummary(Shape):
    """Means over the samples; null without any."""

    avg_memory_percent: float | None
    avg_cache_hit_rate: float | None
    total_cached_items: int


class PerformanceHistory(Shape):
    """Samples of the last hours, oldest first."""

    timestamp: float
    period_hours: int
    data_points: int
    performance_data: list[MemoryPoint]
    summary: PerformanceSummary


class OptimisationRecord(Shape):
    """An optimisation of the past: asked for, or by the watch."""

    timestamp: float
    reason: Literal["asked", "watch"]
    memory_freed_mb: float
    estimate_mb: float
    processes: dict[str, dict[str, Any] | None]


class OptimisationSummary(Shape):
    """Over the optimisations shown."""

    total_optimizations: int
    total_memory_freed_mb: float
    avg_memory_freed_mb: float


class OptimisationHistory(Shape):
    """Optimisations, the newest first."""

    timestamp: float
    record_count: int
    optimization_history: list[OptimisationRecord]
    summary: OptimisationSummary


class AlertCounts(Shape):
    """Of the alerts shown."""

    critical_alerts: int
    warning_alerts: int


class MemoryAlerts(Shape):
    """Alerts about memory, the newest first."""

    timestamp: float
    alert_count: int
    alerts: list[MemoryAlert]
    summary: AlertCounts


class MonitoringInfo(Shape):
    """Whether memory is watched, and how much of it is known."""

    monitoring_active: bool
    performance_records: int


class Diagnostics(Shape):
    """Everything, for who looks for a leak."""

    comprehensive_report: MemoryStatus
    optimization_history: list[OptimisationRecord]
    memory_alerts: list[MemoryAlert]
    performance_history: list[MemoryPoint]
    cache_stats: dict[str, NamedCacheStats]
    system_info: MonitoringInfo
    timestamp: float


class MonitoringStatus(Shape):
    """How the watch does."""

    timestamp: float
    monitoring_active: bool
    performance_records: int
    cache_instances: int
    system_status: HealthWord
