"""The monitor's desks in one process, answering as MonitorClient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from actors.monitor.alert_desk import AlertDesk
from actors.monitor.keeping import Keeping
from actors.monitor.performance_desk import PerformanceDesk
from actors.monitor.rule_desk import RuleDesk
from actors.monitor.sampling import Machine
from actors.monitor.trial_desk import TrialDesk
from actors.monitor.tuning_desk import TuningDesk
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
        keeping = Keeping(store, clock)
        self.performance = PerformanceDesk(keeping, self._tell_one, "local")
        self.alerts = AlertDesk(keeping, self._tell, (), "local")
        self.rules = RuleDesk(
            keeping, self.performance.fine, self._changed, self.alerts.say, "local"
        )
        self.trials = TrialDesk(keeping, self.rules, self._changed)
        self.tuning = TuningDesk(
            keeping,
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
        for desk in (self.performance, self.alerts, self.rules, self.trials, self.tuning):
            await desk.load()

    async def look(self, families: Families, machine: Machine = MACHINE) -> None:
        """Do what the actor does every ten seconds."""
        reading, findings = await self.performance.take(families, machine)
        if reading is not None:
            await self.alerts.look(reading)
            await self.rules.look()
        for one in findings:
            await self.alerts.say(one.name, one.severity, one.name, one.message)
        await self.tuning.look()
        await self.trials.keep()
        await self.performance.keep()

    async def log_level(self) -> dict[str, str]:
        return {"level": self._level or "INFO", "configured": "INFO"}

    async def set_log_level(self, level: str) -> None:
        self._level = level

    async def watch(self, on: bool) -> None:
        self.watches = on

    async def directives(self) -> dict[str, Any]:
        return {"watches": self.watches, "off": sorted(self.rules.off)}
