"""Background work for Python users: `@task`, `submit`, `chain`, `group`, `when`, `template`.

@task(max_retries=2, timeout_s=60, unique_by=("symbol",))
def risk(symbol: str, days: int = 250) -> dict[str, float]: ...

with finstage.connect():
    handle = risk("AAPL")          # stored, and on its way
    print(handle.result(timeout_s=60))
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, overload

from ray import cloudpickle

from infra.errors import TaskRejected
from pipelines.context import TaskContext, current_task
from pipelines.handles import TaskHandle, connected_client, either
from pipelines.registry import TaskSpec, declare, spec_of, task_named
from pipelines.submission import TaskPriority
from pipelines.workflow import (
    Chain,
    Group,
    Options,
    Param,
    Shape,
    Step,
    Template,
    When,
    chain,
    group,
    planned,
    template,
    when,
)

__all__ = [
    "Chain",
    "Group",
    "Param",
    "Step",
    "TaskContext",
    "TaskFunction",
    "TaskHandle",
    "TaskPriority",
    "Template",
    "When",
    "chain",
    "current_task",
    "group",
    "submit",
    "submit_background_task",
    "submit_many",
    "submit_shape",
    "task",
    "task_queue",
    "template",
    "wait_for_all",
    "when",
]


class TaskFunction:
    """A function that runs as a task when it is called.

    `function` is the original, which runs here and now. Safe to run twice: a task runs at least
    once, and again where what it ran on died.
    """

    def __init__(self, spec: TaskSpec, options: Options = Options(), durable: bool = True) -> None:  # noqa: B008
        functools.update_wrapper(self, spec.function)
        self.spec = spec
        self.function = spec.function
        self._options = options
        self._durable = durable

    @property
    def name(self) -> str:
        """The name by which it is known to the service."""
        return self.spec.name

    def __call__(self, /, *args: Any, **kwargs: Any) -> TaskHandle:
        """Submit at once and return the handle; see `submit`."""
        return self.submit(*args, **kwargs)

    def submit(self, /, *args: Any, **kwargs: Any) -> TaskHandle:
        """Submit it with these arguments; in plain code it is in the store when this returns.

        Raises TaskArgumentsInvalid, TaskNotStorable, TaskRejected, TaskQueueFull.
        """
        return submit_shape(self.s(*args, **kwargs))

    def s(self, /, *args: Any, **kwargs: Any) -> Step:
        """Return the call as a step of a shape, not submitted."""
        if self._durable and not self.spec.is_importable:
            raise TaskRejected(
                f"{self.spec.name} is defined in {self.spec.target.partition(':')[0]}, which no "
                "other process can import: put it into a module on the service's PYTHONPATH and "
                "name that in FINSTAGE_TASK_MODULES, or declare it with durable=False, which "
                "sends the code through Ray and ends with the cluster"
            )
        options = self._options
        if not self._durable:
            options = replace(options, code=cloudpickle.dumps(self.spec))
        return Step(self.spec, args, kwargs, options)

    def options(
        self,
        *,
        priority: TaskPriority | None = None,
        max_retries: int | None = None,
        timeout_s: float | None = None,
        delay_s: float = 0.0,
        at: datetime | None = None,
        key: str | None = None,
    ) -> TaskFunction:
        """Return the same task with another policy for what is submitted through it.

        `delay_s` or `at` (aware): not before. `key`: the same key again is the same task, for as
        long as that is kept.
        """
        if at is not None:
            if at.tzinfo is None:
                raise TaskRejected(f"{at} has no time zone")
            delay_s = max(delay_s, at.timestamp() - time.time())
        changed = Options(priority, max_retries, timeout_s, delay_s, key)
        return TaskFunction(self.spec, changed, self._durable)


@overload
def task(name: Callable[..., Any]) -> TaskFunction: ...
@overload
def task(
    name: str | None = None,
    *,
    priority: TaskPriority = TaskPriority.NORMAL,
    max_retries: int = 3,
    timeout_s: float | None = None,
    retry_delay_s: float = 1.0,
    unique_by: Sequence[str] = (),
    durable: bool = True,
    destructive: bool = False,
    timeout: float | None = None,
    retry_delay: float | None = None,
) -> Callable[[Callable[..., Any]], TaskFunction]: ...


def task(
    name: str | Callable[..., Any] | None = None,
    *,
    priority: TaskPriority = TaskPriority.NORMAL,
    max_retries: int = 3,
    timeout_s: float | None = None,
    retry_delay_s: float = 1.0,
    unique_by: Sequence[str] = (),
    durable: bool = True,
    destructive: bool = False,
    timeout: float | None = None,
    retry_delay: float | None = None,
) -> TaskFunction | Callable[[Callable[..., Any]], TaskFunction]:
    """Make a function, plain or async, one that runs in the service's processes.

    The name is `module.function` unless given. What it raises is tried again `max_retries` times,
    after a random pause of up to `retry_delay_s` x 2^n (`finstage.Retry` says when); errors of
    Finstage that no retry helps are not. `timeout_s` ends a try for good, in C code too.
    `unique_by` names arguments: while a task with the same ones has not ended, submitting gives
    that one. `durable=False` is for functions of a notebook: their code goes through Ray, and
    they end with the cluster. `destructive` ones the page asks about before it runs them.
    `timeout` and `retry_delay` are other names of the two.

    Raises TypeError and ValueError for a declaration that makes no sense.
    """
    if callable(name):
        return task()(name)
    limit_s = timeout if timeout_s is None else timeout_s
    pause_s = retry_delay_s if retry_delay is None else retry_delay

    def declared(function: Callable[..., Any]) -> TaskFunction:
        spec = spec_of(
            function, name, priority, max_retries, limit_s, pause_s, unique_by, destructive
        )
        if durable and spec.is_importable:
            declare(spec)
        return TaskFunction(spec, durable=durable)

    return declared


def submit_shape(shape: Shape | Template, /, **values: Any) -> TaskHandle:
    """Submit a step, chain, group or condition, or a template with its values.

    All of it is stored in one transaction. Returns the handle of the task with which it ends; of
    a group without a join and of a condition, of its last.
    """
    if isinstance(shape, Template):
        shape = shape.filled(**values)
    plan = planned(shape)
    last = plan.submissions.index(next(one for one in plan.submissions if one.id == plan.ends[-1]))

    async def accepted() -> str:
        return (await connected_client().submit(plan.submissions))[last]

    answer = either(accepted)
    if isinstance(answer, str):
        return TaskHandle(answer)
    return TaskHandle(plan.submissions[last].id, answer)


def submit_many(steps: Iterable[Step]) -> list[TaskHandle]:
    """Submit many calls in one transaction: `submit_many(f.s(symbol) for symbol in symbols)`.

    In async code the handles are good at once, and awaiting any of them waits for all.
    """
    plans = [planned(step) for step in steps]
    submissions = [one for plan in plans for one in plan.submissions]

    async def accepted() -> list[str]:
        return await connected_client().submit(submissions)

    answer = either(accepted)
    if isinstance(answer, list):
        return [TaskHandle(task_id) for task_id in answer]
    ids = [one.id for one in submissions]
    return [TaskHandle(ids[i], _nth(answer, i)) for i in range(len(ids))]


class _nth:  # an awaitable of one id, made without a coroutine that nobody awaits
    def __init__(self, answer: asyncio.Future[list[str]], number: int) -> None:
        self._answer = answer
        self._number = number

    def __await__(self) -> Any:
        return (yield from asyncio.shield(self._answer).__await__())[self._number]


def wait_for_all(handles: Sequence[TaskHandle], timeout_s: float | None = None) -> Any:
    """Wait for many tasks with one call; return their results in order.

    Raises TaskFailed of the first that failed, once all have ended, or TimeoutError.
    """

    async def waited() -> list[Any]:
        ids = [await handle for handle in handles]
        return [result.value() for result in await connected_client().wait(ids, timeout_s)]

    return either(waited)


def submit(name: str, /, *args: Any, **kwargs: Any) -> TaskHandle:
    """Submit a task by its name; raises TaskUnknown with the nearest names."""
    return submit_shape(Step(task_named(name), args, kwargs))


submit_background_task = submit


class _TaskQueue:
    """The queue of the service; each method answers at once, or gives an awaitable, as handles."""

    def wait_for_task(self, task_id: str, timeout: float | None = None) -> Any:
        """Wait for the end of a task and return its result; raises as `TaskHandle.result`."""
        return TaskHandle(task_id).result(timeout)

    def get_task_progress(self, task_id: str) -> Any:
        """Return `{"progress", "message", "status"}`."""
        return TaskHandle(task_id).progress()

    def get_task_status(self, task_id: str) -> Any:
        """Return the task as the API shows it."""
        return TaskHandle(task_id).status()

    def cancel_task(self, task_id: str) -> Any:
        """Cancel a task; return whether it had not ended yet."""
        return TaskHandle(task_id).cancel()

    def requeue(self, task_id: str) -> Any:
        """Let a failed or cancelled task begin anew."""
        return either(lambda: connected_client().requeue(task_id))

    def get_queue_stats(self) -> Any:
        """Return how the queue and its workers do."""
        return either(lambda: connected_client().stats())


task_queue = _TaskQueue()


def get_task_progress(task_id: str) -> Any:
    """Return `{"progress", "message", "status"}` of a task."""
    return task_queue.get_task_progress(task_id)
