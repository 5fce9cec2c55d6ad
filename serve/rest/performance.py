"""How the service does: readings, health and reports, and the names of the earlier system."""

from __future__ import annotations

import platform
from typing import Annotated, Any

from fastapi import Query
from starlette.responses import Response

from infra.errors import FinstageError, MonitorUnknown
from serve.rest.answers import fresh, now_iso
from serve.rest.health import read_metrics, read_ready, ready_body
from serve.rest.monitor_schemas import Figures, LogLevelRequest, WatchRequest
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import Services, ServicesDep
from serve.version import VERSION

router = Router(prefix="/api/v2/performance", tags=["performance"])
metrics = Router(prefix="/api/metrics", tags=["performance"])
monitoring = Router(prefix="/monitoring", tags=["health"])
other = Router(tags=["performance"])

Hours = Annotated[float, Query(gt=0, le=24, description="So far back from now.")]


async def _current(services: Services) -> dict[str, Any]:
    """Return the last reading; 503 with the reason before there is one."""
    return await services.monitor.performance.current()


@router.get("/metrics/summary", response_model=Figures, responses=documented(404, 503))
async def read_summary(
    services: ServicesDep,
    minutes: Annotated[float, Query(gt=0, le=1_440, description="The window.")] = 60,
) -> Response:
    """The last reading (`current`) and the figures of a window.

    `response_time` (count, avg, min, max, p50, p95, success_rate), `memory_usage_mb` (current,
    avg, min, max, growth), `throughput` (avg, max, total), `time_window_minutes`,
    `generated_at`. What nothing was measured of is null; 404 before the first reading.
    """
    return fresh(await services.monitor.performance.windowed(minutes))


@router.get("/dashboard", response_model=Figures, responses=documented(404, 503))
async def read_dashboard(services: ServicesDep) -> Response:
    """All that the page shows: readings, routes, processes, alerts, rules, tests, stages."""
    body = await services.monitor.performance.dashboard()
    status = await services.monitor.rules.status()
    tests = (await services.monitor.experiments.all())["tests"]
    body["alerts"] = await services.monitor.alerts.active()
    body["rules"] = [{k: rule[k] for k in ("id", "name", "status")} for rule in status["rules"]]
    body["experiments"] = [{k: test[k] for k in ("id", "name", "status")} for test in tests]
    return fresh(body)


@router.get("/report", response_model=Figures, responses=documented(404, 503))
async def read_report(services: ServicesDep, hours: Hours = 24) -> Response:
    """The last hours as a report: summary, routes, trend, recommendations, what was tuned."""
    body = await services.monitor.performance.report(hours)
    body["tuning"] = await services.monitor.tuning.history(hours)
    body["switches"] = await services.monitor.rules.history(hours)
    return fresh(body)


@router.get("/tuning", response_model=Figures, responses=documented(503))
async def read_tuning(services: ServicesDep, hours: Hours = 24) -> Response:
    """What is tuned, what the settings say, and what was changed, with what came of it."""
    body = await services.monitor.tuning.status()
    return fresh(body | {"history": await services.monitor.tuning.history(hours)})


@router.post("/tuning/{what}", response_model=Figures, responses=documented(404, 503))
async def change_tuning(services: ServicesDep, what: str) -> Response:
    """`start` or `stop` auto-tuning, or `reset` everything to what the settings say."""
    if what == "reset":
        await services.monitor.tuning.reset()
    elif what in ("start", "stop"):
        await services.monitor.tuning.switch(what == "start")
    else:
        raise MonitorUnknown("way to change tuning (start, stop, reset)", what)
    return fresh(await services.monitor.tuning.status())


@metrics.get("/current", response_model=Figures, responses=documented(404, 503))
async def read_current(services: ServicesDep) -> Response:
    """The last reading, of ten seconds, and how good it is; 404 before there is one."""
    return fresh(await _current(services))


@metrics.get("/history", response_model=Figures, responses=documented(503))
async def read_history(services: ServicesDep, hours: Hours = 1) -> Response:
    """The last hours: averages, extremes, and how many minutes were of which grade."""
    return fresh(await services.monitor.performance.history(hours))


@other.get("/api/health", response_model=Figures, responses=documented(503))
async def read_api_health(services: ServicesDep) -> Response:
    """Whether the monitor works, the last grade, and how many clients are connected."""
    config = await services.monitor.alerts.config()
    try:
        current = await _current(services)
    except MonitorUnknown:
        current = {"status": "unknown", "active_connections": 0}
    return fresh(
        {
            "status": current["status"],
            "monitoring_active": config["monitoring_status"] == "running",
            "connected_clients": current["active_connections"],
            "timestamp": now_iso(services),
        }
    )


@monitoring.get(
    "/health",
    response_model=Figures,
    responses=documented() | {503: {"description": "Not healthy.", "model": Figures}},
)
async def read_health(services: ServicesDep) -> Response:
    """Every part of the service and of its machine: `healthy`, `degraded` or `unhealthy`.

    503 with the same under `detail` where it is not healthy.
    """
    ready, body = await ready_body(services)
    checks: dict[str, Any] = {
        name: {"status": _WORDS.get(check["status"], "degraded"), "message": check["detail"]}
        for name, check in body["checks"].items()
    }
    try:
        checks |= (await services.monitor.performance.health())["checks"]
    except MonitorUnknown as error:  # it has just started
        checks["monitor"] = {"status": "healthy", "message": error.message}
    except FinstageError as error:
        checks["monitor"] = {"status": "degraded", "message": error.message}
    verdicts = {check["status"] for check in checks.values()}
    worst = max(verdicts, key=_ORDER.index) if ready else "unhealthy"
    answer = {
        "status": worst,
        "timestamp": now_iso(services),
        "version": VERSION,
        "environment": services.source.name,
        "checks": checks,
    }
    return fresh(answer) if worst == "healthy" else fresh({"detail": answer}, 503)


_ORDER = ("healthy", "degraded", "unhealthy")
_WORDS = {"ok": "healthy"}  # all others are degraded: whether prices can be answered is beside it


@monitoring.get("/health/live", response_model=Figures, responses=documented())
async def read_monitoring_live(services: ServicesDep) -> Response:
    """The process answers."""
    return fresh({"status": "alive", "timestamp": now_iso(services)})


monitoring.get("/health/ready", response_model=Figures, responses=documented(503))(read_ready)
monitoring.get("/metrics", response_class=Response, responses=documented(503))(read_metrics)


@monitoring.get("/status", response_model=Figures, responses=documented(404, 503))
async def read_status(services: ServicesDep) -> Response:
    """In short: the grade, and processor, memory and disk of the machine in per cent."""
    current = await _current(services)
    return fresh(
        {
            "status": current["status"],
            "timestamp": now_iso(services),
            "version": VERSION,
            "environment": services.source.name,
            "system": {
                "cpu_percent": current["cpu_usage_percent"],
                "memory_percent": current["memory_usage_percent"],
            },
        }
    )


@monitoring.get("/info", response_model=Figures, responses=documented())
async def read_info(services: ServicesDep) -> Response:
    """What this is and what it runs on; the machine's name is not told."""
    return fresh(
        {
            "application": {
                "name": "Finstage",
                "version": VERSION,
                "description": "market data, computed once and shared",
                "environment": services.source.name,
            },
            "system": {
                "platform": platform.system(),
                "python_version": platform.python_version(),
                "architecture": platform.machine(),
            },
            "runtime": {"timestamp": now_iso(services), "timezone": "UTC"},
        }
    )


@monitoring.get("/logs/level", response_model=Figures, responses=documented(503))
async def read_log_level(services: ServicesDep) -> Response:
    """The level from which every process logs, and the configured one."""
    return fresh(await services.monitor.log_level())


@monitoring.put("/logs/level", response_model=Figures, responses=documented(503))
async def change_log_level(services: ServicesDep, body: LogLevelRequest) -> Response:
    """Let every process log from a level, within seconds and until it is changed again."""
    await services.monitor.set_log_level(body.level)
    return fresh(await services.monitor.log_level())


@monitoring.put("/watch", response_model=Figures, responses=documented(503))
async def change_watch(services: ServicesDep, body: WatchRequest) -> Response:
    """Let the monitor look at the service, or no more: no readings, alerts, tuning, judgements.

    What was decided stays in force, and A/B tests go on.
    """
    await services.monitor.watch(body.on)
    return fresh(await services.monitor.directives())


@monitoring.get("/directives", response_model=Figures, responses=documented(503))
async def read_directives(services: ServicesDep) -> Response:
    """What processes are told to do differently: rules that are off, tuned values, tests."""
    return fresh(await services.monitor.directives())
