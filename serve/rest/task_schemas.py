"""Shapes of the task routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from serve.rest.schemas import Pagination, Shape

Priority = Literal["critical", "high", "normal", "low"]
Status = Literal["pending", "running", "retrying", "completed", "failed", "cancelled"]
Stage = Literal["blocked", "delayed", "ready", "claimed", "running", "ended"]


class TaskRequest(Shape):
    """A task to be done, by its registered name; what is left out is as its function declares."""

    task_name: Annotated[str, Field(min_length=1, max_length=200, examples=["process_dataset"])]
    args: Annotated[list[Any], Field(max_length=1_000)] = []
    kwargs: dict[str, Any] = {}
    priority: Priority | None = None
    max_retries: Annotated[int | None, Field(ge=0, le=100)] = None
    timeout_s: Annotated[float | None, Field(gt=0, le=604_800)] = None
    delay_s: Annotated[float, Field(ge=0, le=31_536_000)] = 0.0
    webhook: Annotated[
        str | None, Field(max_length=2_000, description="URL that is told when it has ended.")
    ] = None


class Submitted(Shape):
    """A task that is in the store; `webhook_secret` signs its webhook and is shown this once."""

    task_id: str
    task_name: str
    priority: Priority
    submitted_at: str
    webhook_secret: str | None = None


class TaskStatus(Shape):
    """How a task does.

    `stage` of one that has not ended: `blocked` waits for other tasks, `delayed` for its time or
    its next try, `ready` for its turn, `claimed` is next. `progress` is 0 to 100. `error` is that
    of the last try that failed, also while there are more.
    """

    task_id: str
    task_name: str
    status: Status
    stage: Stage
    priority: Priority
    created_at: str
    available_at: str
    started_at: str | None
    completed_at: str | None
    execution_time: float | None
    retry_count: int
    max_retries: int
    worker_id: str | None
    progress: float
    progress_message: str
    has_result: bool
    has_error: bool
    error: str | None
    error_code: str | None = None
    result_bytes: int | None = None
    parent_id: str | None
    graph_id: str | None


class TaskResult(Shape):
    """What came of a task; one whose result is a frame has `result_file` to download instead."""

    task_id: str
    status: Literal["completed", "failed", "cancelled"]
    completed_at: str | None
    execution_time: float | None
    worker_id: str | None
    result: Any = None
    result_file: str | None = None
    error: str | None = None
    error_code: str | None = None


class TaskCancel(Shape):
    """Whether a task had not ended yet, and so ends now."""

    success: bool
    task_id: str
    message: str
    cancelled_at: str | None


class TaskDone(Shape):
    """What was done about a task."""

    success: bool
    task_id: str
    message: str


class TaskPage(Shape):
    """Tasks, the newest first."""

    items: list[TaskStatus]
    pagination: Pagination


class QueueFigures(Shape):
    """Tasks as they are in the store; `success_rate` is percent of those that ended."""

    pending_tasks: int
    scheduled_tasks: int
    running_tasks: int
    total_submitted: int
    total_completed: int
    total_failed: int
    total_cancelled: int
    success_rate: float


class QueueStatus(Shape):
    """Whether the queue starts tasks; `standby` says why it cannot."""

    timestamp: str
    system_status: Literal["running", "stopped"]
    standby: str | None
    queue_statistics: QueueFigures


class WorkerFigures(Shape):
    """A process that runs tasks; `current_task_id` is an older name of `task_id`."""

    worker_id: str
    task_id: str | None
    is_running: bool
    current_task_id: str | None
    processed_tasks: int
    failed_tasks: int
    success_rate: float
    uptime_seconds: float
    started_at: str


class Workers(Shape):
    """The processes that ran tasks lately; `slots` tasks run at one time."""

    timestamp: str
    slots: int
    total_workers: int
    active_workers: int
    workers: list[WorkerFigures]


class TaskFunctionShape(Shape):
    """A task that can be submitted by its name; a destructive one takes away for good."""

    name: str
    title: str
    destructive: bool
    parameters: list[str]
    priority: Priority
    max_retries: int
    timeout_s: float | None


class QueueStats(Shape):
    """All figures of the queue."""

    timestamp: str
    is_running: bool
    queue_stats: QueueFigures
    status_counts: dict[str, int]
    stages: dict[str, int]
    registered_functions: list[TaskFunctionShape]


class RecentTask(Shape):
    """A task in short."""

    task_id: str
    task_name: str
    status: Status
    started_at: str | None
    execution_time: float | None
    worker_id: str | None


class WorkerShort(Shape):
    """A worker in short; `current_task` is an older name of `task_id`."""

    worker_id: str
    task_id: str | None
    processed_tasks: int
    success_rate: float
    current_task: str | None


class DashboardSummary(Shape):
    """Figures in short."""

    total_workers: int
    active_workers: int
    pending_tasks: int
    total_submitted: int
    success_rate: float


class TaskDashboard(Shape):
    """All at one look."""

    timestamp: str
    system_status: Literal["running", "stopped"]
    summary: DashboardSummary
    status_distribution: dict[str, int]
    recent_tasks: list[RecentTask]
    worker_performance: list[WorkerShort]


class SystemStarted(Shape):
    """The queue starts tasks again."""

    success: bool
    message: str
    started_at: str


class SystemStopped(Shape):
    """The queue starts no task until it is started; what runs goes on."""

    success: bool
    message: str
    stopped_at: str


class TasksCleaned(Shape):
    """What was forgotten."""

    success: bool
    message: str
    removed: int
    cleaned_at: str


class QuickDataset(Shape):
    """A data set on its way."""

    success: bool
    task_id: str
    symbol: str
    period: str
    priority: Priority
    message: str


class QuickReport(Shape):
    """A report on its way."""

    success: bool
    task_id: str
    symbols: list[str]
    date: str | None
    message: str


class QuickAnalysis(Shape):
    """A market analysis on its way."""

    success: bool
    task_id: str
    analysis_type: str
    message: str


class QuickCleanup(Shape):
    """A clean-up on its way."""

    success: bool
    task_id: str
    days_to_keep: int
    message: str


class BackgroundQueued(Shape):
    """A technical analysis on its way; its time depends on what else waits."""

    status: Literal["queued"]
    task_id: str
    symbols: list[str]
    analysis_types: list[str]
    estimated_completion: str | None
    queued_at: str


class BackgroundStatus(Shape):
    """A technical analysis under way or done."""

    task_id: str
    status: Status
    progress: float
    result: Any
    error: str | None
    created_at: str
    completed_at: str | None
