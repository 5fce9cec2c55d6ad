"""`finstage up`: start everything, say what runs where, stop everything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from infra.errors import ActorUnavailable, ConfigError
from infra.logs import remove_old_logs, setup_logs
from infra.settings import Settings
from serve.head import LOOPBACK, prepare_environment, start_head, token_path
from serve.ports import Ports, choose_ports
from serve.processes import ProcessTree, end_all
from serve.state import State, forget_state, own_created_s, take_lock

logger = logging.getLogger(__name__)

_GOODBYE_S = 1.0
_READY_WITHIN_S = 120.0
_WATCH_EVERY_S = 0.5


class Stopped(Exception):
    """Raised in the main thread when the operator asks for a stop."""


class RayDied(Exception):
    """Raised when a process that Ray cannot live without has ended."""


class LocalService:
    """One Finstage on its own Ray head. Used once: start, watch, stop."""

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._tree = ProcessTree()
        self._node: Any = None
        self._state: State | None = None
        self._goes = threading.Event()

    def run(self) -> int:
        """Run until stopped; return the exit code."""
        lock = take_lock(self._settings)
        ports = choose_ports(self._settings)
        setup_logs(self._settings.log_dir, "up", self._settings.log_level)
        remove_old_logs(self._settings.log_dir)
        code = 0
        with _signals_raise(self._goes):
            try:
                self._start(ports)
                self._watch()
            except Stopped:
                self._console.print("\nstopping …")
            except RayDied as error:
                self._console.print(f"[red]Ray died under the service: {error}[/red]")
                code = 1
            except BaseException:
                self._stop(gently=False)
                raise
        self._stop(gently=code == 0)
        lock.close()
        return code

    def _start(self, ports: Ports) -> None:
        started_s = time.monotonic()
        with self._console.status("starting Ray …") as status:
            prepare_environment(self._settings, ports)
            self._state = self._new_state(ports)
            self._state.write(self._settings)
            self._node = start_head(self._settings, ports)
            self._state.address = self._node.address
            self._state.session_dir = self._node.get_session_dir_path()
            self._note_processes()
            status.update("starting the actors and the ingress …")
            deploy(self._settings, self._node.address, self._state.started_at_s)
            self._note_processes()
            status.update("waiting for the first answer …")
            await_ready(self._settings, self._check_ray)
        self._state.ready = True
        self._note_processes()
        self._console.print(overview(self._settings, self._state))
        took_s = time.monotonic() - started_s
        self._console.print(f"ready in {took_s:.1f} s; Ctrl-C stops it")
        logger.info("service.ready", extra={"took_s": round(took_s, 2)})

    def _new_state(self, ports: Ports) -> State:
        return State(
            pid=os.getpid(),
            created_s=own_created_s(),
            url=f"http://{_shown_host(self._settings.host)}:{ports.http}",
            address="",
            token_path=str(token_path(self._settings)),
            ports=ports.as_dict(),
            session_dir="",
            started_at_s=self._settings.replay_started_at_s or time.time(),
        )

    def _note_processes(self) -> None:
        assert self._state is not None
        known = self._tree.look()
        if known != self._state.processes or not self._state.processes:
            self._state.processes = dict(known)
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
            self._note_processes()
        raise Stopped

    def _stop(self, gently: bool) -> None:
        deadline_s = time.monotonic() + self._settings.stop_s - 3
        if gently and self._node is not None:
            _within(deadline_s - time.monotonic(), say_goodbye_and_drain)
        self._tree.look()
        if self._node is not None:
            _within(deadline_s - time.monotonic(), _leave_ray)
            with contextlib.suppress(Exception):  # what it leaves is ended below
                self._node.kill_all_processes(check_alive=False, allow_graceful=False)
        end_all(self._tree.known, patience_s=max(0.2, deadline_s - time.monotonic()))
        forget_state(self._settings)
        self._console.print("stopped")


def deploy(settings: Settings, address: str, started_at_s: float) -> None:
    """Connect to Ray at `address`, start the actors and both applications."""
    import ray
    from ray import serve as ray_serve
    from ray.serve.config import HTTPOptions

    from actors.runtime import NAMESPACE, start_actor
    from serve.app import actor_specs, run_applications

    if not ray.is_initialized():
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            logging_level="ERROR",
            configure_logging=False,
        )
    for spec in actor_specs(settings, started_at_s):
        start_actor(spec)
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    ray_serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))
    run_applications(settings)


def await_ready(settings: Settings, check: Any) -> None:
    """Wait until the service says that it is ready; `check` may raise in between."""
    url = f"http://{_shown_host(settings.host)}:{settings.port}/health/ready"
    deadline_s = time.monotonic() + _READY_WITHIN_S
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
    raise ConfigError(f"not ready within {_READY_WITHIN_S:g} s: {last}; see `finstage logs`")


def say_goodbye_and_drain() -> None:
    """Tell every socket, then let Serve drain its replicas and stop HAProxy."""
    from ray import serve as ray_serve

    from actors.hub.client import HubClient
    from infra.messages import SYSTEM, Message

    farewell = (
        b'{"type":"system_status","event":"going_away",'
        b'"message":"the service stops; reconnect in 1 to 10 s"}'
    )
    with contextlib.suppress(ActorUnavailable):
        asyncio.run(HubClient(_GOODBYE_S).publish([Message(SYSTEM, farewell)]))
    ray_serve.shutdown()


def _leave_ray() -> None:
    import ray

    ray.shutdown()


def _within(seconds: float, work: Any) -> None:
    """Run `work` in a thread for at most `seconds`; its failure is logged, the stop goes on."""

    def guarded() -> None:
        try:
            work()
        except Exception:
            logger.exception("stop.step_failed")

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(max(0.1, seconds))


@contextmanager
def _signals_raise(goes: threading.Event) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Stopped`, once; later ones wait for the stop under way."""

    def on_signal(_signal: int, _frame: FrameType | None) -> None:
        if not goes.is_set():
            goes.set()
            raise Stopped

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, signal.SIG_IGN)


def _shown_host(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return LOOPBACK
    return f"[{host}]" if ":" in host else host


def overview(settings: Settings, state: State) -> Table:
    """Return what runs where, for people."""
    table = Table(title=f"Finstage at {state.url}", title_justify="left", show_header=False)
    ports = state.ports
    socket_url = state.url.replace("http", "ws", 1)
    keys = ", ".join(settings.keys) or "none, so loopback only"
    rows = {
        "source": f"{settings.source}"
        + (" (years old, ticks made)" if settings.source == "replay" else ""),
        "page": f"{state.url}/",
        "API": f"{state.url}/docs",
        "stream": f"{socket_url}/ws/realtime",
        "metrics": f"{state.url}/metrics",
        "keys": keys,
        "data": str(settings.data_dir),
        "Ray": state.address,
    }
    if settings.ray_dashboard:
        rows["Ray dashboard"] = (
            f"http://{LOOPBACK}:{ports['dashboard']}, token: cat {state.token_path}"
        )
    rows["HAProxy"] = (
        f"statistics {ports['haproxy_stats']}, metrics {ports['haproxy_metrics']} "
        "(every interface: keep them behind a firewall)"
    )
    for name, value in rows.items():
        table.add_row(name, value)
    return table
