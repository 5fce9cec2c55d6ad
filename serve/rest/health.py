"""Health, readiness and metrics."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.responses import Response

from actors.runtime import ActorClient
from infra.errors import ActorUnavailable
from infra.metrics import samples_of
from serve.rest.answers import fresh, now_iso
from serve.rest.routing import Router
from serve.rest.schemas import Alive, Ready, documented
from serve.rest.services import Services, ServicesDep
from serve.version import VERSION

router = Router(tags=["health"])

_STARTED_S = time.monotonic()
_SOCKETS = "finstage_websocket_connections"


@router.get("/health/live", response_model=Alive, responses=documented())
async def read_live(services: ServicesDep) -> Response:
    """The process answers; says nothing of what is behind it."""
    uptime_s = round(time.monotonic() - _STARTED_S, 3)
    return fresh({"status": "alive", "timestamp": now_iso(services), "uptime_seconds": uptime_s})


@router.get(
    "/health/ready",
    response_model=Ready,
    responses=documented() | {503: {"description": "Not ready yet.", "model": Ready}},
)
async def read_ready(services: ServicesDep) -> Response:
    """200 when prices and indicators can be answered, else 503 with what is waited for.

    `degraded`, and 200, while the source, the store, the scheduler, the alerts or the tasks do not
    answer, or where no more sockets can be opened; of the source its `trouble` says why, and when
    it is tried again.
    """
    ready, body = await ready_body(services)
    return fresh(body, 200 if ready else 503)


async def ready_body(services: Services) -> tuple[bool, dict[str, Any]]:
    """Return whether prices and indicators can be answered, and the whole answer."""
    checks, extras = await asyncio.gather(_checks(services), _extras(services))
    ready = all(check["status"] == "ok" for check in checks.values())
    if ready and await services.indicators.compiling():
        checks["indicators"]["status"] = "compiling"
    whole = all(check["status"] == "ok" for check in extras.values())
    checks |= extras
    body = {
        "status": ("ready" if whole else "degraded") if ready else "not_ready",
        "timestamp": now_iso(services),
        "source": services.source.name,
        "version": VERSION,
        "checks": checks,
    }
    return ready, body


async def _source(services: Services) -> dict[str, Any]:
    """Return whether the source answers; that it does not is its own fault, not the feed's."""
    try:
        trouble = await services.feed.trouble()
    except ActorUnavailable as error:
        return {"status": "unknown", "detail": error.message}
    if trouble is None:
        return {"status": "ok", "detail": services.source.origin.label}
    now_s = services.clock.time_s()
    return {
        "status": "degraded",
        "detail": trouble.sentence(now_s),
        "trouble": trouble.body(now_s),
    }


@router.get("/metrics", response_class=Response, responses=documented(503))
async def read_metrics(services: ServicesDep) -> Response:
    """Prometheus text of all processes summed, at most two seconds old."""
    text = await services.telemetry.metrics_text()
    return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")


async def _checks(services: Services) -> dict[str, dict[str, str]]:
    clients = {
        "feed": services.feed,
        "indicators": services.indicators,
        "hub": services.hub,
        "cache": services.telemetry,
    }
    answers = await asyncio.gather(
        *(client.ping() for client in clients.values()), return_exceptions=True
    )
    checks = {name: _check(answer) for name, answer in zip(clients, answers, strict=True)}
    known = len(services.near.versions)
    is_filled = services.near.has_met_hub and (known > 0 or services.source.is_open)
    checks["near_cache"] = {
        "status": "ok" if is_filled else "waiting",
        "detail": f"{known} symbols" if is_filled else "waiting for the hub's first snapshot",
    }
    return checks


async def _extras(services: Services) -> dict[str, dict[str, Any]]:
    """Return the state of what prices and indicators go on without."""
    source, alerts, tasks, monitor, sockets, scheduler = await asyncio.gather(
        _source(services),
        _pinged(services.alerts),
        _pinged(services.tasks),
        _pinged(services.monitor),
        _sockets(services),
        _scheduler(services),
    )
    others = {"alerts": alerts, "tasks": tasks, "monitor": monitor, "sockets": sockets}
    return scheduler | {"source": source} | others


async def _sockets(services: Services) -> dict[str, str]:
    """Return whether one more connection may come, as of some seconds ago."""
    try:
        families = await services.telemetry.metrics(_SOCKETS)
    except ActorUnavailable as error:
        return {"status": "unknown", "detail": error.message}
    most = services.settings.max_sockets_without_key
    counts = [count for _, count in samples_of(families, _SOCKETS)]
    is_full = any(count >= most for count in counts)
    detail = f"{sum(counts):.0f} open, {most} at most in a process"
    return {"status": "full" if is_full else "ok", "detail": detail}


async def _pinged(client: ActorClient) -> dict[str, str]:
    try:
        return _check(await client.ping_once())
    except ActorUnavailable as error:
        return _check(error)


async def _scheduler(services: Services) -> dict[str, dict[str, str]]:
    try:
        pid = await services.scheduler.ping_once()
        store = await services.scheduler.store_state()
    except ActorUnavailable as error:
        waiting = {"status": "waiting", "detail": error.message}
        return {"scheduler": waiting, "store": {"status": "unknown", "detail": error.message}}
    return {
        "scheduler": {"status": "ok", "detail": f"pid {pid}"},
        "store": {"status": store.trouble or "ok", "detail": store.detail},
    }


def _check(answer: int | BaseException) -> dict[str, str]:
    if isinstance(answer, ActorUnavailable):
        return {"status": "waiting", "detail": answer.message}
    if isinstance(answer, BaseException):
        raise answer
    return {"status": "ok", "detail": f"pid {answer}"}
