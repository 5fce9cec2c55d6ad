"""`/api/tasks`: background work, submitted, watched, cancelled and had again."""

from __future__ import annotations

import math
from typing import Annotated, Any

import orjson
from fastapi import Header, Path, Query, Request
from starlette.responses import FileResponse, Response

from infra.db.tasks import STATES, TaskFilter
from infra.errors import ParameterInvalid, RequestError
from infra.notify.signing import new_secret
from infra.notify.targets import checked_target
from pipelines.queue.client import Result
from pipelines.queue.shown import task_shown
from pipelines.registry import all_tasks, task_named
from pipelines.submission import TaskPriority
from pipelines.workflow import Options, Step, planned
from serve.rest.answers import fresh, now_iso
from serve.rest.envelope import Envelope, enveloped
from serve.rest.parameters import Day, Period, check_carried
from serve.rest.routing import Router
from serve.rest.schemas import documented
from serve.rest.services import Services, ServicesDep
from serve.rest.task_schemas import (
    Priority,
    QueueStats,
    QueueStatus,
    QuickAnalysis,
    QuickCleanup,
    QuickDataset,
    QuickReport,
    Submitted,
    SystemStarted,
    SystemStopped,
    TaskCancel,
    TaskDashboard,
    TaskDone,
    TaskPage,
    TaskRequest,
    TaskResult,
    TasksCleaned,
    TaskStatus,
    Workers,
)

router = Router(prefix="/api/tasks", tags=["tasks"])

TaskId = Annotated[str, Path(max_length=64, description="The id that submitting gave.")]
_KINDS = {"json": "application/json", "parquet": "application/vnd.apache.parquet"}
_RECENT = 10


# -- in ----------------------------------------------------------------------------------------


@router.post(
    "/submit",
    status_code=202,
    response_model=Envelope[Submitted],
    responses=documented(404, 503),
)
async def submit_task(
    request: Request,
    services: ServicesDep,
    body: TaskRequest | None = None,
    task_name: Annotated[
        str | None, Query(min_length=1, max_length=200, description="Without a body.")
    ] = None,
    priority: Annotated[Priority | None, Query(description="Without a body.")] = None,
    args: Annotated[str | None, Query(description="Without a body: a JSON list.")] = None,
    kwargs: Annotated[str | None, Query(description="Without a body: a JSON object.")] = None,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Response:
    """Submit a task by its name; it is in the store before this answers.

    With `Idempotency-Key` the same key again gives the same task, for as long as that is kept.
    """
    if body is None:
        if task_name is None:
            raise ParameterInvalid(("query", "task_name"), "", list(all_tasks()))
        body = TaskRequest(
            task_name=task_name,
            args=_parsed("args", args, list),
            kwargs=_parsed("kwargs", kwargs, dict),
            priority=priority,
        )
    else:
        check_carried(request, TaskRequest.model_fields)
    task_id, secret = await submitted(services, body, idempotency_key)
    given = body.priority or task_named(body.task_name).priority.name.lower()
    data = {
        "task_id": task_id,
        "task_name": body.task_name,
        "priority": given,
        "submitted_at": now_iso(services),
        "webhook_secret": secret,
    }
    answer = enveloped(data, f"{body.task_name} is queued")
    answer.status_code = 202
    return answer


async def submitted(
    services: Services, request: TaskRequest, key: str | None = None
) -> tuple[str, str | None]:
    """Submit a task; return its id and the secret of its webhook.

    Raises TaskUnknown, TaskArgumentsInvalid, TargetInvalid, TaskQueueFull.
    """
    spec = task_named(request.task_name)
    secret = hook = None
    if request.webhook is not None:
        secret = new_secret()
        allow_private = services.settings.notify_private
        hook = (checked_target(request.webhook, allow_private, ("body", "webhook")), secret)
    chosen = None if request.priority is None else TaskPriority[request.priority.upper()]
    options = Options(
        chosen, request.max_retries, request.timeout_s, request.delay_s, key, webhook=hook
    )
    plan = planned(Step(spec, tuple(request.args), request.kwargs, options))
    (task_id,) = await services.tasks.submit_together(plan.submissions)
    return task_id, secret


def _parsed(name: str, text: str | None, kind: type) -> Any:
    if text is None:
        return kind()
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, kind):
        wanted = "a JSON list" if kind is list else "a JSON object"
        raise ParameterInvalid(("query", name), text, [wanted])
    return value


# -- one task ----------------------------------------------------------------------------------


@router.get("/task/{task_id}", response_model=Envelope[TaskStatus], responses=documented(404, 503))
async def read_task(services: ServicesDep, task_id: TaskId) -> Response:
    """How a task does."""
    return enveloped(await services.tasks.task(task_id), "task found")


@router.get("/task/{task_id}/result", response_model=TaskResult, responses=documented(404, 409))
async def read_result(services: ServicesDep, task_id: TaskId) -> Response:
    """What came of a task; 409 while it has not ended."""
    shown, result = await _ended(services, task_id)
    body: dict[str, Any] = {
        "task_id": task_id,
        "status": result.state,
        "completed_at": shown["completed_at"],
        "execution_time": shown["execution_time"],
        "worker_id": shown["worker_id"],
    }
    if result.state != "completed":
        body |= {"error": result.error, "error_code": result.error_code}
    elif result.kind == "json":
        body["result"] = orjson.Fragment(result.data)
    else:
        body["result_file"] = f"/api/tasks/task/{task_id}/result/file"
    return fresh(body)


@router.get(
    "/task/{task_id}/result/file",
    response_class=Response,
    responses=documented(404, 409)
    | {200: {"content": {kind: {} for kind in _KINDS.values()}, "description": "The result."}},
)
async def read_result_file(services: ServicesDep, task_id: TaskId) -> Response:
    """The result by itself, as JSON or, of a frame, as Parquet."""
    _, result = await _ended(services, task_id)
    result_kind = _KINDS.get(result.kind)
    if result.state != "completed" or result_kind is None:
        result.value()  # raises why there is none
    name = f'attachment; filename="{task_id}.{result.kind}"'
    headers = {"cache-control": "no-store", "content-disposition": name}
    return Response(result.data, media_type=result_kind, headers=headers)


async def _ended(services: Services, task_id: str) -> tuple[dict[str, Any], Result]:
    """Return a task and what came of it; raises TaskUnfinished, TaskIdUnknown."""
    (result,) = await services.tasks.results([task_id])
    if result.state not in ("completed", "failed", "cancelled"):
        result.value()
    return await services.tasks.task(task_id), result


@router.post("/task/{task_id}/cancel", response_model=TaskCancel, responses=documented(404, 503))
async def cancel_task(services: ServicesDep, task_id: TaskId) -> Response:
    """Cancel a task with its children, and what waits for it; `success` is false if it had ended.

    One that runs is interrupted, and its process ended where that does not help: within a second.
    """
    answer = await services.tasks.cancel(task_id, "asked over HTTP")
    success = answer["cancelled"]
    message = "it ends now" if success else f"it is {answer['status']} already"
    body = {
        "success": success,
        "task_id": task_id,
        "message": message,
        "cancelled_at": now_iso(services) if success else None,
    }
    return fresh(body)


@router.post("/task/{task_id}/retry", response_model=TaskDone, responses=documented(404, 409, 503))
async def retry_task(services: ServicesDep, task_id: TaskId) -> Response:
    """Let a task that failed or was cancelled begin anew, with all its tries."""
    await services.tasks.requeue(task_id)
    return fresh({"success": True, "task_id": task_id, "message": "it is queued again"})


# -- many tasks --------------------------------------------------------------------------------


@router.get("", response_model=TaskPage, responses=documented(503))
async def list_tasks(
    services: ServicesDep,
    status: Annotated[str | None, Query(description="Only in this state.")] = None,
    name: Annotated[str | None, Query(max_length=200, description="Only of this name.")] = None,
    parent_id: Annotated[str | None, Query(max_length=64)] = None,
    graph_id: Annotated[str | None, Query(max_length=64)] = None,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    size: Annotated[int, Query(ge=1, le=500)] = 50,
) -> Response:
    """Tasks, the newest first; a page past the end is empty."""
    if status is not None and status not in STATES:
        raise ParameterInvalid(("query", "status"), status, STATES)
    wanted = TaskFilter(status, name, parent_id, graph_id)
    total = await services.store.read(lambda unit: unit.tasks.count(wanted))
    items = await _page(services, wanted, size, (page - 1) * size)
    pages = math.ceil(total / size)
    pagination = {
        "page": page,
        "size": size,
        "total": total,
        "total_pages": pages,
        "has_next": page < pages,
        "has_prev": page > 1,
    }
    return fresh({"items": items, "pagination": pagination})


async def _page(
    services: Services, wanted: TaskFilter, size: int, offset: int
) -> list[dict[str, Any]]:
    found = await services.store.read(lambda unit: unit.tasks.page(wanted, size, offset))
    ids = [task.id for task in found]
    outcomes = await services.store.read(lambda unit: unit.tasks.outcomes(ids))
    live = await services.tasks.live([task_id for task_id in ids if task_id not in outcomes])
    return [live.get(task.id) or task_shown(task, outcomes.get(task.id)) for task in found]


# -- the queue ---------------------------------------------------------------------------------


@router.get("/status", response_model=Envelope[QueueStatus], responses=documented(503))
async def read_status(services: ServicesDep) -> Response:
    """Whether tasks are started, and how many there are."""
    stats = await services.tasks.stats()
    data = {
        "timestamp": now_iso(services),
        "system_status": _system_status(stats),
        "standby": stats["standby"],
        "queue_statistics": queue_figures(stats),
    }
    return enveloped(data, "task queue found")


@router.get("/workers", response_model=Workers, responses=documented(503))
async def read_workers(services: ServicesDep) -> Response:
    """The processes that run tasks; Ray starts and ends them as there is work."""
    stats = await services.tasks.stats()
    workers = stats["workers"]
    body = {
        "timestamp": now_iso(services),
        "slots": stats["slots"],
        "total_workers": len(workers),
        "active_workers": sum(worker["is_running"] for worker in workers),
        "workers": workers,
    }
    return fresh(body)


@router.get("/queue/stats", response_model=QueueStats, responses=documented(503))
async def read_queue_stats(services: ServicesDep) -> Response:
    """All figures of the queue, and what can be submitted."""
    stats = await services.tasks.stats()
    functions = [
        {
            "name": spec.name,
            "title": spec.title,
            "destructive": spec.destructive,
            "parameters": spec.parameters,
            "priority": spec.priority.name.lower(),
            "max_retries": spec.max_retries,
            "timeout_s": spec.timeout_s,
        }
        for spec in all_tasks().values()
    ]
    body = {
        "timestamp": now_iso(services),
        "is_running": stats["is_running"],
        "queue_stats": queue_figures(stats),
        "status_counts": stats["status_counts"],
        "stages": stats["stages"],
        "registered_functions": functions,
    }
    return fresh(body)


@router.get("/dashboard", response_model=TaskDashboard, responses=documented(503))
async def read_dashboard(services: ServicesDep) -> Response:
    """All at one look: figures, the ten newest tasks, the workers."""
    stats = await services.tasks.stats()
    recent = await _page(services, TaskFilter(), _RECENT, 0)
    figures, workers = queue_figures(stats), stats["workers"]
    brief = ("task_id", "task_name", "status", "started_at", "execution_time", "worker_id")
    body = {
        "timestamp": now_iso(services),
        "system_status": _system_status(stats),
        "summary": {
            "total_workers": len(workers),
            "active_workers": sum(worker["is_running"] for worker in workers),
            "pending_tasks": figures["pending_tasks"],
            "total_submitted": figures["total_submitted"],
            "success_rate": figures["success_rate"],
        },
        "status_distribution": stats["status_counts"],
        "recent_tasks": [{name: task[name] for name in brief} for task in recent],
        "worker_performance": [
            {
                "worker_id": worker["worker_id"],
                "task_id": worker["task_id"],
                "processed_tasks": worker["processed_tasks"],
                "success_rate": worker["success_rate"],
                "current_task": worker["task_id"],
            }
            for worker in workers
        ],
    }
    return fresh(body)


@router.post("/system/start", response_model=SystemStarted, responses=documented(503))
async def start_system(services: ServicesDep) -> Response:
    """Let the queue start tasks again."""
    await services.tasks.set_running(True)
    body = {"success": True, "message": "tasks are started", "started_at": now_iso(services)}
    return fresh(body)


@router.post("/system/stop", response_model=SystemStopped, responses=documented(503))
async def stop_system(services: ServicesDep) -> Response:
    """Let the queue start no task; what runs goes on, and tasks are still accepted."""
    await services.tasks.set_running(False)
    body = {"success": True, "message": "no task is started", "stopped_at": now_iso(services)}
    return fresh(body)


@router.post("/maintenance/cleanup", response_model=TasksCleaned, responses=documented(503))
async def clean_up(
    services: ServicesDep, max_age_hours: Annotated[int, Query(ge=1, le=168)] = 24
) -> Response:
    """Forget tasks that ended so long ago, with their results."""
    removed = await services.tasks.expire(3_600.0 * max_age_hours)
    body = {
        "success": True,
        "message": f"{removed} tasks forgotten",
        "removed": removed,
        "cleaned_at": now_iso(services),
    }
    return fresh(body)


def queue_figures(stats: dict[str, Any]) -> dict[str, Any]:
    """Return the figures of the queue as the API gives them."""
    counts, stages = stats["status_counts"], stats["stages"]
    ended = sum(counts.get(state, 0) for state in ("completed", "failed", "cancelled"))
    completed = counts.get("completed", 0)
    return {
        "pending_tasks": sum(stages.get(stage, 0) for stage in ("ready", "claimed", "blocked")),
        "scheduled_tasks": stages.get("delayed", 0),
        "running_tasks": stages.get("running", 0),
        "total_submitted": sum(counts.values()),
        "total_completed": completed,
        "total_failed": counts.get("failed", 0),
        "total_cancelled": counts.get("cancelled", 0),
        "success_rate": round(100.0 * completed / ended, 2) if ended else 0.0,
    }


def _system_status(stats: dict[str, Any]) -> str:
    return "running" if stats["is_running"] else "stopped"


# -- quick -------------------------------------------------------------------------------------


@router.post(
    "/quick/dataset-processing", response_model=QuickDataset, responses=documented(404, 503)
)
async def quick_dataset(
    services: ServicesDep,
    symbol: Annotated[str, Query(max_length=32)],
    period: Period = "1y",
    priority: Priority = "high",
) -> Response:
    """Process the history of a symbol."""
    (name,) = services.checked_symbols([symbol], "query")
    kwargs = {"symbol": name, "period": period}
    task_id = await _quick(services, "process_dataset", kwargs, priority)
    body = kwargs | {"success": True, "task_id": task_id, "priority": priority}
    return fresh(body | {"message": f"the history of {name} is processed"})


@router.post("/quick/daily-report", response_model=QuickReport, responses=documented(404, 503))
async def quick_report(
    services: ServicesDep,
    symbols: Annotated[str, Query(description="Comma separated.")],
    date: Annotated[Day | None, Query(description="YYYY-MM-DD; the last session else.")] = None,
) -> Response:
    """Make the daily report of some symbols."""
    names, day = services.symbol_list(symbols), None if date is None else date.isoformat()
    kwargs = {"symbols": names, "date": day}
    task_id = await _quick(services, "generate_report", kwargs)
    body = kwargs | {"success": True, "task_id": task_id, "message": "the report is made"}
    return fresh(body)


@router.post(
    "/quick/market-analysis", response_model=QuickAnalysis, responses=documented(404, 503)
)
async def quick_analysis(
    services: ServicesDep,
    analysis_type: Annotated[str, Query(max_length=50)] = "comprehensive",
) -> Response:
    """Analyse the market of the monitored symbols."""
    kwargs = {"analysis_type": analysis_type}
    task_id = await _quick(services, "market_analysis", kwargs)
    return fresh(
        kwargs | {"success": True, "task_id": task_id, "message": "the market is analysed"}
    )


@router.post("/quick/data-cleanup", response_model=QuickCleanup, responses=documented(404, 503))
async def quick_cleanup(
    services: ServicesDep, days_to_keep: Annotated[int, Query(ge=1, le=365)] = 30
) -> Response:
    """Archive and delete what is older."""
    kwargs = {"days_to_keep": days_to_keep}
    task_id = await _quick(services, "cleanup_data", kwargs)
    return fresh(
        kwargs | {"success": True, "task_id": task_id, "message": "old data is cleaned up"}
    )


async def _quick(
    services: Services, name: str, kwargs: dict[str, Any], priority: Priority | None = None
) -> str:
    request = TaskRequest(task_name=name, kwargs=kwargs, priority=priority)
    task_id, _ = await submitted(services, request)
    return task_id


# -- reports -----------------------------------------------------------------------------------


@router.get(
    "/reports/{name}",
    response_class=Response,
    responses=documented(404)
    | {200: {"content": {"text/html": {}, "application/json": {}}, "description": "A report."}},
)
async def read_report(
    services: ServicesDep,
    name: Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]{1,200}$", description="As `files` say.")],
) -> Response:
    """A report that a task made."""
    path = services.settings.data_dir / "reports" / name
    if name.startswith(".") or path.suffix not in (".html", ".json") or not path.is_file():
        raise ReportUnknown(name)
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    headers = {"content-security-policy": policy, "cache-control": "private, no-cache"}
    return FileResponse(path, headers=headers | {"x-content-type-options": "nosniff"})


class ReportUnknown(RequestError):
    """Raised when there is no report of this name."""

    status_code = 404
    code = "report_unknown"

    @property
    def message(self) -> str:
        return f"there is no report {str(self.args[0])[:80]!r}"
