"""One try in its process: whatever a task raises or returns is the end of that try."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finstage import FinstageError, Retry
from infra.errors import StoreUnsure
from pipelines.registry import spec_of
from pipelines.submission import TaskPriority
from pipelines.worker import runner
from pipelines.worker.attempt import Attempt, Ended, packed_ended, unpacked_ended
from tests.settings import made_settings


class Mute(Exception):
    def __str__(self) -> str:
        raise GeneratorExit("nothing to say")


class Unpicklable(Exception):
    def __init__(self, first: str, *, second: Any) -> None:
        super().__init__(first)
        self.lock = second

    def __reduce__(self) -> Any:
        raise TypeError("never")


class Odd(FinstageError):
    code = None  # type: ignore[assignment]
    retryable = "maybe"  # type: ignore[assignment]

    @property
    def message(self) -> Any:
        return {"not": "text"}


class Later(Retry):
    def __init__(self, after_s: Any) -> None:
        super().__init__("later")
        self.after_s = after_s


class Own(BaseException):
    pass


def named(name: str) -> type[Exception]:
    return type(name, (Exception,), {})


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runner.Worker:
    monkeypatch.setattr(runner, "join_caches", lambda _: None)
    monkeypatch.setattr(runner, "setup_logs", lambda *_: None)
    monkeypatch.setattr(runner.Worker, "_send", lambda *_: None)
    return runner.Worker(made_settings(data_dir=tmp_path, log_dir=tmp_path))


def tried(worker: runner.Worker, function: Callable[..., Any]) -> Ended:
    """Return how a try of a function ends, as the queue gets it."""
    spec = spec_of(function, "t", TaskPriority.NORMAL, 1, None, 1.0, ())
    attempt = Attempt("id", 1, "t", spec.target, b'{"args":[],"kwargs":{}}', None, True, None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(runner, "_spec", lambda _: spec)
        return unpacked_ended(packed_ended(worker.run(attempt)))


def raising(error: BaseException) -> Callable[[], None]:
    def f() -> None:
        raise error

    return f


def raising_async(error: BaseException) -> Callable[[], Any]:
    async def f() -> None:
        raise error

    return f


ERRORS = [
    (GeneratorExit("x"), "GeneratorExit"),
    (SystemExit(3), "SystemExit"),
    (StopIteration(1), "StopIteration"),
    (StopAsyncIteration(1), "StopAsyncIteration"),
    (asyncio.CancelledError("x"), "CancelledError"),
    (Own("x"), "Own"),
    (BaseExceptionGroup("many", [Own(), ValueError()]), "BaseExceptionGroup"),
    (Mute(), "unshowable"),
    (Unpicklable("x", second=object()), "Unpicklable"),
    (Odd(), "None"),
    (ValueError("\ud800"), "ValueError"),
    (named("Größe" * 40)("x"), "Gr??e" * 12 + "Gr??"),
    (MemoryError(), "MemoryError"),
    (RecursionError("x"), "RecursionError"),
    (StoreUnsure("written or not: a task may run twice"), "store_unsure"),
]


@pytest.mark.parametrize("made", [raising, raising_async], ids=["plain", "async"])
@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: ascii(value)[:24])
def test_whatever_is_raised_is_the_end_of_its_try(
    worker: runner.Worker, made: Any, error: BaseException, code: str
) -> None:
    if made is raising_async and isinstance(error, StopIteration):
        code = "RuntimeError"  # Python's own word for it there
    ended = tried(worker, made(error))
    assert ended.error_code == code
    assert ended.error
    assert ended.is_retryable
    assert tried(worker, lambda: 7).data == b"7"  # and the next one runs

    async def after() -> int:
        await asyncio.sleep(0)
        return 8

    assert tried(worker, after).data == b"8"


@pytest.mark.parametrize(
    ("after_s", "waits_s"),
    [
        (30, 30.0), (math.inf, 31_536_000.0), (1e308, 31_536_000.0), (10**400, None),
        (-math.inf, 0.0), (-1e308, 0.0), (math.nan, None), ("soon", None), (None, None),
        (object(), None), (b"3", 3.0), (True, 1.0),
    ],
)  # fmt: skip
def test_another_try_comes_within_a_year(
    worker: runner.Worker, after_s: Any, waits_s: float | None
) -> None:
    ended = tried(worker, raising(Later(after_s)))
    assert (ended.error_code, ended.after_s) == ("task_retry", waits_s)


def returning(value: Any) -> Callable[[], Any]:
    return lambda: value


class Model:
    def model_dump(self) -> Any:
        raise Own("no")


@pytest.mark.parametrize(
    "value",
    [object(), Model(), {"\ud800": 1}, 10**30, (n for n in (1,)), {object(): 1}, ValueError],
    ids=lambda value: ascii(value)[:20],
)
def test_what_cannot_be_stored_is_the_end_of_its_task(worker: runner.Worker, value: Any) -> None:
    ended = tried(worker, returning(value))
    assert ended.error_code in ("task_not_storable", "Own")
    assert ended.data == b""


def test_what_nests_without_end_cannot_be_stored(worker: runner.Worker) -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert tried(worker, returning(endless)).error_code == "task_not_storable"


def test_a_task_that_closes_the_loop_leaves_one_to_the_next(worker: runner.Worker) -> None:
    async def closes() -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.stop)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def closed() -> None:
        worker._runner.get_loop().close()

    async def after() -> int:
        return 8

    assert tried(worker, closes).error_code == "RuntimeError"
    tried(worker, closed)
    assert tried(worker, after).data == b"8"


def test_the_ways_to_end_a_process_stay(worker: runner.Worker) -> None:
    with pytest.raises(KeyboardInterrupt):
        tried(worker, raising(KeyboardInterrupt()))
    told = SystemExit(1)
    told.ray_terminate_msg = "SIGTERM"  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        tried(worker, raising(told))
