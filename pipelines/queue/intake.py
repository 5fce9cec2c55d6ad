"""Submissions on their way into the store, and which of them are the same work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipelines.queue.core import Entry
from pipelines.submission import Submission

_LATE_KEYS = 10_000


@dataclass(slots=True)
class Batch:
    """What one transaction accepts, and who waits for it."""

    entries: list[tuple[Entry, Submission]] = field(default_factory=list)
    futures: list[asyncio.Future[None]] = field(default_factory=list)


class Intake:
    """State: soft; a caller waits until the transaction that has its tasks is over."""

    def __init__(self) -> None:
        self._batch = Batch()
        self._pending: set[str] = set()  # ids of what is not written yet
        self._keys: dict[str, str] = {}  # and its keys of both kinds
        self._late: dict[str, str] = {}  # of what a look into the store may have just missed

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def is_awaited(self) -> bool:
        """Return whether somebody waits for the next transaction."""
        return bool(self._batch.futures)

    def is_pending(self, task_id: str) -> bool:
        """Return whether a task is on its way."""
        return task_id in self._pending

    def same(self, one: Submission, stored_keys: Mapping[str, str]) -> str | None:
        """Return the task on its way, or by its idempotency key, that is the same work."""
        if one.id in self._pending:  # the call came twice
            return one.id
        if (key := one.idempotency_key) is not None:
            return stored_keys.get(key) or self._keys.get(key) or self._late.get(key)
        return None if one.unique_key is None else self.of_key(one.unique_key)

    def of_key(self, unique_key: str) -> str | None:
        """Return the task on its way that has this key, or None."""
        return self._keys.get(unique_key)

    def add(self, entry: Entry, one: Submission) -> None:
        """Take a task for the next transaction."""
        self._batch.entries.append((entry, one))
        self._pending.add(entry.id)
        self._keys |= {key: one.id for key in _keys_of(one)}

    async def written(self) -> None:
        """Wait for the next transaction; raises why it failed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._batch.futures.append(future)
        await future

    def take(self) -> Batch:
        """Return what the next transaction accepts."""
        batch, self._batch = self._batch, Batch()
        return batch

    def accepted(self, batch: Batch) -> None:
        """Tell who waits that it is in the store."""
        for _, one in batch.entries:
            self._forget(one)
            if one.idempotency_key is not None:
                self._late[one.idempotency_key] = one.id
                if len(self._late) > _LATE_KEYS:
                    del self._late[next(iter(self._late))]
        for future in batch.futures:
            if not future.done():
                future.set_result(None)

    def refused(self, batch: Batch, error: Exception) -> None:
        """Tell who waits that it is not."""
        for _, one in batch.entries:
            self._forget(one)
        for future in batch.futures:
            if not future.done():
                future.set_exception(error)

    def _forget(self, one: Submission) -> None:
        self._pending.discard(one.id)
        for key in _keys_of(one):
            self._keys.pop(key, None)


def _keys_of(one: Submission) -> list[str]:
    return [key for key in (one.idempotency_key, one.unique_key) if key is not None]
