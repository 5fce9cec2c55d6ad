"""What the service did in one short span of time."""

from __future__ import annotations

from dataclasses import dataclass, field

from actors.monitor.metrics import METRICS
from infra.caches.hit_rate import LEAST_READS, Reads


@dataclass(frozen=True, slots=True)
class RouteFigures:
    """One route in the span. Times are of the replica, milliseconds, None if it timed nothing."""

    route: str
    requests: int
    failed: int
    avg_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True, slots=True)
class Reading:
    """The service in the `span_s` seconds before `at_s` (Unix seconds).

    Percentages are 0 to 100. What nothing happened for is None, never 0: times, error and hit
    rates of a span without requests or reads. `cpu_percent`: of all cores of the machines, by
    everything on them; `service_cpu_percent`: of one core, by the service's processes.
    `hit_rates`: by cache; of fewer `cache_reads` than LEAST_READS none is judged. `requests` and
    `failed` (5xx) are of the span, `total_…` since the start. `is_start`: of the first minute,
    whose CPU time compiles and fills caches.
    """

    at_s: float
    span_s: float
    cpu_percent: float
    service_cpu_percent: float
    memory_percent: float
    memory_used_mb: float
    service_memory_mb: float
    disk_usage_percent: float
    avg_response_ms: float | None
    p95_response_ms: float | None
    error_rate_percent: float | None
    cache_hit_rate: float | None
    hit_rates: dict[str, float | None]
    active_connections: int
    requests: int
    failed: int
    total_requests: int
    total_failed: int
    requests_per_second: float
    event_loop_lag_ms: float
    tasks_unfinished: int
    tasks_ended: int
    tasks_failed: int
    haproxy_processes: int
    routes: tuple[RouteFigures, ...] = field(default=())
    cache_reads: int = 0
    is_start: bool = False

    def value(self, metric: str) -> float | None:
        """Return what may be judged of a metric by its name in rules; raises KeyError."""
        found: float | None = getattr(self, METRICS[metric].field)
        return found

    @property
    def all_reads(self) -> Reads:
        """Return the reads of all caches in the span."""
        hits = self.cache_reads * (self.cache_hit_rate or 0.0) / 100
        return Reads(hits, self.cache_reads - hits)

    @property
    def judged_hit_rate(self) -> float | None:
        """Return the hit rate of the caches, None of so few reads that it says nothing."""
        return self.cache_hit_rate if self.cache_reads >= LEAST_READS else None
