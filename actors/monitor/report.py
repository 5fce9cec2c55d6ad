"""All that the last hours say, and what an operator could do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean, median
from typing import Any

from actors.monitor.comparison import measured, within
from actors.monitor.grades import DEFAULTS, Thresholds
from actors.monitor.reading import Reading
from actors.monitor.summary import (
    all_reads,
    current,
    iso,
    mean_response_ms,
    routes,
    summary,
    trend,
    windowed,
)


def report(
    readings: Sequence[Reading], hours: float, now_s: float, thresholds: Thresholds = DEFAULTS
) -> dict[str, Any]:
    """Return all that the last hours say, and the settings that grades were made with."""
    chosen = within(readings, 3_600 * hours, now_s)
    return {
        "generated_at": iso(now_s),
        "period_hours": hours,
        "thresholds": asdict(thresholds),
        "current": current(chosen[-1], thresholds) if chosen else None,
        "summary": summary(chosen, hours, now_s, thresholds),
        "window": windowed(chosen, 60 * hours, now_s),
        "routes": routes(chosen, 60 * hours, now_s),
        "trend": trend(chosen),
        "recommendations": recommendations(chosen),
    }


def recommendations(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return what an operator could do, the most urgent first; [] where all is well.

    Memory: a mean over 80 % or a peak over 95 %. Response times: a mean over 1,000 ms, or a 95th
    percentile that is mostly over 3,000 ms. Caches: a hit rate under 70 %, of enough reads to
    judge it. Trend: responses slower by a fifth than ten readings before.
    """
    if not readings:
        return []
    makers: tuple[Callable[[Sequence[Reading]], dict[str, Any] | None], ...] = (
        _on_memory, _on_responses, _on_slowest, _on_caches, _on_trend,
    )  # fmt: skip
    found = [item for make in makers if (item := make(readings)) is not None]
    return sorted(found, key=lambda item: ("critical", "high", "medium").index(item["priority"]))


def _on_memory(readings: Sequence[Reading]) -> dict[str, Any] | None:
    used = measured(readings, "memory_percent")
    mean, peak = fmean(used), max(used)
    if mean <= 80 and peak <= 95:
        return None
    return _item(
        "memory",
        "critical" if peak > 95 else "high",
        "The machine's memory is nearly full",
        f"On average {mean:.0f} % was in use, at most {peak:.0f} %.",
        "Give memory back now: POST /api/memory/optimize.",
        "Hold less: lower FINSTAGE_NEAR_CACHE_BYTES, or the sizes in FINSTAGE_CACHES.",
        "Run fewer processes: lower FINSTAGE_TASK_WORKERS or FINSTAGE_API_REPLICAS.",
    )


def _on_responses(readings: Sequence[Reading]) -> dict[str, Any] | None:
    mean = mean_response_ms(readings)
    if mean is None or mean <= 1_000:
        return None
    return _item(
        "response_time",
        "high",
        "Responses are slow",
        f"On average they took {mean:,.0f} ms.",
        "Look at the routes of the report: the slowest is where to begin.",
        "Let tasks leave the CPU to requests: lower FINSTAGE_TASK_WORKERS.",
        "On a machine with free cores, raise FINSTAGE_API_REPLICAS.",
    )


def _on_slowest(readings: Sequence[Reading]) -> dict[str, Any] | None:
    slowest = measured(readings, "p95_response_time")
    if not slowest or median(slowest) <= 3_000:
        return None
    return _item(
        "response_time",
        "medium",
        "One request in twenty is very slow",
        f"In most readings the 95th percentile was {median(slowest):,.0f} ms or more.",
        "Compare the routes' worst_p95_ms: long computations belong into tasks.",
        "See whether the source is slow: finstage_upstream_waiting in /metrics.",
    )


def _on_caches(readings: Sequence[Reading]) -> dict[str, Any] | None:
    rate = all_reads(readings).judged_pct
    if rate is None or rate >= 70:
        return None
    return _item(
        "cache",
        "medium",
        "Caches rarely have what is asked",
        f"They had {rate:.0f} % of it.",
        "See which cache it is: GET /api/memory/status.",
        "Raise its entries or seconds in FINSTAGE_CACHES.",
        "Where many entries are evicted, raise FINSTAGE_NEAR_CACHE_BYTES.",
    )


def _on_trend(readings: Sequence[Reading]) -> dict[str, Any] | None:
    moved = trend(readings).get("response_time")
    if moved is None or moved["trend"] != "rising":
        return None
    return _item(
        "trend",
        "medium",
        "Responses get slower",
        f"The last ten readings had {moved['recent']:,} ms, the ten before {moved['before']:,}.",
        "Compare the load of the two: requests_per_second in the readings.",
        "Look for a change of that time: a deployment, an optimisation rule, a tuning.",
    )


def _item(
    category: str, priority: str, title: str, description: str, *advice: str
) -> dict[str, Any]:
    return {
        "category": category,
        "priority": priority,
        "title": title,
        "description": description,
        "recommendations": list(advice),
    }
