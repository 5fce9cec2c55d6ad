"""One try of a task, in a process of Ray's."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import os
import socket
import time
from typing import Any

import orjson
import ray
from ray import cloudpickle

from actors.joining import join_caches
from actors.runtime import NAMESPACE
from infra.context import bound_request_id
from infra.errors import (
    FinstageError,
    Retry,
    StoreUnsure,
    TaskRejected,
    TaskUnknown,
)
from infra.logs import setup_logs
from infra.settings import Settings
from pipelines.codec import stored_result
from pipelines.context import TaskContext, TaskServices, enter_task
from pipelines.registry import TaskSpec, find_loaded
from pipelines.submission import TASK_QUEUE
from pipelines.worker.attempt import Attempt, Ended, packed_ended
from pipelines.worker.bounds import ERROR_CHARS, bounded_s, plain_code, plain_text
from pipelines.worker.reporter import Note, Reporter

logger = logging.getLogger(__name__)

_INTERRUPTED = 130  # a shell's word for it
_SIGTERM = "ray_terminate_msg"  # of the SystemExit that Ray's handler of SIGTERM raises


def run_attempt(settings: Settings, *attempt: Any) -> bytes:
    """Run a try to its end; what the task raises becomes its outcome.

    KeyboardInterrupt, by which Ray cancels, ends it without one, and the process after what the
    task has in `finally`: it may have come in the middle of an import, or under a lock.
    """
    try:
        return packed_ended(_worker(settings).run(Attempt(*attempt)))
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)


class Worker:
    """What tasks of one process share: a loop, the service's clients, the way to the queue."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        setup_logs(settings.log_dir, "tasks", settings.log_level)
        self._reporter = Reporter(self.name, self._send)
        self._runner = asyncio.Runner()
        self._services = TaskServices(settings)
        self._queue: Any = None
        join_caches("worker")

    def run(self, attempt: Attempt) -> Ended:
        """Run one try."""
        started_s = time.time()
        self._reporter.begin(attempt.task_id, attempt.number, started_s, attempt.tell_at_once)
        try:
            with bound_request_id(attempt.task_id[:16]):
                kind, data = self._result(attempt)
            self._reporter.end()
            return Ended(started_s, time.time(), self.name, kind, data)
        except KeyboardInterrupt:
            raise  # Ray's way to cancel
        except BaseException as error:  # whatever a task raises is the end of its try
            if isinstance(error, SystemExit) and _SIGTERM in vars(error):
                raise  # the process is told to end, the task has nothing to do with it
            if not isinstance(error, FinstageError):
                logger.warning("task.raised", exc_info=True, extra={"task": attempt.name})
            failed = _failure(error)
        finally:
            progress = self._reporter.end()
        return Ended(started_s, time.time(), self.name, "", b"", progress, *failed)

    def _result(self, attempt: Attempt) -> tuple[str, bytes]:
        spec = _spec(attempt)
        values = orjson.loads(attempt.arguments)
        args, kwargs = values["args"], values["kwargs"]
        if attempt.previous is not None:
            args = [orjson.loads(attempt.previous), *args]
        context = TaskContext(
            attempt.task_id, attempt.name, attempt.number, self._services, self._reporter.progress
        )
        bound = spec.bound(spec.checked(args, kwargs), context)
        enter_task(context)
        try:
            value = self._called(spec, bound.args, bound.kwargs)
        finally:
            enter_task(None)
        stored = stored_result(value, self._settings.task_result_bytes)
        return stored.kind, stored.data

    def _called(self, spec: TaskSpec, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        if not inspect.iscoroutinefunction(spec.function):
            return spec.function(*args, **keywords)
        if self._runner.get_loop().is_closed():  # by a task before this one
            self._runner = asyncio.Runner()
        return self._runner.run(spec.function(*args, **keywords))

    def _send(self, note: Note) -> None:
        """Tell the queue; one that is away misses it, and learns of the end in any case."""
        try:
            if self._queue is None:
                self._queue = ray.get_actor(TASK_QUEUE, NAMESPACE)
            values = [getattr(note, name) for name in Note.__slots__]
            self._queue.ask.remote(note.task_id[:16], "note", values, {})
        except Exception as error:  # Ray's many kinds; nothing here may stop a task
            self._queue = None
            logger.info("task.untold", extra={"reason": str(error).partition("\n")[0]})


def _failure(error: BaseException) -> tuple[str, str, bool, float | None]:
    """Return an error's code and text, whether another try can help, and when.

    A class of the task's own may raise while it is asked.
    """
    try:
        name = type(error).__name__
        if isinstance(error, FinstageError):
            after_s = bounded_s(error.after_s) if isinstance(error, Retry) else None
            text = plain_text(error.message, ERROR_CHARS)
            again = error.retryable or isinstance(error, StoreUnsure)  # a task may run twice
            return plain_code(error.code), text, bool(again), after_s
        left = "the task left its process by " if isinstance(error, SystemExit) else ""
        return plain_code(name), plain_text(f"{left}{name}: {error}", ERROR_CHARS), True, None
    except KeyboardInterrupt:
        raise
    except BaseException as second:
        text = f"an error that cannot be shown: asking it raised {type(second).__name__}"
        return "unshowable", plain_text(text, ERROR_CHARS), True, None


_workers: dict[int, Worker] = {}


def _worker(settings: Settings) -> Worker:
    """Return the one worker of this process."""
    if not _workers:
        _workers[0] = Worker(settings)
    return _workers[0]


def _spec(attempt: Attempt) -> TaskSpec:
    if attempt.code is not None:
        spec: TaskSpec = cloudpickle.loads(attempt.code)
        return spec
    found = find_loaded(attempt.name)
    if found is not None:
        return found
    module = attempt.target.partition(":")[0]
    try:
        importlib.import_module(module)
    except ImportError as error:
        raise TaskRejected(
            f"the module {module} is not importable where tasks run ({error}): "
            "put it on the service's PYTHONPATH and name it in FINSTAGE_TASK_MODULES"
        ) from None
    found = find_loaded(attempt.name)
    if found is None:
        raise TaskUnknown(attempt.name)
    return found
