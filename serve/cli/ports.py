"""Every port of one Finstage: those that were set, and free ones for the rest."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields

from infra.errors import ConfigError
from infra.settings import Settings

_LOOPBACK = "127.0.0.1"
_RANGE = range(20_000, 30_000)  # Serve's replicas have 30,000 and up


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports by use; each is on loopback, but for HAProxy's two, which bind every interface.

    All but the first two are named as their settings are, without `_port`.
    """

    http: int
    dashboard: int
    ray: int
    ray_metrics: int
    ray_agent: int
    ray_agent_grpc: int
    ray_node_manager: int
    ray_object_manager: int
    ray_runtime_env: int
    ray_dashboard_metrics: int
    ray_autoscaler_metrics: int
    fallback: int
    fallback_grpc: int
    grpc: int
    haproxy_stats: int
    haproxy_metrics: int

    def as_dict(self) -> dict[str, int]:
        """Return the ports by use."""
        return asdict(self)


def choose_ports(settings: Settings) -> Ports:
    """Return the ports to use; raises ConfigError, naming the setting, where one is taken.

    A free port is one that could be bound a moment ago; all are held until the last is chosen,
    so that no two are the same.
    """
    with ExitStack() as held:
        http = _taken_or(held, settings.port, "FINSTAGE_PORT", settings.host)
        dashboard = _free(held, settings.ray_dashboard_port) or _any(held)
        others = {}
        for name in [field.name for field in fields(Ports)][2:]:
            wanted = getattr(settings, f"{name}_port")
            setting = f"FINSTAGE_{name.upper()}_PORT"
            others[name] = _taken_or(held, wanted, setting) if wanted else _any(held)
        return Ports(http, dashboard, **others)


def _taken_or(held: ExitStack, port: int, setting: str, host: str = _LOOPBACK) -> int:
    bound = _free(held, port, host)
    if bound is None:
        raise ConfigError(f"port {port} is taken: stop what uses it, or set {setting} to another")
    return bound


def _any(held: ExitStack) -> int:
    """Return a free port below those that the kernel gives to sockets which name none.

    One of those could be taken between this moment and the one in which its process binds it.
    """
    while True:
        port = _free(held, random.choice(_RANGE))
        if port is not None:
            return port


def _free(held: ExitStack, port: int, host: str = _LOOPBACK) -> int | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(1)
    except OSError:
        return None
    return int(bound.getsockname()[1])
