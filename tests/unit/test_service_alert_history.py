"""The history of alerts about the service, its figures, and how an alert is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from actors.monitor.alerting.alert import ServiceAlert
from actors.monitor.alerting.history import shown, statistics

NOW_S = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC
HOUR_S = 3_600.0


def alert(age_h: float, rule_id: str = "slow", **more: Any) -> ServiceAlert:
    at_s = NOW_S - age_h * HOUR_S
    values: dict[str, Any] = {
        "id": f"{rule_id}_{int(at_s)}", "rule_id": rule_id, "title": "Slow", "message": "It is.",
        "severity": "warning", "metric_name": "cpu_percent", "current_value": 91.0,
        "threshold": 90.0, "triggered_at_s": at_s,
    }  # fmt: skip
    return ServiceAlert(**(values | more))


def test_an_active_alert_is_shown_as_the_contract_says() -> None:
    assert shown(alert(0)) == {
        "id": "slow_1700000000",
        "rule_id": "slow",
        "title": "Slow",
        "message": "It is.",
        "severity": "warning",
        "metric_name": "cpu_percent",
        "current_value": 91.0,
        "threshold": 90.0,
        "triggered_at": "2023-11-14T22:13:20+00:00",
        "acknowledged": False,
        "repeats": 0,
        "is_flapping": False,
    }


def test_one_that_is_over_shows_when_and_why() -> None:
    over = shown(alert(1, resolved_at_s=NOW_S, resolved_reason="it cleared"))
    assert over["resolved_at"] == "2023-11-14T22:13:20+00:00"
    assert over["resolved_reason"] == "it cleared"


def test_what_was_kept_at_each_change_counts_once_as_it_was_last() -> None:
    began = alert(1)
    kept = [began, replace(began, acknowledged=True), replace(began, resolved_at_s=NOW_S)]
    assert statistics(kept, [], 24, NOW_S)["total_alerts"] == 1


def test_statistics_count_by_severity_rule_and_hour() -> None:
    kept = [
        alert(0.1),
        alert(0.2, "cpu", severity="critical"),
        alert(1),
        alert(23.9, "cpu", severity="critical"),
        alert(25),
    ]
    assert statistics(kept, [kept[0]], 24, NOW_S) == {
        "time_range_hours": 24,
        "total_alerts": 4,
        "active_alerts": 1,
        "severity_breakdown": {"critical": 2, "warning": 2},
        "rule_breakdown": {"cpu": 2, "slow": 2},
        "hourly_breakdown": {
            "2023-11-13 22:00": 1,
            "2023-11-14 21:00": 1,
            "2023-11-14 22:00": 2,
        },
        "generated_at": "2023-11-14T22:13:20+00:00",
    }


def test_an_old_alert_that_is_active_counts_as_active_only() -> None:
    found = statistics([], [alert(30)], 24, NOW_S)
    assert (found["active_alerts"], found["total_alerts"]) == (1, 0)


def test_what_is_known_of_an_active_alert_goes_before_its_history() -> None:
    kept = alert(1)
    found = statistics([kept], [replace(kept, severity="error")], 24, NOW_S)
    assert found["severity_breakdown"] == {"error": 1}


def test_no_alerts_are_empty_figures() -> None:
    found = statistics([], [], 1, NOW_S)
    assert (found["total_alerts"], found["hourly_breakdown"]) == (0, {})
