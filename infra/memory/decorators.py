"""Watch what functions take, in memory and time; give memory back after them."""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

from infra.memory.shedding import shed
from infra.memory.usage import MIB, memory_use

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def memory_monitor(threshold_mb: float = 500.0) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Log the resident memory before and after each call, and warn above `threshold_mb`.

    It is the memory of the whole process: what runs beside the call counts too.
    """
    _check_positive(threshold_mb, "threshold_mb")

    @contextmanager
    def watched(name: str) -> Iterator[None]:
        before, began_s = memory_use().rss_bytes, time.perf_counter()
        try:
            yield
        finally:
            after = memory_use().rss_bytes
            about = {
                "function": name,
                "before_mb": round(before / MIB, 2),
                "after_mb": round(after / MIB, 2),
                "difference_mb": round((after - before) / MIB, 2),
                "duration_s": round(time.perf_counter() - began_s, 4),
            }
            is_over = after > threshold_mb * MIB
            logger.log(logging.WARNING if is_over else logging.INFO, "memory.call", extra=about)

    return _around(watched)


def auto_memory_optimization(
    threshold_percent: float = 85.0,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give memory back after a call where the machine's memory is fuller than the threshold."""
    if not 0 < threshold_percent <= 100:
        raise ValueError(f"threshold_percent must be over 0 and at most 100: {threshold_percent}")

    @contextmanager
    def relieved(name: str) -> Iterator[None]:
        try:
            yield
        finally:
            if memory_use().system_pct > threshold_percent:
                logger.info("memory.shed_after", extra={"function": name, **shed().as_dict()})

    return _around(relieved)


def measure_time(name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Log how long each call took, whether it failed or not, under its name or the given one."""

    @contextmanager
    def timed(function: str) -> Iterator[None]:
        began_s, failed = time.perf_counter(), True
        try:
            yield
            failed = False
        finally:
            took_s = round(time.perf_counter() - began_s, 6)
            about = {"function": name or function, "duration_s": took_s, "failed": failed}
            logger.info("call.time", extra=about)

    if callable(name):
        raise TypeError("write @measure_time() with its parentheses")
    return _around(timed)


def _around(watch: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        if not callable(function):
            raise TypeError(f"this goes over a function, not a {type(function).__name__}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} gives values one by one: its end is unknown")
        name = f"{function.__module__}.{function.__qualname__}"
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with watch(name):
                    return await function(*args, **kwargs)

            return cast(Callable[P, R], awaited)

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with watch(name):
                return function(*args, **kwargs)

        return called

    return decorate


def _check_positive(value: float, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{what} must be a positive number, got {value!r}")
