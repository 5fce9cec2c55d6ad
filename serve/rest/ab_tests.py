"""`/api/v2/ab-tests`: two ways of answering side by side, and whether one is better."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from starlette.responses import Response

from serve.rest.answers import fresh, now_iso
from serve.rest.envelope import Envelope, enveloped
from serve.rest.monitor_schemas import ExperimentRequest, Figures, ResultRequest, StopRequest
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import ServicesDep

router = Router(prefix="/api/v2/ab-tests", tags=["A/B tests"])

TestId = Annotated[str, Path(max_length=64)]


@router.get("", response_model=Envelope[Figures], responses=documented(503))
@router.get(
    "/", response_model=Envelope[Figures], responses=documented(503), include_in_schema=False
)
async def read_tests(services: ServicesDep) -> Response:
    """Every test in short, and how many are in which state."""
    return enveloped(await services.monitor.experiments.all(), "A/B tests")


@router.post("", response_model=Envelope[Figures], responses=documented(409, 503))
@router.post(
    "/", response_model=Envelope[Figures], responses=documented(409, 503), include_in_schema=False
)
async def create(services: ServicesDep, body: ExperimentRequest) -> Response:
    """Make a test, a draft: it runs once it is started."""
    made = await services.monitor.experiments.create(body.model_dump())
    return enveloped({"test_id": body.id, "created_at": made["created_at"]}, "created")


@router.post("/results", response_model=Figures, responses=documented(404, 409, 503))
async def record(services: ServicesDep, body: ResultRequest) -> Response:
    """Add a result that a client measured itself, of a running test and the client's variant."""
    await services.monitor.experiments.record(
        body.test_id,
        body.variant_id,
        body.endpoint,
        body.user_identifier,
        body.response_time_ms,
        body.success,
        body.custom_metrics or {},
    )
    return fresh(
        {
            "status": "success",
            "message": "recorded",
            "test_id": body.test_id,
            "variant_id": body.variant_id,
            "recorded_at": now_iso(services),
        }
    )


@router.get("/endpoint/{path:path}/active", response_model=Figures, responses=documented(503))
async def read_active(
    services: ServicesDep, path: Annotated[str, Path(max_length=200)]
) -> Response:
    """The running tests about a path, with or without its first slash."""
    endpoint = "/" + path.lstrip("/")
    found = await services.monitor.experiments.active_at(endpoint)
    return fresh(
        {
            "endpoint": endpoint,
            "active_tests_count": len(found),
            "active_tests": found,
            "retrieved_at": now_iso(services),
        }
    )


@router.get("/{test_id}", response_model=Envelope[Figures], responses=documented(404, 503))
async def read_test(services: ServicesDep, test_id: TestId) -> Response:
    """A test whole."""
    return enveloped(await services.monitor.experiments.one(test_id), test_id)


@router.post(
    "/{test_id}/start", response_model=Envelope[Figures], responses=documented(404, 409, 503)
)
async def start(services: ServicesDep, test_id: TestId) -> Response:
    """Let a draft run: from now on requests get variants."""
    shown = await services.monitor.experiments.move(test_id, "started")
    return enveloped({"test_id": test_id, "started_at": shown["start_time"]}, "started")


@router.post(
    "/{test_id}/stop", response_model=Envelope[Figures], responses=documented(404, 409, 503)
)
async def stop(
    services: ServicesDep, test_id: TestId, body: StopRequest | None = None
) -> Response:
    """Give a test up; what was measured stays."""
    reason = "" if body is None else body.reason
    shown = await services.monitor.experiments.move(test_id, "stopped", reason)
    data = {"test_id": test_id, "stopped_at": shown["end_time"], "reason": reason}
    return enveloped(data, "stopped")


@router.post(
    "/{test_id}/{step}", response_model=Envelope[Figures], responses=documented(404, 409, 503)
)
async def move(
    services: ServicesDep,
    test_id: TestId,
    step: Annotated[str, Path(pattern="^(pause|resume|complete)$")],
) -> Response:
    """`pause` a test, `resume` it, or `complete` it once its verdict is there."""
    to = {"pause": "paused", "resume": "resumed", "complete": "completed"}[step]
    shown = await services.monitor.experiments.move(test_id, to)
    return enveloped({"test_id": test_id, "status": shown["status"]}, to)


@router.get(
    "/{test_id}/assign/{user_identifier}", response_model=Figures, responses=documented(404, 503)
)
async def read_assignment(
    services: ServicesDep,
    test_id: TestId,
    user_identifier: Annotated[str, Path(max_length=200)],
    endpoint: Annotated[str, Query(max_length=200)],
) -> Response:
    """The variant of a user at an endpoint; a `message` where the user is in none."""
    variant = await services.monitor.experiments.assigned(test_id, user_identifier, endpoint)
    body = {"test_id": test_id, "user_identifier": user_identifier, "endpoint": endpoint}
    if variant is None:
        return fresh(body | {"message": "not in the test: it does not run, or not there"})
    return fresh(body | {"assigned_variant": variant})


@router.get("/{test_id}/statistics", response_model=Figures, responses=documented(404, 503))
async def read_statistics(
    services: ServicesDep,
    test_id: TestId,
    force_refresh: Annotated[bool, Query(description="Taken; they are always of now.")] = False,
) -> Response:
    """The figures of each variant, of all that was measured so far."""
    found = await services.monitor.experiments.statistics(test_id)
    return fresh({"test_id": test_id, "statistics": found, "generated_at": now_iso(services)})


@router.get("/{test_id}/analysis", response_model=Figures, responses=documented(404, 503))
async def read_analysis(services: ServicesDep, test_id: TestId) -> Response:
    """Whether a variant is better, taken once when each had enough; before, what is missing."""
    return fresh(await services.monitor.experiments.analysis(test_id))


@router.delete("/{test_id}", response_model=Figures, responses=documented(404, 409, 503))
async def remove(services: ServicesDep, test_id: TestId) -> Response:
    """Delete a test that does not run, and all that was measured."""
    await services.monitor.experiments.remove(test_id)
    return fresh(
        {
            "status": "success",
            "message": "deleted",
            "test_id": test_id,
            "deleted_at": now_iso(services),
        }
    )
