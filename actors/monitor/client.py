"""The monitor as others see it: each of its desks, with the same methods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from actors.monitor.alerting.rules import ServiceAlertRule
from actors.monitor.experiments.assignment import Assigner, hashed, identifier
from actors.monitor.experiments.definition import Experiment, Variant, experiment_from
from actors.monitor.experiments.ledger import Tally
from actors.runtime import ActorClient

if TYPE_CHECKING:  # the desks import the store, which replicas of sockets do without
    from actors.monitor.alert_desk import AlertDesk
    from actors.monitor.performance_desk import PerformanceDesk
    from actors.monitor.rule_desk import RuleDesk
    from actors.monitor.trial_desk import TrialDesk
    from actors.monitor.tuning_desk import TuningDesk

__all__ = [
    "MONITOR",
    "Assigner",
    "Experiment",
    "MonitorClient",
    "ServiceAlertRule",
    "Tally",
    "Variant",
    "experiment_from",
    "hashed",
    "identifier",
]

MONITOR = "finstage-monitor"


# Methods of desks that are marked `once`: the desks themselves are not imported here.
ONCE = {
    "alerts": frozenset({"remove_rule", "remove_webhook"}),
    "rules": frozenset({"add", "remove"}),
    "trials": frozenset({"create", "move", "record", "remove", "take"}),
    "tuning": frozenset({"take_asked"}),
}

Ask = Callable[..., Awaitable[Any]]


class _Remote:
    """A desk in the actor: every method of it, to be awaited."""

    def __init__(self, ask: Ask, ask_once: Ask, desk: str) -> None:
        self._ask = ask
        self._ask_once = ask_once
        self._desk = desk

    def __getattr__(self, method: str) -> Ask:
        if method.startswith("_"):
            raise AttributeError(method)
        is_once = method in ONCE.get(self._desk, ())
        ask = self._ask_once if is_once else self._ask
        return lambda *args, **named: ask("ask", self._desk, method, args, named)


class MonitorClient(ActorClient):
    """Calls to the monitor; each raises ActorUnavailable if it does not come back in time.

    Beside the desks' own errors, StoreUnavailable while it has not read the store yet.
    """

    actor_name = MONITOR

    def __init__(self, wait_s: float = 5.0) -> None:
        super().__init__(wait_s)
        self.performance = cast("PerformanceDesk", self._desk("performance"))
        self.alerts = cast("AlertDesk", self._desk("alerts"))
        self.rules = cast("RuleDesk", self._desk("rules"))
        self.trials = cast("TrialDesk", self._desk("trials"))
        self.tuning = cast("TuningDesk", self._desk("tuning"))

    def _desk(self, name: str) -> _Remote:
        return _Remote(self._ask, self._ask_once, name)

    async def log_level(self) -> dict[str, str]:
        """Return the level from which processes log, and the configured one."""
        levels: dict[str, str] = await self._ask("ask", "service", "log_level", (), {})
        return levels

    async def set_log_level(self, level: str) -> None:
        """Let every process log from this level; empty is the configured one."""
        await self._ask("ask", "service", "set_log_level", (level,), {})

    async def watch(self, on: bool) -> None:
        """Let the monitor look at the service, or no more."""
        await self._ask("ask", "service", "watch", (on,), {})

    async def directives(self) -> dict[str, Any]:
        """Return what processes are told to do differently."""
        found: dict[str, Any] = await self._ask("ask", "service", "directives", (), {})
        return found
