"""From what is due to what is in the store, and from there to what is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from actors.alerts.price_alerts import Due
from actors.alerts.rules import RULES
from actors.alerts.user_rules import ONCE, Fired, UserRule
from infra.clock import utc
from infra.db.alerts import Alert, AlertState
from infra.db.unit import Unit
from infra.messages import ALERTS, Message
from infra.notify.notice import Notice
from infra.outbox import deliver_later
from infra.sources.origin import named
from infra.sources.runs import Run

USER = "user"  # the alert type of users' rules


@dataclass(frozen=True, slots=True)
class Pending:
    """An alert on its way into the store, and who is told outside: URLs with their secrets."""

    alert: Alert
    session: str
    cool_down: timedelta
    once_a_session: bool = False
    targets: tuple[tuple[str, str], ...] = ()
    rule: UserRule | None = None  # as it was when it fired


def of_price(due: Due, now_s: float) -> Pending:
    """Return what a built-in rule gives."""
    found, update, rule = due.found, due.update, RULES[due.found.alert_type]
    symbol, price = update["symbol"], update["current_price"]
    alert = Alert(
        rule_id=found.alert_type,
        symbol=symbol,
        alert_type=found.alert_type,
        base_type=found.base_type,
        base_price=found.base,
        current_price=price,
        threshold_percent=found.threshold,
        actual_percent=found.percent,
        severity=found.severity,
        message=found.message(symbol, price),
        source=update["source"],
        synthetic=update["synthetic"],
        traded_at=datetime.fromisoformat(update["timestamp"]),
        triggered_at=utc(now_s),
    )
    cool_down = timedelta(seconds=rule.cool_down_s)
    return Pending(alert, update["session"], cool_down, rule.once_a_session)


def of_rule(fired: Fired, now_s: float) -> Pending:
    """Return what a rule of a user gives."""
    rule, update = fired.rule.stored, fired.update
    price = update["current_price"]
    alert = Alert(
        rule_id=rule.id,
        symbol=fired.symbol,
        alert_type=USER,
        base_type="",
        base_price=None,
        current_price=price,
        threshold_percent=None,
        actual_percent=None,
        severity=rule.severity,
        message=f"{fired.symbol} at {price:,.2f}: {rule.name or rule.expression}"[:500],
        source=update["source"],
        synthetic=update["synthetic"],
        traded_at=datetime.fromisoformat(update["timestamp"]),
        triggered_at=utc(now_s),
    )
    return Pending(
        alert,
        update["session"],
        timedelta(seconds=rule.cooldown_s),
        targets=tuple((target, rule.secret) for target in rule.targets),
        rule=fired.rule,
    )


async def give(unit: Unit, pending: Pending, run: Run) -> int | AlertState:
    """Put an alert into the store, with all that goes with it, and return its number.

    Where one was given lately, in the same `run` if the alert is of its source, return that one's
    state instead. The same alert again changes nothing. A rule that fires once ends with its
    alert, unless it was changed since it fired.
    """
    alert = pending.alert
    began_at = run.began_at if alert.source == run.source else None
    number = await unit.alerts.give(
        alert, pending.session, pending.cool_down, pending.once_a_session, began_at
    )
    if not isinstance(number, int):
        return number
    if pending.targets:
        notice = Notice(
            id=f"alert-{number}",
            kind="alert",
            title=f"{alert.symbol}: {alert.alert_type}",
            text=alert.message + (named(alert.source) if alert.symbol else ""),
            severity=alert.severity,
            at=alert.triggered_at,
            facts=_facts(number, alert),
        )
        await deliver_later(unit, notice, pending.targets, alert.triggered_at)
    rule = None if pending.rule is None else pending.rule.stored
    if rule is not None and rule.repeat == ONCE:
        await unit.alert_rules.end(rule.id, rule.updated_at, alert.triggered_at)
    return number


def message_of(number: int, alert: Alert) -> Message:
    """Return what the hub is told of an alert."""
    body = {"type": "alert"} | _facts(number, alert)
    return Message(f"{ALERTS}{alert.symbol}:{alert.alert_type}", orjson.dumps(body))


def _facts(number: int, alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": number,
        "rule_id": alert.rule_id,
        "symbol": alert.symbol,
        "alert_type": alert.alert_type,
        "base_type": alert.base_type,
        "message": alert.message,
        "current_price": alert.current_price,
        "threshold_value": alert.threshold_percent,
        "actual_percent": alert.actual_percent,
        "base_price": alert.base_price,
        "severity": alert.severity,
        "timestamp": alert.traded_at.isoformat(),
        "triggered_at": alert.triggered_at.isoformat(),
        "source": alert.source,
        "synthetic": alert.synthetic,
    }
