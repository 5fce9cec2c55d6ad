"""Finstage for Python users: `connect()` joins the service's Ray, `Client` speaks HTTP,
`StreamClient` WebSocket.

Nothing heavy is imported before it is used; nothing of the project imports this module.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infra.caches.decorators import (
        cache_api_response,
        cache_news_data,
        cache_price_data,
        cache_result,
        cache_technical_analysis,
    )
    from infra.caches.manager import CacheManager, default_cache_manager
    from infra.errors import (
        FinstageError,
        Retry,
        SymbolUnknown,
        TaskCancelled,
        TaskError,
        TaskFailed,
    )
    from infra.frames import optimize_dataframe_memory
    from infra.memory.decorators import auto_memory_optimization, measure_time, memory_monitor
    from infra.memory.own import (
        check_memory_health,
        get_memory_status,
        optimize_memory,
        start_memory_monitoring,
    )
    from pipelines.api import (
        Param,
        TaskContext,
        TaskHandle,
        TaskPriority,
        chain,
        current_task,
        get_task_progress,
        group,
        submit,
        submit_background_task,
        submit_many,
        submit_shape,
        task,
        task_queue,
        template,
        wait_for_all,
        when,
    )
    from pipelines.driver.connect import connect
    from serve.client.http import Client
    from serve.client.stream import StreamClient, StreamRefused

__all__ = [
    "CacheManager",
    "Client",
    "FinstageError",
    "Param",
    "Retry",
    "StreamClient",
    "StreamRefused",
    "SymbolUnknown",
    "TaskCancelled",
    "TaskContext",
    "TaskError",
    "TaskFailed",
    "TaskHandle",
    "TaskPriority",
    "auto_memory_optimization",
    "cache_api_response",
    "cache_news_data",
    "cache_price_data",
    "cache_result",
    "cache_technical_analysis",
    "chain",
    "check_memory_health",
    "connect",
    "current_task",
    "default_cache_manager",
    "get_memory_status",
    "get_task_progress",
    "group",
    "main",
    "measure_time",
    "memory_monitor",
    "optimize_dataframe_memory",
    "optimize_memory",
    "start_memory_monitoring",
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

_TASKS = (
    "Param",
    "TaskContext",
    "TaskHandle",
    "TaskPriority",
    "chain",
    "current_task",
    "get_task_progress",
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
)

_MEMORY = {
    "cache_api_response": "infra.caches.decorators",
    "cache_news_data": "infra.caches.decorators",
    "cache_price_data": "infra.caches.decorators",
    "cache_result": "infra.caches.decorators",
    "cache_technical_analysis": "infra.caches.decorators",
    "CacheManager": "infra.caches.manager",
    "default_cache_manager": "infra.caches.manager",
    "optimize_dataframe_memory": "infra.frames",
    "auto_memory_optimization": "infra.memory.decorators",
    "measure_time": "infra.memory.decorators",
    "memory_monitor": "infra.memory.decorators",
    "check_memory_health": "infra.memory.own",
    "get_memory_status": "infra.memory.own",
    "optimize_memory": "infra.memory.own",
    "start_memory_monitoring": "infra.memory.own",
}

_HOME = (
    {
        "connect": "pipelines.driver.connect",
        "Client": "serve.client.http",
        "StreamClient": "serve.client.stream",
        "StreamRefused": "serve.client.stream",
        "FinstageError": "infra.errors",
        "SymbolUnknown": "infra.errors",
        "Retry": "infra.errors",
        "TaskCancelled": "infra.errors",
        "TaskError": "infra.errors",
        "TaskFailed": "infra.errors",
    }
    | dict.fromkeys(_TASKS, "pipelines.api")
    | _MEMORY
)
_PACKAGES = ("infra", "actors", "pipelines", "serve")


def _check_packages() -> None:
    """Refuse to start where another package of the same name stands before ours."""
    own = Path(__file__).resolve().parent
    for name in _PACKAGES:
        found = importlib.util.find_spec(name)
        origin = Path(found.origin).resolve() if found and found.origin else None
        if origin is None or origin.parent.parent != own:
            raise ImportError(
                f"the package {name!r} is found at {origin}, not beside {own / 'finstage.py'}: "
                "remove the other one from the path"
            )


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'finstage' has no attribute {name!r}")
    _check_packages()
    return getattr(importlib.import_module(_HOME[name]), name)


def main() -> None:
    """Run the command line."""
    _check_packages()
    importlib.import_module("serve.cli.main").run()


if __name__ == "__main__":
    main()
