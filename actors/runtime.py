"""Start, find and call actors: everything that knows Ray's actor API, once.

Callers retry with jitter while an actor restarts, so calls are at least once, and an exposed
method is safe to run twice. One that is not says so with `once`: its callers wait until the actor
answers and ask a single time, so it runs at most once.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayTaskError

from infra.context import bound_request_id, current_request_id
from infra.errors import ActorSlow, ActorUnavailable, FinstageError
from infra.logs import setup_logs
from infra.memory.allocator import pin_arenas
from infra.metrics import (
    ACTOR_CALLS,
    ACTOR_SECONDS,
    watch_process,
)
from infra.settings import Settings

logger = logging.getLogger(__name__)

NAMESPACE = "finstage"
_SWITCH_S = 0.0005
_OBJECTS, _WHOLE_EVERY = 50_000, 50
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 0.5


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """How an actor is started: one per service, restarted for ever, found by its name."""

    name: str
    cls: type
    args: tuple[Any, ...]


def start_actor(spec: ActorSpec) -> Any:
    """Start the actor unless it runs already; return its handle."""
    return (
        ray.remote(spec.cls)
        .options(
            name=spec.name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
            num_cpus=0,
            max_concurrency=10_000,
            enable_task_events=False,  # a thousand a second would drive tasks out of the dashboard
        )
        .remote(*spec.args)
    )


def kill_actor(name: str) -> None:
    """End an actor for good; nothing happens if there is none."""
    try:
        ray.kill(ray.get_actor(name, namespace=NAMESPACE), no_restart=True)
    except ValueError:
        return


def steady_interpreter() -> None:
    """Let nothing in this process stop its event loop for long.

    Each call of an actor passes through a thread of Ray's, which waits for the loop's thread to
    let go of Python; by default that may keep it for 5 ms. And the collector looked at everything
    there is after every few hundred messages that are kept: 60 to 360 ms in a replica of 1,000
    sockets. What is there at the start stays; the rest is looked at after very many more objects,
    and wholly every `_WHOLE_EVERY` times of that. Threads share two arenas of the allocator, so
    that what is freed can go back to the system.
    """
    pin_arenas()
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS, 20, _WHOLE_EVERY)


class ServiceActor:
    """Base of the actors: logs, gauges, and reports of what this process counts.

    State: soft. A restart calls the constructor again with nothing remembered.
    """

    role: ClassVar[str]

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process = f"{self.role}-{os.getpid()}"
        setup_logs(settings.log_dir, self.role, settings.log_level)
        steady_interpreter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.keep(watch_process(self.process))
        logger.info("actor.started", extra={"actor": self.role})

    def keep(self, work: Any) -> None:
        """Run a coroutine for the life of the actor; its failure ends the process.

        Ray then starts a new one: better than an actor that answers but does not work.
        """
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or task.exception() is None:
            return
        logger.error("actor.broken", exc_info=task.exception(), extra={"actor": self.role})
        os._exit(1)

    async def ping(self) -> int:
        """Return the process id, once the actor can answer."""
        return os.getpid()


async def brought(ref: Any) -> tuple[Any, BaseException | None]:
    """Return what a Ray task brought: its value, or why there is none.

    That is never thrown here: Ray's copy of a task's GeneratorExit would close the coroutine that
    awaits it, one of its SystemExit end the loop.
    """
    future = asyncio.wrap_future(ref.future())
    await asyncio.wait([future])
    if future.cancelled():
        return None, asyncio.CancelledError("cancelled")
    error = future.exception()
    return (None, error) if error is not None else (future.result(), None)


Owner = TypeVar("Owner", bound=ServiceActor)
P = ParamSpec("P")
R = TypeVar("R")


def exposed(
    method: Callable[Concatenate[Owner, P], Awaitable[R]],
) -> Callable[Concatenate[Owner, str, P], Awaitable[R]]:
    """Make a method callable from elsewhere: counted, timed, under the caller's request id."""
    name = method.__name__

    @functools.wraps(method)
    async def call(self: Owner, request_id: str, /, *args: P.args, **kwargs: P.kwargs) -> R:
        started_s = time.perf_counter()
        result = "bug"
        try:
            with bound_request_id(request_id):
                answer = await method(self, *args, **kwargs)
                result = "ok"
                logger.debug("actor.call", extra={"actor": self.role, "method": name})
                return answer
        except FinstageError as error:
            result = error.code
            raise
        except Exception:  # a bug: logged here with its traceback, and the caller is told
            with bound_request_id(request_id):
                logger.exception("actor.failed", extra={"actor": self.role, "method": name})
            raise
        finally:
            ACTOR_CALLS.labels(self.role, name, result).inc()
            ACTOR_SECONDS.labels(self.role, name).observe(time.perf_counter() - started_s)

    del call.__wrapped__  # Ray checks calls against the signature, which has the request id
    return call


class ActorClient:
    """Base of the clients: finds the actor, waits while it restarts, raises its own errors."""

    actor_name: ClassVar[str]

    def __init__(self, wait_s: float = 5.0) -> None:
        self._wait_s = wait_s
        self._handle: Any = None

    async def ping(self) -> int:
        """Return the actor's process id once it answers."""
        pid: int = await self._retrying(lambda handle: handle.ping.remote(), self._wait_s)
        return pid

    async def ping_once(self, wait_s: float = 1.0) -> int:
        """Return the same, without waiting for an actor that is not there or restarts."""
        pid: int = await self._now(lambda handle: handle.ping.remote(), wait_s)
        return pid

    async def _ask(self, method: str, *args: Any, wait_s: float | None = None) -> Any:
        request_id = current_request_id()
        return await self._retrying(
            lambda handle: getattr(handle, method).remote(request_id, *args),
            self._wait_s if wait_s is None else wait_s,
        )

    async def _ask_once(self, method: str, *args: Any, wait_s: float | None = None) -> Any:
        """Ask for what must not be done twice; raises ActorUnavailable, and it may be done then.

        An actor that is away is waited for before it is asked: only if it ends in the short time
        between does nobody know.
        """
        deadline_s = time.monotonic() + (self._wait_s if wait_s is None else wait_s)
        await self._retrying(lambda handle: handle.ping.remote(), deadline_s - time.monotonic())
        left_s = max(0.05, deadline_s - time.monotonic())
        return await self._ask_now(method, *args, wait_s=left_s)

    async def _ask_now(self, method: str, *args: Any, wait_s: float) -> Any:
        """Ask without waiting for an actor that restarts; raises ActorUnavailable."""
        request_id = current_request_id()
        return await self._now(
            lambda handle: getattr(handle, method).remote(request_id, *args), wait_s
        )

    async def _now(self, call: Callable[[Any], Awaitable[Any]], wait_s: float) -> Any:
        try:
            async with asyncio.timeout(wait_s):
                if await self._found():
                    return await call(self._handle)
        except RayTaskError as error:
            raise error.cause from None
        except ActorDiedError:
            self._handle = None
        except ActorUnavailableError:
            pass
        except TimeoutError:
            raise ActorSlow(self.actor_name, wait_s) from None
        raise ActorUnavailable(self.actor_name, wait_s)

    async def _found(self) -> bool:
        if self._handle is None:
            with contextlib.suppress(ValueError):  # Ray's word for no actor of this name, yet
                self._handle = await asyncio.to_thread(ray.get_actor, self.actor_name, NAMESPACE)
        return self._handle is not None

    async def _retrying(self, call: Callable[[Any], Awaitable[Any]], wait_s: float) -> Any:
        deadline_s = time.monotonic() + wait_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                async with asyncio.timeout(max(0.05, deadline_s - time.monotonic())):
                    if await self._found():
                        return await call(self._handle)
            except RayTaskError as error:
                raise error.cause from None
            except ActorDiedError:
                self._handle = None  # a new actor may have the name
            except ActorUnavailableError:
                pass  # it restarts, and the handle stays good
            except TimeoutError:
                raise ActorSlow(self.actor_name, wait_s) from None
            if time.monotonic() + pause_s > deadline_s:
                raise ActorUnavailable(self.actor_name, wait_s)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
