"""Shapes of the alert routes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serve.rest.schemas import Pagination, Shape

Severity = Literal["info", "warning", "critical", "error"]


class AlertRuleRequest(Shape):
    """A rule: fires for each symbol by itself when its condition becomes true."""

    symbols: Annotated[list[str], Field(min_length=1, max_length=500)]
    expression: Annotated[
        str, Field(min_length=1, max_length=2_000, examples=["price > 200 and rsi(14) < 30"])
    ]
    name: Annotated[str, Field(max_length=200)] = ""
    interval: str = "1d"
    repeat: Literal["once", "again"] = "once"
    cooldown_s: Annotated[float, Field(ge=0, le=31_536_000)] = 3_600.0
    hysteresis_pct: Annotated[float, Field(ge=0, le=100)] = 0.0
    severity: Severity = "info"
    targets: Annotated[list[str], Field(max_length=10)] = []
    enabled: bool = True


class AlertRule(Shape):
    """A rule that is kept; targets without what may be secret in them."""

    id: str
    name: str
    symbols: list[str]
    expression: str
    interval: str
    repeat: str
    cooldown_s: float
    hysteresis_pct: float
    severity: str
    targets: list[str]
    enabled: bool
    created_at: str
    updated_at: str


class NewAlertRule(AlertRule):
    """A rule that was just made: `secret` signs its webhooks and is shown this once."""

    secret: str


class AlertRulePage(Shape):
    """Rules, the newest first."""

    items: list[AlertRule]
    pagination: Pagination


class GivenAlert(Shape):
    """An alert that was given; numbers are null where a rule has no base."""

    alert_id: int
    rule_id: str
    symbol: str
    alert_type: str
    base_type: str
    base_price: float | None
    current_price: float | None
    threshold_percent: float | None
    actual_percent: float | None
    severity: str
    message: str
    source: str
    synthetic: bool
    traded_at: str
    triggered_at: str


class GivenAlerts(Shape):
    """Alerts: the newest first, or past a number in its order."""

    timestamp: str
    items: list[GivenAlert]


class AlertDelivery(Shape):
    """What came of telling one target."""

    alert_id: int
    target: str
    state: str
    tries: int
    last_error: str | None


class AlertDeliveries(Shape):
    """Deliveries of an alert."""

    items: list[AlertDelivery]
