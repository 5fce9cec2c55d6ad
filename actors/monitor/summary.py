"""What many readings say together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

import numpy as np

from actors.monitor.comparison import measured, within
from actors.monitor.grades import DEFAULTS, Grade, Thresholds, grade
from actors.monitor.reading import Reading
from infra.caches.hit_rate import Reads
from infra.clock import utc

_TREND_READINGS = 10
_TREND_LEAST = 5
_TREND_RATIO = 1.2
_TREND_METRICS = {
    "response_time": "avg_response_time",
    "memory_usage": "memory_percent",
    "cpu_usage": "cpu_percent",
    "cache_hit_rate": "cache_hit_rate",
}
_DIGITS = 3


def current(reading: Reading, thresholds: Thresholds = DEFAULTS) -> dict[str, Any]:
    """Return a reading under the names of `/api/metrics/current`, with its grade."""
    return {
        "timestamp": iso(reading.at_s),
        "memory_usage_percent": _rounded(reading.memory_percent),
        "cpu_usage_percent": _rounded(reading.cpu_percent),
        "avg_response_time_ms": _rounded(reading.avg_response_ms),
        "p95_response_time_ms": _rounded(reading.p95_response_ms),
        "error_rate_percent": _rounded(reading.error_rate_percent),
        "cache_hit_rate_percent": _rounded(reading.cache_hit_rate),
        "active_connections": reading.active_connections,
        "requests_per_second": _rounded(reading.requests_per_second),
        "status": str(grade(reading, thresholds)),
    }


def summary(
    readings: Sequence[Reading], hours: float, now_s: float, thresholds: Thresholds = DEFAULTS
) -> dict[str, Any]:
    """Return the figures of the last hours, None where nothing was measured.

    Milliseconds and per cent. The mean response time counts each reading as often as it has
    requests, the mean hit rate as often as it has reads; `p95` is that of the readings' means.
    `last_updated` is when the newest was taken.
    """
    chosen = within(readings, 3_600 * hours, now_s)
    grades = Counter(grade(reading, thresholds) for reading in chosen)
    times = measured(chosen, "avg_response_time")
    return {
        "period_hours": hours,
        "total_measurements": len(chosen),
        "memory_usage": _spread(measured(chosen, "memory_percent")),
        "cpu_usage": _spread(measured(chosen, "cpu_percent")),
        "response_time": _spread(times)
        | {"avg": _rounded(mean_response_ms(chosen)), "p95": _percentile(times, 95)},
        "cache_hit_rate": _spread(measured(chosen, "cache_hit_rate"))
        | {"avg": _rounded(all_reads(chosen).rate_pct)},
        "status_distribution": {str(each): grades[each] for each in Grade},
        "last_updated": iso(chosen[-1].at_s) if chosen else None,
    }


def windowed(readings: Sequence[Reading], minutes: float, now_s: float) -> dict[str, Any]:
    """Return the figures of the last minutes, None where nothing was measured.

    `response_time` in ms: `count` requests, of which `success_rate` per cent did not fail; `avg`
    counts each reading as often as it has requests, the rest are of the readings' means.
    `memory_usage_mb` is the service's, `growth` from the first reading to the last. `throughput`
    in requests a second, `total` in requests.
    """
    chosen = within(readings, 60 * minutes, now_s)
    return {
        "time_window_minutes": minutes,
        "generated_at": iso(now_s),
        "measurements": len(chosen),
        "response_time": _response_window(chosen),
        "memory_usage_mb": _memory_window(chosen),
        "throughput": _throughput_window(chosen),
    }


def _response_window(chosen: Sequence[Reading]) -> dict[str, Any]:
    requests, failed = sum(r.requests for r in chosen), sum(r.failed for r in chosen)
    times = measured(chosen, "avg_response_time")
    success = 100 * (1 - failed / requests) if requests else None
    return (
        {"count": requests}
        | _spread(times)
        | {"avg": _rounded(mean_response_ms(chosen))}
        | {"p50": _percentile(times, 50), "p95": _percentile(times, 95)}
        | {"success_rate": _rounded(success)}
    )


def _memory_window(chosen: Sequence[Reading]) -> dict[str, float | None]:
    sizes = measured(chosen, "service_memory_mb")
    last = _rounded(sizes[-1]) if sizes else None
    growth = _rounded(sizes[-1] - sizes[0]) if sizes else None
    return {"current": last} | _spread(sizes) | {"growth": growth}


def _throughput_window(chosen: Sequence[Reading]) -> dict[str, float | None]:
    total, span_s = sum(r.requests for r in chosen), sum(r.span_s for r in chosen)
    rates = measured(chosen, "requests_per_second")
    return {
        "avg": _rounded(total / span_s) if span_s else None,
        "max": _rounded(max(rates, default=None)),
        "total": total,
    }


def routes(readings: Sequence[Reading], minutes: float, now_s: float) -> list[dict[str, Any]]:
    """Return what was asked of each route in the last minutes, the most asked first.

    `avg_ms` counts each reading as often as it has requests. `worst_p95_ms` is the highest of the
    readings: that of all requests together is not above it.
    """
    found: dict[str, list[tuple[int, int, float | None, float | None]]] = {}
    for reading in within(readings, 60 * minutes, now_s):
        for r in reading.routes:
            found.setdefault(r.route, []).append((r.requests, r.failed, r.avg_ms, r.p95_ms))
    table = [_route(route, rows) for route, rows in found.items()]
    return sorted(table, key=lambda row: (-row["requests"], row["route"]))


def _route(
    route: str, rows: Sequence[tuple[int, int, float | None, float | None]]
) -> dict[str, Any]:
    requests, failed = sum(row[0] for row in rows), sum(row[1] for row in rows)
    return {
        "route": route,
        "requests": requests,
        "failed": failed,
        "error_rate_percent": _rounded(100 * failed / requests) if requests else None,
        "avg_ms": _rounded(_weighted((avg, count) for count, _, avg, _ in rows)),
        "worst_p95_ms": _rounded(max((r[3] for r in rows if r[3] is not None), default=None)),
    }


def trend(readings: Sequence[Reading]) -> dict[str, Any]:
    """Return the means of the last ten readings against those of the ten before, by metric.

    `rising` and `falling` are by more than a fifth. A metric needs five values on both sides,
    else it is left out; `status` is `insufficient_data` where there are no twenty readings.
    """
    recent, before = readings[-_TREND_READINGS:], readings[:-_TREND_READINGS][-_TREND_READINGS:]
    if len(before) < _TREND_READINGS:
        return {"status": "insufficient_data", "readings": len(readings)}
    found: dict[str, Any] = {"status": "ok", "readings": 2 * _TREND_READINGS}
    for name, metric in _TREND_METRICS.items():
        old, new = measured(before, metric), measured(recent, metric)
        if min(len(old), len(new)) >= _TREND_LEAST:
            found[name] = _moved(fmean(old), fmean(new))
    return found


def _moved(before: float, recent: float) -> dict[str, Any]:
    rising, falling = recent > _TREND_RATIO * before, before > _TREND_RATIO * recent
    return {
        "recent": _rounded(recent),
        "before": _rounded(before),
        "change_percent": _rounded(100 * (recent - before) / before) if before else None,
        "trend": "rising" if rising else "falling" if falling else "stable",
    }


# -- numbers --------------------------------------------------------------------------------


def mean_response_ms(readings: Iterable[Reading]) -> float | None:
    """Return the mean response time by requests, None without any that were timed."""
    return _weighted((reading.avg_response_ms, reading.requests) for reading in readings)


def iso(at_s: float) -> str:
    """Return Unix seconds as ISO 8601 in UTC."""
    return utc(at_s).isoformat(timespec="milliseconds")


def _weighted(values: Iterable[tuple[float | None, int]]) -> float | None:
    """Return the mean of what was measured. A time without a request counts as one of one."""
    pairs = [(value, max(1, count)) for value, count in values if value is not None]
    weight = sum(count for _, count in pairs)
    return sum(value * count for value, count in pairs) / weight if weight else None


def all_reads(readings: Iterable[Reading]) -> Reads:
    return sum((reading.all_reads for reading in readings), Reads())


def _spread(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"avg": None, "max": None, "min": None}
    return {name: _rounded(of(values)) for name, of in _SPREAD.items()}


_SPREAD: dict[str, Callable[[Sequence[float]], float]] = {"avg": fmean, "max": max, "min": min}


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return _rounded(float(np.percentile(values, percent))) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)
