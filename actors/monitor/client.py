"""The monitor as others see it: each of its services, with the same methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from actors.monitor.alerting.rules import ServiceAlertRule
from actors.monitor.experiments.assignment import Assigner, hashed, identifier
from actors.monitor.experiments.definition import Experiment, Variant, experiment_from
from actors.monitor.experiments.ledger import Tally
from actors.runtime import ActorClient

if TYPE_CHECKING:  # the services import the store, which replicas of sockets do without
    from actors.monitor.actor import MonitorActor as Methods
    from actors.monitor.alert_service import AlertService
    from actors.monitor.experiment_service import ExperimentService
    from actors.monitor.performance_service import PerformanceService
    from actors.monitor.rule_service import RuleService
    from actors.monitor.tuning_service import TuningService
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
    """The exposed methods of the MonitorActor and of its services, from any process.

    They raise StoreUnavailable while it has not read the store yet.
    """

    actor_name = MONITOR
    performance: PerformanceService
    alerts: AlertService
    rules: RuleService
    experiments: ExperimentService
    tuning: TuningService
