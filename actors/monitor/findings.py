"""What in a row of readings an operator should know, told once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Literal

from actors.monitor.grades import (
    DEFAULTS,
    POOR_IN_A_ROW,
    Grade,
    Thresholds,
    exceeded,
    grade,
    is_poor_run,
)
from actors.monitor.reading import Reading

PERFORMANCE_DEGRADATION = "performance_degradation"


THRESHOLD_VIOLATION = "threshold_violation"


CONSECUTIVE_POOR = "consecutive_poor_performance"


Severity = Literal["warning", "critical"]


BASELINE_S = 600.0


BASELINE_LEAST = 5


SLOWER_BY = 1.2


_TELL_AGAIN_S = 3_600.0


_KEPT_S = 3_600.0


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


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an operator should know. `values`: by metric."""

    name: str
    severity: Severity
    message: str
    at_s: float
    values: dict[str, float] = field(default_factory=dict)


class Watch:
    """Tells what is wrong once: again when it ended, got worse, or lasted another hour.

    Worse is: critical after a warning, or another metric. State: soft: what was before a start
    says nothing of the service that starts.
    """

    def __init__(self, thresholds: Thresholds = DEFAULTS) -> None:
        self._thresholds = thresholds
        self._readings: list[Reading] = []
        self._sent: dict[str, Finding] = {}

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
            self._sent.pop(name, None)
        return [finding for finding in lasting.values() if self._is_news(finding)]

    def _is_news(self, finding: Finding) -> bool:
        sent = self._sent.get(finding.name)
        if sent is None or finding.at_s - sent.at_s >= _TELL_AGAIN_S:
            self._sent[finding.name] = finding
            return True
        is_worse = finding.severity == "critical" and sent.severity == "warning"
        if is_worse or not finding.values.keys() <= sent.values.keys():
            severity: Severity = "critical" if is_worse else sent.severity
            values = sent.values | finding.values
            self._sent[finding.name] = replace(finding, severity=severity, values=values)
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
