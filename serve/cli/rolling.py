"""`finstage restart --rolling`: other replicas in the place of those that run, under load."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console

from infra.clock import Clock, SystemClock
from infra.errors import ActorUnavailable, ConfigError, StartFailed
from infra.messages import ENDED, LEAVING, Message
from infra.net import listens
from infra.settings import Settings
from serve.cli.head import LOOPBACK
from serve.cli.up import await_ready, farewell, join_ray
from serve.cli.upgrade import need_current_store
from serve.processes import alive, named
from serve.state import State, read_state

if TYPE_CHECKING:
    from actors.runtime import ActorSpec

KINDS = {"finstage-api": "api", "finstage-stream": "stream"}  # applications, as in serve.app

_LOOK_EVERY_S = 0.1  # Serve drains an old replica for a second before it cuts its sockets
_LOOK_WITHIN_S = 10.0
_PAUSE_S = 0.2
_TELL_WITHIN_S = 1.0

Details = Mapping[str, Any]  # what Serve's controller says of itself


class RestartFailed(Exception):
    """Raised when the restart did not come to its end; what runs goes on."""


class Replica(NamedTuple):
    """One replica as Serve's controller sees it; `pid` is 0 until it has one."""

    kind: str
    replica_id: str
    pid: int
    state: str

    @property
    def runs(self) -> bool:
        """Return whether it takes requests."""
        return self.state == "RUNNING"

    @property
    def stops(self) -> bool:
        """Return whether it drains."""
        return self.state == "STOPPING"

    def __str__(self) -> str:
        return f"{self.kind} {self.pid}"


def replicas(details: Details) -> dict[str, Replica]:
    """Return our replicas by their ids."""
    found = {}
    for application, kind in KINDS.items():
        for deployment in _deployments(details, application):
            for one in deployment["replicas"]:
                replica = Replica(kind, one["replica_id"], one.get("pid") or 0, one["state"])
                found[replica.replica_id] = replica
    return found


def wanted(details: Details) -> int:
    """Return how many replicas there are to be."""
    return sum(
        deployment["target_num_replicas"]
        for application in KINDS
        for deployment in _deployments(details, application)
    )


def failure(details: Details) -> str:
    """Return why an application could not be deployed, empty where it could."""
    for application, kind in KINDS.items():
        said = details["applications"].get(application, {"status": "none", "message": "gone"})
        if said["status"] in ("DEPLOY_FAILED", "none"):
            return f"{kind}: {said['message'] or said['status']}"
    return ""


def _deployments(details: Details, application: str) -> Sequence[Details]:
    return list(details["applications"].get(application, {}).get("deployments", {}).values())


class Rollout:
    """What changed between two looks at the replicas, until others stand in the place of `old`."""

    def __init__(self, old: Mapping[str, Replica]) -> None:
        self._old = dict(old)
        self._seen: dict[str, Replica] = dict(old)

    @property
    def old(self) -> list[Replica]:
        """Return the replicas that are to go."""
        return sorted(self._old.values())

    @property
    def new(self) -> list[Replica]:
        """Return the replicas that came."""
        return sorted(one for name, one in self._seen.items() if name not in self._old)

    def look(self, now: Mapping[str, Replica]) -> tuple[list[str], list[Replica]]:
        """Return what to say of a look, and the old replicas that began to go since the last."""
        said, going = [], []
        for name, one in now.items():
            before = self._seen.get(name)
            if name in self._old:
                if one.stops and before is not None and not before.stops:
                    said.append(f"{one} takes nothing new and finishes what it has")
                    going.append(one)
            else:
                if one.pid and (before is None or not before.pid):
                    said.append(f"{one} starts")
                if one.runs and (before is None or not before.runs):
                    said.append(f"{one} runs")
        for name, one in self._seen.items():
            if name not in now:
                said.append(f"{one} is gone")
                if name in self._old and not one.stops:
                    going.append(one)
        self._seen = dict(now)
        return said, going

    def is_over(self, now: Mapping[str, Replica], count: int) -> bool:
        """Return whether no old replica is left and `count` others run."""
        return not self._old.keys() & now.keys() and sum(one.runs for one in now.values()) == count


def farewells(going: Sequence[Replica]) -> list[Message]:
    """Return the messages that make stream replicas close their sockets."""
    told = farewell("this process is replaced")
    return [Message(LEAVING + one.replica_id, told) for one in going if one.kind == "stream"]


def forgotten(old: Sequence[Replica]) -> list[Message]:
    """Return the messages that make the hub forget the farewells."""
    return [Message(LEAVING + one.replica_id, ENDED) for one in old if one.kind == "stream"]


class Watched(NamedTuple):
    """What a rollout is watched through: Serve's controller, the hub, the console, a clock."""

    look: Callable[[], Awaitable[Details]]
    publish: Callable[[Sequence[Message]], Awaitable[object]]
    say: Callable[[str], None]
    clock: Clock


async def follow(rollout: Rollout, watched: Watched, deadline_s: float) -> None:
    """Return when the rollout is over; old stream replicas tell their sockets as they go.

    `deadline_s` is of the clock's monotonic time. Raises RestartFailed after it, or when the new
    replicas do not start; the old ones go on then.
    """
    try:
        while True:
            details = await watched.look()
            now = replicas(details)
            said, going = rollout.look(now)
            if messages := farewells(going):  # at once: these replicas have a second left
                await _publish(watched, messages)
            for line in said:
                watched.say(line)
            if reason := failure(details):
                raise RestartFailed(f"the new replicas do not start: {reason}")
            if rollout.is_over(now, wanted(details)):
                return
            if watched.clock.monotonic_s() > deadline_s:
                raise RestartFailed("not in time; Serve goes on replacing, old replicas answer")
            await watched.clock.sleep(_LOOK_EVERY_S)
    finally:
        await _publish(watched, forgotten(rollout.old))


async def _publish(watched: Watched, messages: Sequence[Message]) -> None:
    try:
        if messages:
            await watched.publish(messages)
    except ActorUnavailable as error:
        watched.say(f"sockets end without a word (1012): {error.message}")


# -- the command ---------------------------------------------------------------------------------


def restart_service(
    settings: Settings, console: Console, rolling: bool, actors: bool, timeout_s: float
) -> int:
    """Replace the replicas of the running service, and its actors where asked to; return 0 or 1.

    Raises ConfigError where nothing runs, the store is of another version, or `rolling` is false:
    a whole restart is a stop and a start.
    """
    state = running_state(settings)
    if not rolling:
        raise ConfigError(
            "nothing was done: `finstage restart --rolling` replaces the replicas without a "
            "failed request; a whole restart, actors and Ray too, is `finstage down`, then "
            "`finstage up`"
        )
    need_current_store(settings)
    set_environment(state)
    return RollingRestart(settings, console, state, timeout_s).run(actors)


def running_state(settings: Settings) -> State:
    """Return what the running service says of itself; raises ConfigError if it cannot be had."""
    state = read_state(settings)
    if state is None or not state.runs:
        raise ConfigError(f"nothing runs on {settings.data_dir}; `finstage up` starts it")
    if not state.ready:
        raise ConfigError("the service is still starting; try again when it is ready")
    if state.ports["http"] != settings.port:
        raise ConfigError(
            f"the service listens on port {state.ports['http']}, but FINSTAGE_PORT is "
            f"{settings.port} here: a rolling restart moves no port"
        )
    return state


def set_environment(state: State) -> None:
    """Set what Ray reads when it is imported, to join the service's."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if state.token_path:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": state.token_path}
    if state.address.startswith(LOOPBACK):  # else Ray takes the machine's other address
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


class RollingRestart:
    """One rolling restart of a service that runs. Used once."""

    def __init__(
        self, settings: Settings, console: Console, state: State, timeout_s: float
    ) -> None:
        self._settings = settings.begun(state.started_at_s)
        self._console = console
        self._state = state
        self._began_s = time.monotonic()
        self._deadline_s = self._began_s + timeout_s

    def run(self, actors: bool) -> int:
        """Replace what is to be; return 0, or 1 when that did not come to its end."""
        self._join()
        import ray
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        try:
            haproxies = self._haproxies()
            if actors:
                self._replace_actors()
            rollout = asyncio.run(self._replace_replicas())
            await_ready(self._settings, self._check_time)
        except (RestartFailed, ConfigError, StartFailed, RayError, RayServeException) as error:
            self._console.print(f"[red]not restarted: {_line(error)}[/red]", soft_wrap=True)
            self._console.print("see `finstage status` and `finstage logs`")
            return 1
        finally:
            ray.shutdown()
        self._report(rollout, actors, haproxies)
        return 0

    def _join(self) -> None:
        address, is_joined = self._state.address, not self._state.session_dir
        if not listens(address):  # Ray would try for minutes
            raise ConfigError(f"no Ray answers at {address}")
        try:
            join_ray(address, self._settings.task_modules if is_joined else ())
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ConfigError(f"Ray at {address} cannot be joined: {_line(error)}") from None

    async def _replace_replicas(self) -> Rollout:
        from actors.hub.client import HubClient

        look = await asyncio.to_thread(self._looker)
        rollout = Rollout(replicas(await look()))
        self._say("replaces " + ", ".join(map(str, rollout.old)))
        await asyncio.to_thread(_deploy, self._settings)
        watched = Watched(look, HubClient(_TELL_WITHIN_S).publish, self._say, SystemClock())
        await follow(rollout, watched, self._deadline_s)
        return rollout

    def _looker(self) -> Callable[[], Awaitable[Details]]:
        """Return how to ask Serve's controller; Serve's public status names no replica."""
        from ray.exceptions import RayActorError
        from ray.serve.context import _get_global_client

        controller = _get_global_client()._controller

        async def look() -> Details:
            while True:
                try:
                    async with asyncio.timeout(_LOOK_WITHIN_S):
                        found: Details = await controller.get_serve_instance_details.remote()
                        return found
                except (TimeoutError, RayActorError):  # it is busy, or starts again
                    self._check_time()
                    await asyncio.sleep(_PAUSE_S)

        return look

    def _replace_actors(self) -> None:
        """End each actor and start it anew, one after the other, ready again in between."""
        from actors.runtime import kill_actor
        from serve.app import actor_specs

        for spec in actor_specs(self._settings, self._state.started_at_s):
            before = self._pid_of(spec)
            kill_actor(spec.name)
            while (after := self._pid_of(spec)) in (0, before):
                self._check_time()
                time.sleep(_PAUSE_S)
            await_ready(self._settings, self._check_time)
            self._say(f"{spec.name} {before} -> {after}")

    def _pid_of(self, spec: ActorSpec) -> int:
        """Return an actor's process, started where there is none; 0 while it cannot say."""
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        from actors.runtime import start_actor

        try:
            return int(ray.get(start_actor(spec).ping.remote(), timeout=_LOOK_WITHIN_S))
        except (RayActorError, GetTimeoutError, ValueError):
            return 0

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline_s:
            raise RestartFailed("not in time; Serve and Ray go on trying")

    def _haproxies(self) -> int:
        state = read_state(self._settings)
        return len(named(alive(state.processes if state else {}), "haproxy"))

    def _say(self, line: str) -> None:
        took_s = time.monotonic() - self._began_s
        self._console.print(f"{took_s:5.1f} s  {line}", markup=False, soft_wrap=True)

    def _report(self, rollout: Rollout, actors: bool, haproxies: int) -> None:
        old, new = (", ".join(map(str, some)) for some in (rollout.old, rollout.new))
        self._say(f"ready: {old} -> {new}")
        if not actors:
            self._say("actors run on as they were: `--actors`, or a whole restart, replaces them")
        if haproxies:
            self._say(
                f"haproxy: {haproxies} processes before, {self._haproxies()} now; an old one ends "
                "with its last connection"
            )


def _deploy(settings: Settings) -> None:
    """Hand both applications to Serve, which then replaces every replica of theirs.

    It does so since a deployment without a version of its own gets a new one each time.
    """
    from ray import serve as ray_serve

    from serve.app import applications

    ray_serve.run_many(
        applications(settings),
        wait_for_ingress_deployment_creation=False,
        wait_for_applications_running=False,
    )


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
