"""Tasks as the API and the stream show them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from infra.clock import utc
from infra.db.tasks import Outcome, StoredTask
from pipelines.queue.core import Entry
from pipelines.submission import TaskPriority


def entry_shown(entry: Entry) -> dict[str, Any]:
    """Return a task that has not ended."""
    return {
        "task_id": entry.id,
        "task_name": entry.name,
        "status": entry.state,
        "stage": entry.stage,
        "priority": TaskPriority(entry.priority).name.lower(),
        "created_at": _iso(utc(entry.created_s)),
        "available_at": _iso(utc(entry.available_s)),
        "started_at": None if entry.started_s is None else _iso(utc(entry.started_s)),
        "completed_at": None,
        "execution_time": None,
        "retry_count": max(0, entry.tries - 1),
        "max_retries": entry.max_retries,
        "worker_id": entry.worker,
        "progress": entry.progress,
        "progress_message": entry.message,
        "has_result": False,
        "has_error": entry.last_error is not None,
        "error": entry.last_error,
        "parent_id": entry.parent_id,
        "graph_id": entry.graph_id,
    }


def ended_shown(entry: Entry, outcome: Outcome) -> dict[str, Any]:
    """Return a task that just ended."""
    return entry_shown(entry) | _ended(outcome)


def task_shown(task: StoredTask, outcome: Outcome | None) -> dict[str, Any]:
    """Return a task as the store has it, with what came of it."""
    shown = {
        "task_id": task.id,
        "task_name": task.name,
        "status": task.state,
        "stage": "ready",
        "priority": TaskPriority(task.priority).name.lower(),
        "created_at": _iso(task.created_at),
        "available_at": _iso(task.available_at),
        "started_at": None,
        "completed_at": None,
        "execution_time": None,
        "retry_count": max(0, task.tries - 1),
        "max_retries": task.max_retries,
        "worker_id": None,
        "progress": 0.0,
        "progress_message": "",
        "has_result": False,
        "has_error": task.last_error is not None,
        "error": task.last_error,
        "parent_id": task.parent_id,
        "graph_id": task.graph_id,
    }
    return shown if outcome is None else shown | _ended(outcome)


def _ended(outcome: Outcome) -> dict[str, Any]:
    started = outcome.started_at
    took_s = None if started is None else (outcome.finished_at - started).total_seconds()
    return {
        "status": outcome.state,
        "stage": "ended",
        "started_at": None if started is None else _iso(started),
        "completed_at": _iso(outcome.finished_at),
        "execution_time": took_s,
        "worker_id": outcome.worker,
        "progress": outcome.progress,
        "has_result": outcome.state == "completed",
        "has_error": outcome.error is not None,
        "error": outcome.error,
        "error_code": outcome.error_code,
        "result_bytes": outcome.result_bytes,
    }


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")
