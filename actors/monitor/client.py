"""The monitor as others see it: each of its desks, with the same methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.monitor.alerting.rules import ServiceAlertRule
from actors.monitor.experiments.assignment import Assigner, hashed, identifier
from actors.monitor.experiments.definition import Experiment, Variant, experiment_from
from actors.monitor.experiments.ledger import Tally
from actors.runtime import ActorClient

if TYPE_CHECKING:  # the desks import the store, which replicas of sockets do without
    from actors.monitor.actor import MonitorActor as Methods
    from actors.monitor.alert_desk import AlertDesk
    from actors.monitor.performance_desk import PerformanceDesk
    from actors.monitor.rule_desk import RuleDesk
    from actors.monitor.trial_desk import TrialDesk
    from actors.monitor.tuning_desk import TuningDesk
else:
    Methods = object

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


class MonitorClient(ActorClient, Methods):
    """The exposed methods of the MonitorActor and of its desks, from any process.

    They raise StoreUnavailable while it has not read the store yet.
    """

    actor_name = MONITOR
    performance: PerformanceDesk
    alerts: AlertDesk
    rules: RuleDesk
    trials: TrialDesk
    tuning: TuningDesk
