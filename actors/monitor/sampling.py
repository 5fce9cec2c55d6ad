"""What the service did between two looks at its metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from actors.monitor.reading import Reading, RouteFigures
from infra.caches.counted import READS
from infra.caches.hit_rate import Reads, reads_by_cache
from infra.metrics import Families, rows_of, samples_of

_MIB = 2**20
_REQUESTS = "finstage_http_requests"
_SECONDS = "finstage_http_request_duration_seconds"
_TASKS = "finstage_tasks"
_CPU = "finstage_process_cpu_seconds"
_GROWING = (_REQUESTS, _SECONDS, _TASKS, READS, _CPU)
_SOCKETS = "finstage_websocket_connections"
_LAG = "finstage_event_loop_lag_seconds"
_UNFINISHED = "finstage_tasks_unfinished"
_SYSTEM_MEMORY = "finstage_system_memory_percent"
_RESIDENT = "finstage_process_resident_bytes"

# Asked by who watches, shown to who looks, or open for as long as somebody listens.
_NOT_JUDGED = frozenset({
    "", "/", "/metrics", "/health", "/api/health", "/tasks", "/ws/demo",
    "/performance-dashboard", "/assets", "/ws/sse", "unmatched",
})  # fmt: skip
_NOT_JUDGED_UNDER = (
    "/health/", "/monitoring/", "/api/metrics/", "/api/v2/performance/", "/assets/",
)  # fmt: skip

_FORGET_AFTER_S = 600.0
_START_S = 60.0
# Sums of floats come out a little lower when they are added in another order.
_ROUNDING = 1e-9

Labels = tuple[tuple[str, str], ...]
Group = tuple[str, Labels]  # a metric, and its labels without `le`
Points = Mapping[tuple[str, str], float]  # by sample and `le`


@dataclass(frozen=True, slots=True)
class Machine:
    """What the operating system says. Percentages are 0 to 100; `service_memory_mb` is in MiB."""

    cpu_percent: float
    memory_percent: float
    memory_used_mb: float
    disk_usage_percent: float
    service_memory_mb: float
    haproxy_processes: int


class Sampler:
    """Makes a reading of what grew since the call before. State: soft.

    Response times, rates and requests a second leave out monitoring itself (/metrics, /health/*,
    /monitoring/*, /api/metrics/*, /api/v2/performance/*), pages, assets, paths that there are
    not, and streams, whose time is how long somebody listened. What the gate refused is counted
    but not timed. Failures are answers of 500 and above. `memory_percent` is of the fullest
    machine.
    """

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._settled_s = float("inf")
        self._known: dict[Group, tuple[float, Points]] = {}

    def reading(self, families: Families, machine: Machine, now_s: float) -> Reading | None:
        """Return what happened since the last call, None for the first: a span needs two.

        None too where no time has passed; what grew until then counts next time.
        """
        began_s = self._at_s
        if began_s is not None and now_s <= began_s:
            return None
        groups = dict(_groups(families))
        growth = _Growth(
            {group: _grown(self._before(group), points) for group, points in groups.items()}
        )
        self._remember(groups, now_s)
        self._at_s = now_s
        if began_s is None:
            self._settled_s = now_s + _START_S
            return None
        found = _reading(families, growth, machine, now_s, now_s - began_s)
        return replace(found, is_start=began_s < self._settled_s)

    def _before(self, group: Group) -> Points:
        return self._known[group][1] if group in self._known else {}

    def _remember(self, groups: Mapping[Group, Points], now_s: float) -> None:
        # A group that is away for a moment comes back with all its counts.
        self._known |= {group: (now_s, points) for group, points in groups.items()}
        for group in [g for g, (at_s, _) in self._known.items() if now_s - at_s > _FORGET_AFTER_S]:
            del self._known[group]


def largest_process(families: Families) -> tuple[str, float] | None:
    """Return the process with the most resident memory, and its MiB; None if none reports."""
    sizes = [
        (value / _MIB, labels["process"]) for labels, value in samples_of(families, _RESIDENT)
    ]
    if not sizes:
        return None
    size_mb, process = max(sizes)
    return process, size_mb


def is_judged(route: str) -> bool:
    """Return whether requests of a route count in times and rates."""
    return route not in _NOT_JUDGED and not route.startswith(_NOT_JUDGED_UNDER)


def quantile(q: float, bounds: Sequence[float], cumulative: Sequence[float]) -> float | None:
    """Return the `q` quantile of a histogram, linear within its bucket, None if it is empty.

    As Prometheus' histogram_quantile: `bounds` are the upper ones, ascending, the last infinite;
    `cumulative` counts what is not above each. What is in the last bucket is told as its lower
    bound.
    """
    total = cumulative[-1] if cumulative else 0.0
    if total <= 0:
        return None
    rank = q * total
    at = next(i for i, count in enumerate(cumulative) if count >= rank)
    if math.isinf(bounds[at]):
        return bounds[at - 1] if at else None
    lower, below = (bounds[at - 1], cumulative[at - 1]) if at else (0.0, 0.0)
    inside = cumulative[at] - below
    return bounds[at] if inside <= 0 else lower + (bounds[at] - lower) * (rank - below) / inside


# -- what grew ------------------------------------------------------------------------------


def _groups(families: Families) -> Iterator[tuple[Group, Points]]:
    found: dict[Group, dict[tuple[str, str], float]] = {}
    for family in _GROWING:
        for sample, labels, value in rows_of(families, family):
            kept = tuple(label for label in labels if label[0] != "le")
            found.setdefault((family, kept), {})[sample, dict(labels).get("le", "")] = value
    yield from found.items()


def _grown(before: Points, after: Points) -> Points:
    """Return what was added; nothing where something fell.

    Then the CacheActor began anew, and what processes report is of their whole lives.
    """
    if any(value < before.get(point, 0.0) * (1 - _ROUNDING) for point, value in after.items()):
        return dict.fromkeys(after, 0.0)
    return {point: max(0.0, v - before.get(point, 0.0)) for point, v in after.items()}


@dataclass(frozen=True, slots=True)
class _Growth:
    """What each group of samples grew by in the span."""

    groups: Mapping[Group, Points]

    def of(self, family: str) -> Iterator[tuple[dict[str, str], Points]]:
        """Return the groups of a metric, with their labels."""
        for (name, labels), points in self.groups.items():
            if name == family:
                yield dict(labels), points

    def total(self, family: str, **wanted: str) -> float:
        """Return the sum of a metric without buckets over the groups with these labels."""
        return sum(
            sum(points.values())
            for labels, points in self.of(family)
            if wanted.items() <= labels.items()
        )


@dataclass(slots=True)
class _Route:
    """What was asked of one route, or of many."""

    requests: float = 0.0
    failed: float = 0.0
    timed_s: float = 0.0
    timed: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)

    def add(self, other: _Route) -> None:
        self.requests += other.requests
        self.failed += other.failed
        self.timed_s += other.timed_s
        self.timed += other.timed
        for bound, count in other.buckets.items():
            self.buckets[bound] = self.buckets.get(bound, 0.0) + count

    def take_times(self, points: Points) -> None:
        for (sample, bound), value in points.items():
            if sample.endswith("_bucket"):
                self.buckets[float(bound)] = self.buckets.get(float(bound), 0.0) + value
            elif sample.endswith("_sum"):
                self.timed_s += value
            elif sample.endswith("_count"):
                self.timed += value

    @property
    def avg_ms(self) -> float | None:
        return 1_000 * self.timed_s / self.timed if self.timed else None

    @property
    def p95_ms(self) -> float | None:
        bounds = sorted(self.buckets)
        found_s = quantile(0.95, bounds, [self.buckets[bound] for bound in bounds])
        return None if found_s is None else 1_000 * found_s


def _routes(growth: _Growth) -> dict[str, _Route]:
    routes: dict[str, _Route] = {}
    for labels, points in growth.of(_REQUESTS):
        if is_judged(labels["route"]):
            route = routes.setdefault(labels["route"], _Route())
            count = sum(points.values())
            route.requests += count
            route.failed += count if labels["status"].startswith("5") else 0.0
    for labels, points in growth.of(_SECONDS):
        if is_judged(labels["route"]):
            routes.setdefault(labels["route"], _Route()).take_times(points)
    return {name: route for name, route in routes.items() if route.requests or route.timed}


def _percent(part: float, whole: float) -> float | None:
    return 100 * part / whole if whole > 0 else None


# -- the reading ----------------------------------------------------------------------------


def _reading(
    families: Families, growth: _Growth, machine: Machine, now_s: float, span_s: float
) -> Reading:
    routes = _routes(growth)
    reads = reads_by_cache((labels, sum(grown.values())) for labels, grown in growth.of(READS))
    whole = _Route()
    for route in routes.values():
        whole.add(route)
    all_reads = sum(reads.values(), Reads())
    total, failed = _totals(families)
    return Reading(
        at_s=now_s,
        span_s=span_s,
        cpu_percent=machine.cpu_percent,
        service_cpu_percent=100 * growth.total(_CPU) / span_s,
        memory_percent=max([machine.memory_percent, *_values(families, _SYSTEM_MEMORY)]),
        memory_used_mb=machine.memory_used_mb,
        service_memory_mb=machine.service_memory_mb,
        disk_usage_percent=machine.disk_usage_percent,
        avg_response_ms=whole.avg_ms,
        p95_response_ms=whole.p95_ms,
        error_rate_percent=_percent(whole.failed, whole.requests),
        cache_hit_rate=all_reads.rate_pct,
        cache_reads=round(all_reads.count),
        hit_rates={cache: one.rate_pct for cache, one in reads.items()},
        active_connections=int(sum(_values(families, _SOCKETS))),
        requests=round(whole.requests),
        failed=round(whole.failed),
        total_requests=total,
        total_failed=failed,
        requests_per_second=whole.requests / span_s,
        event_loop_lag_ms=1_000 * max(_values(families, _LAG), default=0.0),
        tasks_unfinished=int(sum(_values(families, _UNFINISHED))),
        tasks_ended=round(growth.total(_TASKS)),
        tasks_failed=round(growth.total(_TASKS, state="failed")),
        haproxy_processes=machine.haproxy_processes,
        routes=_figures(routes),
    )


def _figures(routes: Mapping[str, _Route]) -> tuple[RouteFigures, ...]:
    """Return the figures of routes, the most asked first."""
    return tuple(
        RouteFigures(name, round(route.requests), round(route.failed), route.avg_ms, route.p95_ms)
        for name, route in sorted(routes.items(), key=lambda item: (-item[1].requests, item[0]))
    )


def _totals(families: Families) -> tuple[int, int]:
    """Return the requests since the start, and those of them that failed."""
    judged = [
        (labels["status"], value)
        for labels, value in samples_of(families, _REQUESTS)
        if is_judged(labels["route"])
    ]
    failed = sum(value for status, value in judged if status.startswith("5"))
    return round(sum(value for _, value in judged)), round(failed)


def _values(families: Families, family: str) -> list[float]:
    return [value for _, value in samples_of(families, family)]
