"""Metrics become readings, and readings become figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram

from actors.monitor.plain import plain, restored
from actors.monitor.reading import Reading, RouteFigures
from actors.monitor.report import recommendations, report
from actors.monitor.sampling import Machine, Sampler, is_judged, largest_process, quantile
from actors.monitor.summary import current, routes, summary, trend, windowed
from infra.caches.counted import READS
from infra.metrics import Families, MetricsTable, ProcessReport, Sample
from serve.rest.memory_view import cache_stats, overall_rate_pct

NOW_S = 1_700_000_000.0
MACHINE = Machine(20.0, 30.0, 4_000.0, 50.0, 900.0, 1)
BOUNDS = ("0.01", "0.1", "1.0", "+Inf")
PRICES = "/api/v2/prices/{symbol}"

IDLE = Reading(
    at_s=NOW_S,
    span_s=60.0,
    cpu_percent=10.0,
    service_cpu_percent=5.0,
    memory_percent=30.0,
    memory_used_mb=4_000.0,
    service_memory_mb=900.0,
    disk_usage_percent=50.0,
    avg_response_ms=None,
    p95_response_ms=None,
    error_rate_percent=None,
    cache_hit_rate=None,
    hit_rates={},
    active_connections=0,
    requests=0,
    failed=0,
    total_requests=0,
    total_failed=0,
    requests_per_second=0.0,
    event_loop_lag_ms=1.0,
    tasks_unfinished=0,
    tasks_ended=0,
    tasks_failed=0,
    haproxy_processes=1,
)


def reading(minute: float = 0.0, **figures: Any) -> Reading:
    """Return a reading so many minutes after `NOW_S`; what was measured is of 100."""
    if any(figures.get(name) is not None for name in ("avg_response_ms", "error_rate_percent")):
        figures = {"requests": 100, "requests_per_second": 100 / 60} | figures
    if "cache_hit_rate" in figures:
        figures = {"cache_reads": 100} | figures
    return replace(IDLE, at_s=NOW_S + 60 * minute, **figures)


def every_minute(values: Sequence[float | None], metric: str = "avg_response_ms") -> list[Reading]:
    """Return a reading a minute, the first at minute 0."""
    return [reading(minute, **{metric: value}) for minute, value in enumerate(values)]


def requests(counts: Mapping[tuple[str, str], float]) -> Families:
    """Return counts of GETs by route and status."""
    samples: list[Sample] = [
        (
            "finstage_http_requests_total",
            (("method", "GET"), ("route", route), ("status", status)),
            count,
        )
        for (route, status), count in counts.items()
    ]
    return {"finstage_http_requests": ("counter", "", samples)}


def times(routes: dict[str, tuple[float, Sequence[float]]]) -> Families:
    """Return the seconds of routes in all, and the counts not above each of `BOUNDS`."""
    name = "finstage_http_request_duration_seconds"
    samples: list[Sample] = []
    for route, (total_s, cumulative) in routes.items():
        for bound, count in zip(BOUNDS, cumulative, strict=True):
            samples.append((f"{name}_bucket", (("le", bound), ("route", route)), float(count)))
        samples.append((f"{name}_count", (("route", route),), float(cumulative[-1])))
        samples.append((f"{name}_sum", (("route", route),), total_s))
    return {name: ("histogram", "", samples)}


def reads(counts: Mapping[tuple[str, str, str], float]) -> Families:
    """Return reads of caches by cache, level and result."""
    samples: list[Sample] = [
        (f"{READS}_total", (("cache", cache), ("level", level), ("result", result)), count)
        for (cache, level, result), count in counts.items()
    ]
    return {READS: ("counter", "", samples)}


def gauges(name: str, **values: float) -> Families:
    """Return a gauge by process."""
    samples: list[Sample] = [
        (name, (("process", process),), value) for process, value in values.items()
    ]
    return {name: ("gauge", "", samples)}


def read(*looks: Families, span_s: float = 10.0, machine: Machine = MACHINE) -> Reading:
    """Return the last reading of looks at the metrics."""
    sampler, found = Sampler(), None
    for index, families in enumerate(looks):
        found = sampler.reading(families, machine, NOW_S + span_s * index)
    assert found is not None
    return found


# -- sampling -------------------------------------------------------------------------------


def test_a_span_needs_two_looks() -> None:
    sampler = Sampler()
    assert sampler.reading(requests({(PRICES, "200"): 5}), MACHINE, NOW_S) is None
    assert sampler.reading(requests({(PRICES, "200"): 6}), MACHINE, NOW_S) is None  # no time went

    found = sampler.reading(requests({(PRICES, "200"): 9}), MACHINE, NOW_S + 2)

    assert found is not None
    assert (found.requests, found.span_s, found.requests_per_second) == (4, 2.0, 2.0)


def test_nothing_happened_is_none_and_not_nought() -> None:
    same = requests({(PRICES, "200"): 5}) | reads({("news", "near", "hit"): 3})

    found = read(same, same)

    assert (found.requests, found.requests_per_second) == (0, 0.0)
    assert found.avg_response_ms is None
    assert found.p95_response_ms is None
    assert found.error_rate_percent is None
    assert found.cache_hit_rate is None
    assert found.hit_rates == {"news": None}
    assert (found.total_requests, found.routes) == (5, ())


def test_only_what_grew_counts() -> None:
    before = requests({(PRICES, "200"): 1_000, (PRICES, "500"): 100})
    after = requests({(PRICES, "200"): 1_030, (PRICES, "500"): 108, (PRICES, "404"): 2})

    found = read(before, after)

    assert (found.requests, found.failed, found.error_rate_percent) == (40, 8, 20.0)
    assert (found.total_requests, found.total_failed) == (1_140, 108)


def test_a_counter_that_fell_tells_nothing_of_its_span() -> None:
    found = read(requests({(PRICES, "200"): 1_000}), requests({(PRICES, "200"): 7}))
    assert found.requests == 0


def test_a_histogram_that_fell_in_part_tells_nothing_as_a_whole() -> None:
    before = times({PRICES: (100.0, [0, 0, 90, 100])})
    after = times({PRICES: (2.0, [2, 3, 4, 4])})  # some buckets are above what they were

    found = read(before, after)

    assert (found.avg_response_ms, found.p95_response_ms) == (None, None)


def test_a_sum_in_another_order_has_not_fallen() -> None:
    before = times({PRICES: (1_000.0, [0, 500, 1_000, 1_000])})
    after = times({PRICES: (1_000.0 - 1e-10, [0, 500, 1_000, 1_000])})

    found = read(before, after)

    assert (found.avg_response_ms, found.routes) == (None, ())


def test_counts_that_were_away_for_a_look_are_not_counted_again() -> None:
    counts = requests({(PRICES, "200"): 1_000})
    found = read(counts, {}, requests({(PRICES, "200"): 1_003}))
    assert found.requests == 3


def test_monitoring_pages_assets_and_streams_are_left_out() -> None:
    watched = (
        "/", "/tasks", "/metrics", "/health/ready", "/monitoring/health", "/api/metrics/current",
        "/api/v2/performance/dashboard", "/assets", "/performance-dashboard", "/ws/sse",
        "unmatched",
    )  # fmt: skip
    after = requests({(route, "500"): 10 for route in watched} | {(PRICES, "200"): 1})
    slow = times({route: (50.0, [0, 0, 0, 10]) for route in watched})

    found = read({}, after | slow)

    assert (found.requests, found.failed, found.avg_response_ms) == (1, 0, None)
    assert [figures.route for figures in found.routes] == [PRICES]
    assert is_judged("/api/memory/status")
    assert is_judged("/api/tasks/{task_id}")
    assert is_judged("refused")


def test_routes_have_their_own_figures_the_most_asked_first() -> None:
    after = requests({("/a", "200"): 2, ("/b", "200"): 6, ("/b", "503"): 2}) | times(
        {"/a": (1.0, [0, 0, 2, 2]), "/b": (0.04, [8, 8, 8, 8])}
    )

    found = read({}, after)

    assert [(r.route, r.requests, r.failed) for r in found.routes] == [("/b", 8, 2), ("/a", 2, 0)]
    assert [r.avg_ms for r in found.routes] == pytest.approx([5.0, 500.0])
    assert found.avg_response_ms == pytest.approx(104.0)
    # 9.5 of ten: three quarters into the bucket of the last two
    assert found.p95_response_ms == pytest.approx(1_000 * (0.1 + 0.9 * 0.75))


def test_what_the_edge_answered_is_counted_and_not_timed() -> None:
    found = read({}, requests({(PRICES, "200"): 50, ("/a", "200"): 1}) | times(
        {"/a": (0.2, [0, 0, 1, 1])}
    ))  # fmt: skip

    assert found.requests == 51
    assert found.avg_response_ms == pytest.approx(200.0)
    assert found.routes[0] == RouteFigures(PRICES, 50, 0, None, None)


def test_a_read_that_was_missed_near_and_found_behind_is_one_hit() -> None:
    counts = {
        ("technical_analysis", "near", "hit"): 10.0,
        ("technical_analysis", "near", "stale"): 2.0,
        ("technical_analysis", "near", "miss"): 8.0,
        ("technical_analysis", "shared", "hit"): 5.0,
        ("technical_analysis", "shared", "miss"): 3.0,
        ("price_data", "source", "hit"): 1.0,
        ("price_data", "source", "miss"): 9.0,
        ("news", "near", "miss"): 0.0,
    }

    found = read({}, reads(counts))

    assert found.hit_rates == {"news": None, "price_data": 10.0, "technical_analysis": 85.0}
    assert found.cache_hit_rate == pytest.approx(60.0)
    shown = cache_stats(reads(counts))
    assert found.cache_hit_rate == overall_rate_pct(reads(counts))
    assert found.cache_reads == 30
    assert all(shown[cache]["hit_rate"] == rate for cache, rate in found.hit_rates.items())


def test_gauges_are_summed_or_the_worst() -> None:
    before = gauges("finstage_process_cpu_seconds", feed=100.0, api=50.0)
    after = (
        gauges("finstage_process_cpu_seconds", feed=103.0, api=51.0, task=1.0)
        | gauges("finstage_websocket_connections", a=3.0, b=4.0)
        | gauges("finstage_event_loop_lag_seconds", a=0.002, b=0.05)
        | gauges("finstage_system_memory_percent", a=30.0, far=77.0)
        | gauges("finstage_process_resident_bytes", feed=100 * 2**20, api=300 * 2**20)
    )

    found = read(before, after)

    assert found.service_cpu_percent == pytest.approx(50.0)
    assert found.active_connections == 7
    assert found.event_loop_lag_ms == pytest.approx(50.0)
    assert (found.cpu_percent, found.memory_percent) == (20.0, 77.0)
    assert (found.disk_usage_percent, found.service_memory_mb) == (50.0, 900.0)
    assert largest_process(after) == ("api", 300.0)
    assert largest_process({}) is None


def test_tasks_are_counted_by_how_they_ended() -> None:
    def tasks(completed: float, failed: float) -> Families:
        samples: list[Sample] = [
            ("finstage_tasks_total", (("state", state), ("task", "t")), count)
            for state, count in (("completed", completed), ("failed", failed))
        ]
        waiting: list[Sample] = [
            ("finstage_tasks_unfinished", (("process", "tasks"), ("stage", stage)), 2.0)
            for stage in ("ready", "running")
        ]
        return {
            "finstage_tasks": ("counter", "", samples),
            "finstage_tasks_unfinished": ("gauge", "", waiting),
        }

    found = read(tasks(10, 1), tasks(14, 2))

    assert (found.tasks_ended, found.tasks_failed, found.tasks_unfinished) == (5, 1, 4)


def test_a_reading_survives_the_store() -> None:
    found = read({}, requests({(PRICES, "200"): 2}) | reads({("news", "near", "hit"): 1}))
    assert restored(Reading, json.loads(json.dumps(plain(found)))) == found


def test_an_ended_process_takes_nothing_from_the_counts() -> None:
    table, sampler = MetricsTable(), Sampler()
    for process in ("api-1", "api-2"):
        table.put(ProcessReport(process, requests({(PRICES, "200"): 100})), 0.0)
    sampler.reading(table.families(), MACHINE, NOW_S)

    table.put(ProcessReport("api-2", requests({(PRICES, "200"): 106})), 60.0)  # api-1 is silent
    found = sampler.reading(table.families(), MACHINE, NOW_S + 60)

    assert table.processes == ("api-2",)
    assert found is not None
    assert found.requests == 6


# -- quantiles ------------------------------------------------------------------------------


@pytest.mark.parametrize("q", [0.05, 0.5, 0.95, 0.99])
def test_a_quantile_of_a_fine_histogram_is_numpys(q: float) -> None:
    values = np.random.default_rng(11).lognormal(-3.0, 0.7, 20_000)
    bounds = [*np.linspace(0.001, 2.0, 2_000), float("inf")]
    counts = [float((values <= bound).sum()) for bound in bounds]

    assert quantile(q, bounds, counts) == pytest.approx(np.quantile(values, q), abs=0.001)


def test_quantiles_of_the_librarys_own_histogram() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("x", "X.", buckets=(1, 2, 3, 4), registry=registry)
    for value in (0.5, 1.5, 1.5, 2.5):
        histogram.observe(value)
    (family,) = registry.collect()
    buckets = [(float(s.labels["le"]), s.value) for s in family.samples if "le" in s.labels]

    bounds, counts = zip(*buckets, strict=True)

    assert quantile(0.5, bounds, counts) == pytest.approx(1.5)
    assert quantile(0.25, bounds, counts) == pytest.approx(1.0)
    assert quantile(1.0, bounds, counts) == pytest.approx(3.0)


def test_what_is_above_all_bounds_is_told_as_the_highest() -> None:
    assert quantile(0.95, [1.0, 5.0, float("inf")], [0, 1, 10]) == 5.0
    assert quantile(0.95, [1.0, float("inf")], [0, 0]) is None
    assert quantile(0.95, [], []) is None


# -- figures of many ------------------------------------------------------------------------


def test_the_summary_of_hours() -> None:
    readings = [
        reading(-200, avg_response_ms=9_000.0),  # too old
        reading(-2, avg_response_ms=100.0, requests=300, memory_percent=20.0, cache_hit_rate=95.0),
        reading(-1, avg_response_ms=500.0, requests=100, memory_percent=70.0),
        reading(0, memory_percent=90.0),
    ]

    found = summary(readings, 1, NOW_S)

    assert found == {
        "period_hours": 1,
        "total_measurements": 3,
        "memory_usage": {"avg": 60.0, "max": 90.0, "min": 20.0},
        "cpu_usage": {"avg": 10.0, "max": 10.0, "min": 10.0},
        "response_time": {"avg": 200.0, "max": 500.0, "min": 100.0, "p95": 480.0},
        "cache_hit_rate": {"avg": 95.0, "max": 95.0, "min": 95.0},
        "status_distribution": {
            "excellent": 1, "good": 0, "fair": 1, "poor": 1, "critical": 0,
        },
        "last_updated": "2023-11-14T22:13:20.000+00:00",
    }  # fmt: skip


def test_a_summary_of_nothing_says_so() -> None:
    found = summary([], 24, NOW_S)

    assert found["total_measurements"] == 0
    assert found["memory_usage"] == {"avg": None, "max": None, "min": None}
    assert found["response_time"] == {"avg": None, "max": None, "min": None, "p95": None}
    assert found["last_updated"] is None
    assert sum(found["status_distribution"].values()) == 0


def test_the_window_of_minutes() -> None:
    readings = [
        reading(-90, avg_response_ms=9_000.0),
        reading(-2, avg_response_ms=100.0, requests=300, failed=3, requests_per_second=5.0),
        reading(-1, avg_response_ms=500.0, requests=100, failed=1, service_memory_mb=1_000.0),
        reading(0, service_memory_mb=950.0),
    ]

    found = windowed(readings, 60, NOW_S)

    assert found["response_time"] == {
        "count": 400, "avg": 200.0, "max": 500.0, "min": 100.0, "p50": 300.0, "p95": 480.0,
        "success_rate": 99.0,
    }  # fmt: skip
    assert found["memory_usage_mb"] == {
        "current": 950.0, "avg": 950.0, "max": 1_000.0, "min": 900.0, "growth": 50.0,
    }  # fmt: skip
    assert found["throughput"] == {"avg": round(400 / 180, 3), "max": 5.0, "total": 400}
    assert (found["time_window_minutes"], found["measurements"]) == (60, 3)
    assert windowed([], 60, NOW_S)["throughput"] == {"avg": None, "max": None, "total": 0}


def test_routes_of_many_readings_become_one_table() -> None:
    first = reading(-1, routes=(
        RouteFigures("/a", 30, 3, 100.0, 300.0), RouteFigures("/b", 90, 0, None, None),
    ))  # fmt: skip
    second = reading(0, routes=(RouteFigures("/a", 10, 1, 500.0, 800.0),))

    found = routes([first, second], 10, NOW_S)

    assert found == [
        {"route": "/b", "requests": 90, "failed": 0, "error_rate_percent": 0.0, "avg_ms": None,
         "worst_p95_ms": None},
        {"route": "/a", "requests": 40, "failed": 4, "error_rate_percent": 10.0, "avg_ms": 200.0,
         "worst_p95_ms": 800.0},
    ]  # fmt: skip
    assert [row["requests"] for row in routes([first, second], 0.5, NOW_S)] == [10]


def test_the_trend_is_of_ten_against_ten() -> None:
    assert trend(every_minute([100.0] * 19))["status"] == "insufficient_data"

    found = trend(every_minute([9_999.0] * 5 + [100.0] * 10 + [130.0] * 10))

    assert found["response_time"] == {
        "recent": 130.0, "before": 100.0, "change_percent": 30.0, "trend": "rising",
    }  # fmt: skip
    assert found["memory_usage"]["trend"] == "stable"
    assert "cache_hit_rate" not in found  # nothing was read
    assert trend(every_minute([130.0] * 10 + [100.0] * 10))["response_time"]["trend"] == "falling"
    assert trend(every_minute([100.0] * 10 + [120.0] * 10))["response_time"]["trend"] == "stable"


def test_a_metric_with_few_values_has_no_trend() -> None:
    found = trend(every_minute([100.0] * 10 + [None] * 6 + [900.0] * 4))
    assert found["status"] == "ok"
    assert "response_time" not in found


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({}, []),
        ({"memory_percent": 80.0}, []),
        ({"memory_percent": 81.0}, [("memory", "high")]),
        ({"memory_percent": 96.0}, [("memory", "critical")]),
        ({"avg_response_ms": 1_000.0}, []),
        ({"avg_response_ms": 1_001.0}, [("response_time", "high")]),
        ({"avg_response_ms": 10.0, "p95_response_ms": 3_001.0}, [("response_time", "medium")]),
        ({"avg_response_ms": 10.0, "cache_hit_rate": 69.0}, [("cache", "medium")]),
        ({"avg_response_ms": 10.0, "cache_hit_rate": 70.0}, []),
        (
            {"avg_response_ms": 1_001.0, "memory_percent": 96.0, "cache_hit_rate": 1.0},
            [("memory", "critical"), ("response_time", "high"), ("cache", "medium")],
        ),
    ],
)
def test_recommendations_by_what_was_measured(
    figures: dict[str, float], expected: list[tuple[str, str]]
) -> None:
    found = recommendations([reading(minute, **figures) for minute in range(6)])

    assert [(item["category"], item["priority"]) for item in found] == expected
    assert all(item["recommendations"] and item["title"] for item in found)


def test_an_idle_service_gets_no_recommendation() -> None:
    assert recommendations([]) == []
    few = [reading(m, cache_hit_rate=0.0, cache_reads=1) for m in range(40)]
    assert recommendations(few) == []
    assert summary(few, 24, NOW_S + 2_400)["cache_hit_rate"] == {
        "avg": 0.0,
        "max": None,
        "min": None,
    }


def test_slower_than_before_is_recommended_upon() -> None:
    (item,) = recommendations(every_minute([100.0] * 10 + [130.0] * 10))
    assert (item["category"], item["priority"]) == ("trend", "medium")
    assert "130.0 ms" in item["description"]


def test_the_report_joins_all_of_it() -> None:
    readings = every_minute([100.0] * 10 + [130.0] * 10)
    now_s = readings[-1].at_s

    found = report(readings, 2, now_s)

    assert found["current"] == current(readings[-1])
    assert found["current"]["status"] == "excellent"
    assert found["summary"] == summary(readings, 2, now_s)
    assert found["window"] == windowed(readings, 120, now_s)
    assert found["thresholds"]["memory_percent"] == 80.0
    assert found["trend"]["response_time"]["trend"] == "rising"
    assert len(found["recommendations"]) == 1
    assert json.loads(json.dumps(found)) == found
    assert report([], 2, now_s)["current"] is None
