"""How good a reading is, and what in a row of readings an operator should know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from actors.monitor.reading import Reading

_CPU, _RESPONSE, _ERRORS = "cpu_percent", "api_response_time_ms", "error_rate_percent"

POOR_IN_A_ROW = 5
LEAST_REQUESTS = 10  # the first of a route is slow, and one of two that fails is no rate


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


def is_poor_run(readings: Sequence[Reading], thresholds: Thresholds = DEFAULTS) -> bool:
    """Return whether the last five readings, oldest first, are all poor or critical."""
    last = readings[-POOR_IN_A_ROW:]
    return len(last) == POOR_IN_A_ROW and all(grade(one, thresholds).is_poor for one in last)
