"""Readings are graded, and what is wrong is told once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from actors.monitor.findings import (
    CONSECUTIVE_POOR,
    PERFORMANCE_DEGRADATION,
    THRESHOLD_VIOLATION,
    Watch,
    degradation,
)
from actors.monitor.grades import Grade, Thresholds, exceeded, grade, is_poor_run
from actors.monitor.health import Check, health, worst
from actors.monitor.reading import Reading
from tests.unit.test_readings import every_minute, reading


def told(watch: Watch, readings: Iterable[Reading]) -> list[tuple[int, str, str]]:
    """Return minute, name and severity of what a watch tells."""
    start_s = reading(0).at_s
    return [
        (round((finding.at_s - start_s) / 60), finding.name, finding.severity)
        for one in readings
        for finding in watch.take(one)
    ]


# -- grades ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({}, Grade.EXCELLENT),  # no requests, and all else is excellent
        ({"avg_response_ms": 199.0, "cache_hit_rate": 91.0}, Grade.EXCELLENT),
        ({"avg_response_ms": 200.0, "cache_hit_rate": 91.0}, Grade.GOOD),
        ({"avg_response_ms": 199.0, "cache_hit_rate": 90.0}, Grade.GOOD),
        ({"memory_percent": 40.0}, Grade.GOOD),
        ({"cpu_percent": 30.0}, Grade.GOOD),
        ({"memory_percent": 60.0}, Grade.GOOD),
        ({"memory_percent": 60.1}, Grade.FAIR),
        ({"cpu_percent": 50.1}, Grade.FAIR),
        ({"avg_response_ms": 500.1}, Grade.FAIR),
        ({"cache_hit_rate": 69.9}, Grade.FAIR),
        ({"cache_hit_rate": 0.0}, Grade.FAIR),  # a cache never makes it poor
        ({"cache_hit_rate": 0.0, "cache_reads": 49}, Grade.EXCELLENT),  # of too few reads
        ({"cpu_percent": 100.0, "is_start": True}, Grade.GOOD),
        ({"avg_response_ms": 6_000.0, "requests": 9}, Grade.EXCELLENT),
        ({"error_rate_percent": 50.0, "requests": 2}, Grade.EXCELLENT),
        ({"memory_percent": 96.0, "is_start": True}, Grade.CRITICAL),
        ({"memory_percent": 80.0}, Grade.FAIR),
        ({"memory_percent": 80.1}, Grade.POOR),
        ({"cpu_percent": 70.1}, Grade.POOR),
        ({"avg_response_ms": 1_000.1}, Grade.POOR),
        ({"error_rate_percent": 5.1}, Grade.POOR),
        ({"memory_percent": 95.0}, Grade.POOR),
        ({"memory_percent": 95.1}, Grade.CRITICAL),
        ({"cpu_percent": 90.1}, Grade.CRITICAL),
        ({"avg_response_ms": 5_000.1}, Grade.CRITICAL),
        ({"error_rate_percent": 20.1}, Grade.CRITICAL),
    ],
)
def test_grades_begin_where_they_should(figures: dict[str, float], expected: Grade) -> None:
    assert grade(reading(**figures)) is expected


def test_thresholds_can_be_chosen() -> None:
    slow = reading(avg_response_ms=300.0)
    assert grade(slow) is Grade.GOOD
    assert grade(slow, Thresholds(response_ms=250.0)) is Grade.POOR
    assert exceeded(slow, Thresholds(response_ms=250.0)) == {
        "api_response_time_ms": (300.0, 250.0)
    }
    assert exceeded(slow) == {}


# -- health ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "largest_mb", "expected"),
    [
        ({}, 500.0, "healthy"),
        ({"cpu_percent": 80.1}, None, "degraded"),
        ({"memory_percent": 80.1}, None, "degraded"),
        ({"disk_usage_percent": 80.1}, None, "degraded"),
        ({}, 500.1, "degraded"),
        ({"cpu_percent": 95.0}, 1_000.0, "degraded"),
        ({"cpu_percent": 95.1}, None, "unhealthy"),
        ({"memory_percent": 95.1}, None, "unhealthy"),
        ({"disk_usage_percent": 95.1}, None, "unhealthy"),
        ({}, 1_000.1, "unhealthy"),
    ],
)
def test_health_is_that_of_the_worst_part(
    figures: dict[str, float], largest_mb: float | None, expected: str
) -> None:
    assert worst(health(reading(**figures), largest_mb).values()) == expected


def test_health_says_what_it_looked_at() -> None:
    checks = health(reading(cpu_percent=85.0, memory_percent=40.0), 1_234.0)

    assert checks["system_resources"] == Check("degraded", "CPU 85 %, memory 40 %")
    assert checks["disk_space"] == Check("healthy", "disk 50 %")
    assert checks["memory_usage"] == Check("unhealthy", "the largest process has 1,234 MB")
    assert "memory_usage" not in health(reading())
    assert worst([]) == "healthy"


# -- rows of readings -----------------------------------------------------------------------


def test_a_reading_is_no_part_of_its_own_baseline() -> None:
    *before, slow = every_minute([100.0] * 5 + [130.0])
    found = degradation(slow, [*before, slow])

    assert found is not None
    # With itself among them the mean would be 105, and this 24 %.
    assert (found.baseline_ms, found.samples, round(found.percent, 6)) == (100.0, 5, 30.0)


def test_slower_means_by_more_than_a_fifth() -> None:
    for response_ms, is_found in ((120.0, False), (120.1, True)):
        *before, newest = every_minute([100.0] * 5 + [response_ms])
        assert (degradation(newest, before) is not None) == is_found


def test_five_of_the_last_ten_minutes_are_compared_with() -> None:
    *before, slow = every_minute([100.0] * 4 + [None] * 3 + [900.0])
    assert degradation(slow, before) is None
    old = [reading(minute, avg_response_ms=100.0) for minute in range(5)]
    assert degradation(reading(11, avg_response_ms=900.0), old) is None  # 1 to 4 are left
    assert degradation(reading(10, avg_response_ms=900.0), old) is not None


def test_a_span_without_requests_is_not_slower() -> None:
    assert degradation(reading(6), every_minute([100.0] * 6)) is None


def test_a_poor_run_is_five_in_a_row() -> None:
    poor, fair = {"cpu_percent": 75.0}, {"cpu_percent": 60.0}
    rows = [reading(minute, **poor) for minute in range(5)]

    assert is_poor_run(rows)
    assert not is_poor_run(rows[:4])
    assert not is_poor_run([*rows[:4], reading(4, **fair)])
    assert is_poor_run([reading(-1, **fair), *rows])
    assert is_poor_run([*rows[:4], reading(4, cpu_percent=99.0)])


# -- what is told ---------------------------------------------------------------------------


def test_an_idle_service_raises_nothing_for_hours() -> None:
    def idle(minute: int) -> dict[str, Any]:
        # A job asks for something new every ten minutes: a hit rate of 0 %.
        is_job = minute % 10 == 0
        return {"cache_hit_rate": 0.0, "cache_reads": 49} if is_job else {}

    assert told(Watch(), [reading(minute, **idle(minute)) for minute in range(600)]) == []


def test_what_lasts_is_told_once_an_hour() -> None:
    lasting = [reading(minute, memory_percent=85.0) for minute in range(125)]
    found = [(minute, name) for minute, name, _ in told(Watch(), lasting)]

    assert [minute for minute, name in found if name == THRESHOLD_VIOLATION] == [0, 60, 120]
    assert [minute for minute, name in found if name == CONSECUTIVE_POOR] == [4, 64, 124]


def test_what_ended_is_told_when_it_begins_again() -> None:
    values = [85.0, 85.0, 50.0, 85.0]
    found = told(Watch(), every_minute(values, "memory_percent"))
    assert found == [(0, THRESHOLD_VIOLATION, "warning"), (3, THRESHOLD_VIOLATION, "warning")]


def test_what_gets_worse_is_told_at_once() -> None:
    rows = [
        reading(0, memory_percent=85.0),
        reading(1, memory_percent=85.0, cpu_percent=75.0),  # another metric
        reading(2, memory_percent=96.0),  # critical
        reading(3, memory_percent=85.0),
        reading(4, memory_percent=96.0, cpu_percent=75.0),  # all of it is known
    ]
    found = [f for f in told(Watch(), rows) if f[1] == THRESHOLD_VIOLATION]
    assert found == [
        (0, THRESHOLD_VIOLATION, "warning"),
        (1, THRESHOLD_VIOLATION, "warning"),
        (2, THRESHOLD_VIOLATION, "critical"),
    ]


def test_a_violation_says_what_it_is_of() -> None:
    (found,) = Watch().take(reading(0, memory_percent=85.0, cache_hit_rate=50.0, cache_reads=50))

    assert found.message == "memory_percent 85 > 80; cache_hit_rate 50 < 80"
    assert found.values == {"memory_percent": 85.0, "cache_hit_rate": 50.0}


def test_slower_responses_are_told_until_requests_say_otherwise() -> None:
    times = [100.0] * 6 + [150.0, None, 150.0, 100.0, 200.0]
    found = told(Watch(), every_minute(times))
    # Minute 7 says nothing of it; minute 9 ends it.
    assert found == [
        (6, PERFORMANCE_DEGRADATION, "warning"),
        (10, PERFORMANCE_DEGRADATION, "warning"),
    ]


def test_five_poor_readings_are_critical() -> None:
    rows = [reading(minute, cpu_percent=75.0) for minute in range(6)]
    assert told(Watch(), rows)[1:] == [(4, CONSECUTIVE_POOR, "critical")]
