"""What readings measure: each metric by the name that rules use, in the words of sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured value of a `Reading`, whose attribute `field` is.

    `words` and `unit` stand in sentences. `cap`: the most it can be. `is_demand`: what clients
    ask for, so that less of it is no fault of the service. `also`: names of the earlier system.
    """

    name: str
    field: str
    words: str
    unit: str
    better: Literal["lower", "higher"] = "lower"
    cap: float = math.inf
    is_demand: bool = False
    also: tuple[str, ...] = ()

    def moved(self, before: float | None, after: float | None) -> str:
        """Say what a mean was and is; both were measured."""
        return f"{self.name} was {before:.4g}, is {after:.4g}"


_CPU, _RESPONSE, _ERRORS = "CPU use of the", "mean response time", "share of failed requests"

# A push cannot leave before its event loop gets to it, so the lag is a lower bound of the
# streaming latency: over a limit it proves that the latency is over, under it only that this part
# of the latency is not.
_METRICS = (
    Metric("cpu_percent", "cpu_percent", f"{_CPU} machines", " %", cap=100, also=("system_load",)),
    Metric("service_cpu_percent", "service_cpu_percent", f"{_CPU} service", " % of one core"),
    Metric(
        "memory_percent", "memory_percent", "memory use of the machines", " %", cap=100,
        also=("memory_usage",),
    ),
    Metric("memory_used_mb", "memory_used_mb", "memory used on the machines", " MB"),
    Metric("service_memory_mb", "service_memory_mb", "memory of the service", " MB"),
    Metric("disk_usage_percent", "disk_usage_percent", "disk use", " %", cap=100),
    Metric("api_response_time_ms", "avg_response_ms", _RESPONSE, " ms"),
    Metric(
        "avg_response_time", "avg_response_ms", _RESPONSE, " ms",
        also=("response_time", "average_response_time", "api_response_time"),
    ),
    Metric("p95_response_time", "p95_response_ms", "95th percentile of response times", " ms"),
    Metric("error_rate", "error_rate_percent", _ERRORS, " %", cap=100),
    Metric("error_rate_percent", "error_rate_percent", _ERRORS, " %", cap=100),
    Metric(
        "cache_hit_rate", "judged_hit_rate", "hit rate of the caches", " %", "higher", cap=100
    ),
    Metric(
        "active_connections", "active_connections", "number of open connections", "", "higher",
        is_demand=True,
    ),
    Metric(
        "processed_requests", "requests", "number of requests in a reading", "", "higher",
        is_demand=True,
    ),
    Metric("failed_requests", "failed", "number of failed requests in a reading", ""),
    Metric(
        "requests_per_second", "requests_per_second", "rate of requests", " per second", "higher",
        is_demand=True, also=("concurrent_request",),
    ),
    Metric(
        "event_loop_lag_ms", "event_loop_lag_ms", "lag of the event loops", " ms",
        also=("streaming_latency",),
    ),
    Metric("tasks_unfinished", "tasks_unfinished", "number of unfinished tasks", ""),
    Metric("haproxy_processes", "haproxy_processes", "number of HAProxy processes", ""),
)  # fmt: skip

METRICS = {metric.name: metric for metric in _METRICS}
ALSO_NAMED = {name: metric for metric in _METRICS for name in metric.also}
