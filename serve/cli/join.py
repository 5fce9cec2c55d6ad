"""`finstage up --address`: Finstage on a Ray that runs already."""

from __future__ import annotations

import logging
import os
import threading
import time

from rich.console import Console

from infra.errors import ConfigError
from infra.logs import setup_logs
from infra.net import listens
from infra.settings import Settings
from serve.cli.start_watch import StartWatch
from serve.cli.up import (
    RayDied,
    Stopped,
    StopSignals,
    await_ready,
    check_files,
    check_source,
    deploy,
    deploy_rest,
    drain_tasks,
    join_ray,
    overview,
    say_goodbye,
    shown_host,
    start_failed,
)
from serve.cli.upgrade import upgrade_store
from serve.state import State, forget_state, own_created_s, take_lock

logger = logging.getLogger(__name__)

_WATCH_EVERY_S = 1.0
_TASK_GRACE_S = 5.0


class JoinedService:
    """Our actors and applications on somebody's Ray; a stop takes away these and no more."""

    def __init__(self, settings: Settings, console: Console, address: str) -> None:
        self._settings = settings
        self._console = console
        self._address = address
        self._goes = threading.Event()
        self._ray_address = ""
        self._deployed = False
        self._stage = "starting"

    def run(self) -> int:
        """Run until stopped; return the exit code."""
        lock = take_lock(self._settings)
        check_files(self._settings)
        check_source(self._settings)
        setup_logs(self._settings.log_dir, "up", self._settings.log_level)
        upgrade_store(self._settings, self._console)
        failed = None
        with StopSignals(self._goes) as signals:
            try:
                self._start(signals)
                while not self._goes.wait(_WATCH_EVERY_S):
                    self._check_ray()
            except RayDied as error:
                self._console.print(f"[red]Ray died under the service: {error}[/red]")
                forget_state(self._settings)
                os._exit(1)  # Ray's own end waits a minute for what is gone
            except BaseException as error:
                if self._goes.is_set():  # Stopped, or what the code that it interrupted made of it
                    self._console.print("\nstopping …")
                else:
                    failed = error
        try:
            self._stop()
        except Exception as error:  # of a Ray in which something failed before
            failed = failed or error
            logger.exception("stop.step_failed")
        lock.close()
        if failed is not None:
            raise start_failed(self._settings, self._stage, failed) from failed
        return 0

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)

    def _start(self, signals: StopSignals) -> None:
        started_at_s = self._settings.replay_started_at_s or time.time()
        self._settings = self._settings.begun(started_at_s)
        if self._address != "auto" and not listens(self._address):  # Ray would try for minutes
            raise ConfigError(f"no Ray at {self._address} can be joined: nobody listens there")
        with StartWatch(self._say) as watch, self._console.status("") as status:

            def begin(stage: str) -> None:
                self._stage = watch.stage = stage
                status.update(f"{stage} …")

            begin(f"joining Ray at {self._address}")
            try:
                context = join_ray(self._address, self._settings.task_modules)
                self._ray_address = context.address_info["address"]
                signals.install()
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ConfigError(
                    f"no Ray at {self._address} can be joined: {str(error).splitlines()[0]}"
                ) from None
            self._refuse_taken_prefixes()
            begin("starting the actors and the applications")
            self._deployed = True
            check = deploy(self._settings, started_at_s, self._check_ray)
            begin("waiting for the first answer")
            await_ready(self._settings, check)
            begin("starting jobs, tasks, alerts and the monitor")
            deploy_rest(self._settings, self._check_ray)
        state = self._new_state(self._ray_address, started_at_s)
        self._console.print(overview(self._settings, state))
        self._console.print(
            "joined a Ray that ran already: its ingress is what it was started with; without the "
            "variables of `finstage ray-env` that is Serve's own proxy, which is slower"
        )
        self._console.print("ready; Ctrl-C takes Finstage off it and leaves Ray running")
        state.write(self._settings)

    def _refuse_taken_prefixes(self) -> None:
        from ray import serve as ray_serve

        from serve.app import API_APP, STREAM_APP

        prefixes = {"/": API_APP, "/ws": STREAM_APP}
        for name in ray_serve.status().applications:  # none where Serve does not run
            prefix = _route_prefix(name)
            if name in prefixes.values():
                raise ConfigError(f"the application {name!r} runs on this Ray already")
            if prefix in prefixes:
                raise ConfigError(f"the prefix {prefix} is taken by the application {name!r}")

    def _check_ray(self) -> None:
        if self._goes.is_set():
            raise Stopped
        if not listens(self._ray_address, _WATCH_EVERY_S):
            raise RayDied(f"nobody answers at {self._ray_address}")

    def _new_state(self, address: str, started_at_s: float) -> State:
        host = shown_host(self._settings.host)
        return State(
            pid=os.getpid(),
            created_s=own_created_s(),
            url=f"http://{host}:{self._settings.port}",
            address=address,
            token_path=os.environ.get("RAY_AUTH_TOKEN_PATH", ""),
            ports={"http": self._settings.port},
            session_dir="",
            started_at_s=started_at_s,
            ready=True,
        )

    def _stop(self) -> None:
        import ray

        if self._deployed and ray.is_initialized():
            from ray import serve as ray_serve

            from actors.runtime import kill_actor
            from serve.app import API_APP, STREAM_APP, actor_specs

            say_goodbye()
            drain_tasks(_TASK_GRACE_S)
            for name in (API_APP, STREAM_APP):
                ray_serve.delete(name)
            for spec in actor_specs(self._settings, 0.0):
                kill_actor(spec.name)
        ray.shutdown()
        forget_state(self._settings)
        self._console.print("stopped")


def _route_prefix(application: str) -> str:
    """Return the prefix of a running application; Serve's public status does not have it."""
    import ray
    from ray.serve.context import _get_global_client

    controller = _get_global_client()._controller
    details = ray.get(controller.get_serve_instance_details.remote())
    return str(details["applications"][application]["route_prefix"])
