"""Results of tasks: the latest in memory, large ones in files beside the store."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Container, Sequence
from pathlib import Path

from infra.db.store import Store
from infra.db.tasks import Outcome
from infra.errors import TaskIdUnknown
from infra.files import of_store, write_atomically
from pipelines.codec import JSON
from pipelines.queue.client import Result

logger = logging.getLogger(__name__)

INLINE_BYTES = 65_536
_KEPT_BYTES = 16 * 2**20
_ENTRY_BYTES = 600  # of an outcome beside its result


class ResultStore:
    """Outcomes that were written lately, and the folder of the large results."""

    def __init__(self, folder: Path, store: Store) -> None:
        self._folder = folder
        self._store = store
        self._recent: OrderedDict[str, Outcome] = OrderedDict()
        self._bytes = 0

    def recent(self, task_id: str) -> Outcome | None:
        """Return an outcome that is still in memory, or None."""
        return self._recent.get(task_id)

    def keep(self, outcome: Outcome) -> None:
        """Keep an outcome in memory for a while."""
        self.forget(outcome.task_id)
        self._recent[outcome.task_id] = outcome
        self._bytes += _size(outcome)
        while self._bytes > _KEPT_BYTES:
            self._bytes -= _size(self._recent.popitem(last=False)[1])

    def forget(self, task_id: str) -> None:
        """Let a task have no outcome, as when it begins anew."""
        if (old := self._recent.pop(task_id, None)) is not None:
            self._bytes -= _size(old)

    async def outcomes(self, task_ids: Sequence[str]) -> dict[str, Outcome]:
        """Return what came of those of the tasks that ended, from memory where it is there."""
        found = {i: o for i in task_ids if (o := self._recent.get(i)) is not None}
        if missing := [task_id for task_id in task_ids if task_id not in found]:
            found |= await self._store.read(lambda unit: unit.tasks.outcomes(missing))
        return found

    async def state(self, task_id: str) -> str:
        """Return the state of a task that ended; raises TaskIdUnknown."""
        if (outcome := self._recent.get(task_id)) is not None:
            return outcome.state
        states = await self._store.read(lambda unit: unit.tasks.states([task_id]))
        if task_id not in states:
            raise TaskIdUnknown(task_id)
        return states[task_id]

    async def file(self, task_id: str, kind: str, data: bytes) -> str:
        """Write a result's file; return its name. Raises StoreError."""
        name = f"{task_id}.{kind}"
        await asyncio.to_thread(write_atomically, self._folder / name, data)
        return name

    async def result(self, outcome: Outcome) -> Result:
        """Return an outcome with its result; one whose file is gone has failed."""
        kind, data, state = JSON, outcome.result or b"null", outcome.state
        code, error = outcome.error_code, outcome.error
        if outcome.result_file is not None:
            kind = outcome.result_file.rpartition(".")[2]
            try:
                path = self._folder / outcome.result_file
                data = await asyncio.to_thread(path.read_bytes)
            except OSError:
                data, state = b"", "failed"
                code, error = "result_gone", f"the file {outcome.result_file} is not there"
        return Result(outcome.task_id, state, code, error, kind, data)

    async def expire(self, before_s: float, unfinished: Container[str]) -> None:
        """Delete files written before, but of tasks that have not ended.

        By their age, as there are some that no outcome names: of a task that was cancelled, or
        whose process was killed, before its outcome was stored. Raises StoreError.
        """

        def unlink() -> None:
            with of_store(self._folder):
                paths = list(self._folder.glob("*"))
            for path in paths:
                task_id = path.name.lstrip(".").partition(".")[0]  # half a file begins with a dot
                try:
                    if task_id not in unfinished and path.stat().st_mtime < before_s:
                        path.unlink()
                except OSError as error:  # of one: the others go, and the queue goes on
                    logger.warning("tasks.result_left", extra={"reason": str(error)})

        await asyncio.to_thread(unlink)


def _size(outcome: Outcome) -> int:
    return _ENTRY_BYTES + len(outcome.result or b"") + len(outcome.error or "")
