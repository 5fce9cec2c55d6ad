"""The processes that run tasks: how many at once, how long a task takes them, who does what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from infra.clock import utc

_SHORT_S = 0.02  # tasks that take less are handed out ahead, so that no slot waits for the next
_FORGET_S = 60.0
_SHARE = 0.1  # of the newest task in the mean


@dataclass(slots=True)
class _Worker:
    first_s: float
    last_s: float
    processed: int = 0
    failed: int = 0
    task_id: str | None = None


class WorkerSlots:
    """Slots, and what is known of those who fill them. State: soft.

    Of long tasks as many are handed to Ray as there are slots, so that what is urgent waits for
    one end only; of short ones twice as many.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.ends: Counter[str] = Counter(completed=0, failed=0, cancelled=0)
        self._mean_s = 1.0
        self._workers: dict[str, _Worker] = {}

    @property
    def is_quick(self) -> bool:
        """Return whether tasks are short now."""
        return self._mean_s < _SHORT_S

    @property
    def limit(self) -> int:
        """Return how many tasks Ray may have at once."""
        return 2 * self.slots if self.is_quick else self.slots

    def ahead(self, most: int) -> int:
        """Return how many more may be noted as started before there is room."""
        return most if self.is_quick else 0

    def began(self, worker: str, task_id: str, at_s: float) -> None:
        """Take that a worker runs a task, since Unix time `at_s`."""
        known = self._workers.setdefault(worker, _Worker(at_s, at_s))
        known.task_id, known.last_s = task_id, at_s

    def ended(self, worker: str, at_s: float, took_s: float, is_good: bool) -> None:
        """Take that a try ended, at Unix time `at_s` after so long."""
        self._mean_s += _SHARE * (took_s - self._mean_s)
        known = self._workers.setdefault(worker, _Worker(at_s - took_s, at_s))
        known.last_s = at_s
        known.processed += 1
        known.failed += not is_good
        known.task_id = None

    def died(self, worker: str | None) -> None:
        """Take that a worker's process is no more."""
        if worker is not None:
            self._workers.pop(worker, None)

    def count(self, state: str) -> None:
        """Count a task that ended for good."""
        self.ends[state] += 1

    def shown(self, now_s: float) -> list[dict[str, Any]]:
        """Return the workers as the API shows them."""
        for name, worker in list(self._workers.items()):
            if worker.task_id is None and now_s - worker.last_s > _FORGET_S:
                del self._workers[name]  # Ray ended its process long ago
        return [
            {
                "worker_id": name,
                "is_running": worker.task_id is not None,
                "task_id": worker.task_id,
                "current_task_id": worker.task_id,
                "processed_tasks": worker.processed,
                "failed_tasks": worker.failed,
                "success_rate": _rate(worker),
                "uptime_seconds": round(now_s - worker.first_s, 1),
                "started_at": utc(worker.first_s).isoformat(timespec="milliseconds"),
            }
            for name, worker in sorted(self._workers.items())
        ]


def _rate(worker: _Worker) -> float:
    if not worker.processed:
        return 0.0
    return round(100.0 * (worker.processed - worker.failed) / worker.processed, 1)
