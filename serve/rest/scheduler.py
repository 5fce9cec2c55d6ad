"""`/api/scheduler`: the jobs that run by themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from starlette.responses import Response

from serve.rest.answers import fresh, now_iso
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import ServicesDep
from serve.rest.store_schemas import JobPaused, Jobs, JobStarted

router = Router(prefix="/api/scheduler", tags=["scheduler"])

JobName = Annotated[str, Path(description="A job's name, such as bars.daily.", max_length=100)]


@router.get("/jobs", response_model=Jobs, responses=documented(503))
async def list_jobs(services: ServicesDep) -> Response:
    """All jobs: when they run next, how they ran last."""
    jobs = await services.scheduler.jobs()
    return fresh({"timestamp": now_iso(services), "jobs": jobs})


@router.post("/jobs/{name}/run", response_model=JobStarted, responses=documented(404, 409, 503))
async def run_job(services: ServicesDep, name: JobName) -> Response:
    """Start a job now, paused or not; 409 while it runs."""
    run_id = await services.scheduler.run_now(name)
    return fresh({"name": name, "run_id": run_id, "started_at": now_iso(services)})


@router.post("/jobs/{name}/pause", response_model=JobPaused, responses=documented(404, 503))
async def pause_job(services: ServicesDep, name: JobName) -> Response:
    """Let a job rest until it is resumed, restarts included; a run under way goes on."""
    await services.scheduler.pause(name)
    return fresh({"name": name, "paused": True})


@router.post("/jobs/{name}/resume", response_model=JobPaused, responses=documented(404, 503))
async def resume_job(services: ServicesDep, name: JobName) -> Response:
    """Let a job run at its times again; what it missed is not made up for."""
    await services.scheduler.resume(name)
    return fresh({"name": name, "paused": False})
