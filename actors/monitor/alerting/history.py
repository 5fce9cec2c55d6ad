"""Past alerts about the service: their figures, and how an alert is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from actors.monitor.alerting.alert import ServiceAlert
from infra.clock import utc

_HOUR_S = 3_600.0


def shown(alert: ServiceAlert) -> dict[str, Any]:
    """Return an alert for clients: times are ISO 8601 in UTC; an active one has no end."""
    body = {
        "id": alert.id,
        "rule_id": alert.rule_id,
        "title": alert.title,
        "message": alert.message,
        "severity": alert.severity,
        "metric_name": alert.metric_name,
        "current_value": alert.current_value,
        "threshold": alert.threshold,
        "triggered_at": utc(alert.triggered_at_s).isoformat(),
        "acknowledged": alert.acknowledged,
        "repeats": alert.repeats,
        "is_flapping": alert.is_flapping,
    }
    if alert.resolved_at_s is not None:
        body["resolved_at"] = utc(alert.resolved_at_s).isoformat()
        body["resolved_reason"] = alert.resolved_reason
    return body


def statistics(
    alerts: Iterable[ServiceAlert],
    active: Sequence[ServiceAlert],
    hours: float,
    now_s: float,
) -> dict[str, Any]:
    """Return how many alerts were triggered in the last `hours`, by severity, rule and hour (UTC).

    One that is given twice counts once, as it was given last: a history may hold what an alert
    was at each change. `active`: all that are not over, however old; what they say goes before
    what `alerts` say. What no alert has is in no breakdown.
    """
    latest = {alert.id: alert for alert in (*alerts, *active)}.values()
    start_s = now_s - hours * _HOUR_S
    found = [alert for alert in latest if alert.triggered_at_s >= start_s]
    by_hour = Counter(utc(alert.triggered_at_s).strftime("%Y-%m-%d %H:00") for alert in found)
    return {
        "time_range_hours": hours,
        "total_alerts": len(found),
        "active_alerts": len(active),
        "severity_breakdown": dict(sorted(Counter(a.severity for a in found).items())),
        "rule_breakdown": dict(sorted(Counter(a.rule_id for a in found).items())),
        "hourly_breakdown": dict(sorted(by_hour.items())),
        "generated_at": utc(now_s).isoformat(),
    }
