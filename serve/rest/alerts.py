"""`/api/v2/alerts`: rules of users, and the alerts that were given."""

from __future__ import annotations

import math
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Path, Query
from starlette.responses import Response

from infra.clock import utc
from infra.db.alert_rules import StoredRule
from infra.db.alerts import Alert
from infra.db.unit import Unit
from infra.errors import AlertRuleUnknown
from infra.notify.signing import new_secret
from infra.notify.targets import checked_target, shown
from infra.sources.runs import present_run
from infra.symbols import normalise
from serve.edge.errors import of_body
from serve.rest.alert_schemas import (
    AlertDeliveries,
    AlertRule,
    AlertRulePage,
    AlertRuleRequest,
    GivenAlerts,
    NewAlertRule,
)
from serve.rest.answers import fresh, now_iso
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import Services, ServicesDep

router = Router(prefix="/api/v2/alerts", tags=["alerts"])

RuleId = Annotated[str, Path(max_length=64, description="The id that making the rule gave.")]


@router.post(
    "/price", response_model=NewAlertRule, status_code=201, responses=documented(404, 503)
)
async def make_rule(services: ServicesDep, body: AlertRuleRequest) -> Response:
    """Make a rule; in the store before this answers, and asked on every price from then on.

    The condition is of quotes (`price`, `change_pct`, …) and live indicators. One that holds
    already fires at once. Webhooks are signed with `secret`, which is not shown again.
    """
    now = utc(services.clock.time_s())
    values = _values(services, body)
    rule = StoredRule(
        id=str(uuid.uuid4()), secret=new_secret(), created_at=now, updated_at=now, **values
    )
    with of_body(indicators="expression"):
        await services.alerts.add_rule(rule, services.settings.max_alert_rules)
    return fresh(_shown(rule) | {"secret": rule.secret}, 201)


@router.get("/price", response_model=AlertRulePage, responses=documented(503))
async def list_rules(
    services: ServicesDep,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    size: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """All rules, the newest first; a page past the end is empty."""
    total = await services.store.read(lambda unit: unit.alert_rules.count())
    rules = await services.store.read(lambda unit: unit.alert_rules.page(size, (page - 1) * size))
    pages = math.ceil(total / size)
    pagination = {
        "page": page,
        "size": size,
        "total": total,
        "total_pages": pages,
        "has_next": page < pages,
        "has_prev": page > 1,
    }
    return fresh({"items": [_shown(rule) for rule in rules], "pagination": pagination})


@router.get("/price/{rule_id}", response_model=AlertRule, responses=documented(404, 503))
async def read_rule(services: ServicesDep, rule_id: RuleId) -> Response:
    """One rule."""
    return fresh(_shown(await _rule(services, rule_id)))


@router.put("/price/{rule_id}", response_model=AlertRule, responses=documented(404, 503))
async def change_rule(services: ServicesDep, rule_id: RuleId, body: AlertRuleRequest) -> Response:
    """Put another rule in its place, armed; its id, secret and cool-down stay."""
    before = await _rule(services, rule_id)
    now = utc(services.clock.time_s())
    rule = replace(before, updated_at=now, **_values(services, body))
    with of_body(indicators="expression"):
        await services.alerts.change_rule(rule)
    return fresh(_shown(rule))


@router.put("/price/{rule_id}/enable", response_model=AlertRule, responses=documented(404, 503))
async def enable_rule(services: ServicesDep, rule_id: RuleId) -> Response:
    """Let a rule count again, armed."""
    return await _enabled(services, rule_id, True)


@router.put("/price/{rule_id}/disable", response_model=AlertRule, responses=documented(404, 503))
async def disable_rule(services: ServicesDep, rule_id: RuleId) -> Response:
    """Let a rule not count until it is enabled."""
    return await _enabled(services, rule_id, False)


@router.delete("/price/{rule_id}", response_model=AlertRule, responses=documented(404, 503))
async def remove_rule(services: ServicesDep, rule_id: RuleId) -> Response:
    """Delete a rule and return it; the alerts that it gave stay."""
    rule = await _rule(services, rule_id)
    if not await services.alerts.remove_rule(rule_id):
        raise AlertRuleUnknown(rule_id)
    return fresh(_shown(rule))


@router.get("/fired", response_model=GivenAlerts, responses=documented(404, 503))
async def read_given(
    services: ServicesDep,
    symbol: Annotated[str | None, Query(description="Only of this symbol.")] = None,
    hours: Annotated[int, Query(ge=1, le=87_600, description="So far back from now.")] = 24,
    after_id: Annotated[
        int | None, Query(ge=0, le=2**62, description="Instead: those past a number, in order.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """Alerts that were given, by built-in rules and users'; the newest first.

    Of a replay: those of its present run.
    """
    name = None if symbol is None else normalise(symbol)
    now_s = services.clock.time_s()
    run = present_run(services.source.name, services.settings, now_s)
    since = utc(now_s) - timedelta(hours=hours)

    async def read(unit: Unit) -> list[tuple[int, Alert]]:
        if after_id is not None:
            return await unit.alerts.after(after_id, limit, name, run)
        return await unit.alerts.since(since, limit, name, run)

    found = await services.store.read(read)
    items = [_given(number, alert) for number, alert in found]
    return fresh({"timestamp": now_iso(services), "items": items})


@router.get(
    "/fired/{alert_id}/deliveries", response_model=AlertDeliveries, responses=documented(503)
)
async def read_deliveries(
    services: ServicesDep, alert_id: Annotated[int, Path(ge=1, le=2**62)]
) -> Response:
    """What came of telling the targets of an alert; empty where it has none."""
    found = await services.store.read(lambda unit: unit.deliveries.of_notice(f"alert-{alert_id}"))
    items = [
        {
            "alert_id": alert_id,
            "target": shown(delivery.target),
            "state": delivery.state,
            "tries": delivery.tries,
            "last_error": delivery.last_error,
        }
        for delivery in found
    ]
    return fresh({"items": items})


async def _enabled(services: Services, rule_id: str, enabled: bool) -> Response:
    at = utc(services.clock.time_s())
    with of_body(indicators="expression"):
        return fresh(_shown(await services.alerts.enable_rule(rule_id, enabled, at)))


async def _rule(services: Services, rule_id: str) -> StoredRule:
    rule = await services.store.read(lambda unit: unit.alert_rules.get(rule_id))
    if rule is None:
        raise AlertRuleUnknown(rule_id)
    return rule


def _values(services: Services, body: AlertRuleRequest) -> dict[str, Any]:
    allow_private = services.settings.notify_private
    values = body.model_dump()
    values["symbols"] = tuple(services.checked_symbols(body.symbols, "body"))
    values["targets"] = tuple(checked_target(text, allow_private) for text in body.targets)
    return values


def _shown(rule: StoredRule) -> dict[str, Any]:
    values = {name: getattr(rule, name) for name in AlertRule.model_fields}
    return values | {
        "symbols": list(rule.symbols),
        "targets": [shown(target) for target in rule.targets],
        "created_at": rule.created_at.isoformat(),
        "updated_at": rule.updated_at.isoformat(),
    }


def _given(number: int, alert: Alert) -> dict[str, Any]:
    values = {name: getattr(alert, name) for name in Alert.__slots__}
    return (
        {"alert_id": number}
        | values
        | {
            "traded_at": alert.traded_at.isoformat(),
            "triggered_at": alert.triggered_at.isoformat(),
        }
    )
