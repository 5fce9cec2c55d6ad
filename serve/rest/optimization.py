"""`/api/v2/optimization`: rules that switch code paths, judged by what comes of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Request
from starlette.responses import Response

from serve.rest.answers import fresh, now_iso
from serve.rest.envelope import Envelope, enveloped
from serve.rest.monitor_schemas import (
    BatchDisableRequest,
    BatchEnableRequest,
    CheckInterval,
    DisableRequest,
    EnableRequest,
    Figures,
    OptimisationRuleRequest,
)
from serve.rest.parameters import check_carried
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import Services, ServicesDep

router = Router(prefix="/api/v2/optimization", tags=["optimisation"])

RuleId = Annotated[str, Path(max_length=64)]
Hours = Annotated[float, Query(gt=0, le=8_760, description="So far back from now.")]


@router.get("/status", response_model=Envelope[Figures], responses=documented(503))
async def read_status(services: ServicesDep) -> Response:
    """How many rules are in which state, and each of them."""
    return enveloped(await services.monitor.rules.status(), "optimisation rules")


@router.get("/rules", response_model=Envelope[Figures], responses=documented(503))
async def read_rules(services: ServicesDep) -> Response:
    """All rules."""
    rules = (await services.monitor.rules.status())["rules"]
    data = {"rules": rules, "total_count": len(rules), "retrieved_at": now_iso(services)}
    return enveloped(data, f"{len(rules)} rules")


@router.get("/rules/{rule_id}", response_model=Envelope[Figures], responses=documented(404, 503))
async def read_rule(services: ServicesDep, rule_id: RuleId) -> Response:
    """One rule, with its thresholds and when it is rolled back."""
    return enveloped(await services.monitor.rules.rule(rule_id), rule_id)


@router.post("/rules", response_model=Envelope[Figures], responses=documented(503))
async def add_rule(services: ServicesDep, body: OptimisationRuleRequest) -> Response:
    """Add a rule, off. It switches no code of its own; its thresholds judge what others do."""
    await services.monitor.rules.add(body.model_dump())
    return enveloped({"rule_id": body.id, "added_at": now_iso(services)}, "added")


@router.delete(
    "/rules/{rule_id}", response_model=Envelope[Figures], responses=documented(404, 409, 503)
)
async def remove_rule(services: ServicesDep, rule_id: RuleId) -> Response:
    """Delete a user's rule that is off and that none depends on."""
    await services.monitor.rules.remove(rule_id)
    return enveloped({"rule_id": rule_id, "removed_at": now_iso(services)}, "removed")


@router.post("/enable", response_model=Envelope[Figures], responses=documented(404, 409, 503))
async def enable(services: ServicesDep, body: EnableRequest) -> Response:
    """Switch a rule on, in every process within seconds; 409 while one that it needs is off."""
    done = await services.monitor.rules.enable(body.rule_id, body.force, body.reason)
    return enveloped({"status": "success"} | done, f"{body.rule_id} is on")


@router.post("/disable", response_model=Envelope[Figures], responses=documented(404, 503))
async def disable(services: ServicesDep, body: DisableRequest) -> Response:
    """Switch a rule off, in every process within seconds; `dependents` stay on."""
    done = await services.monitor.rules.disable(body.rule_id, body.reason)
    return enveloped({"status": "success"} | done, f"{body.rule_id} is off")


@router.post("/batch/enable", response_model=Figures, responses=documented(503))
async def enable_all(services: ServicesDep, body: BatchEnableRequest) -> Response:
    """Switch rules on; one that cannot be does not stop the others."""
    rules = services.monitor.rules
    return _batch(services, await rules.enable_all(body.rule_ids, body.force, body.reason))


@router.post("/batch/disable", response_model=Figures, responses=documented(503))
async def disable_all(services: ServicesDep, body: BatchDisableRequest) -> Response:
    """Switch rules off; one that cannot be does not stop the others."""
    return _batch(services, await services.monitor.rules.disable_all(body.rule_ids, body.reason))


@router.post("/baseline", response_model=Envelope[Figures], responses=documented(409, 503))
async def set_baseline(services: ServicesDep) -> Response:
    """Make the means of the last five minutes the baseline; 409 before the first reading."""
    found = await services.monitor.rules.set_baseline()
    return enveloped({"baseline": found, "set_at": found["timestamp"]}, "baseline set")


@router.get("/baseline", response_model=Envelope[Figures], responses=documented(404, 503))
async def read_baseline(services: ServicesDep) -> Response:
    """The baseline; 404 while none is set."""
    found = await services.monitor.rules.baseline()
    return enveloped(
        {"baseline": found, "is_set": True, "retrieved_at": now_iso(services)}, "baseline"
    )


@router.post("/monitoring/start", response_model=Figures, responses=documented(503))
async def start(
    request: Request,
    services: ServicesDep,
    body: CheckInterval | None = None,
    check_interval: Annotated[float, Query(ge=10, le=3_600, description="Seconds.")] = 60,
) -> Response:
    """Judge switches and roll back what made it worse; that is so unless it was stopped."""
    if body is not None:
        check_carried(request, CheckInterval.model_fields)
    every_s = check_interval if body is None else body.check_interval
    await services.monitor.rules.watch(True, every_s)
    return fresh({"status": "success", "message": "judging", "check_interval": every_s})


@router.post("/monitoring/stop", response_model=Figures, responses=documented(503))
async def stop(services: ServicesDep) -> Response:
    """Judge nothing and roll nothing back until it is started again."""
    await services.monitor.rules.watch(False)
    return fresh({"status": "success", "message": "not judging"})


@router.get("/history", response_model=Figures, responses=documented(503))
async def read_history(services: ServicesDep, hours: Hours = 24) -> Response:
    """Switches of the last hours with the figures before and after, the newest first."""
    found = await services.monitor.rules.history(hours)
    return fresh(
        {
            "history": found,
            "time_range_hours": hours,
            "total_count": len(found),
            "retrieved_at": now_iso(services),
        }
    )


@router.get("/recommendations", response_model=Figures, responses=documented(503))
async def read_recommendations(services: ServicesDep) -> Response:
    """Which rules to switch on, by the last reading."""
    found = await services.monitor.rules.recommendations()
    return fresh(
        {
            "recommendations": found,
            "total_count": len(found),
            "generated_at": now_iso(services),
        }
    )


def _batch(services: Services, results: list[dict[str, Any]]) -> Response:
    good = sum(result["success"] for result in results)
    return fresh(
        {
            "status": "success" if good == len(results) else "partial" if good else "failed",
            "total_rules": len(results),
            "successful_count": good,
            "failed_count": len(results) - good,
            "results": results,
            "processed_at": now_iso(services),
        }
    )
