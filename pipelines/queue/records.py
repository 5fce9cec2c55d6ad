"""Tasks from one shape into another: as they came, as they wait, as they are stored."""

from __future__ import annotations

from dataclasses import replace

from infra.clock import utc
from infra.db.tasks import FAILED, PENDING, Outcome, StoredTask
from infra.errors import StoreError
from pipelines.queue.core import Entry
from pipelines.queue.queue_store import Changes
from pipelines.submission import Dependencies, Submission

_BATCH_BYTES = 4 * 2**20  # of results in one transaction


def stored_task(one: Submission, queue: str, seq: int, now_s: float) -> StoredTask:
    """Return a submission as it is stored."""
    return StoredTask(
        id=one.id, queue=queue, seq=seq, name=one.name, target=one.target,
        arguments=one.arguments, priority=one.priority, state="pending", tries=0, losses=0,
        max_retries=one.max_retries, retry_delay_s=one.retry_delay_s, timeout_s=one.timeout_s,
        created_at=utc(now_s), available_at=utc(now_s + one.delay_s), unique_key=one.unique_key,
        idempotency_key=one.idempotency_key, parent_id=one.parent_id, graph_id=one.graph_id,
        needs=one.needs, webhook=one.webhook,
    )  # fmt: skip


def entry_of(task: StoredTask) -> Entry:
    """Return a stored task as it waits."""
    return Entry(
        id=task.id, seq=task.seq, name=task.name, target=task.target, priority=task.priority,
        max_retries=task.max_retries, retry_delay_s=task.retry_delay_s, timeout_s=task.timeout_s,
        created_s=task.created_at.timestamp(), available_s=task.available_at.timestamp(),
        tries=task.tries,
        losses=task.losses, unique_key=task.unique_key, parent_id=task.parent_id,
        graph_id=task.graph_id, last_error=task.last_error,
        has_webhook=task.webhook is not None,
        needs=None if task.needs is None else Dependencies.of_json(task.needs),
    )  # fmt: skip


def anew(task: StoredTask, now_s: float) -> StoredTask:
    """Return a task that ended as it begins anew: it waits for those before it, but runs then."""
    needs = None if task.needs is None else Dependencies.of_json(task.needs).decided().as_json()
    return replace(
        task, state=PENDING, tries=0, losses=0, available_at=utc(now_s), last_error=None,
        needs=needs,
    )  # fmt: skip


def refused(outcome: Outcome, error: StoreError) -> Outcome:
    """Return an outcome that the store takes, in place of one that it does not."""
    return Outcome(
        outcome.task_id, FAILED, outcome.started_at, outcome.finished_at, outcome.worker,
        outcome.progress, error.code, f"what came of it cannot be stored: {error.message}"[:1_000],
    )  # fmt: skip


def split_large(changes: Changes, later: Changes) -> None:
    """Leave to the next transaction what would make this one very large."""
    size = 0
    for number, outcome in enumerate(changes.outcomes):
        size += len(outcome.result or b"")
        if size > _BATCH_BYTES and number:
            later.outcomes = changes.outcomes[number:]
            changes.outcomes = changes.outcomes[:number]
            later.hooked = changes.hooked & {one.task_id for one in later.outcomes}
            changes.hooked -= later.hooked
            return
