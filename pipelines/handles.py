"""A submitted task, as its caller sees it; the same from plain and from async code."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import ray

from actors.plain import run_there
from infra.errors import ConfigError
from infra.loops import loop_runs
from pipelines.queue.client import TaskClient


@functools.lru_cache(maxsize=1)
def _client_of(ray_address: str, job_id: str) -> TaskClient:
    """Return one client for as long as this process is in one Ray: handles end with that."""
    return TaskClient(10.0)


def connected_client() -> TaskClient:
    """Return the queue; raises ConfigError where this process is in no Ray."""
    if not ray.is_initialized():
        raise ConfigError(
            "tasks need a running Finstage: submit inside `with finstage.connect():`, "
            "or over HTTP with finstage.Client"
        )
    context = ray.get_runtime_context()
    return _client_of(context.gcs_address, context.get_job_id())


def either(ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Return what `ask` gives: at once in plain code, as an awaitable where a loop runs.

    Where a loop runs it begins at once, awaited or not.
    """
    if loop_runs():
        return asyncio.ensure_future(ask())
    return run_there(ask)


class TaskHandle:
    """A task by its id. Every method gives its answer in plain code, an awaitable in async code.

    Awaiting the handle gives the id, once the task is in the store.
    """

    def __init__(self, task_id: str, accepted: Awaitable[str] | None = None) -> None:
        self._id = task_id
        self._accepted = accepted

    @property
    def id(self) -> str:
        """The task's id; while submitting is under way, the one that was proposed."""
        return self._id

    def __repr__(self) -> str:
        return f"TaskHandle({self._id!r})"

    def __await__(self) -> Generator[Any, None, str]:
        return self._settled().__await__()

    def status(self) -> Any:
        """Return the task as the API shows it, a dict; raises TaskIdUnknown."""
        return either(self._status)

    def progress(self) -> Any:
        """Return `{"progress", "message", "status"}`; progress is 0 to 100."""
        return either(self._progress)

    def result(self, timeout_s: float | None = None) -> Any:
        """Wait for the end and return the result.

        Raises TaskFailed, TaskCancelled, TimeoutError; the task goes on after the last.
        """
        return either(lambda: self._result(timeout_s))

    def cancel(self, reason: str = "asked") -> Any:
        """Cancel it with its children; return whether it had not ended yet."""
        return either(lambda: self._cancel(reason))

    async def _settled(self) -> str:
        if self._accepted is not None:
            accepted, self._accepted = self._accepted, None
            self._id = await accepted
        return self._id

    async def _status(self) -> dict[str, Any]:
        return await connected_client().task(await self._settled())

    async def _progress(self) -> dict[str, Any]:
        shown = await self._status()
        return {
            "progress": shown["progress"],
            "message": shown["progress_message"],
            "status": shown["status"],
        }

    async def _result(self, timeout_s: float | None) -> Any:
        task_id = await self._settled()
        (result,) = await connected_client().wait([task_id], timeout_s)
        return result.value()

    async def _cancel(self, reason: str) -> bool:
        answer = await connected_client().cancel(await self._settled(), reason)
        return bool(answer["cancelled"])
