"""A loop for plain code: one thread for the life of the process, made when it is first needed."""

from __future__ import annotations

import atexit
import functools
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

_lock = threading.Lock()


@functools.cache
def _opened() -> tuple[BlockingPortal, object]:
    opened = start_blocking_portal(name="finstage-loop")
    portal = opened.__enter__()
    atexit.register(opened.__exit__, None, None, None)
    return portal, opened  # the second keeps it


def portal() -> BlockingPortal:
    """Return the loop of plain code."""
    with _lock:
        return _opened()[0]


def run_there(ask: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Return what `ask` gives, run on that loop; the caller waits. ^C ends the waiting too."""
    future = portal().start_task_soon(ask)
    try:
        return future.result()
    except BaseException:  # KeyboardInterrupt above all: nobody waits for the answer any more
        future.cancel()
        raise
