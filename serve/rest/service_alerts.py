"""`/api/v2/alerts`: alerts about the service itself, their rules and who is told."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Request
from starlette.responses import Response

from actors.monitor.client import ServiceAlertRule
from infra.errors import TargetInvalid
from infra.notify.addresses import HostInvalid, checked_host
from infra.notify.targets import checked_target, spelled
from serve.rest.answers import fresh, now_iso
from serve.rest.envelope import Envelope, enveloped
from serve.rest.monitor_schemas import (
    CheckInterval,
    EmailConfig,
    Figures,
    WebhookConfig,
)
from serve.rest.parameters import check_carried
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import Services, ServicesDep

router = Router(prefix="/api/v2/alerts", tags=["alerts about the service"])

RuleId = Annotated[str, Path(max_length=64)]
Hours = Annotated[float, Query(gt=0, le=8_760, description="So far back from now.")]
_SECURITY = {465: "ssl", 587: "starttls"}


@router.get("", response_model=Envelope[Figures], responses=documented(503))
@router.get(
    "/", response_model=Envelope[Figures], responses=documented(503), include_in_schema=False
)
async def read_alerts(services: ServicesDep) -> Response:
    """Alerts that are not over: `active_alerts`, `total_count`, `retrieved_at`."""
    found = await services.monitor.alerts.active()
    return _listed(services, "active_alerts", found, {})


@router.get("/history", response_model=Envelope[Figures], responses=documented(503))
async def read_history(services: ServicesDep, hours: Hours = 24) -> Response:
    """Alerts that began in the last hours, over or not, the newest first; 1,000 at most."""
    found = await services.monitor.alerts.history(hours)
    return _listed(services, "alert_history", found, {"time_range_hours": hours})


@router.get("/statistics", response_model=Figures, responses=documented(503))
async def read_statistics(services: ServicesDep, hours: Hours = 24) -> Response:
    """How many began in the last hours, by severity, rule and hour (UTC)."""
    return fresh(await services.monitor.alerts.statistics(hours))


@router.get("/rules", response_model=Envelope[Figures], responses=documented(503))
async def read_rules(services: ServicesDep) -> Response:
    """All rules."""
    return _listed(services, "alert_rules", await services.monitor.alerts.rules(), {})


@router.post("/rules", response_model=Figures, responses=documented(503))
async def put_rule(services: ServicesDep, body: ServiceAlertRule) -> Response:
    """Add a rule, or put it in the place of the one of its id."""
    await services.monitor.alerts.put_rule(body)
    return _done(services, "rule_id", body.id, "added_at")


@router.delete("/rules/{rule_id}", response_model=Figures, responses=documented(404, 503))
async def remove_rule(services: ServicesDep, rule_id: RuleId) -> Response:
    """Delete a rule; its alert ends."""
    await services.monitor.alerts.remove_rule(rule_id)
    return _done(services, "rule_id", rule_id, "removed_at")


@router.put("/rules/{rule_id}/enable", response_model=Figures, responses=documented(404, 503))
async def enable_rule(services: ServicesDep, rule_id: RuleId) -> Response:
    """Let a rule count."""
    await services.monitor.alerts.enable_rule(rule_id, True)
    return _done(services, "rule_id", rule_id, "enabled_at")


@router.put("/rules/{rule_id}/disable", response_model=Figures, responses=documented(404, 503))
async def disable_rule(services: ServicesDep, rule_id: RuleId) -> Response:
    """Let a rule not count until it is enabled; its alert ends."""
    await services.monitor.alerts.enable_rule(rule_id, False)
    return _done(services, "rule_id", rule_id, "disabled_at")


@router.put(
    "/alerts/{alert_id}/acknowledge", response_model=Figures, responses=documented(404, 503)
)
async def acknowledge(
    services: ServicesDep, alert_id: Annotated[str, Path(max_length=120)]
) -> Response:
    """Say that somebody knows of an active alert; it stays active, and its end is told."""
    await services.monitor.alerts.acknowledge(alert_id)
    return _done(services, "alert_id", alert_id, "acknowledged_at")


@router.post("/monitoring/start", response_model=Figures, responses=documented(503))
async def start(
    request: Request,
    services: ServicesDep,
    body: CheckInterval | None = None,
    check_interval: Annotated[float, Query(ge=10, le=3_600, description="Seconds.")] = 30,
) -> Response:
    """Look at the rules every so many seconds; that is so unless it was stopped."""
    if body is not None:
        check_carried(request, CheckInterval.model_fields)
    every_s = check_interval if body is None else body.check_interval
    await services.monitor.alerts.watch(True, every_s)
    return _done(services, "check_interval", every_s, "started_at")


@router.post("/monitoring/stop", response_model=Figures, responses=documented(503))
async def stop(services: ServicesDep) -> Response:
    """Look at the rules no more, until it is started again; alerts stay as they are."""
    await services.monitor.alerts.watch(False)
    return _done(services, "monitoring_status", "stopped", "stopped_at")


@router.post("/config/email", response_model=Figures, responses=documented(503))
async def set_email(services: ServicesDep, body: EmailConfig) -> Response:
    """Send email of rules with the channel `email` through this server."""
    server = body.model_dump()
    try:
        server["smtp_server"] = checked_host(body.smtp_server, services.settings.notify_private)
    except HostInvalid as error:
        raise TargetInvalid("this server", str(error), ("body", "smtp_server")) from None
    server["to_emails"] = body.to_emails or [body.from_email]
    server["security"] = body.security or _SECURITY.get(body.smtp_port, "none")
    await services.monitor.alerts.set_email(server)
    return _done(services, "smtp_server", body.smtp_server, "configured_at")


@router.post("/config/webhook", response_model=Figures, responses=documented(503))
async def add_webhook(services: ServicesDep, body: WebhookConfig) -> Response:
    """Tell a URL of alerts of rules with the channel `webhook`; `secret` signs what it gets."""
    allow_private = services.settings.notify_private
    url = checked_target(body.webhook_url, allow_private, ("body", "webhook_url"))
    secret = await services.monitor.alerts.add_webhook(url)
    return _done(services, "webhook_url", url, "added_at", {"secret": secret})


@router.delete("/config/webhook", response_model=Figures, responses=documented(404, 503))
async def remove_webhook(services: ServicesDep, body: WebhookConfig) -> Response:
    """Tell a URL no more."""
    url = spelled(body.webhook_url)
    await services.monitor.alerts.remove_webhook(url)
    return _done(services, "webhook_url", url, "removed_at")


@router.get("/config", response_model=Figures, responses=documented(503))
async def read_config(services: ServicesDep) -> Response:
    """How alerts are looked for, how many there are, and who is told; no secrets."""
    config = await services.monitor.alerts.config()
    return fresh(config | {"retrieved_at": now_iso(services)})


def _listed(
    services: Services, name: str, found: list[dict[str, Any]], more: dict[str, Any]
) -> Response:
    data = {name: found, "total_count": len(found), "retrieved_at": now_iso(services)} | more
    return enveloped(data, f"{len(found)} found")


def _done(
    services: Services, name: str, value: Any, at: str, more: dict[str, Any] | None = None
) -> Response:
    body = {"status": "success", "message": f"{name} {value}", name: value, at: now_iso(services)}
    return fresh(body | (more or {}))
