"""The monitor's services in one process, answering as MonitorClient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.monitor.alert_service import AlertService
from actors.monitor.experiment_service import ExperimentService
from actors.monitor.performance_service import PerformanceService
from actors.monitor.repository import MonitorRepository
from actors.monitor.rule_service import RuleService
from actors.monitor.sampling import Machine
from actors.monitor.tuning_service import TuningService
from infra.clock import FakeClock
from infra.db.store import Store
from infra.messages import Message
from infra.metrics import Families
from infra.settings import Settings

MACHINE = Machine(12.0, 41.0, 4_000.0, 30.0, 900.0, 1)


class LocalMonitor:
    """`told` are the messages for the hub, `changes` how often processes would have been told."""

    def __init__(self, settings: Settings, store: Store, clock: FakeClock) -> None:
        self.told: list[Message] = []
        self.changes = 0
        self.sheds = 0
        self.clock = clock
        self._level = ""
        self.watches = True
        repository = MonitorRepository(store, clock)
        self.performance = PerformanceService(repository, self._tell_one, "local")
        self.alerts = AlertService(repository, self._tell, (), "local")
        self.rules = RuleService(
            repository, self.performance.fine, self._changed, self.alerts.say, "local"
        )
        self.experiments = ExperimentService(repository, self.rules, self._changed)
        self.tuning = TuningService(
            repository,
            settings,
            self.performance,
            self.rules,
            self._changed,
            self.alerts.say,
            self._shed,
        )

    async def _tell(self, messages: Sequence[Message]) -> None:
        self.told += messages

    async def _tell_one(self, message: Message) -> None:
        self.told.append(message)

    async def _changed(self) -> None:
        self.changes += 1

    async def _shed(self) -> None:
        self.sheds += 1

    async def ping_once(self, wait_s: float = 1.0) -> int:
        return 7

    async def load(self) -> None:
        for service in (self.performance, self.alerts, self.rules, self.experiments, self.tuning):
            await service.load()

    async def look(self, families: Families, machine: Machine = MACHINE) -> None:
        """Do what the actor does every ten seconds."""
        reading, findings = await self.performance.take(families, machine)
        if reading is not None:
            await self.alerts.look(reading)
            await self.rules.look()
        for one in findings:
            await self.alerts.say(one.name, one.severity, one.name, one.message)
        await self.tuning.look()
        await self.experiments.keep()
        await self.performance.keep()

    async def log_level(self) -> dict[str, str]:
        return {"level": self._level or "INFO", "configured": "INFO"}

    async def set_log_level(self, level: str) -> None:
        self._level = level

    async def watch(self, on: bool) -> None:
        self.watches = on

    async def directives(self) -> dict[str, Any]:
        return {"watches": self.watches, "off": sorted(self.rules.off)}
