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
    at, started_s = (utc(entry.created_s), utc(entry.available_s)), entry.started_s
    return _shown(entry, entry.state, entry.stage, *at) | {
        "started_at": None if started_s is None else _iso(utc(started_s)),
        "worker_id": entry.worker,
        "progress": entry.progress,
        "progress_message": entry.message,
    }


def ended_shown(entry: Entry, outcome: Outcome) -> dict[str, Any]:
    """Return a task that just ended."""
    return entry_shown(entry) | _ended(outcome)


def task_shown(task: StoredTask, outcome: Outcome | None) -> dict[str, Any]:
    """Return a task as the store has it, with what came of it."""
    shown = _shown(task, task.state, "ready", task.created_at, task.available_at)
    return shown if outcome is None else shown | _ended(outcome)


def _shown(
    task: Entry | StoredTask, state: str, stage: str, created_at: datetime, available_at: datetime
) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "task_name": task.name,
        "status": state,
        "stage": stage,
        "priority": TaskPriority(task.priority).name.lower(),
        "created_at": _iso(created_at),
        "available_at": _iso(available_at),
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
