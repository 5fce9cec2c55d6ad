"""Start, find and call actors: everything that knows Ray's actor API, once.

Callers retry with jitter while an actor restarts, so calls are at least once, and an exposed
method is safe to run twice. One that is not says so with `once`: its callers wait until the actor
answers and ask a single time, so it runs at most once. How a method is asked for is said at the
method alone: clients are told with their first call.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, overload

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
_LEAST_S = 0.05  # that a call is given, however late it is


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


@dataclass(frozen=True, slots=True)
class Call:
    """How a method is asked for: whether it must not run twice, and how long callers wait.

    A caller that waits longer for anything waits as long here.
    """

    once: bool = False
    wait_s: float = 0.0


Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])

_CALL = "__call"
_OF_CLASS: dict[type, Mapping[str, Call]] = {}


@overload
def exposed(method: Method, /) -> Method: ...
@overload
def exposed(*, once: bool = False, wait_s: float = 0.0) -> Callable[[Method], Method]: ...


def exposed(method: Any = None, /, *, once: bool = False, wait_s: float = 0.0) -> Any:
    """Let other processes call a method, by the client of its actor."""

    def marked(method: Any) -> Any:
        vars(method)[_CALL] = Call(once, wait_s)  # which wrappers of Ray's take along
        return method

    return marked if method is None else marked(method)


def calls_of(cls: type) -> Mapping[str, Call]:
    """Return the exposed methods of a class by name, and how they are asked for."""
    if cls not in _OF_CLASS:
        methods = ((name, getattr(cls, name)) for name in dir(cls) if not name.startswith("_"))
        marks = ((name, getattr(method, "__dict__", {}).get(_CALL)) for name, method in methods)
        _OF_CLASS[cls] = {name: call for name, call in marks if call is not None}
    return _OF_CLASS[cls]


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

    def parts(self) -> Mapping[str, Any]:
        """Return the objects whose exposed methods are this actor's, by the name before the dot.

        That of the actor itself is the empty one.
        """
        return {"": self}

    async def calls(self) -> dict[str, Call]:
        """Return what can be asked for, by name."""
        return {
            f"{part}.{name}".lstrip("."): call
            for part, owner in self.parts().items()
            for name, call in calls_of(type(owner)).items()
        }

    async def ask(
        self, request_id: str, name: str, args: Sequence[Any], named: Mapping[str, Any]
    ) -> Any:
        """Call an exposed method: counted, timed, under the caller's request id."""
        started_s = time.perf_counter()
        result = "bug"
        with bound_request_id(request_id):
            try:
                answer = await self._method(name)(*args, **named)
                result = "ok"
                logger.debug("actor.call", extra={"actor": self.role, "method": name})
                return answer
            except FinstageError as error:
                result = error.code
                raise
            except Exception:  # a bug: logged here with its traceback, and the caller is told
                logger.exception("actor.failed", extra={"actor": self.role, "method": name})
                raise
            finally:
                ACTOR_CALLS.labels(self.role, name, result).inc()
                ACTOR_SECONDS.labels(self.role, name).observe(time.perf_counter() - started_s)

    def _method(self, name: str) -> Callable[..., Awaitable[Any]]:
        part, _, method = name.rpartition(".")
        owner = self.parts()[part]
        assert method in calls_of(type(owner)), f"{self.role} has no {name}"
        found: Callable[..., Awaitable[Any]] = getattr(owner, method)
        return found


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


_Ask = Callable[[], Awaitable[Any]]


class ActorClient:
    """Base of the clients: the exposed methods of an actor, to be awaited from any process.

    It finds the actor, waits while that restarts, and raises its own errors; beside them
    ActorUnavailable where it does not come back in `wait_s`, ActorSlow where it gives no answer.
    A `handle` is given where the actor lives in the same process.
    """

    actor_name: ClassVar[str]
    first_wait_s: ClassVar[float] = 0.0  # at least, before it is known how long a method may take
    part: ClassVar[str] = ""  # whose methods these are, where they are not the actor's own

    def __init__(self, wait_s: float = 5.0, handle: Any = None) -> None:
        self._wait_s = wait_s
        self._given = handle
        self._handle = handle
        self._calls: dict[str, Call] = {}

    if not TYPE_CHECKING:  # types come from the actor, where there is no method of any name

        def __getattr__(self, name: str) -> Asked:
            if name.startswith("_"):
                raise AttributeError(name)
            return Asked(self, f"{self.part}.{name}".lstrip("."))

    async def ping(self) -> int:
        """Return the actor's process id once it answers."""
        pid: int = await self._retrying(self._ping, self._wait_s)
        return pid

    async def ping_once(self, wait_s: float = 1.0) -> int:
        """Return the same, without waiting for an actor that is not there or restarts."""
        pid: int = await self._tried(self._ping, wait_s)
        return pid

    async def _ask(self, name: str, *args: Any, wait_s: float | None = None, **named: Any) -> Any:
        """Call a method; of one that must not run twice nobody may know whether it ran.

        That one is asked only once the actor answers: it ran, or not, if that ends just then.
        """
        wait_s = self._wait_s if wait_s is None else wait_s
        started_s = time.monotonic()
        if not self._calls:
            await self._retrying(self._learn, max(wait_s, self.first_wait_s))
        call = self._calls.get(name, Call())
        deadline_s = started_s + max(wait_s, call.wait_s)
        ask = self._asking(name, args, named)
        if not call.once:
            return await self._retrying(ask, deadline_s - time.monotonic())
        await self._retrying(self._ping, deadline_s - time.monotonic())
        return await self._tried(ask, max(_LEAST_S, deadline_s - time.monotonic()))

    async def _ask_now(self, name: str, *args: Any, wait_s: float) -> Any:
        """Call a method without waiting for an actor that restarts."""
        return await self._tried(self._asking(name, args, {}), wait_s)

    def _asking(self, name: str, args: Sequence[Any], named: Mapping[str, Any]) -> _Ask:
        request_id = current_request_id()
        return lambda: self._handle.ask.remote(request_id, name, args, named)

    def _ping(self) -> Awaitable[Any]:
        ping: Awaitable[Any] = self._handle.ping.remote()
        return ping

    async def _learn(self) -> None:
        self._calls = await self._handle.calls.remote()

    async def _tried(self, ask: _Ask, wait_s: float) -> Any:
        try:
            async with asyncio.timeout(wait_s):
                if await self._found():
                    return await ask()
        except RayTaskError as error:
            raise error.cause from None
        except ActorDiedError:
            self._handle = self._given  # a new actor may have the name
        except ActorUnavailableError:
            pass  # it restarts, and the handle stays good
        except TimeoutError:
            raise ActorSlow(self.actor_name, wait_s) from None
        raise ActorUnavailable(self.actor_name, wait_s)

    async def _found(self) -> bool:
        if self._handle is None:
            with contextlib.suppress(ValueError):  # Ray's word for no actor of this name, yet
                self._handle = await asyncio.to_thread(ray.get_actor, self.actor_name, NAMESPACE)
        return self._handle is not None

    async def _retrying(self, ask: _Ask, wait_s: float) -> Any:
        deadline_s = time.monotonic() + wait_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._tried(ask, max(_LEAST_S, deadline_s - time.monotonic()))
            except ActorSlow:
                raise ActorSlow(self.actor_name, wait_s) from None
            except ActorUnavailable:
                if time.monotonic() + pause_s > deadline_s:
                    raise ActorUnavailable(self.actor_name, wait_s) from None
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


class Asked:
    """A method of an actor, or of a part of it whose methods are the attributes."""

    def __init__(self, client: ActorClient, name: str) -> None:
        self._client = client
        self._name = name

    def __getattr__(self, name: str) -> Asked:
        if name.startswith("_"):
            raise AttributeError(name)
        return Asked(self._client, f"{self._name}.{name}")

    def __call__(self, *args: Any, **named: Any) -> Awaitable[Any]:
        return self._client._ask(self._name, *args, **named)


class InProcess:
    """A handle of an actor that lives in this process: its methods, without Ray between."""

    def __init__(self, actor: ServiceActor) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, name))
