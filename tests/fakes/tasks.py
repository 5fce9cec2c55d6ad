"""Tasks that tests run: each does one thing that tasks do to a queue."""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import time
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd

from finstage import (
    Retry,
    TaskContext,
    cache_result,
    cache_technical_analysis,
    current_task,
    task,
)


@task
def noop(number: int = 0) -> int:
    """Give back what it got."""
    return number


@task
def add(first: int, second: int) -> int:
    """Add two numbers."""
    return first + second


@task
def total(numbers: list[Any]) -> int:
    """Add what are numbers."""
    return sum(n for n in numbers if isinstance(n, int))


@task(max_retries=5, retry_delay_s=0.01)
def works_at(attempt: int) -> int:
    """Fail until a try."""
    running = current_task()
    assert running is not None
    if running.attempt < attempt:
        raise RuntimeError(f"try {running.attempt} of {attempt}")
    return running.attempt


@task(max_retries=0)
def fails(reason: str = "no") -> None:
    """Fail for good."""
    raise ValueError(reason)


class Mute(Exception):
    """An error that raises when it is asked."""

    def __str__(self) -> str:
        raise GeneratorExit("nothing to say")

    def __reduce__(self) -> Any:
        raise TypeError("never")


class Own(BaseException):
    """An error that is no Exception."""


_RAISED: dict[str, BaseException] = {
    "GeneratorExit": GeneratorExit("x"),
    "SystemExit": SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt("x"),
    "CancelledError": asyncio.CancelledError("x"),
    "Own": Own("x"),
    "Mute": Mute(),
    "inf": Retry("x", math.inf),
    "nan": Retry("x", math.nan),
    "1e308": Retry("x", 1e308),
    "-1e308": Retry("x", -1e308),
}
RAISED = tuple(_RAISED)


@task(max_retries=1, retry_delay_s=0.01)
def raises(kind: str) -> None:
    """Raise what no task should."""
    raise _RAISED[kind]


@task(max_retries=0)
def ran_and_failed(path: str) -> None:
    """Leave a line for each time that it ran, then fail."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    raise ValueError("no")


@task(max_retries=1)
def asks_for_later(path: str) -> str:
    """Ask for another try, once."""
    if not Path(path).exists():
        Path(path).touch()
        raise Retry("not yet", 0.01)
    return "now"


@task(max_retries=2, retry_delay_s=0.01)
def poison() -> None:
    """Kill its process."""
    os._exit(3)


@task(timeout_s=0.5, max_retries=0)
def sleeps_in_c(seconds: int = 60) -> None:
    """Sleep in C with Python's lock, where no exception reaches it."""
    ctypes.PyDLL("libc.so.6").sleep(seconds)


@task(max_retries=0)
def sleeps(seconds: float = 60.0) -> str:
    """Sleep; a file shows that it began and whether it came to its end."""
    time.sleep(seconds)
    return "woke"


@task(max_retries=0)
async def waits(ctx: TaskContext, seconds: float = 60.0) -> str:
    """Wait, and tell of its progress."""
    ctx.progress(40, "waiting")
    await asyncio.sleep(seconds)
    return "done"


@task(max_retries=0)
async def has_children(ctx: TaskContext, count: int = 2) -> list[str]:
    """Submit children, then wait."""
    handles = [waits.submit() for _ in range(count)]
    ids = [await handle for handle in handles]
    ctx.progress(50, ",".join(ids))
    await asyncio.sleep(60)
    return ids


@task
def day_after(day: date, by: int = 1) -> dict[str, Any]:
    """Take a date, and give one."""
    return {"day": date.fromordinal(day.toordinal() + by)}


@task
def frame(rows: int) -> pd.DataFrame:
    """Give a frame."""
    return pd.DataFrame({"n": range(rows), "x": [0.5] * rows})


@task(max_retries=0)
def not_storable() -> Any:
    """Give what cannot be stored."""
    return object()


@task
def large(size: int) -> str:
    """Give a long text."""
    return "x" * size


@task(unique_by=("symbol",))
def unique(symbol: str, note: str = "") -> str:
    """Be the same work for the same symbol."""
    time.sleep(0.2)
    return note


@task(max_retries=20, retry_delay_s=0.05)
def effect(folder: str, name: str) -> str:
    """Leave one file with a line for each time that it ran to its end."""
    path = Path(folder) / name
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    return name


@cache_result("test_kept", 60)
def kept_number(path: str, number: int) -> int:
    """Leave a line for every time it runs."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    return number * 2


@task
def kept_in_a_task(path: str, number: int) -> list[int]:
    """Ask for a kept result in a worker; tell its process too."""
    return [kept_number(path, number), os.getpid()]


@cache_technical_analysis(ttl=None)
def runs_of(symbol: str, path: str) -> int:
    """Count how often it ran for a symbol, until that has new data."""
    with Path(path).open("a") as file:
        file.write(symbol + "\n")
    return len(Path(path).read_text().splitlines())


@task(max_retries=20, retry_delay_s=0.05)
def marks(folder: str, name: str, seconds: float = 0.0) -> str:
    """Leave a line with the task and its try when it begins, and one when it comes to its end."""
    running = current_task()
    assert running is not None
    for what in ("begun", "ended"):
        with (Path(folder) / name).open("a") as file:
            file.write(f"{what} {running.task_id} {running.attempt}\n")
        if what == "begun":
            time.sleep(seconds)
    return name
