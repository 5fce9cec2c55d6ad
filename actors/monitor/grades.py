"""How good a reading is, and what in a row of readings an operator should know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean
from typing import Literal

from actors.monitor.reading import Reading

PERFORMANCE_DEGRADATION = "performance_degradation"
THRESHOLD_VIOLATION = "threshold_violation"
CONSECUTIVE_POOR = "consecutive_poor_performance"
_CPU, _RESPONSE, _ERRORS = "cpu_percent", "api_response_time_ms", "error_rate_percent"
Severity = Literal["warning", "critical"]
Status = Literal["healthy", "degraded", "unhealthy"]

BASELINE_S = 600.0
BASELINE_LEAST = 5
SLOWER_BY = 1.2
POOR_IN_A_ROW = 5
LEAST_REQUESTS = 10  # the first of a route is slow, and one of two that fails is no rate
_TELL_AGAIN_S = 3_600.0
_KEPT_S = 3_600.0
_STATUSES: tuple[Status, ...] = ("healthy", "degraded", "unhealthy")


class Grade(StrEnum):
    """How well the service does, the best first."""

    EXCELLENT = "excellent"
    GOOD = "good"
    FAIR = "fair"
    POOR = "poor"
    CRITICAL = "critical"

    @property
    def is_poor(self) -> bool:
        """Whether a threshold is exceeded."""
        return self in (Grade.POOR, Grade.CRITICAL)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What is poor above; a hit rate is low below its own, and never makes a reading poor."""

    memory_percent: float = 80.0
    cpu_percent: float = 70.0
    response_ms: float = 1_000.0
    error_rate_percent: float = 5.0
    cache_hit_rate: float = 80.0


DEFAULTS = Thresholds()


def grade(reading: Reading, thresholds: Thresholds = DEFAULTS) -> Grade:
    """Return the grade. What was not measured, or of too little, neither helps nor hurts.

    A start is good at best.
    """
    memory, hits = reading.memory_percent, reading.judged_hit_rate
    cpu, response, errors = (_judged(reading, metric) for metric in (_CPU, _RESPONSE, _ERRORS))
    if memory > 95 or _above(cpu, 90) or _above(response, 5_000) or _above(errors, 20):
        return Grade.CRITICAL
    if exceeded(reading, thresholds):
        return Grade.POOR
    if memory > 60 or _above(cpu, 50) or _above(response, 500) or _below(hits, 70):
        return Grade.FAIR
    is_quick = cpu is not None and cpu < 30 and (response is None or response < 200)
    is_cached = hits is None or hits > 90
    return Grade.EXCELLENT if memory < 40 and is_quick and is_cached else Grade.GOOD


def exceeded(
    reading: Reading, thresholds: Thresholds = DEFAULTS
) -> dict[str, tuple[float, float]]:
    """Return value and threshold of each metric that makes a reading poor, by metric."""
    limits = {
        "memory_percent": thresholds.memory_percent,
        _CPU: thresholds.cpu_percent,
        _RESPONSE: thresholds.response_ms,
        _ERRORS: thresholds.error_rate_percent,
    }
    values = {metric: _judged(reading, metric) for metric in limits}
    return {
        metric: (value, limits[metric])
        for metric, value in values.items()
        if value is not None and value > limits[metric]
    }


def _judged(reading: Reading, metric: str) -> float | None:
    """Return a metric, None of a start or of too few requests to say anything."""
    is_few = metric in (_RESPONSE, _ERRORS) and reading.requests < LEAST_REQUESTS
    return None if is_few or (metric == _CPU and reading.is_start) else reading.value(metric)


def _above(value: float | None, limit: float) -> bool:
    return value is not None and value > limit


def _below(value: float | None, limit: float) -> bool:
    return value is not None and value < limit


# -- health ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Check:
    """How one part of the machine is."""

    status: Status
    message: str


def health(reading: Reading, largest_process_mb: float | None = None) -> dict[str, Check]:
    """Return how processor and memory, disk, and the largest process of the service are.

    Over 80 % (a process: 500 MB) is degraded, over 95 % (1,000 MB) unhealthy; the processor of a
    start is told only. `memory_usage` is there if the size of the largest process is given.
    """
    cpu = _check("CPU", reading.cpu_percent)
    if reading.is_start:
        cpu = Check("healthy", f"{cpu.message} while it starts")
    memory = _check("memory", reading.memory_percent)
    both = Check(worst((cpu, memory)), f"{cpu.message}, {memory.message}")
    checks = {
        "system_resources": both,
        "disk_space": _check("disk", reading.disk_usage_percent),
    }
    if largest_process_mb is not None:
        status = _status(largest_process_mb, 500, 1_000)
        message = f"the largest process has {largest_process_mb:,.0f} MB"
        checks["memory_usage"] = Check(status, message)
    return checks


def worst(checks: Iterable[Check]) -> Status:
    """Return the worst status, healthy of none."""
    return max((check.status for check in checks), key=_STATUSES.index, default="healthy")


def _check(name: str, percent: float) -> Check:
    return Check(_status(percent, 80, 95), f"{name} {percent:.0f} %")


def _status(value: float, degraded: float, unhealthy: float) -> Status:
    return "unhealthy" if value > unhealthy else "degraded" if value > degraded else "healthy"


# -- rows of readings -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Degradation:
    """A response time, and the mean of those in the ten minutes before it."""

    response_ms: float
    baseline_ms: float
    samples: int

    @property
    def percent(self) -> float:
        """Return by how many per cent it is slower."""
        return 100 * (self.response_ms / self.baseline_ms - 1)


def degradation(reading: Reading, before: Sequence[Reading]) -> Degradation | None:
    """Return by how much a reading is slower than those of the ten minutes before it.

    None if by 20 % or less, without requests, or with under five readings to compare it with.
    The reading itself is never one of them, even if it is in `before`.
    """
    if reading.avg_response_ms is None:
        return None
    times = [
        one.avg_response_ms
        for one in before
        if one.avg_response_ms is not None and 0 < reading.at_s - one.at_s <= BASELINE_S
    ]
    if len(times) < BASELINE_LEAST:
        return None
    baseline = fmean(times)
    is_slower = reading.avg_response_ms > SLOWER_BY * baseline > 0
    return Degradation(reading.avg_response_ms, baseline, len(times)) if is_slower else None


def is_poor_run(readings: Sequence[Reading], thresholds: Thresholds = DEFAULTS) -> bool:
    """Return whether the last five readings, oldest first, are all poor or critical."""
    last = readings[-POOR_IN_A_ROW:]
    return len(last) == POOR_IN_A_ROW and all(grade(one, thresholds).is_poor for one in last)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an operator should know. `values`: by metric."""

    name: str
    severity: Severity
    message: str
    at_s: float
    values: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Told:
    at_s: float
    severity: Severity
    metrics: frozenset[str]


class Watch:
    """Tells what is wrong once: again when it ended, got worse, or lasted another hour.

    Worse is: critical after a warning, or another metric. State: soft: what was before a start
    says nothing of the service that starts.
    """

    def __init__(self, thresholds: Thresholds = DEFAULTS) -> None:
        self._thresholds = thresholds
        self._readings: list[Reading] = []
        self._told: dict[str, _Told] = {}

    def take(self, reading: Reading) -> list[Finding]:
        """Take the newest reading; return what is to be told."""
        before = self._readings
        self._readings = [r for r in before if 0 < reading.at_s - r.at_s <= _KEPT_S] + [reading]
        found = [self._poor_run(reading), self._violation(reading)]
        judged = [CONSECUTIVE_POOR, THRESHOLD_VIOLATION]
        if reading.avg_response_ms is not None:  # else nothing says that it ended
            judged.append(PERFORMANCE_DEGRADATION)
            found.append(self._degradation(reading))
        lasting = {finding.name: finding for finding in found if finding is not None}
        for name in set(judged) - set(lasting):
            self._told.pop(name, None)
        return [finding for finding in lasting.values() if self._is_news(finding)]

    def _is_news(self, finding: Finding) -> bool:
        metrics, told = frozenset(finding.values), self._told.get(finding.name)
        if told is None or finding.at_s - told.at_s >= _TELL_AGAIN_S:
            self._told[finding.name] = _Told(finding.at_s, finding.severity, metrics)
            return True
        is_worse = finding.severity == "critical" and told.severity == "warning"
        if is_worse or not metrics <= told.metrics:
            severity: Severity = "critical" if is_worse else told.severity
            self._told[finding.name] = _Told(finding.at_s, severity, told.metrics | metrics)
            return True
        return False

    def _degradation(self, reading: Reading) -> Finding | None:
        found = degradation(reading, self._readings)
        if found is None:
            return None
        message = (
            f"responses take {found.response_ms:.4g} ms, {found.percent:.0f} % more than "
            f"{found.baseline_ms:.4g} ms, the mean of {found.samples} readings before"
        )
        values = {"api_response_time_ms": found.response_ms}
        return Finding(PERFORMANCE_DEGRADATION, "warning", message, reading.at_s, values)

    def _violation(self, reading: Reading) -> Finding | None:
        found = exceeded(reading, self._thresholds)
        said = [f"{metric} {value:.4g} > {limit:g}" for metric, (value, limit) in found.items()]
        values = {metric: value for metric, (value, _) in found.items()}
        limit, hits = self._thresholds.cache_hit_rate, reading.judged_hit_rate
        if hits is not None and hits < limit:
            said.append(f"cache_hit_rate {hits:.4g} < {limit:g}")
            values["cache_hit_rate"] = hits
        is_critical = grade(reading, self._thresholds) is Grade.CRITICAL
        if not said and not is_critical:
            return None
        message = "; ".join(said) or "beyond the bounds of critical"
        severity: Severity = "critical" if is_critical else "warning"
        return Finding(THRESHOLD_VIOLATION, severity, message, reading.at_s, values)

    def _poor_run(self, reading: Reading) -> Finding | None:
        if not is_poor_run(self._readings, self._thresholds):
            return None
        grades = [grade(one, self._thresholds) for one in self._readings[-POOR_IN_A_ROW:]]
        message = f"the last {POOR_IN_A_ROW} readings were {', '.join(grades)}"
        return Finding(CONSECUTIVE_POOR, "critical", message, reading.at_s)
