"""`finstage up`: start everything, say what runs where, stop everything."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, Self

import httpx
import orjson
import psutil
from rich.console import Console
from rich.table import Table

from infra.clock import SystemClock
from infra.errors import (
    ActorUnavailable,
    ConfigError,
    FinstageError,
    StartFailed,
    StoreError,
    SymbolUnknown,
)
from infra.logs import remove_old_logs, setup_logs
from infra.messages import GOING_AWAY, SYSTEM, Message
from infra.saved_symbols import read_monitored, read_pins
from infra.settings import Settings
from infra.sources import build_source
from infra.sources.facts import source_facts
from infra.symbols import nearest
from infra.universe import load_universe
from serve.cli.backup import describe_store
from serve.cli.head import LOOPBACK, prepare_environment, start_head, token_path
from serve.cli.local_http import shortcomings
from serve.cli.ports import Ports, choose_ports
from serve.cli.start_watch import START_WITHIN_S, StartWatch
from serve.cli.upgrade import upgrade_store
from serve.processes import Known, ProcessTree, alive, await_end, end_all, named
from serve.state import State, forget_state, living, own_created_s, read_state, take_lock

if TYPE_CHECKING:  # nothing here imports Ray before its environment is set
    from actors.runtime import ActorSpec

logger = logging.getLogger(__name__)

Check = Callable[[], None]

_GOODBYE_S = 1.0
_DRAIN_S = 2.0
_LEAVE_S = 3.0
_DRAIN_TASKS_S = 1.5  # to stop those that outlast their grace, and to say so in the store
_STOP_BESIDE_S = 8.5  # of the stop's time, what is not for tasks that run
_FORCE_S = 3.0  # the end of the stop's time, kept for SIGKILL
_WATCH_EVERY_S = 0.5
_LONGEST_REASON = 300  # characters
_SWEEPS = 3


class Stopped(BaseException):
    """Raised in the main thread when the operator asks for a stop, as KeyboardInterrupt is."""


class RayDied(Exception):
    """Raised when a process that Ray cannot live without has ended."""


class LocalService:
    """One Finstage on its own Ray head. Used once: start, watch, stop."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._tree = ProcessTree(settings.run_dir)
        self._node: Any = None
        self._state: State | None = None
        self._stage = "starting"
        self._serves = False  # before, an actor's client would start a Ray of its own to ask
        self._goes = threading.Event()

    def run(self) -> int:
        """Run until stopped; return the exit code.

        Raises ConfigError where it cannot start so, and StartFailed where something in it fails;
        by then all that it began has ended.
        """
        lock = take_lock(self._settings)
        self._tree.mark()
        end_remains(self._settings, self._console)
        check_files(self._settings)
        check_source(self._settings)
        ports = choose_ports(self._settings)
        setup_logs(self._settings.log_dir, "up", self._settings.log_level)
        remove_old_logs(self._settings.log_dir)
        upgrade_store(self._settings, self._console)
        code, failed = 0, None
        with StopSignals(self._goes) as signals:
            try:
                self._start(ports, signals)
                self._watch()
            except RayDied as error:
                self._console.print(f"[red]Ray died under the service: {error}[/red]")
                code = 1
            except BaseException as error:
                if self._goes.is_set():  # Stopped, or what the code that it interrupted made of it
                    self._console.print("\nstopping …")
                else:
                    failed = error
        self._stop(gently=code == 0 and failed is None)
        lock.close()
        if failed is not None:
            raise start_failed(self._settings, self._stage, failed) from failed
        return code

    def _start(self, ports: Ports, signals: StopSignals) -> None:
        with StartWatch(self._say) as watch, self._console.status("") as status:

            def begin(stage: str) -> None:
                self._stage = watch.stage = stage
                status.update(f"{stage} …")
                self._note(stage)

            prepare_environment(self._settings, ports)
            self._state = self._new_state(ports)
            self._settings = self._settings.begun(self._state.started_at_s)
            self._state.store = asyncio.run(describe_store(self._settings))
            begin("starting Ray")
            import_ahead()
            self._node = start_head(self._settings, ports)
            self._state.address = self._node.address
            self._state.session_dir = self._node.get_session_dir_path()
            begin("starting the actors and the ingress")
            join_ray(self._node.address)
            signals.install()
            check = deploy(self._settings, self._state.started_at_s, self._check_ray)
            self._serves = True
            begin("waiting for the first answer")
            await_ready(self._settings, check)
            self._console.print(overview(self._settings, self._state))
            self._console.print(f"prices and indicators answer after {watch.took_s:.1f} s")
            begin("starting jobs, tasks, alerts and the monitor")
            deploy_rest(self._settings, self._check_ray)
        for line in shortcomings(self._state.url):
            self._say(f"degraded: {line}")
        self._console.print(f"ready in {watch.took_s:.1f} s; Ctrl-C stops it")
        self._state.ready = True
        self._note("")
        logger.info("service.ready", extra={"took_s": round(watch.took_s, 2)})

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def _new_state(self, ports: Ports) -> State:
        return State(
            pid=os.getpid(),
            created_s=own_created_s(),
            url=f"http://{shown_host(self._settings.host)}:{ports.http}",
            address="",
            token_path=str(token_path(self._settings)),
            ports=ports.as_dict(),
            session_dir="",
            started_at_s=self._settings.replay_started_at_s or time.time(),
        )

    def _note(self, stage: str) -> None:
        """Write what runs, and which stage of the start this is, for `down`, `status` and `up`."""
        assert self._state is not None
        known = self._tree.look()
        if not self._tree.has_folder:  # another Finstage may have it
            return
        is_told = known.items() <= self._state.processes.items()  # of one that ended it need not
        if not is_told or stage != self._state.stage:
            self._state.processes, self._state.stage = dict(known), stage
            self._state.write(self._settings)

    def _check_ray(self) -> None:
        if self._goes.is_set():
            raise Stopped
        for name in ("raylet", "gcs_server"):
            for info in self._node.all_processes.get(name, ()):
                if info.process.poll() is not None:
                    raise RayDied(f"{name} ended with {info.process.returncode}")

    def _watch(self) -> None:
        while not self._goes.wait(_WATCH_EVERY_S):
            self._check_ray()
            self._note_running()
        raise Stopped

    def _note_running(self) -> None:
        try:
            self._note("")
        except StoreError as error:  # a full disk: those that it does not tell of bear the mark
            logger.warning("service.unnoted", extra={"reason": error.message})

    def _stop(self, gently: bool) -> None:
        """Share the stop's time: goodbye, drain, Ray's own end, and force for what is left."""
        deadline_s = time.monotonic() + self._settings.stop_s - _FORCE_S
        if gently and self._serves:
            grace_s = max(0.0, self._settings.stop_s - _STOP_BESIDE_S)
            draining = _begin(lambda: drain_tasks(grace_s))
            _within(_GOODBYE_S, say_goodbye)
            _drain_haproxy(self._tree.look(), _DRAIN_S)
            draining.join(grace_s + _DRAIN_TASKS_S)
        self._tree.look()
        if self._node is not None:
            _within(_LEAVE_S, _leave_ray)
            with contextlib.suppress(Exception):  # what it leaves is ended below
                self._node.kill_all_processes(check_alive=False, allow_graceful=False)
        for _ in range(_SWEEPS):  # what was started while the others ended
            patience_s = max(0.2, min(2.0, deadline_s - time.monotonic()))
            if not end_all(self._tree.look_everywhere(), patience_s):
                break
        if self._tree.has_folder and not alive(self._tree.known):
            forget_state(self._settings)
        self._console.print("stopped")


def end_remains(settings: Settings, console: Console) -> None:
    """End what a start or a service before left on this data directory, and say so.

    Nobody else runs it: this process has its lock.
    """
    ended = end_all(living(settings, read_state(settings)), patience_s=1.0)
    if ended:
        console.print(f"ended {ended} processes that the `finstage up` before had left")


def check_files(settings: Settings) -> None:
    """Raise ConfigError, which names it, for a damaged file that a part of the service reads."""
    from pipelines.scheduler.core import read_schedule

    load_universe(settings.thresholds_file)
    read_monitored(settings.data_dir / "monitored.json")
    read_pins(settings.data_dir / "pins.json")
    read_schedule(settings.data_dir / "scheduler.json")


def start_failed(settings: Settings, stage: str, error: BaseException) -> FinstageError:
    """Return the one line of a start that failed, and log the whole of it."""
    logger.error("service.start_failed", exc_info=error, extra={"stage": stage})
    if isinstance(error, ConfigError):
        return error
    log = settings.log_dir / f"up-{os.getpid()}.jsonl"
    return StartFailed(f"no start, {stage}: {one_line(error)}; all of it is in {log}")


def one_line(error: BaseException) -> str:
    """Return what an error says, of a traceback that came from another process its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any(line.startswith("Traceback") or line.startswith("ray::") for line in lines):
        lines = lines[-1:]
    return " ".join(lines)[:_LONGEST_REASON] or type(error).__name__


def check_source(settings: Settings) -> None:
    """Raise ConfigError if the source cannot be built so, or lacks one of FINSTAGE_SYMBOLS.

    A source that cannot list its symbols is not asked: whether it knows them shows later.
    """
    if not (settings.symbols or settings.simulated_faults or settings.recording):
        return  # nothing to go wrong, and building a source takes half a second
    try:
        source = build_source(settings, SystemClock(), time.time())
    except ValueError as error:
        raise ConfigError(f"the source {settings.source!r} cannot start: {error}") from None
    if source.is_open:
        return
    known = source.symbols()
    for symbol in settings.symbols:
        if symbol not in known:
            unknown = SymbolUnknown(symbol, nearest(symbol, known))
            raise ConfigError(f"FINSTAGE_SYMBOLS: {unknown.message}")


def join_ray(address: str, modules: Sequence[str] = ()) -> Any:
    """Connect to the Ray at `address`; return what it says of itself.

    `modules` go along to every node, for all that is started from here.
    """
    import ray

    from actors.runtime import NAMESPACE

    return ray.init(
        address=address,
        namespace=NAMESPACE,
        log_to_driver=False,
        logging_level="ERROR",
        configure_logging=False,
        runtime_env={"py_modules": _packages(modules)} if modules else None,
    )


def _packages(modules: Sequence[str]) -> list[str]:
    """Return where users' packages and modules are; raises ConfigError if one is not there."""
    from pipelines.registry import load_modules

    load_modules(modules)
    names = dict.fromkeys(name.partition(".")[0] for name in modules)
    found = [importlib.import_module(name) for name in names]
    return [next(iter(getattr(one, "__path__", [str(one.__file__)]))) for one in found]


def import_ahead() -> None:
    """Begin to import what `deploy` needs: its two seconds are those of Ray's own processes.

    Ray's modules for the head come first, so that no two threads import those that need each
    other.
    """
    import ray._private.node  # noqa: F401

    _begin(lambda: importlib.import_module("serve.app"))


def deploy(settings: Settings, started_at_s: float, check: Check) -> Check:
    """Start what prices and indicators need, and both applications, on the Ray that was joined.

    Returns `check` and more: it raises StartFailed too where one of those actors has ended.
    """
    from serve.cli.ingress import started_serve

    with started_serve(settings) as await_controller:
        from serve.app import await_applications, first_actors, run_applications

        actors = StartedActors(first_actors(settings, started_at_s))

        def check_all() -> None:
            check()
            actors.check()

        await_controller()
        run_applications(settings)
        await_applications(check_all)
    return check_all


class StartedActors:
    """Actors that were started, until each has answered once."""

    def __init__(self, specs: Sequence[ActorSpec]) -> None:
        from actors.runtime import start_actor

        self.awaited = {start_actor(spec).ping.remote(): spec.name for spec in specs}

    def check(self, wait_s: float = 0.0) -> None:
        """Take the answers that came; raises StartFailed for one that has ended instead."""
        import ray
        from ray.exceptions import RayError

        if not self.awaited:
            return
        for answered in ray.wait(list(self.awaited), timeout=wait_s)[0]:
            name = self.awaited.pop(answered)
            try:
                ray.get(answered)
            except RayError as error:
                logger.exception("actor.not_started", extra={"actor": name})
                raise StartFailed(f"{name} ended: {one_line(error)}") from None


def deploy_rest(settings: Settings, check: Check) -> None:
    """Start the other actors and wait until each answers; `check` may raise in between.

    One that does not come is logged: prices go on without, and `/health/ready` says `degraded`.
    """
    from serve.app import later_actors

    actors = StartedActors(later_actors(settings))
    deadline_s = time.monotonic() + START_WITHIN_S
    while actors.awaited and time.monotonic() < deadline_s:
        check()
        with contextlib.suppress(StartFailed):
            actors.check(wait_s=0.2)
    if actors.awaited:
        logger.error("actor.not_started", extra={"actors": ", ".join(actors.awaited.values())})


def await_ready(settings: Settings, check: Check) -> None:
    """Wait until the service says that it is ready; `check` may raise in between."""
    url = f"http://{shown_host(settings.host)}:{settings.port}/health/ready"
    deadline_s = time.monotonic() + START_WITHIN_S
    last = "no answer"
    with httpx.Client(timeout=5, trust_env=False) as client:
        while time.monotonic() < deadline_s:
            check()
            try:
                answer = client.get(url)
                if answer.status_code == 200:
                    return
                last = answer.text[:300]
            except httpx.HTTPError as error:
                last = type(error).__name__
            time.sleep(0.05)
    raise StartFailed(f"not ready within {START_WITHIN_S:g} s: {last}")


def say_goodbye() -> None:
    """Tell every socket that the service stops; the stream replicas close them then."""
    from actors.hub.client import HubClient

    with contextlib.suppress(ActorUnavailable):
        message = Message(SYSTEM, farewell("the service stops"))
        asyncio.run(HubClient(_GOODBYE_S).publish([message]))


def farewell(why: str) -> bytes:
    """Return what sockets are told before they are closed."""
    return orjson.dumps(
        {
            "type": "system_status",
            "event": GOING_AWAY,
            "message": f"{why}; reconnect in 1 to 10 s",
            "reconnect_after_ms": [1_000, 10_000],  # at random, so that not all come at once
        }
    )


def drain_tasks(grace_s: float) -> None:
    """Let no task start, and those that run end within their grace; the rest is queued again."""
    from pipelines.queue.client import TaskClient

    with contextlib.suppress(ActorUnavailable):
        asyncio.run(TaskClient(_DRAIN_TASKS_S).drain(grace_s))


def _drain_haproxy(known: Known, patience_s: float) -> None:
    """Let HAProxy take no new connection and end those it has, for a while.

    SIGUSR1 is its soft stop. Serve's own shutdown takes seconds for what dies with Ray anyway.
    """
    proxies = named(alive(known), "haproxy")
    for process in proxies:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGUSR1)
    await_end({process.pid: process.create_time() for process in proxies}, patience_s)


def _leave_ray() -> None:
    import ray

    ray.shutdown()


def _within(seconds: float, work: Any) -> None:
    """Run `work` in a thread for at most `seconds`; its failure is logged, the stop goes on."""
    _begin(work).join(max(0.1, seconds))


def _begin(work: Any) -> threading.Thread:
    """Run `work` in a thread; its failure is logged, the stop goes on."""

    def guarded() -> None:
        try:
            work()
        except Exception:
            logger.exception("stop.step_failed")

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread


class StopSignals:
    """SIGINT and SIGTERM raise `Stopped`, once; later ones wait for the stop under way.

    `ray.init` puts its own handler in the place of ours, so `install` comes again after it.
    """

    def __init__(self, goes: threading.Event) -> None:
        self._goes = goes

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        self._set(signal.SIG_IGN)

    def install(self) -> None:
        """Take the signals."""
        self._set(self._on_signal)

    def _set(self, handler: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, handler)

    def _on_signal(self, _signal: int, _frame: FrameType | None) -> None:
        if not self._goes.is_set():
            self._goes.set()
            raise Stopped


def shown_host(host: str) -> str:
    """Return the name by which this machine reaches what listens on `host`."""
    if host in ("0.0.0.0", "::"):
        return LOOPBACK
    return f"[{host}]" if ":" in host else host


def _source_row(settings: Settings) -> str:
    label = source_facts(settings).origin.label
    if settings.recording is None:
        return label
    return f"{label}, at {settings.recording_speed:g} x: {settings.recording}"


def overview(settings: Settings, state: State) -> Table:
    """Return what runs where, for people."""
    table = Table(title=f"Finstage at {state.url}", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    ports = state.ports
    socket_url = state.url.replace("http", "ws", 1)
    keys = ", ".join(settings.keys) or "none, so loopback only"
    rows = {
        "source": _source_row(settings),
        "page": f"{state.url}/",
        "live page": f"{state.url}/ws/demo",
        "tasks": f"{state.url}/tasks",
        "performance": f"{state.url}/performance-dashboard",
        "API": f"{state.url}/docs",
        "stream": f"{socket_url}/ws/realtime",
        "metrics": f"{state.url}/metrics",
        "keys": keys,
        "store": state.store,
        "data": str(settings.data_dir),
        "Ray": state.address,
    }
    if settings.ray_dashboard and "dashboard" in ports:
        rows["Ray dashboard"] = (
            f"http://{LOOPBACK}:{ports['dashboard']}, token: cat {state.token_path}"
        )
    if "haproxy_stats" in ports:
        rows["HAProxy"] = (
            f"statistics {ports['haproxy_stats']}, metrics {ports['haproxy_metrics']} "
            "(every interface: keep them behind a firewall)"
        )
    shown = ("http", "dashboard", "haproxy_stats", "haproxy_metrics")
    others = [f"{name} {port}" for name, port in ports.items() if name not in shown]
    rows["other ports"] = ", ".join(others)
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table
