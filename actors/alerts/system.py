"""What is worth an alert about the service itself: parts that stay away, and parts that restarted.

Time is given, nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from actors.alerts.firing import Pending
from infra.clock import utc
from infra.db.alerts import Alert

SYSTEM_STATUS = "system_status"
DAMPED_S = 10.0  # what is over sooner is told to nobody
_SEVERITY = {"store": "critical", "source": "warning"}
_NO_COOL_DOWN = timedelta()


@dataclass(frozen=True, slots=True)
class ServiceEvent:
    """Something that an operator should know: since Unix time `at_s`."""

    part: str
    message: str
    severity: str
    at_s: float


@dataclass(slots=True)
class _Away:
    since_s: float
    reason: str
    is_told: bool = False


class SystemWatch:
    """What is known of the parts of the service. State: soft.

    A part that is away for longer than `DAMPED_S` is one alert, its coming back another. A part
    whose process changed restarted, and is told of at once, unless it was told to be away.
    """

    def __init__(self) -> None:
        self._away: dict[str, _Away] = {}
        self._processes: dict[str, str] = {}

    def good(self, part: str, now_s: float) -> Iterator[ServiceEvent]:
        """Take that a part does what it should."""
        away = self._away.pop(part, None)
        if away is not None and away.is_told:
            took_s = now_s - away.since_s
            yield ServiceEvent(part, f"{part} is back after {took_s:,.0f} s", "info", now_s)

    def bad(self, part: str, reason: str, now_s: float) -> Iterator[ServiceEvent]:
        """Take that it does not, and why."""
        away = self._away.setdefault(part, _Away(now_s, reason))
        if not away.is_told and now_s - away.since_s >= DAMPED_S:
            away.is_told = True
            since = utc(away.since_s).strftime("%H:%M:%S")
            severity = _SEVERITY.get(part, "warning")
            text = f"{part} is away since {since} UTC: {reason}"
            yield ServiceEvent(part, text, severity, away.since_s)

    def process(self, part: str, process: str, now_s: float) -> Iterator[ServiceEvent]:
        """Take which process a part is; another one than before means that it restarted."""
        before = self._processes.get(part)
        self._processes[part] = process
        away = self._away.get(part)
        is_told = away is not None and away.is_told  # its coming back is told then
        if before not in (None, process) and not is_told:
            yield ServiceEvent(part, f"{part} restarted", "warning", now_s)


def service_alert(event: ServiceEvent, source: str, synthetic: bool, now_s: float) -> Pending:
    """Return an alert about the service; its time tells it from others of its part."""
    alert = Alert(
        rule_id=f"{SYSTEM_STATUS}:{event.part}",
        symbol="",
        alert_type=SYSTEM_STATUS,
        base_type=event.part,
        base_price=None,
        current_price=None,
        threshold_percent=None,
        actual_percent=None,
        severity=event.severity,
        message=event.message[:500],
        source=source,
        synthetic=synthetic,
        traded_at=utc(event.at_s),
        triggered_at=utc(now_s),
    )
    return Pending(alert, "", _NO_COOL_DOWN)
